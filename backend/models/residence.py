"""Which of a base model's networks lie in the device's memory, and which wait in main memory."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch

from backend.models.memory import MARGIN_GIB, Place

__all__ = ["Residence", "give_back", "place_of"]

GIB = 2**30
_PHASES = (
    ("text_encoder", "text_encoder_2"),
    ("vae",),
    ("unet", "controlnet_canny", "controlnet_tile"),
)


class Residence:
    """Brings networks to the device when they are needed and parks those in their way.

    Args:
        networks: by their names in `Models`.
        offload: "none": all stay; "phase": words, pictures and denoising take turns, and a
            ControlNet comes when it is first asked; "network": one network at a time.
        phases: names of networks that are there together.
    """

    def __init__(
        self,
        networks: Mapping[str, torch.nn.Module],
        device: torch.device,
        offload: str,
        phases: Sequence[Sequence[str]] = _PHASES,
    ) -> None:
        self._networks, self._device, self._offload = dict(networks), device, offload
        self._phases = phases
        self.present: set[str] = set()
        if offload == "none":
            for name in self._networks:
                self._fetch(name)

    @property
    def moves(self) -> bool:
        """Whether networks come and go at all."""
        return self._offload != "none"

    def need(self, name: str) -> None:
        """Make sure that a network is on the device."""
        if name in self.present:
            return
        mates = {name}
        if self._offload == "phase":
            mates = next(set(phase) for phase in self._phases if name in phase)
        self._park(self.present - mates)
        self._fetch(name)

    @contextmanager
    def vacated(self) -> Iterator[None]:
        """The device without any of these networks, for others' sake; then all as before."""
        before = sorted(self.present)
        self._park(before)
        try:
            yield
        finally:
            for name in before:
                self._fetch(name)

    def _park(self, names: Iterable[str]) -> None:
        for name in sorted(names):
            self._networks[name].to("cpu")
            self.present.discard(name)
        give_back(self._device)

    def _fetch(self, name: str) -> None:
        self._networks[name].to(self._device)
        self.present.add(name)


def place_of(device: torch.device) -> Place:
    """The device and the memory that a job may take there now."""
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        # What this process holds for reuse is free to it, too.
        held = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return Place("cuda", (free + held) / GIB - MARGIN_GIB)
    if device.type == "mps":
        free = torch.mps.recommended_max_memory() - torch.mps.driver_allocated_memory()
        return Place("mps", free / GIB)
    from backend.limits import available_bytes

    return Place("cpu", available_bytes() / GIB)


def give_back(device: torch.device) -> None:
    """Return memory that torch holds for reuse on a device."""
    if device.type == "cuda":
        torch.cuda.empty_cache()
    elif device.type == "mps":
        torch.mps.empty_cache()
