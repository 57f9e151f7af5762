"""Pair construction: registration, scale, windows, complementary data."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from backend.emolora import candidates, complementary, motifs, pair
from backend.emolora.adapter import Adapter
from backend.emolora.encoded import encode, window_boxes
from backend.emolora.registration import coverage_of, register
from backend.emolora.sampling import denoise
from backend.errors import InputError
from backend.imaging.edges import thread_width
from backend.models.loading import Models
from backend.models.settings import ATTENTION_BLOCKS
from backend.progress import outcome


def _artwork(size: tuple[int, int], box: tuple[int, int, int, int], ground: int) -> np.ndarray:
    """A yellow card with a blue corner; transparent around where `ground` is 0."""
    image = Image.new("RGBA", size, (255, 255, 255, ground))
    draw = ImageDraw.Draw(image)
    draw.rectangle(box, fill=(230, 200, 40, 255))
    x0, y0, x1, y1 = box
    draw.rectangle((x0, y0, (x0 + x1) // 2, (y0 + y1) // 2), fill=(30, 60, 200, 255))
    return np.asarray(image, dtype=np.float32) / np.float32(255.0)


def _made(models: Models, reference: str, **options: Any) -> pair.Pair:
    made: pair.Pair = outcome(pair.pair_steps(models, reference, **options))
    return made


@pytest.mark.parametrize("ground", [0, 255])
def test_a_design_is_laid_where_its_motif_is(ground: int) -> None:
    design = _artwork((300, 200), (20, 30, 260, 170), ground)
    photo = _artwork((240, 240), (70, 90, 190, 160), 255)[..., :3]  # half the size, elsewhere
    mask = np.zeros((240, 240), dtype=np.float32)
    mask[90:161, 70:191] = 1.0
    laid = register(design, photo, mask)
    assert laid.shape == (240, 240, 4)
    inside, outside = laid[100:150, 80:180, 3], laid[:80, :, 3]
    assert inside.min() > 0.9
    assert outside.max() < 0.1
    there = mask > 0
    difference = np.abs(laid[..., :3] - photo).max(axis=2)[there]
    assert np.mean(difference < 0.1) > 0.93


def test_a_design_of_the_photos_frame_stays_in_its_frame() -> None:
    photo = _artwork((240, 160), (60, 40, 180, 120), 255)[..., :3]
    design = np.dstack([photo, np.ones((160, 240), dtype=np.float32)])
    design = np.repeat(np.repeat(design, 2, axis=0), 2, axis=1)
    noisy = np.clip(photo + np.random.default_rng(0).normal(0, 0.03, photo.shape), 0, 1)
    laid = register(design, noisy.astype(np.float32), np.ones((160, 240), dtype=np.float32))
    there = np.zeros((160, 240), dtype=bool)
    there[40:121, 60:181] = True
    assert np.mean((laid[..., 3] > 0.5) == there) > 0.98
    assert np.mean(np.abs(laid[..., :3] - photo).max(axis=2)[there] < 0.1) > 0.95


@pytest.mark.parametrize(
    ("turn", "narrower", "cut"), [(6, 0.0, 0.0), (-12, 0.1, 0.0), (3, 0.12, 0.0), (4, 0.05, 0.25)]
)
def test_a_design_follows_a_photo_taken_at_an_angle_or_too_close(
    turn: float, narrower: float, cut: float
) -> None:
    image = Image.new("RGBA", (200, 200), (0, 0, 0, 0))
    draw = ImageDraw.Draw(image)
    draw.ellipse((20, 40, 130, 165), fill=(200, 40, 40, 255))
    draw.polygon([(120, 60), (180, 25), (175, 100)], fill=(40, 70, 190, 255))
    draw.rectangle((60, 135, 155, 175), fill=(40, 150, 70, 255))
    design = np.asarray(image, dtype=np.float32) / np.float32(255.0)
    far, near = 100.0 * (1.0 - narrower), 100.0  # half the upper side, and the lower one
    corners = np.array([[-far, -far], [far, -far], [near, near], [-near, near]])
    angle = np.deg2rad(turn)
    axes = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    seen = (corners @ axes + (180.0, 140.0)).astype(np.float32)
    whole = np.array([[0, 0], [200, 0], [200, 200], [0, 200]], dtype=np.float32)
    through = cv2.getPerspectiveTransform(whole, seen)
    true = cv2.warpPerspective(design, through, (360, 280))[:, int(110 + cut * 140) :]
    art = (true[..., 3] > 0.5).astype(np.float32)
    x = np.arange(true.shape[1])[None, :, None]
    thread = np.where(art[..., None] > 0, 0.9 + 0.1 * np.sin(x), 1.0)
    cloth = np.float32(0.8) * (1.0 - true[..., 3:])
    photo = ((true[..., :3] * true[..., 3:] + cloth) * thread).astype(np.float32)
    laid = register(design, photo, art)
    there = art > 0
    both = (laid[..., 3] > 0.5) & there
    assert both.sum() > 0.96 * ((laid[..., 3] > 0.5) | there).sum()
    assert np.mean(np.abs(laid[..., :3] - true[..., :3]).max(axis=2)[there] < 0.1) > 0.96


def test_coverage_is_alpha_or_what_the_even_ground_leaves() -> None:
    transparent = _artwork((64, 48), (10, 10, 40, 30), 0)
    opaque = _artwork((64, 48), (10, 10, 40, 30), 255)
    assert np.array_equal(coverage_of(transparent), coverage_of(opaque))
    busy = opaque.copy()
    busy[..., :3] = np.random.default_rng(0).random((48, 64, 3))
    assert coverage_of(busy).min() == 1.0


def test_the_pair_is_flat_against_sewn_at_the_profiles_scale(
    tiny_models: Models, photo: Path
) -> None:
    made = _made(tiny_models, str(photo), seed=0)
    height, width = made.mask.shape
    assert min(height, width) >= tiny_models.profile.window
    assert made.design.shape == made.embroidery.shape == (height, width, 3)
    assert set(np.unique(made.mask)) == {0.0, 1.0}
    assert thread_width(made.embroidery, made.mask) == pytest.approx(
        tiny_models.profile.pair.thread_px, rel=0.25
    )
    middle = np.s_[height // 2 - 12 : height // 2 + 12, width // 2 - 12 : width // 2 + 12]
    assert made.design[middle].std(axis=(0, 1)).max() < 0.02
    assert made.embroidery[middle].std(axis=(0, 1)).max() > 0.05
    assert np.allclose(
        made.design[middle].mean(axis=(0, 1)), made.embroidery[middle].mean(axis=(0, 1)), atol=0.08
    )


def test_a_given_design_and_mask_are_used(tiny_models: Models, photo: Path, tmp_path: Path) -> None:
    art = Image.new("RGBA", (100, 100), (0, 0, 0, 0))
    ImageDraw.Draw(art).ellipse((0, 0, 99, 99), fill=(0, 255, 0, 255))
    art.save(tmp_path / "art.png")
    made = _made(tiny_models, str(photo), design=str(tmp_path / "art.png"))
    sewn = made.mask > 0
    assert made.design[sewn].mean(axis=0) == pytest.approx([0, 1, 0], abs=0.1)
    assert made.designed == "given"
    mask = Image.new("L", (200, 160), 0)
    ImageDraw.Draw(mask).rectangle((80, 60, 120, 100), fill=255)
    mask.save(tmp_path / "mask.png")
    made = _made(tiny_models, str(photo), mask=str(tmp_path / "mask.png"))
    assert 0.1 < made.mask.mean() < 0.95


def test_models_can_make_the_design(tiny_models: Models, photo: Path) -> None:
    plain = _made(tiny_models, str(photo), seed=0)
    settings = replace(tiny_models.profile.pair, maker="models", guidance=3.0)
    tiny_models.profile = replace(tiny_models.profile, pair=settings)
    drawn = _made(tiny_models, str(photo), seed=0)
    again = _made(tiny_models, str(photo), seed=0)
    assert drawn.design.shape == plain.design.shape
    assert not np.array_equal(drawn.design, plain.design)
    assert (drawn.designed, plain.designed) == ("base", "flattened")
    assert np.array_equal(drawn.design, again.design)
    assert np.array_equal(drawn.embroidery, plain.embroidery)


def test_a_missing_photo_is_named(tiny_models: Models, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file"):
        _made(tiny_models, str(tmp_path / "none.png"))


def test_a_mask_that_selects_next_to_nothing_is_named(
    tiny_models: Models, photo: Path, tmp_path: Path
) -> None:
    mask = Image.new("L", (200, 160), 0)
    mask.save(tmp_path / "black.png")
    ImageDraw.Draw(mask).rectangle((80, 60, 120, 70), fill=255)
    mask.save(tmp_path / "strip.png")
    for name, words in (("black", "selects nothing"), ("strip", "selects 41 × 11 pixels")):
        with pytest.raises(InputError, match=words) as caught:
            _made(tiny_models, str(photo), mask=str(tmp_path / f"{name}.png"))
        assert f"{name}.png" in caught.value.message
        assert "white where the photo is embroidered" in caught.value.remedy


def test_a_design_of_something_else_is_named(
    tiny_models: Models, photo: Path, tmp_path: Path
) -> None:
    Image.new("RGBA", (90, 90), (200, 30, 30, 0)).save(tmp_path / "clear.png")
    frame = Image.new("RGBA", (100, 100), (0, 0, 0, 0))
    draw = ImageDraw.Draw(frame)
    draw.rectangle((0, 0, 99, 99), outline=(200, 30, 30, 255), width=3)
    frame.save(tmp_path / "frame.png")
    for name, words in (("clear", "nothing is drawn"), ("frame", "does not fit the photo")):
        with pytest.raises(InputError, match=words) as caught:
            _made(tiny_models, str(photo), design=str(tmp_path / f"{name}.png"))
        assert f"{name}.png" in caught.value.message
        assert "leave the design out" in caught.value.remedy


def test_a_pair_comes_back_from_disk_as_it_was(
    tiny_models: Models, photo: Path, tmp_path: Path
) -> None:
    made = _made(tiny_models, str(photo))
    made.save(tmp_path)
    read = pair.Pair.load(tmp_path)
    for name in ("design", "embroidery", "mask"):
        assert np.array_equal(getattr(made, name), getattr(read, name)), name
    assert read.designed == "flattened"


def test_windows_show_the_most_motif_first() -> None:
    mask = np.zeros((128, 192), dtype=np.float32)
    mask[64:, 128:] = 1.0
    boxes = window_boxes(mask, 64, 5)
    assert boxes[0] == (128, 64, 192, 128)
    assert len(set(boxes)) == 5
    assert all(x1 - x0 == 64 and x1 <= 192 and y1 <= 128 for x0, _, x1, y1 in boxes)
    assert window_boxes(mask[:64, :64], 64, 5) == [(0, 0, 64, 64)]


def test_encoding_weighs_cloth_less(tiny_models: Models, photo: Path) -> None:
    made = _made(tiny_models, str(photo))
    encoded = encode(tiny_models, made, ["a motif", "a motif in [emb] style"])
    assert encoded.design.shape == encoded.embroidery.shape == (len(encoded), 4, 8, 8)
    cloth = tiny_models.profile.training.cloth_weight
    assert float(encoded.weight.min()) >= cloth - 1e-6
    assert float(encoded.weight.max()) == pytest.approx(1.0)
    assert encoded.controls is not None
    assert encoded.controls.tile.shape == (len(encoded), 3, 64, 64)
    versions = tiny_models.profile.pair.recoloured
    assert len(encoded) % versions == 0
    first, second = (encoded.controls.tile[i * len(encoded) // versions] for i in (0, 1))
    assert torch.equal(first[[1, 2, 0]], second)


@pytest.mark.parametrize("shape", motifs.SHAPES)
def test_motifs_are_flat_and_repeatable(shape: str) -> None:
    picture, mask = motifs.draw_motif(shape, 64, np.random.default_rng(1))
    again, _ = motifs.draw_motif(shape, 64, np.random.default_rng(1))
    assert np.array_equal(picture, again)
    assert 0.05 < mask.mean() < 0.8
    colours = np.unique(np.round(picture[mask == 1.0] * 255), axis=0, return_counts=True)[1]
    assert np.sort(colours)[-2:].sum() > 0.8 * colours.sum()


def test_selection_takes_the_highest_shares() -> None:
    scores = [0.1, 0.9, 0.5, 0.7, 0.3]
    assert complementary.select(scores, 5, 2) == [1, 3, 2]
    assert complementary.select([scores[i] for i in (1, 3, 2)], 5, 4) == [0, 1]


def _striped(design: NDArray[np.float32], mask: NDArray[np.float32]) -> NDArray[np.float32]:
    """A stand-in for the instant preview: every second row of the motif is dark."""
    dark = (np.arange(len(design)) % 2)[:, None, None] * mask[..., None]
    return np.asarray(design * (1.0 - 0.5 * dark), np.float32)


def test_sewn_motifs_are_embroidered_from_their_own_preview(tiny_models: Models) -> None:
    tiny_models.profile = replace(
        tiny_models.profile,
        complementary=replace(
            tiny_models.profile.complementary, source="sewn", steps=20, strength=0.05
        ),
    )
    found = candidates.candidates_of(tiny_models, 3, _striped)
    assert len({each.subject for each in found}) == len(found)
    for each in found:
        assert each.design is not None
        assert each.start is not None
        changed = (each.start != each.design).any(axis=-1)
        assert 0.05 < changed.mean() < 0.5
        assert not changed[::2].any()
    part = found[:2]
    blocks = ATTENTION_BLOCKS[2:4]
    along = outcome(candidates.way_back(tiny_models, part, blocks))
    clean = candidates.starts(tiny_models, part)
    words = tiny_models.encode_prompts(["a motif in [emb] style"] * 2)
    settings = tiny_models.profile.complementary
    *_, home = denoise(
        tiny_models,
        clean,
        torch.zeros_like(clean),
        words,
        words[:1],
        steps=settings.steps,
        strength=settings.strength,
        controls=candidates.conditions(tiny_models, part),
        inverted=along,
    )
    # The way there leads back; noise drawn at random would leave no likeness.
    assert torch.cosine_similarity(home.flatten(), clean.flatten(), dim=0) > 0.95


@pytest.mark.parametrize("source", ["drawn", "sewn", "text"])
def test_complementary_pairs(
    tiny_models: Models, photo: Path, tmp_path: Path, source: Literal["drawn", "sewn", "text"]
) -> None:
    settings = replace(
        tiny_models.profile.complementary,
        source=source,
        guidance=4.0 if source == "text" else 1.0,
    )
    tiny_models.profile = replace(tiny_models.profile, complementary=settings)
    made = _made(tiny_models, str(photo))
    encoded = encode(tiny_models, made, ["a motif", "a motif in [emb] style"])
    blocks = ATTENTION_BLOCKS[2:4]
    adapter = Adapter(tiny_models, blocks, rank=2, seed=0)
    own = made.design[:64, :64]
    values = list(complementary.make(tiny_models, adapter, blocks, encoded, own, 0, sew=_striped))
    adapter.remove()
    assert values[:-1] == [None] * complementary.passes(tiny_models)
    found = values[-1]
    assert found is not None
    assert len(found) == 1  # a quarter of four
    assert found[0].design.shape == (64, 64, 3)
    complementary.save(found, tmp_path)
    read = complementary.load(tmp_path)
    assert read is not None
    assert read[0].subject == found[0].subject
    assert np.array_equal(read[0].design, found[0].design)
    assert torch.equal(read[0].embroidery, found[0].embroidery)
    ready = complementary.encode(tiny_models, read[0])
    assert ready.design.shape == ready.embroidery.shape
    assert complementary.load(tmp_path / "elsewhere") is None
