"""Photos of embroidery that is still in its hoop."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from backend.imaging.hoop import inside_hoop
from backend.imaging.locate import locate_motif

SIDE = 480
Picture = NDArray[np.float32]
Mask = NDArray[np.bool_]


def _noise(sigma: float, seed: int) -> Picture:
    noise = np.random.default_rng(seed).normal(0.0, 1.0, (SIDE, SIDE)).astype(np.float32)
    return np.asarray(cv2.GaussianBlur(noise, (0, 0), sigma), np.float32)


def _cloth(colour: tuple[float, float, float], seed: int) -> Picture:
    light = np.linspace(1.08, 0.8, SIDE, dtype=np.float32)[None] + 0.06 * _noise(1.2, seed)
    return np.asarray(np.array(colour, np.float32) * light[..., None], np.float32)


def _thread(colour: tuple[float, float, float]) -> Picture:
    y, x = np.mgrid[:SIDE, :SIDE].astype(np.float32)
    shade = 0.8 + 0.2 * np.cos(2 * np.pi * (x + 0.5 * y) / 6.0)
    return np.asarray(np.array(colour, np.float32) * shade[..., None], np.float32)


def _radius(tall: float, turn: float, centre: tuple[float, float]) -> tuple[Picture, Picture]:
    """Distance from a hoop's centre as if it were seen from above, and direction."""
    y, x = np.mgrid[:SIDE, :SIDE].astype(np.float32)
    dx, dy, angle = x - centre[0], y - centre[1], np.deg2rad(turn)
    u, v = dx * np.cos(angle) + dy * np.sin(angle), dy * np.cos(angle) - dx * np.sin(angle)
    return np.hypot(u, v / tall), np.arctan2(v, u)


def _scene(
    around: str, ring: str, tall: float, turn: float, centre: tuple[float, float]
) -> tuple[Picture, Mask]:
    """A photo, and where its motif is: two shapes that do not touch."""
    photo = _cloth((0.84, 0.83, 0.79), 0)
    radius, angle = _radius(tall, turn, centre)
    if around == "table":
        table = radius > 205
        photo[table] = _cloth((0.4, 0.27, 0.17), 1)[table]
    if ring == "wood":  # its grain runs along it
        grain = 0.08 * np.sin(radius * 1.3 + 4.0 * _noise(3.0, 2)) + 0.05 * np.sin(3.0 * angle)
        material = np.array((0.8, 0.64, 0.42), np.float32) * (1.0 + grain)[..., None]
    else:
        shine = 0.25 * np.exp(-(((radius - 203.0) / 4.0) ** 2)) + 0.1 * np.cos(angle - 1.0)
        material = np.array((0.75, 0.2, 0.45), np.float32) + shine[..., None].astype(np.float32)
    band = (radius > 190) & (radius < 216)
    photo[band] = material[band]
    screw = (np.abs(angle - 1.2) < 0.06) & (radius > 185) & (radius < 236)
    photo[screw] = (0.75, 0.75, 0.78)
    y, x = np.mgrid[:SIDE, :SIDE]
    motif = np.hypot(x - centre[0] + 25, y - centre[1] - 15) < 70
    motif |= (np.abs(x - centre[0] - 85) < 25) & (np.abs(y - centre[1] + 60) < 25)
    photo[motif] = _thread((0.15, 0.3, 0.6))[motif]
    grain = np.random.default_rng(3).normal(0.0, 0.015, photo.shape)
    return np.clip(photo + grain, 0.0, 1.0).astype(np.float32), motif


def _overlap(found: NDArray[np.floating], truth: Mask) -> float:
    return float((truth & (found > 0.5)).sum() / (truth | (found > 0.5)).sum())


@pytest.mark.parametrize("around", ["cloth", "table"])
@pytest.mark.parametrize("ring", ["wood", "plastic"])
@pytest.mark.parametrize(
    ("tall", "turn", "centre"),
    [(1.0, 0.0, (240, 240)), (0.75, 25.0, (245, 235)), (0.95, 70.0, (240, 275))],
    ids=["from above", "at an angle", "cut off below"],
)
def test_a_motif_is_found_in_its_hoop(
    around: str, ring: str, tall: float, turn: float, centre: tuple[float, float]
) -> None:
    photo, motif = _scene(around, ring, tall, turn, centre)
    (x0, y0, x1, y1), found = locate_motif(photo)
    assert _overlap(found, motif) > 0.88
    assert (x1 - x0) * (y1 - y0) < 0.35 * SIDE * SIDE  # no ring in the crop
    rows, columns = np.flatnonzero(motif.any(1)), np.flatnonzero(motif.any(0))
    assert x0 <= columns[0]
    assert x1 >= columns[-1]
    assert y0 <= rows[0]
    assert y1 >= rows[-1]


@pytest.mark.parametrize("period", [4.0, 9.0])
def test_a_sewn_ring_is_no_hoop(period: float) -> None:
    """Satin stitches lie across their ring."""
    photo = _cloth((0.2, 0.3, 0.7), 0)
    radius, angle = _radius(0.9, 30.0, (240, 240))
    stitches = 0.75 + 0.25 * np.cos(angle * 200.0 * 2 * np.pi / period / (2 * np.pi) * 6.283)
    satin = np.array((0.85, 0.7, 0.25), np.float32) * stitches[..., None].astype(np.float32)
    ring, heart = (radius > 180) & (radius < 205), radius < 70
    photo[ring] = satin[ring]
    photo[heart] = _thread((0.9, 0.85, 0.8))[heart]
    assert inside_hoop(photo, (ring | heart)) is None
    assert _overlap(locate_motif(photo)[1], ring | heart) > 0.8


def test_a_plain_disc_is_no_hoop() -> None:
    photo = _cloth((0.84, 0.83, 0.79), 0)
    disc = _radius(1.0, 0.0, (240, 240))[0] < 180
    photo[disc] = _thread((0.15, 0.3, 0.6))[disc]
    assert inside_hoop(photo, disc) is None
    assert _overlap(locate_motif(photo)[1], disc) > 0.95
