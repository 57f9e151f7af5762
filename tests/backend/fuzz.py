"""Looks for bytes that break what takes bytes from strangers, led by coverage.

    python tests/backend/fuzz.py [--minutes M] [--target NAME] [--seed N] [--out FOLDER]
    python tests/backend/fuzz.py --target NAME --input FILE        one input again

Needs atheris (stress.lock) but for the second. Coverage is of Python code: the backend, Pillow's
file formats, Starlette, uvicorn and h11. What was learnt stays in FOLDER for the next time.
"""

from __future__ import annotations

import argparse
import logging
import os
import random
import re
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path

HERE = Path(__file__).resolve()
ROOT = HERE.parents[2]
# Targets, and their shares of the time: most for what is slow or has many ways.
SHARES = {"jobs": 0.1, "archives": 0.25, "images": 0.25, "manifests": 0.15, "requests": 0.25}
WATCHED = ("backend", "PIL", "starlette", "uvicorn", "h11", "zipfile")
MEMORY_MIB = 2048  # torch and its friends alone take some hundreds
SECONDS_EACH = 20  # an input that takes longer hangs
# What libFuzzer says of a run.
FIGURES = {
    "executions": r"stat::number_of_executed_units: *(\d+)",
    "edges covered": r" cov: (\d+)",
    "inputs kept": r" corp: (\d+)",
    "MiB at the start": r"INITED .*rss: (\d+)Mb",
    "MiB at most": r"stat::peak_rss_mb: *(\d+)",
}


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=10.0, help="for all targets together")
    parser.add_argument("--target", choices=SHARES, help="this one only")
    parser.add_argument("--seed", type=int, default=0, help="of the changes that are tried")
    parser.add_argument("--out", type=Path, default=ROOT / "build" / "fuzz")
    parser.add_argument("--input", type=Path, help="try this one again")
    parser.add_argument("--inside", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.input is not None:
        if options.target is None:
            parser.error("--input needs --target")
        return again(options.target, options.input)
    shares = {options.target: 1.0} if options.target else SHARES
    if options.inside is not None:
        fuzz(options.target, options.minutes, options.seed, options.out, options.inside)
    found = [
        one(name, options.minutes * share, options.seed, options.out)
        for name, share in shares.items()
    ]
    return int(any(found))


def again(name: str, file: Path) -> int:
    """Try one input, without atheris: a finding ends in its traceback."""
    from fuzz_targets import TARGETS

    warnings.simplefilter("error")
    with tempfile.TemporaryDirectory() as folder:
        taken = TARGETS[name](Path(folder))(file.read_bytes())
    print("taken" if taken else "refused in words")
    return 0


def one(name: str, minutes: float, seed: int, out: Path) -> bool:
    """Fuzz one target in a process of its own and print what came of it; whether it broke."""
    out.mkdir(parents=True, exist_ok=True)
    log = out / f"{name}.log"
    settings = {"PYTHONPATH": os.pathsep.join((str(ROOT), os.environ.get("PYTHONPATH", "")))}
    settings |= {"OMP_NUM_THREADS": "1", "PYTHONHASHSEED": "0"}
    with tempfile.TemporaryDirectory() as folder, log.open("w", encoding="utf-8") as stream:
        command = [sys.executable, str(HERE), "--inside", folder, "--target", name]
        command += ["--minutes", str(minutes), "--seed", str(seed), "--out", str(out)]
        code = subprocess.run(
            command, stdout=stream, stderr=subprocess.STDOUT, env={**os.environ, **settings}
        ).returncode
    text = log.read_text(encoding="utf-8", errors="replace")
    print(
        f"{name:9}",
        *(f"{_last(pattern, text)} {what}" for what, pattern in FIGURES.items()),
        sep="  ",
        flush=True,
    )
    if code == 0:
        return False
    print(text[-3000:])
    file = _last(r"Test unit written to (\S+)", text)
    print(f"{name}: BROKEN (log: {log}). Again: python {HERE} --target {name} --input {file}")
    return True


def fuzz(name: str, minutes: float, seed: int, out: Path, folder: Path) -> None:
    """Fuzz in this process, which ends with it; `folder` is empty."""
    import atheris

    with atheris.instrument_imports(include=list(WATCHED)):
        from fuzz_changes import change_json
        from fuzz_targets import TARGETS
        from PIL import Image

        Image.init()  # its plugins
    warnings.simplefilter("error")
    logging.getLogger("uvicorn").setLevel(logging.ERROR)
    seeds, place, corpus = folder / "seeds", folder / "place", out / "corpus" / name
    for each in (seeds, place, corpus):
        each.mkdir(parents=True, exist_ok=True)
    target = TARGETS[name](place)
    for number, data in enumerate(target.seeds().values()):
        (seeds / str(number)).write_bytes(data)
    words = folder / "words"
    words.write_text("".join(f"{_quoted(each)}\n" for each in target.words()))
    limits = {
        "max_total_time": max(1, round(minutes * 60)),
        "max_len": target.largest,
        "timeout": SECONDS_EACH,
        "rss_limit_mb": MEMORY_MIB,
        "print_final_stats": 1,
        "seed": seed + 1,  # 0 would be the time
        "dict": words,
        "artifact_prefix": f"{out / name}-",
    }

    def run(data: bytes) -> None:
        target(data)

    def change(data: bytes, largest: int, number: int) -> bytes:
        """libFuzzer's own changes, and such as leave JSON what it is."""
        chance = random.Random(number)
        other = change_json(data, chance, target.words()) if chance.random() < 0.5 else None
        if other is None or len(other) > largest:
            return bytes(atheris.Mutate(data, largest))
        return other

    settings = [f"-{key}={value}" for key, value in limits.items()]
    atheris.Setup([sys.argv[0], *settings, str(corpus), str(seeds)], run, custom_mutator=change)
    atheris.Fuzz()


def _last(pattern: str, text: str) -> str:
    return (re.findall(pattern, text) or ["?"])[-1]


def _quoted(word: str) -> str:
    """A word as libFuzzer's dictionaries have them."""
    return '"' + "".join(f"\\x{byte:02x}" for byte in word.encode("utf-8", "replace")) + '"'


if __name__ == "__main__":
    sys.exit(main())
