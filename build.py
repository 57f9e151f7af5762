#!/usr/bin/env python3
"""Set up, demonstrate, test, package and measure Stitchwork.

    python build.py setup                     make both environments from the lock files
    python build.py demo [--out DIR]          the main job on the sample garment and photo
    python build.py test [pytest arguments]   ruff, mypy and all tests
    python build.py package                   the extension and a static repository of it
    python build.py lock                      renew the hashes in the lock files
    python build.py bench [bench arguments]   timings of training and restyling
    python build.py stress [--fuzz MINUTES] [--connections N] [--moments N] [--blenders N]
                           [--jobs N] [--soak MINUTES]
                                              look for input that breaks the backend (10 minutes),
                                              crowd the service with N connections (10,000),
                                              kill the service at N random moments (default 200),
                                              cancel jobs in each of their stages, kill N
                                              Blenders in mid-job (50), and a tenth of the workers
                                              of N jobs (1000); use it for MINUTES (120) and see
                                              that it does not grow; 0 leaves one out

Needs the standard library only.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.util
import os
import platform
import shutil
import subprocess
import sys
import time
from pathlib import Path
from types import ModuleType
from typing import Any, NoReturn

ROOT = Path(__file__).resolve().parent
ENVIRONMENTS = ROOT / ".venvs"
BUILD = ROOT / "build"
PYTHON = (3, 11)
# No hub, no telemetry: everything that a command here uses is in the project or in the lock files.
OFFLINE = {
    "HF_HUB_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "GOMP_SPINCOUNT": "1000",  # as backend/__init__.py sets it, for tests that import torch first
}


def fail(message: str) -> NoReturn:
    sys.exit(f"error: {message}")


def say(message: str) -> None:
    print(f"== {message}", flush=True)


def run(*command: str | Path, check: bool = True, variables: dict[str, str] | None = None) -> int:
    """Run a command in the foreground, offline; a failure ends this program with its exit code."""
    settings = {**os.environ, **OFFLINE, "PYTHONUNBUFFERED": "1", **(variables or {})}
    code = subprocess.run([str(each) for each in command], cwd=ROOT, env=settings).returncode
    if check and code:
        sys.exit(code if code > 0 else 1)
    return code


# --- environments ---------------------------------------------------------------------------


def base_python() -> str:
    """A Python 3.11: the only version that Blender's wheels and the lock files are made for."""
    if sys.version_info[:2] == PYTHON:
        return sys.executable
    found = shutil.which("python3.11")
    if not found:
        fail(
            f"Python 3.11 is needed (this is {sys.version_info[0]}.{sys.version_info[1]}): "
            "install it, then run `python3.11 build.py …`."
        )
    return found


def torch_rule() -> ModuleType:
    """The add-on's choice of torch, from its file: the add-on itself needs Blender."""
    file = ROOT / "blender_addon" / "link" / "torch_build.py"
    spec = importlib.util.spec_from_file_location(file.stem, file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[file.stem] = module  # dataclasses look for their module there
    spec.loader.exec_module(module)
    return module


def fetch_torch(pip: list[str], folder: Path, torch: Any) -> Any:
    """Install the build of torch that this machine needs, before the lock file asks for any.

    Returns:
        the build that there is now, or that is to come with the lock file.
    """
    lock = folder / "torch.lock"
    lock.write_text(torch.requirement)
    # Another index: a firewall that hides it should be noticed soon.
    own = [*pip, "--retries", "2", "--timeout", "20", *torch.arguments, "-r", str(lock)]
    if subprocess.run(own, capture_output=True).returncode == 0:
        return torch
    say(f"torch for {torch.name} alone cannot be fetched here: taking what the package index has")
    return torch.otherwise


def environment(name: str, locks: list[str]) -> Path:
    """The Python of the virtual environment `name`, made or brought up to its lock files."""
    folder = ENVIRONMENTS / name
    python = folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    stamp = folder / "lock.sha256"
    wanted = hashlib.sha256(b"".join((ROOT / lock).read_bytes() for lock in locks)).hexdigest()
    if stamp.is_file() and stamp.read_text() == wanted and python.is_file():
        return python
    rule = torch_rule()
    torch = rule.choose("".join((ROOT / lock).read_text() for lock in locks), rule.has_nvidia())
    free = shutil.disk_usage(ROOT).free
    if free < torch.needed:
        fail(
            f"{ROOT} has {free / 2**30:.1f} GiB free, {torch.needed / 2**30:.0f} are needed: "
            "make room, then run again."
        )
    say(f"installing the environment '{name}' from {', '.join(locks)} into {folder}")
    began = time.monotonic()
    shutil.rmtree(folder, ignore_errors=True)
    if subprocess.run([base_python(), "-m", "venv", str(folder)]).returncode:
        fail(
            "Python could not make a virtual environment: install its venv module, then run again."
        )
    install = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    install += ["--require-hashes"]
    if torch.requirement:
        torch = fetch_torch(install, folder, torch)
    for lock in [*locks, *(["cuda.lock"] if torch.libraries else [])]:
        install += ["-r", str(ROOT / lock)]
    pip = subprocess.run(install, capture_output=True, text=True)
    if pip.returncode:
        print(pip.stderr[-3000:], file=sys.stderr)
        if "No space left" in pip.stderr:
            fail("the disk is full: make room, then run again.")
        if "Connection" in pip.stderr or "Temporary failure" in pip.stderr:
            fail("the package index cannot be reached: check the network, then run again.")
        if "DO NOT MATCH THE HASHES" in pip.stderr:
            fail("a package is not the file that its lock file names: is the index to be trusted?")
        fail(f"pip could not install {', '.join(locks)}; its words are above.")
    stamp.write_text(wanted)
    say(f"'{name}' is ready ({time.monotonic() - began:.0f} s)")
    return python


def backend_python() -> Path:
    return environment("backend", ["backend.lock", "test.lock"])


def fuzzing(backend: Path) -> tuple[Path, str]:
    """A Python with the fuzzer, and the PYTHONPATH by which it finds the backend's packages."""
    (packages,) = backend.parents[1].glob("lib/*/site-packages")
    return environment("stress", ["stress.lock"]), os.pathsep.join((str(ROOT), str(packages)))


def blender_python() -> Path:
    return environment("blender", ["blender.lock"])


# --- commands -------------------------------------------------------------------------------


def setup() -> None:
    backend_python()
    blender_python()
    say("both environments are ready")


def demo(out: Path, profile: str) -> None:
    """Bake, train, restyle and apply on the sample T-shirt, then write the report."""
    backend, blender = backend_python(), blender_python()
    out = out.resolve()
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        fail(f"{out} cannot be made ({error.strerror}): choose another folder with --out.")
    if not os.access(out, os.W_OK):
        fail(f"{out} cannot be written to: choose another folder with --out.")
    began = time.monotonic()
    samples = ROOT / "blender_addon" / "samples"
    say(f"the main job: sample T-shirt, sample photo, profile {profile}; results in {out}")
    run(
        blender, "-m", "blender_addon.headless", "run",
        "--garment", samples / "tshirt.blend",
        "--reference", samples / "reference.png",
        "--profile", profile,
        "--exaggeration", "3",
        "--render", "--out", out,
        variables={"STITCHWORK_BACKEND_PYTHON": str(backend)},
    )  # fmt: skip
    run(
        backend,
        "-m",
        "backend",
        "report",
        "--manifest",
        out / "manifest.json",
        "--out",
        out / "report.html",
    )
    say(f"done in {(time.monotonic() - began) / 60:.1f} minutes")
    for name in (
        "before.png", "after.png", "closeup.png", "texture_before.png", "texture_after.png",
        "garment.blend", "style", "report.html",
    ):  # fmt: skip
        print(f"   {out / name}")


def test(arguments: list[str]) -> None:
    """Ruff, mypy, then pytest: tests inside Blender, then the backend's and the whole job's."""
    backend, blender = backend_python(), blender_python()
    paths = [each for each in arguments if (ROOT / each.split("::")[0]).exists()]
    options = [each for each in arguments if each not in paths]
    settings = {
        "STITCHWORK_BACKEND_PYTHON": str(backend),
        "STITCHWORK_BLENDER_PYTHON": str(blender),
    }
    codes = []
    if not paths:
        codes += [
            run(backend, "-m", "ruff", "check", ".", check=False),
            run(backend, "-m", "ruff", "format", "--check", ".", check=False),
            run(backend, "-m", "mypy", "backend", "blender_addon", "build.py", check=False),
        ]
        paths = ["tests/backend", "tests/addon", "tests/end_to_end"]
    for python, inside in ((blender, True), (backend, False)):
        chosen = [each for each in paths if each.strip("./").startswith("tests/addon") == inside]
        if chosen:
            say(f"pytest {' '.join(chosen)} ({'in Blender' if inside else 'backend'})")
            code = run(python, "-m", "pytest", *chosen, *options, check=False, variables=settings)
            # Exit code 5: the options left no test of this side.
            codes.append(0 if code == 5 and options else code)
    if any(codes):
        fail("some checks failed; see above.")
    say("all checks passed")


def package() -> None:
    """The extension zip with the backend's wheel inside, and a static repository to host."""
    backend, blender = backend_python(), blender_python()
    source, repository = BUILD / "extension", BUILD / "repository"
    for folder in (source, repository):
        shutil.rmtree(folder, ignore_errors=True)
    repository.mkdir(parents=True)
    shutil.copytree(
        ROOT / "blender_addon", source, ignore=shutil.ignore_patterns("__pycache__", "*.blend1")
    )
    say("building the backend's wheel")
    run(
        backend, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation",
        "--wheel-dir", source / "dist", ROOT,
    )  # fmt: skip
    for lock in ("backend.lock", "cuda.lock"):
        shutil.copy(ROOT / lock, source / "dist")
    shutil.copy(ROOT / "LICENSE", source)
    tool = blender_extension_tool(blender)
    say("building and validating the extension")
    run(*tool, "build", "--source-dir", source, "--output-dir", repository)
    (archive,) = repository.glob("*.zip")
    run(*tool, "validate", archive)
    say("generating the static repository")
    run(*tool, "server-generate", "--repo-dir", repository, "--html")
    print(
        f"   {archive} ({archive.stat().st_size / 2**20:.0f} MiB)\n   {repository / 'index.json'}"
    )


def blender_extension_tool(blender: Path) -> list[str | Path]:
    """Blender's own extension command: the desktop program's, or the same script in the wheel."""
    program = os.environ.get("BLENDER") or shutil.which("blender")
    if program:
        return [program, "--command", "extension"]
    (script,) = (blender.parents[1]).glob("**/bl_pkg/cli/blender_ext.py")
    return [blender, script]


def renew_locks() -> None:
    """What the lock files pin, as hashes: after a version was changed or a line added there."""
    from backend import lockfiles

    say("asking the package index for the files of every system; takes some minutes")
    try:
        told = lockfiles.renew(ROOT, torch_rule().INDEX)
    except (lockfiles.LockError, OSError) as error:
        fail(str(error))
    print("\n".join(f"   {each}" for each in told))


def bench(arguments: list[str]) -> None:
    run(backend_python(), "-m", "backend", "bench", *arguments)


def stress(arguments: list[str]) -> None:
    """First what strangers may send: input by a fuzzer, and connections by the thousand.

    Then the service killed at random moments: around an engine that pretends, then the real one.
    Then its workers, amid many jobs: every output must be there once. Then Blender in mid-job:
    nothing of its backend may be left. At last nothing is killed, and nothing may grow.
    In between jobs are cancelled in each of their stages, and must end within two seconds.
    """
    parser = argparse.ArgumentParser(prog="build.py stress")
    parser.add_argument("--fuzz", type=float, default=10.0, metavar="MINUTES")
    parser.add_argument("--connections", type=int, default=10_000, help="of strangers")
    parser.add_argument("--moments", type=int, default=200, help="to kill the service at")
    parser.add_argument("--blenders", type=int, default=50, help="to kill in mid-job")
    parser.add_argument("--jobs", type=int, default=1000, help="on workers that are killed")
    parser.add_argument("--soak", type=float, default=120.0, metavar="MINUTES")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    backend, blender, seed = backend_python(), blender_python(), str(options.seed)
    settings = {
        "PYTHONPATH": str(ROOT),
        "STITCHWORK_BACKEND_PYTHON": str(backend),
        "STITCHWORK_BLENDER_PYTHON": str(blender),
    }
    codes = []

    def do(script: str, *more: str, python: Path = backend, **other: str) -> None:
        path, variables = ROOT / "tests" / "backend" / script, {**settings, **other}
        codes.append(run(python, path, *more, "--seed", seed, check=False, variables=variables))

    if options.fuzz and (sys.platform, platform.machine()) != ("linux", "x86_64"):
        say("left out: fuzzing, whose tool is for Linux on x86-64 only")
    elif options.fuzz:
        say(f"looking for input that breaks the backend, for {options.fuzz:g} minutes")
        python, packages = fuzzing(backend)
        do("fuzz.py", "--minutes", str(options.fuzz), python=python, PYTHONPATH=packages)
    if options.connections:
        say("crowding the service with connections")
        do("crowding.py", "--connections", str(options.connections))
    for engine in ("stand-in", "real") if options.moments else ():
        say(f"killing the service at random moments ({engine} engine)")
        do("crashing.py", "--engine", engine, "--moments", str(options.moments))
    if options.moments:
        say("cancelling jobs in each of their stages")
        do("cancelling.py")
    if options.jobs:
        say("killing workers amid many jobs")
        do("thousand.py", "--jobs", str(options.jobs), "--workers", "8", "--killed", "0.1")
    if options.blenders:
        say("killing Blender in mid-job")
        do("mid_job.py", "--times", str(options.blenders))
    if options.soak:
        say(f"a steady mix of small jobs for {options.soak:g} minutes")
        do("soak.py", "--minutes", str(options.soak))
    if any(codes):
        fail("something was lost, doubled, wrongly done or left over, or has grown; see above.")
    say("nothing was lost, doubled, done in part or left over, and nothing has grown")


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="build.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="command")
    commands.add_parser("setup", help="make both environments from the lock files")
    demo_options = commands.add_parser("demo", help="the main job on the project's samples")
    demo_options.add_argument("--out", type=Path, default=ROOT / "demo", help="folder for results")
    demo_options.add_argument("--profile", default="starter", choices=("starter", "sdxl"))
    commands.add_parser("test", help="ruff, mypy and all tests; further arguments go to pytest")
    commands.add_parser("package", help="extension zip and static extension repository")
    commands.add_parser("lock", help="renew the hashes in the lock files")
    commands.add_parser("bench", help="timings; further arguments go to the benchmark")
    commands.add_parser("stress", help="kill what runs at random moments, use it long; takes hours")
    options, rest = parser.parse_known_args()
    if rest and options.command not in ("test", "bench", "stress"):
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    match options.command:
        case "setup":
            setup()
        case "demo":
            demo(options.out, options.profile)
        case "test":
            test(rest)
        case "package":
            package()
        case "lock":
            renew_locks()
        case "bench":
            bench(rest)
        case "stress":
            stress(rest)


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(130)
