"""No code of ours can be made to run what a file or a message says."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
# Formats and modules that run code while they are read.
MODULES = {"pickle", "_pickle", "cPickle", "cloudpickle", "dill", "joblib", "shelve", "marshal"}
# What they raise, which runs nothing.
ERRORS = {("pickle", "UnpicklingError")}
BUILTINS = {"eval", "exec", "compile", "__import__"}
# A shell, whatever it is called.
SHELLS = {"os.system", "os.popen", "subprocess.getoutput", "subprocess.getstatusoutput"}
# Options that must not be there, but for the value that forbids.
SAFE = {"trust_remote_code": False, "shell": False, "allow_pickle": False}


def offences(source: str) -> Iterator[tuple[int, str]]:
    """(line, what) of every construct that must not be there."""
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Import(names=names):
                found = [each.name for each in names if each.name.split(".")[0] in MODULES]
            case ast.ImportFrom(module=str(module), names=names):
                harmless = {(module, each.name) for each in names} <= ERRORS
                found = [module] if module.split(".")[0] in MODULES and not harmless else []
            case ast.Call():
                found = list(_in_call(node))
            case _:
                continue
        yield from ((node.lineno, each) for each in found)


def _in_call(call: ast.Call) -> Iterator[str]:
    name = ast.unparse(call.func)
    if name in BUILTINS | SHELLS:
        yield name
    options = {each.arg: getattr(each.value, "value", None) for each in call.keywords}
    for option, safe in SAFE.items():
        if option in options and options[option] is not safe:
            yield option
    if name == "torch.load" and options.get("weights_only") is not True:
        yield "torch.load without weights_only=True"
    if name in ("yaml.load", "torch.hub.load", "torch.package.PackageImporter"):
        yield name


@pytest.mark.parametrize(
    ("source", "what"),
    [
        ("import pickle", "pickle"),
        ("import os, joblib.memory", "joblib.memory"),
        ("from dill import loads", "dill"),
        ("from pickle import UnpicklingError, loads", "pickle"),
        ("eval(text)", "eval"),
        ("def f():\n    exec(text, {})", "exec"),
        ("__import__(name)", "__import__"),
        ("os.system(line)", "os.system"),
        ("subprocess.run(line, shell=True)", "shell"),
        ("subprocess.run(line, shell=wanted)", "shell"),
        ("AutoModel.from_pretrained(x, trust_remote_code=True)", "trust_remote_code"),
        ("np.load(path, allow_pickle=True)", "allow_pickle"),
        ("torch.load(path)", "torch.load without weights_only=True"),
        ("torch.load(path, weights_only=False)", "torch.load without weights_only=True"),
    ],
)
def test_the_search_finds_what_it_looks_for(source: str, what: str) -> None:
    assert [each for _, each in offences(source)] == [what]


def test_the_search_lets_pass_what_is_harmless() -> None:
    source = (
        "model.eval()\n"
        "re.compile(pattern)\n"
        "torch.compile(model)\n"
        "pipeline.exec(job)\n"
        "torch.load(path, weights_only=True, map_location='cpu')\n"
        "np.load(path, allow_pickle=False)\n"
        "subprocess.run([program], shell=False)\n"
        "# eval(pickle)\n"
        "from pickle import UnpicklingError\n"
    )
    assert list(offences(source)) == []


@pytest.mark.parametrize("place", ["backend", "blender_addon", "build.py"])
def test_nothing_of_ours_runs_what_it_reads(place: str) -> None:
    where = ROOT / place
    files = [where] if where.is_file() else sorted(where.rglob("*.py"))
    assert files
    found = [
        f"{path.relative_to(ROOT)}:{line}: {what}"
        for path in files
        for line, what in offences(path.read_text(encoding="utf-8"))
    ]
    assert found == []
