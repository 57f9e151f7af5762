"""Processes that train together: equal weights in all, of the mean of their gradients."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import torch

from backend.starter.parallel import agreed, average_gradients, gathered, joined, rank

WORK = """
import sys
from pathlib import Path
import torch
from torch import nn
from backend.starter.parallel import joined, rank
from backend.starter.training import Budget, fit

out, steps = Path(sys.argv[1]), int(sys.argv[2])
with joined():
    torch.manual_seed(0)
    layer = nn.Linear(4, 1)
    unused = nn.Linear(2, 2)
    drawn = []

    def loss(generator):
        x = torch.randn((8, 4), generator=generator)
        drawn.append(x)
        return (layer(x) - x.sum(1, keepdim=True)).pow(2).mean()

    run = fit({"layer": layer, "unused": unused}, loss, Budget(steps), out / "run.pt", seed=1)
    for report in run:
        pass
    torch.save({"weights": layer.state_dict(), "x": drawn}, out / f"{rank()}.pt")
"""


def _run(folder: Path, steps: int) -> list[dict[str, object]]:
    script = folder / "work.py"
    script.write_text(WORK, "utf-8")
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    root = str(Path(__file__).parents[2])
    done = subprocess.run(
        [*launcher, "--nproc-per-node", "2", str(script), str(folder), str(steps)],
        env={**os.environ, "PYTHONPATH": root, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return [torch.load(folder / f"{k}.pt", weights_only=True) for k in range(2)]


def test_two_processes_train_one_model_and_go_on(tmp_path: Path) -> None:
    one, two = _run(tmp_path, 3)
    assert not torch.equal(one["x"][0], two["x"][0])  # batches of their own
    for name, weight in one["weights"].items():
        assert torch.equal(weight, two["weights"][name])
    state = torch.load(tmp_path / "run.pt", weights_only=True)
    assert (state["step"], len(state["generators"])) == (3, 2)
    later, other = _run(tmp_path, 5)
    assert len(later["x"]) == 2
    assert not torch.equal(later["x"][0], one["x"][0])  # nobody begins anew
    assert not torch.equal(other["x"][0], two["x"][0])
    assert torch.equal(later["weights"]["weight"], other["weights"]["weight"])


def test_alone_nothing_is_changed() -> None:
    layer = torch.nn.Linear(2, 1)
    layer(torch.ones(1, 2)).sum().backward()
    layer.bias.grad = None
    with joined():
        assert rank() == 0
        assert agreed([0.5, True]) == [0.5, True]
        assert len(gathered(torch.ones(3))) == 1
        average_gradients(layer.parameters())
    assert torch.equal(layer.weight.grad, torch.ones(1, 2))
    assert layer.bias.grad is None
