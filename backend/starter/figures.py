"""Figures of a finished model on icons and stitch families that no training saw."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from backend.imaging.colour import delta_e, rgb_to_lab
from backend.models import profiles
from backend.models.loading import Models, load
from backend.restyle.correction import correct_colours
from backend.starter.architecture import CONTROLNETS, Components
from backend.starter.autoencoder import psnr
from backend.starter.designs import Design, Icon, icon_design, is_held_out
from backend.starter.samples import Picture, band_energy, detail, reconstructed, redraw
from backend.starter.stitches import HELD_OUT, draw_look, render

__all__ = ["Figure", "figures", "unseen_designs"]

_SIDE = 256
_THREAD = 4.0  # pixels, the finest that is to survive
_STRENGTH = 0.95  # of flat embroidery (paper, section 3.4)
_SIGMA = _SIDE / 24


@dataclass(frozen=True, slots=True)
class Figure:
    """One measure: its mean over designs, and what is aimed at."""

    name: str
    value: float
    unit: str
    target: str = ""

    def __str__(self) -> str:
        aim = f" (target: {self.target})" if self.target else ""
        return f"{self.name}: {self.value:.3g} {self.unit}".rstrip() + aim


def unseen_designs(icons: Sequence[Icon], count: int, seed: int) -> list[Design]:
    """Held-out icons as designs of one window, at most `count`."""
    rng = np.random.default_rng(seed)
    usable = [icon for icon in icons if is_held_out(icon.name)]
    chosen = rng.permutation(len(usable))[:count]
    return [icon_design(usable[int(each)], _SIDE, rng) for each in chosen]


def figures(designs: Sequence[Design], seed: int) -> list[Figure]:
    """What the shipped model's autoencoder, UNet and ControlNets are measured by.

    Args:
        designs: of one window.
        seed: which stitches.
    """
    parts = _components(load(replace(profiles.get("starter"), cpu_dtype="float32")))
    return [
        *_autoencoder(parts, designs, seed),
        *_follows(parts, designs, seed),
        _pass(),
        Figure("shipped weights", _weights() / 2**20, "MiB", "at most 96"),
    ]


def _components(models: Models) -> Components:
    networks = ("unet", "vae", "text_encoder", "text_encoder_2", *CONTROLNETS)
    names = (*networks, "tokenizer", "tokenizer_2", "scheduler")
    return {name: getattr(models, name) for name in names}


def _autoencoder(parts: Components, designs: Sequence[Design], seed: int) -> list[Figure]:
    """PSNR on flat designs and on each held-out family; what remains of threads 4 px wide."""
    rng = np.random.default_rng(seed)
    flat = [_decibels(parts, each.flat) for each in designs]
    found = [Figure("autoencoder, flat designs", float(np.mean(flat)), "dB", "at least 34")]
    alike = []
    for family in HELD_OUT:
        decibels = []
        for design in designs:
            look = draw_look(family, rng)
            decibels.append(_decibels(parts, render(design.flat, design.art, look)))
            fine = render(design.flat, design.art, replace(look, width=_THREAD))
            inside = design.art
            sewn, same = (detail(each)[inside] for each in (fine, reconstructed(parts, fine)))
            alike.append(float(np.corrcoef(sewn, same)[0, 1]))
        name = f"autoencoder, {family}"
        found.append(Figure(name, float(np.mean(decibels)), "dB", "at least 26"))
    name = f"autoencoder, threads of {_THREAD:.0f} px, correlation with the true ones"
    return [*found, Figure(name, float(np.mean(alike)), "")]


def _follows(parts: Components, designs: Sequence[Design], seed: int) -> list[Figure]:
    """A flat design noised and denoised by the bare model with both ControlNets."""
    before, after, grain = [], [], []
    for design in designs:
        words = [f"a {design.subject}, flat design"]
        picture = redraw(parts, design.flat, words, strength=_STRENGTH, seed=seed)[0]
        corrected = correct_colours(picture, design.flat, "shade", _SIGMA)
        before.append(_difference(picture, design.flat))
        after.append(_difference(corrected, design.flat))
        grain.append(band_energy(corrected) / band_energy(design.flat))
    return [
        Figure("flat design redrawn, as it comes", float(np.mean(before)), "ΔE00"),
        Figure("flat design redrawn, corrected", float(np.mean(after)), "ΔE00", "at most 3"),
        Figure("its detail against the design's (below 1: blur, above: grain)",
               float(np.median(grain)), "times", "near 1"),
    ]  # fmt: skip


def _pass(times: int = 12) -> Figure:
    """The quickest of several UNet passes over one window, in the arithmetic of restyling."""
    models = load(profiles.get("starter"))
    words = models.encode_prompts(["a motif"])
    side = _SIDE // models.factor
    latents = torch.zeros(1, models.unet.config.in_channels, side, side, dtype=models.dtype)
    added = {"text_embeds": words.pooled, "time_ids": torch.tensor([[_SIDE, _SIDE, 0, 0] * 2])}
    added["time_ids"] = added["time_ids"][:, :6].to(models.dtype)
    took = []
    for _ in range(times):
        began = time.perf_counter()
        with torch.inference_mode():
            models.unet(latents, 500, words.hidden, added_cond_kwargs=added)
        took.append(time.perf_counter() - began)
    name = f"UNet pass at {_SIDE} px, {torch.get_num_threads()} threads"
    return Figure(name, min(took), "s", "at most 0.15")


def _weights() -> int:
    folder = profiles.get("starter").folder or Path()
    return sum(path.stat().st_size for path in folder.rglob("*.safetensors"))


def _difference(picture: Picture, design: Picture) -> float:
    return float(delta_e(rgb_to_lab(picture), rgb_to_lab(design)).mean())


def _decibels(parts: Components, picture: Picture) -> float:
    same = reconstructed(parts, picture)
    return float(psnr(*(torch.from_numpy(each)[None] for each in (same, picture))))
