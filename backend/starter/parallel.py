"""Several processes that train one model together, each on batches of its own.

    OMP_NUM_THREADS=1 torchrun --nproc-per-node 2 -m -- backend.starter words --run …

Two processes of one thread do nearly twice the work of one with two threads.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

import torch
import torch.distributed as processes
from torch import Tensor, nn

__all__ = ["agreed", "average_gradients", "gathered", "joined", "rank"]


@contextmanager
def joined() -> Iterator[None]:
    """Be one of the processes that torchrun started; alone without it."""
    if "TORCHELASTIC_RUN_ID" not in os.environ:
        yield
        return
    processes.init_process_group("gloo")
    try:
        yield
    finally:
        processes.destroy_process_group()


def rank() -> int:
    """This process's number; 0 is the one that writes and tells."""
    return processes.get_rank() if processes.is_initialized() else 0


def agreed(values: Sequence[float]) -> list[float]:
    """What the first process says, in all of them; none goes on before it has said so."""
    if not processes.is_initialized():
        return list(values)
    said = torch.tensor(values, dtype=torch.float64)
    processes.broadcast(said, 0)
    return [float(each) for each in said]


def gathered(state: Tensor) -> list[Tensor]:
    """A tensor (N,) of every process, in their order."""
    if not processes.is_initialized():
        return [state]
    states = [torch.empty_like(state) for _ in range(processes.get_world_size())]
    processes.all_gather(states, state)
    return states


def average_gradients(parameters: Iterable[nn.Parameter]) -> None:
    """Replace gradients by their mean over all processes; one that is missing counts as zero."""
    if not processes.is_initialized():
        return
    weights = list(parameters)
    parts = [torch.zeros_like(w) if w.grad is None else w.grad for w in weights]
    flat = torch.cat([part.flatten().cpu() for part in parts])
    processes.all_reduce(flat)
    flat /= processes.get_world_size()
    for weight, mean in zip(weights, flat.split([w.numel() for w in weights]), strict=True):
        weight.grad = mean.view(weight.shape).to(weight.device)
