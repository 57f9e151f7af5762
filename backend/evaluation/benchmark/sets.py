"""What is compared on: references with known looks, photos, designs and prompts."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from backend.errors import InputError
from backend.evaluation.benchmark.store import Store, digest
from backend.imaging.colour import rgb_to_lab
from backend.imaging.edges import thread_width
from backend.imaging.files import read_mask, read_reference, write_png
from backend.models.profiles import Profile
from backend.starter.designs import Design, Icon, draw_design, icon_design, is_held_out
from backend.starter.stitches import HELD_OUT, Look, draw_look, render

__all__ = ["PROMPTS", "Reference", "designs", "from_folder", "rendered", "sample"]

PROMPTS = (
    "a yellow dog", "a red heart", "a blue bird", "a green tree", "a white daisy",
    "a purple butterfly", "an orange fish", "a brown bear", "a pink rose", "a gray elephant",
    "a red car", "a gold trophy", "a blue anchor", "a black cat", "a rainbow",
    "a red apple", "a small house", "a sunflower", "a yellow star", "a green leaf",
)  # fmt: skip

_SUFFIXES = {".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff", ".bmp", ".avif"}
_SAMPLE = Path(__file__).parents[3] / "blender_addon" / "samples"
# Share of the picture that a reference's motif may take: a motif on cloth, as in a photo.
_MOTIF = (0.15, 0.6)
# Numbers that keep the chance of designs and of references apart.
_DESIGNS, _REFERENCES = 1, 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Reference:
    """A photo of an embroidery, or a rendered picture that stands for one.

    Attributes:
        mask, design: files beside it, if there are any.
        look: how it was rendered; with it the true answer to every design is known.
        thread: its thread width as measured, pixels; training is told to keep the scale by it, so
            that results and true answers have one scale.
        key: hash of all that.
    """

    name: str
    title: str
    photo: Path
    mask: Path | None = None
    design: Path | None = None
    look: Look | None = None
    thread: float = 0.0
    key: str = ""

    def truth(self, design: Design) -> NDArray[np.float32] | None:
        """The design sewn in this reference's look, (H, W, 3), where that is known."""
        return None if self.look is None else render(design.flat, design.art, self.look)


def rendered(
    store: Store, profile: Profile, looks: int, families: int, photo: float, seed: int,
    icons: Sequence[Icon] = (),
) -> list[Reference]:  # fmt: skip
    """References in stitch families that no training saw, as pictures on disk.

    Args:
        looks: how many of each family.
        families: how many families.
        photo: side, in windows.
    """
    side = max(128, round(min(photo, profile.pair.largest) * profile.window))
    made = []
    for number in range(looks):
        for index, family in enumerate(list(HELD_OUT)[:families]):
            rng = np.random.default_rng([seed, _REFERENCES, number, index])
            name = f"{family.replace(' ', '-')}-{number + 1}"
            made.append(_render(store, profile, name, family, side, rng, icons))
    return made


def sample() -> list[Reference]:
    """The sample photo, real thread geometry rendered in Cycles; none if it is not installed."""
    photo = _SAMPLE / "reference.png"
    if not photo.is_file():
        return []
    # Without its design: that is to be found, as for any photo.
    return [replace(_photo(photo, "sample", "sample photo (Cycles)"), design=None)]


def from_folder(folder: Path) -> list[Reference]:
    """The photos in a folder; `NAME_mask` and `NAME_design` beside a `NAME` go with it.

    Raises:
        InputError: there is no such folder, no image in it, or one that cannot be used.
    """
    if not folder.is_dir():
        raise InputError(f"{folder}: there is no such folder.", "Check --references.")
    files = {
        each.stem: each for each in sorted(folder.iterdir()) if each.suffix.lower() in _SUFFIXES
    }
    photos = [
        path
        for stem, path in files.items()
        if not any(
            stem.endswith(end) and stem.removesuffix(end) in files for end in ("_mask", "_design")
        )
    ]
    if not photos:
        raise InputError(
            f"{folder}: there is no image in this folder.",
            f"Give a folder of photos ({', '.join(sorted(_SUFFIXES))}).",
        )
    return [_photo(each, None, each.stem) for each in photos]


def designs(size: int, count: int, seed: int, icons: Sequence[Icon] = ()) -> list[Design]:
    """Flat designs that no training saw: held-out icons and drawn patterns in turn.

    Args:
        size: side in pixels.
    """
    usable = [icon for icon in icons if is_held_out(icon.name)]
    made = []
    for number in range(count):
        rng = np.random.default_rng([seed, _DESIGNS, number])
        if usable and number % 2 == 0:
            design = icon_design(usable[int(rng.integers(len(usable)))], size, rng)
        else:
            design = draw_design(size, rng)
            while not 0.1 < design.art.mean() < 0.95:
                design = draw_design(size, rng)
        name = f"{_slug(design.name)}-{number + 1}"
        flat = np.round(design.flat * 255.0) / np.float32(255.0)
        made.append(replace(design, flat=flat.astype(np.float32), name=name))
    return made


def _render(
    store: Store,
    profile: Profile,
    name: str,
    family: str,
    side: int,
    rng: np.random.Generator,
    icons: Sequence[Icon],
) -> Reference:
    """Draw motifs and looks until one comes out with thread that can be measured."""
    usable = [icon for icon in icons if is_held_out(icon.name)]
    wanted = profile.pair.thread_px
    photo, mask = store.place(f"references/{name}.png"), store.place(f"references/{name}_mask.png")
    for _ in range(100):
        if usable:
            motif = icon_design(usable[int(rng.integers(len(usable)))], side, rng)
        else:
            motif = draw_design(side, rng)
        look = replace(draw_look(family, rng), ground="cloth", width=wanted)
        if not _is_motif(motif):
            continue
        thread = thread_width(render(motif.flat, motif.art, look), motif.art.astype(np.float32))
        if thread <= 0.0:
            continue
        # A pixel's thread of its own scale, within what the family still looks like itself.
        width = float(np.clip(wanted * wanted / thread, 0.6 * wanted, 1.4 * wanted))
        look = replace(look, width=width)
        write_png(photo, render(motif.flat, motif.art, look))
        write_png(mask, motif.art.astype(np.float32))
        thread = thread_width(read_reference(photo), read_mask(mask))
        if thread > 0.0:
            title = f"{family} ({motif.subject})"
            key = digest([_key(photo), _key(mask), asdict(look)])
            return Reference(
                name=name, title=title, photo=photo, mask=mask, look=look, thread=thread, key=key
            )
    raise InputError(
        f"No reference in {family} has thread that can be measured.", "Give another --seed."
    )


def _photo(path: Path, name: str | None, title: str) -> Reference:
    read_reference(path)  # a damaged one is named before any work starts
    mask, design = (
        next(iter(sorted(path.parent.glob(f"{_escaped(path.stem)}_{kind}.*"))), None)
        for kind in ("mask", "design")
    )
    parts = [each for each in (path, mask, design) if each is not None]
    key = digest([_key(each) for each in parts])
    name = name or f"{_slug(path.stem)}-{key[:6]}"
    return Reference(
        name=name, title=title, photo=path.resolve(), key=key, mask=mask, design=design
    )


def _is_motif(design: Design) -> bool:
    """Whether a design stands on cloth as a motif, in colours that show stitches."""
    art = design.art
    rim = np.concatenate([art[[0, -1]].ravel(), art[:, [0, -1]].ravel()])
    lightness = rgb_to_lab(design.flat)[..., 0][art]
    # Highlights on white thread clip, and black thread has no shade.
    shows = ((lightness > 20.0) & (lightness < 86.0)).mean() if lightness.size else 0.0
    return bool(_MOTIF[0] < art.mean() < _MOTIF[1] and rim.mean() < 0.1 and shows > 0.7)


def _key(path: Path) -> str:
    return digest(path.read_bytes())


def _slug(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:40] or "photo"


def _escaped(stem: str) -> str:
    return re.sub(r"([*?\[])", r"[\1]", stem)
