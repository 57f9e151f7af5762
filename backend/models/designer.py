"""Where the networks are that draw a photo's design: Stable Diffusion 3 and its helpers.

They are optional, and nothing here ever downloads them. They are looked for in a folder that the
user names, then in the hub's cache. The folder has diffusers' pipeline layout (transformer/, vae/,
text_encoder/, text_encoder_2/, tokenizer/, tokenizer_2/, scheduler/, and text_encoder_3/ with
tokenizer_3/ if wanted) with controlnet_canny/ and controlnet_tile/ in it, and, if wanted, hed/
(ControlNetHED.pth or .safetensors) and tagger/ (model.onnx, selected_tags.csv).

Imports no heavy library, so that doors can say what is there.
"""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from pathlib import Path

from backend.errors import InputError, ProfileError
from backend.models.profiles import Profile
from backend.models.settings import DesignerSettings

__all__ = ["Designer", "find"]

_NETWORKS = ("transformer", "vae", "text_encoder", "text_encoder_2")
_PLAIN = (
    "tokenizer/tokenizer_config.json",
    "tokenizer_2/tokenizer_config.json",
    "scheduler/scheduler_config.json",
)
_HED = ("ControlNetHED.safetensors", "ControlNetHED.pth")
_TAGS = ("model.onnx", "selected_tags.csv")
_NAME = "Stable Diffusion 3"


@dataclass(frozen=True, slots=True)
class Designer:
    """What was found.

    Attributes:
        base, canny, tile: folders of the pipeline and of its two ControlNets.
        edges: file of the network that finds soft edges (HED); None: others stand in.
        tagger: folder of the tagger (WD14); None: the subject is all that words tell.
    """

    settings: DesignerSettings
    base: Path
    canny: Path
    tile: Path
    edges: Path | None = None
    tagger: Path | None = None


def find(profile: Profile, folder: str | None = None) -> tuple[Designer | None, str]:
    """The designer of a profile, and what a user ought to know of it ("": nothing).

    Args:
        folder: named by the user; what it lacks may lie in the hub's cache.

    Returns:
        None in place of a designer if the profile has none, or if it is not on this machine.

    Raises:
        InputError: a folder is named, but the profile has no designer.
        ProfileError: a folder is named, but with it the designer is not complete.
    """
    settings = profile.designer
    if settings is None:
        if folder is not None:
            raise InputError(
                f"designer: profile {profile.name} draws its designs without {_NAME}.",
                "Leave the designer out, or use profile sdxl.",
            )
        return None, ""
    place = None if folder is None else Path(folder)
    base = _base(settings, place)
    canny = _controlnet(place, "controlnet_canny", settings.canny)
    tile = _controlnet(place, "controlnet_tile", settings.tile)
    if base is None or canny is None or tile is None:
        parts = {
            settings.base if place is None else "the pipeline itself": base,
            settings.canny if place is None else "controlnet_canny": canny,
            settings.tile if place is None else "controlnet_tile": tile,
        }
        absent = ", ".join(name for name, found in parts.items() if found is None)
        if place is not None:
            raise ProfileError(
                f"{folder}: {_NAME} is not complete: {absent} (weights in safetensors, with their "
                "configuration) is neither there nor in the hub's cache.",
                "Copy it there (README names the files), or leave --designer out.",
            )
        return None, (
            f"the base model itself draws the design; {_NAME} would do it better, but is not on "
            f"this machine: {absent} (README says how to add it)"
        )
    edges, no_edges = _edges(settings, place)
    tagger, no_tags = _tagger(settings, place)
    found = Designer(settings, base, canny, tile, edges, tagger)
    return found, "; ".join([f"{_NAME} draws the design", *filter(None, (no_edges, no_tags))])


def _base(settings: DesignerSettings, place: Path | None) -> Path | None:
    cached = _cached(settings.base, "transformer/config.json")
    for folder in (place, cached and cached.parent.parent):
        if (
            folder is not None
            and all(_is_network(folder / name) for name in _NETWORKS)
            and all((folder / name).is_file() for name in _PLAIN)
        ):
            return folder
    return None


def _controlnet(place: Path | None, sub: str, name: str) -> Path | None:
    cached = _cached(name, "config.json")
    folders = (place and place / sub, cached and cached.parent)
    return next((each for each in folders if each and _is_network(each)), None)


def _edges(settings: DesignerSettings, place: Path | None) -> tuple[Path | None, str]:
    """The file, or why there is none and what stands in."""
    here = [] if place is None else [place / "hed" / name for name in _HED]
    cached = [_cached(settings.edges, name) for name in _HED]
    found = next((each for each in [*here, *cached] if each and each.is_file()), None)
    if found is not None:
        return found, ""
    instead = "Canny edges of the flattened photo stand in"
    return None, f"no soft edges (ControlNetHED.pth of {settings.edges}): {instead}"


def _tagger(settings: DesignerSettings, place: Path | None) -> tuple[Path | None, str]:
    """The folder, or why there is none and what stands in."""
    instead = "the subject is all that its words tell"
    cached = _cached(settings.tagger, _TAGS[0])
    for folder in (place and place / "tagger", cached and cached.parent):
        if folder and all((folder / name).is_file() for name in _TAGS):
            if importlib.util.find_spec("onnxruntime") is not None:
                return folder, ""
            return None, f"no tags (the package onnxruntime is not installed): {instead}"
    return None, f"no tags ({settings.tagger}): {instead}"


def _is_network(folder: Path) -> bool:
    return (folder / "config.json").is_file() and any(folder.glob("*.safetensors"))


def _cached(name: str, file: str) -> Path | None:
    """A file in the hub's cache; reads no network."""
    from huggingface_hub import try_to_load_from_cache

    found = try_to_load_from_cache(name, file)
    return Path(found) if isinstance(found, str) else None
