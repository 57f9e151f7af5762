"""The pair design → embroidery of one photo (paper, section 3.1), and its training windows."""

from __future__ import annotations

import itertools
from collections.abc import Generator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from backend.emolora.registration import register
from backend.emolora.sampling import (
    concatenate,
    controls_of,
    denoise,
    redone,
    seeded_noise,
    to_tensor,
)
from backend.imaging.edges import guided_filter, thread_width
from backend.imaging.files import read_mask, read_reference, read_rgba, write_png
from backend.imaging.flatten import flatten, smooth
from backend.imaging.lines import edge_lines
from backend.imaging.locate import locate_motif
from backend.imaging.masks import bounding_box, densest, extend_colours
from backend.models.loading import Models, TextEmbedding
from backend.models.prediction import Controls
from backend.models.profiles import PairSettings
from backend.progress import outcome

__all__ = [
    "EncodedPair",
    "Pair",
    "design_of",
    "design_passes",
    "encode",
    "encoding_steps",
    "pair_steps",
    "window_boxes",
]

_DISC = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (9, 9))
# Orders of red, green and blue; the mixed ones show that a style has no colours of its own.
_CHANNELS = ([0, 1, 2], [1, 2, 0], [2, 0, 1], [0, 2, 1], [2, 1, 0], [1, 0, 2])
_PICTURES = ("design", "embroidery", "mask")


@dataclass(frozen=True, slots=True)
class Pair:
    """Design and embroidery of one motif, laid over each other.

    Attributes:
        design, embroidery: (H, W, 3) float32 in [0, 1], sides multiples of 8 and at least a window.
        mask: (H, W), 1 on the motif, 0 on cloth.
    """

    design: NDArray[np.float32]
    embroidery: NDArray[np.float32]
    mask: NDArray[np.float32]

    def save(self, folder: Path) -> None:
        """Write design.png, embroidery.png and mask.png."""
        for name in _PICTURES:
            write_png(folder / f"{name}.png", getattr(self, name))

    @classmethod
    def load(cls, folder: Path) -> Pair:
        """Read what `save` wrote."""
        design, embroidery = (
            np.ascontiguousarray(read_rgba(folder / f"{name}.png")[..., :3])
            for name in ("design", "embroidery")
        )
        return cls(design, embroidery, read_mask(folder / "mask.png"))


@dataclass(frozen=True, slots=True)
class EncodedPair:
    """A pair as training sees it, encoded once.

    Attributes:
        design, embroidery: latents of the windows, (N, C, h, w); the first shows most motif.
        weight: what each place counts in the losses, (N, 1, h, w).
        design_text, embroidery_text: one row each.
        controls: of the design, N rows; None where training uses none.
    """

    design: torch.Tensor
    embroidery: torch.Tensor
    weight: torch.Tensor
    design_text: TextEmbedding
    embroidery_text: TextEmbedding
    controls: Controls | None

    def __len__(self) -> int:
        return self.design.shape[0]

    def cut(self, windows: torch.Tensor, corners: torch.Tensor, side: int) -> EncodedPair:
        """Crops of windows.

        Args:
            windows: (B,), which windows.
            corners: (B, 2), top and left of each crop, latent cells.
            side: of the crops, latent cells.

        Returns:
            a pair of B such crops.
        """

        def crops(values: torch.Tensor) -> torch.Tensor:
            factor = values.shape[-1] // self.design.shape[-1]
            places = zip(windows.tolist(), (corners * factor).tolist())
            size = side * factor
            return torch.stack(
                [
                    values[row, :, top : top + size, left : left + size]
                    for row, (top, left) in places
                ]
            )

        controls = self.controls
        if controls is not None:
            controls = replace(controls, canny=crops(controls.canny), tile=crops(controls.tile))
        return replace(
            self,
            design=crops(self.design),
            embroidery=crops(self.embroidery),
            weight=crops(self.weight),
            controls=controls,
        )


def pair_steps(
    models: Models,
    reference: str,
    *,
    design: str | None = None,
    mask: str | None = None,
    subject: str | None = None,
    seed: int = 0,
) -> Generator[None, None, Pair]:
    """Make the pair from a photo, at the scale at which the profile sees threads well.

    Yields between its parts, none of which takes long, so that closing it cancels.

    Args:
        reference, design, mask: paths of the photo, of its artwork, of white where it is sewn.
        subject: what the photo shows, for the models' prompt.

    Raises:
        InputError: a file cannot be used.
    """
    settings = models.profile.pair
    photo = read_reference(reference)
    yield
    if mask is not None:
        art = (read_mask(mask, photo.shape[:2]) > 0.5).astype(np.float32)
        box = _with_margin(bounding_box(art > 0.5), photo.shape[:2])
    elif settings.located:
        box, art = locate_motif(photo)
    else:
        art = np.ones(photo.shape[:2], dtype=np.float32)
        box = (0, 0, photo.shape[1], photo.shape[0])
    yield
    layers = [photo, art[..., None]]
    if design is not None:
        crop = np.s_[box[1] : box[3], box[0] : box[2]]
        laid = np.zeros((*photo.shape[:2], 4), dtype=np.float32)
        laid[crop] = register(read_rgba(design, max_side=2048), photo[crop], art[crop])
        if mask is None and settings.located and 0.02 < laid[..., 3].mean() < 0.98:
            covered = (laid[..., 3] > 0.5).astype(np.uint8)
            art = cv2.morphologyEx(covered, cv2.MORPH_CLOSE, _DISC).astype(np.float32)
        layers = [photo, art[..., None], laid]
        yield
    thread = thread_width(photo, art)
    yield
    stack = _scaled(np.dstack(layers), box, thread, models)
    embroidery, art = stack[..., :3], (stack[..., 3] > 0.5).astype(np.float32)
    flat = _plain(models, embroidery, art, seed)
    yield
    if design is not None:
        cover = stack[..., 7:]
        flat = stack[..., 4:7] * cover + _cloth_alone(flat, art) * (1.0 - cover)
    elif _drawn(settings):
        flat = yield from _drawn_by_models(models, embroidery, flat, subject, seed)
    return Pair(_eight_bit(flat), _eight_bit(embroidery), art)


def design_of(
    models: Models, embroidery: NDArray[np.float32], subject: str | None, seed: int
) -> Generator[None, None, NDArray[np.float32]]:
    """The design of a picture (H, W, 3) that shows embroidery at training scale.

    Yields `design_passes(models)` times.
    """
    flat = _plain(models, embroidery, None, seed)
    if _drawn(models.profile.pair):
        flat = yield from _drawn_by_models(models, embroidery, flat, subject, seed)
    else:
        yield
    return _eight_bit(flat)


def design_passes(models: Models) -> int:
    """How many values `design_of` yields before its result."""
    settings = models.profile.pair
    return redone(settings.steps, settings.strength) if _drawn(settings) else 1


def _drawn(settings: PairSettings) -> bool:
    """Whether the base model draws designs; lines need none."""
    return settings.maker == "models" and settings.design != "lines"


def _plain(
    models: Models,
    embroidery: NDArray[np.float32],
    art: NDArray[np.float32] | None,
    seed: int,
) -> NDArray[np.float32]:
    """The design (H, W, 3) of a picture, made without any model."""
    settings, inference = models.profile.pair, models.profile.inference
    if settings.design == "lines":
        low, high = inference.canny_low, inference.canny_high
        return edge_lines(embroidery, low, high, models.profile.window)
    if settings.design == "smooth":
        return smooth(embroidery)
    return flatten(embroidery, art, colours=settings.colours, seed=seed)


def _eight_bit(image: NDArray[np.floating]) -> NDArray[np.float32]:
    """As a PNG will keep it, so that a resumed training sees the very same pair."""
    return (np.round(np.clip(image, 0.0, 1.0) * 255.0) / 255.0).astype(np.float32)


def _cloth_alone(flat: NDArray[np.float32], art: NDArray[np.float32]) -> NDArray[np.float32]:
    """The flat ground, continued under the motif and the stitches that stand over its edge."""
    reach = max(3, round(0.02 * max(art.shape)))
    near = cv2.dilate(art.astype(np.uint8), np.ones((2 * reach + 1,) * 2, np.uint8))
    return extend_colours(flat, near == 0)


def _with_margin(
    box: tuple[int, int, int, int], size: tuple[int, int]
) -> tuple[int, int, int, int]:
    if box[2] == 0:
        return 0, 0, size[1], size[0]
    margin = round(0.08 * max(box[2] - box[0], box[3] - box[1]))
    return (
        max(0, box[0] - margin),
        max(0, box[1] - margin),
        min(size[1], box[2] + margin),
        min(size[0], box[3] + margin),
    )


def _scaled(
    stack: NDArray[np.float32], box: tuple[int, int, int, int], thread: float, models: Models
) -> NDArray[np.float32]:
    """The crop of the motif at training scale, (H, W, C), at least a window on both sides."""
    settings, window = models.profile.pair, models.profile.window
    height, width = stack.shape[:2]
    longest = max(box[2] - box[0], box[3] - box[1])
    by_thread = settings.thread_px > 0.0 and thread > 0.0
    scale = settings.thread_px / thread if by_thread else window / longest
    scale = min(scale, settings.enlarge_at_most)
    if settings.whole:
        scale = min(scale, settings.largest * window / longest)
    scale = max(scale, window / max(height, width), 0.75 * window / min(height, width))
    need = window / scale  # a window in the photo's pixels
    x0, x1 = _grown(box[0], box[2], need, width)
    y0, y1 = _grown(box[1], box[3], need, height)
    crop = stack[y0:y1, x0:x1]
    if not settings.whole:
        most = int(settings.largest * window / scale)
        crop = crop[densest(np.ascontiguousarray(crop[..., 3]), most)]
    size = [max(8, round(side * scale / 8) * 8) for side in crop.shape[1::-1]]
    method = cv2.INTER_AREA if scale < 1.0 else cv2.INTER_CUBIC
    layers = [
        cv2.resize(np.ascontiguousarray(crop[..., c]), size, interpolation=method)
        for c in range(crop.shape[2])
    ]
    scaled = np.clip(np.dstack(layers), 0.0, 1.0)
    missing = [max(0, window - side) for side in scaled.shape[:2]]
    pad = [(m // 2, m - m // 2) for m in missing]
    return np.pad(scaled, [*pad, (0, 0)], mode="reflect").astype(np.float32)


def _grown(low: int, high: int, need: float, limit: int) -> tuple[int, int]:
    """An interval about the same middle, of at least `need`, within [0, limit]."""
    length = min(limit, max(high - low, int(np.ceil(need))))
    start = min(max(0, (low + high - length) // 2), limit - length)
    return start, start + length


def _drawn_by_models(
    models: Models,
    embroidery: NDArray[np.float32],
    flat: NDArray[np.float32],
    subject: str | None,
    seed: int,
) -> Generator[None, None, NDArray[np.float32]]:
    """The design as the base model draws it under both ControlNets, from the flattened photo.

    The paper finds soft edges with a network (HED); smoothing along edges before Canny needs none.
    """
    settings = models.profile.pair
    grey = embroidery.mean(axis=2)
    smooth = guided_filter(grey, embroidery, radius=8, epsilon=0.02)
    edges_of = controls_of(models, np.clip(smooth, 0, 1), settings.canny_scale, settings.tile_scale)
    colours = controls_of(models, embroidery, settings.canny_scale, settings.tile_scale)
    controls = replace(edges_of, tile=colours.tile)
    text = models.encode_prompts([f"{subject or models.profile.subject}, {settings.prompt}"])
    start = models.encode_image(to_tensor(flat))
    latents = start
    for latents in denoise(  # noqa: B007 - the last ones count
        models,
        start,
        seeded_noise(models, tuple(start.shape), seed),
        text,
        models.encode_prompts([settings.negative]),
        steps=settings.steps,
        strength=settings.strength,
        guidance=settings.guidance,
        controls=controls,
    ):
        yield
    return models.decode(latents)[0].permute(1, 2, 0).cpu().numpy()


def window_boxes(
    mask: NDArray[np.floating], window: int, count: int
) -> list[tuple[int, int, int, int]]:
    """Up to `count` window-sized boxes (x0, y0, x1, y1) that show the most motif, best first.

    Boxes lie on a grid of a quarter window and differ by at least that.
    """
    height, width = mask.shape
    step = max(8, window // 4)

    def starts(length: int) -> list[int]:
        last = (length - window) // 8 * 8
        return sorted({*range(0, last + 1, step), last})

    total = cv2.integral(np.ascontiguousarray(mask, dtype=np.float32))
    found = []
    for y in starts(height):
        for x in starts(width):
            y1, x1 = y + window, x + window
            share = total[y1, x1] - total[y, x1] - total[y1, x] + total[y, x]
            found.append((-share, y, x))
    return [(x, y, x + window, y + window) for _, y, x in sorted(found)[:count]]


def encode(models: Models, pair: Pair, prompts: Sequence[str]) -> EncodedPair:
    """`encoding_steps`, run to its end."""
    return outcome(encoding_steps(models, pair, prompts))


def encoding_steps(
    models: Models, pair: Pair, prompts: Sequence[str]
) -> Generator[None, None, EncodedPair]:
    """Latents, weights, conditions and words of a pair's windows; yields after each window.

    Args:
        prompts: design prompt and embroidery prompt.
    """
    settings = models.profile.training
    window = models.profile.window
    boxes = window_boxes(pair.mask, window, models.profile.pair.windows)
    designs, embroideries, weights, controls = [], [], [], []
    versions = list(itertools.islice(_CHANNELS, models.profile.pair.recoloured))
    for channels, (x0, y0, x1, y1) in itertools.product(versions, boxes):
        crop = np.s_[y0:y1, x0:x1]
        design = pair.design[crop][..., channels]
        designs.append(models.encode_image(to_tensor(design)))
        embroideries.append(models.encode_image(to_tensor(pair.embroidery[crop][..., channels])))
        side = window // models.factor
        share = cv2.resize(pair.mask[crop], (side, side), interpolation=cv2.INTER_AREA)
        weights.append(settings.cloth_weight + (1.0 - settings.cloth_weight) * share)
        if settings.controls:
            controls.append(controls_of(models, design, settings.canny_scale, settings.tile_scale))
        yield
    text = models.encode_prompts(list(prompts))
    return EncodedPair(
        design=torch.cat(designs),
        embroidery=torch.cat(embroideries),
        weight=torch.from_numpy(np.stack(weights))[:, None].to(models.device, torch.float32),
        design_text=text[:1],
        embroidery_text=text[1:],
        controls=concatenate(controls) if controls else None,
    )
