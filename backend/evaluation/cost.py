"""What work costs: peak memory, time within networks, operations, and what the machine can do."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

__all__ = ["Cost", "matrix_rate", "measured", "operations"]

_STATUS, _RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")


@dataclass(slots=True)
class Cost:
    """What was spent.

    Attributes:
        seconds: in all.
        networks: seconds of them within the networks that were watched.
        memory: most bytes held beyond what was held before, on the device; main memory where that
            is a CPU; None where the system does not tell.
    """

    seconds: float = 0.0
    networks: float = 0.0
    memory: float | None = None


@contextmanager
def measured(device: torch.device, networks: Sequence[torch.nn.Module] = ()) -> Iterator[Cost]:
    """Within, work is measured; the cost is complete afterwards."""
    cost, began, within = Cost(), 0.0, 0
    held = _held(device)

    def enter(*_: Any) -> None:
        nonlocal began, within
        within += 1
        if within == 1:  # one network may be part of another
            _wait(device)
            began = time.perf_counter()

    def leave(*_: Any) -> None:
        nonlocal within
        within -= 1
        if within == 0:
            _wait(device)
            cost.networks += time.perf_counter() - began

    handles = [each.register_forward_pre_hook(enter) for each in networks]
    handles += [each.register_forward_hook(leave) for each in networks]
    start = time.perf_counter()
    try:
        yield cost
    finally:
        for handle in handles:
            handle.remove()
    _wait(device)
    cost.seconds = time.perf_counter() - start
    cost.memory = None if held is None else max(0.0, _most(device) - held)


def operations(work: Callable[[], object]) -> float:
    """Floating-point operations of matrix products, convolutions and attention in some work."""
    # Attention's own kernels are not counted on every device; its plain form is.
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        work()
    return float(counter.get_total_flops())


def matrix_rate(device: torch.device, dtype: torch.dtype, *, side: int = 1024) -> float:
    """Operations a second of a large matrix product, the best of a few tries."""
    generator = torch.Generator().manual_seed(0)
    first, second = (
        torch.randn((side, side), generator=generator).to(device, dtype) for _ in range(2)
    )
    best = float("inf")
    for _ in range(12):
        _wait(device)
        began = time.perf_counter()
        first @ second
        _wait(device)
        best = min(best, time.perf_counter() - began)
    return 2.0 * side**3 / best


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


def _held(device: torch.device) -> float | None:
    """Bytes held now; from here on the most is watched."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        return float(torch.cuda.memory_allocated(device))
    if device.type != "cpu" or not _RESET.exists():
        return None
    _RESET.write_text("5", encoding="ascii")
    return _status("VmRSS")


def _most(device: torch.device) -> float:
    if device.type == "cuda":
        return float(torch.cuda.max_memory_allocated(device))
    return _status("VmHWM")


def _status(name: str) -> float:
    lines = _STATUS.read_text(encoding="ascii").splitlines()
    return next(1024.0 * float(each.split()[1]) for each in lines if each.startswith(f"{name}:"))
