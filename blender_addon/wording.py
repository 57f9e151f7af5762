"""What the user can do, in the words of the place where they are: the panel or the command line.

Messages are written once and name actions; what an action is called, a button or a flag, is
looked up here.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

__all__ = ["at_command_line", "do", "join"]

# Action: in the panel, at the command line.
_ACTIONS: dict[str, tuple[str, str]] = {
    "faces": (
        "select faces and press Add Patch from Selected Faces",
        "save the .blend file with faces selected and give --region faces",
    ),
    "store_faces": (
        "select faces in Edit Mode, then press Store Selected Faces",
        "save the .blend file with faces selected and give --region faces",
    ),
    "select": ("select faces in Edit Mode first", "save the .blend file with faces selected"),
    "everything": ("set the patch's region to Everything", "give --region all"),
    "group": (
        "set the region to a vertex group",
        "give --region group --vertex-group NAME",
    ),
    "mask": (
        "set the region to a mask image",
        "give --region mask --mask-image FILE (white: embroider)",
    ),
    "print": (
        "give its material the printed texture, as Base Color",
        "give its printed texture, --print FILE",
    ),
    "words": (
        "add a patch and type Words for a motif",
        'give words for a motif and a place, --words "a red heart" --rect U0 V0 U1 V1',
    ),
    "no_words": ("clear the patch's Words", 'leave its words out, --words ""'),
    "train": ("train a style and press Embroider Patch", "leave --instant out"),
    "find": ("press Find Artwork", "give --region auto"),
    "add": ("add a patch by hand", "give a place with --rect U0 V0 U1 V1"),
    "rect": (
        "set the patch's rectangle under Placement",
        "give --rect U0 V0 U1 V1",
    ),
    "smaller": ("make the patch smaller", "embroider a smaller part with --rect U0 V0 U1 V1"),
    "exaggeration": (
        "set the exaggeration to {factor}",
        "set the exaggeration to {factor} with --exaggeration {factor}",
    ),
    "height": ("type in the garment's real height", "give the garment's real height, --height-cm"),
    "finer": ("use a finer thread", "give a finer thread, --thread-mm"),
    "finer_drawing": (
        "set the exaggeration to {factor} and Largest Image to {side} px",
        "give --exaggeration {factor} --max-side {side}",
    ),
    "part": (
        "embroider a part of up to {cm} cm: select its faces and press "
        "Add Patch from Selected Faces",
        "embroider a part of up to {cm} cm with --region faces or --rect U0 V0 U1 V1",
    ),
    "unwrap": (
        "press Unwrap: it makes a new UV layer",
        "unwrap it in Blender: the Stitchwork panel has a button that makes a new UV layer",
    ),
    "layer": ("choose one of: {names}", "give --uv-layer with one of: {names}"),
    "object": ("select another mesh", "choose another with --object NAME"),
    "cycles": (
        "enable the add-on “Cycles Render Engine” in the preferences",
        "use a Blender that has the Cycles engine",
    ),
    "install": (
        "press Install in Stitchwork's preferences (2 to 6 GB)",
        "install it from the add-on's preferences in Blender, "
        "or name an environment's Python with --backend-python",
    ),
    "backend_python": (
        "choose another, or clear it and press Install in Stitchwork's preferences",
        "give another with --backend-python",
    ),
    "repair": (
        "press Install in Stitchwork's preferences to repair it",
        "install it again from the add-on's preferences in Blender, or give --backend-python",
    ),
    "update_backend": (
        "update the backend: press Install in Stitchwork's preferences",
        "update the backend, or give another with --backend-python",
    ),
    "address": (
        "check the address in Stitchwork's preferences",
        "check --backend-url",
    ),
}


@dataclass(slots=True)
class _Place:
    command_line: bool = False


_place = _Place()


@contextmanager
def at_command_line() -> Iterator[None]:
    """Within it actions are named by their flags."""
    before = _place.command_line
    _place.command_line = True
    try:
        yield
    finally:
        _place.command_line = before


def do(*actions: str, **values: object) -> str:
    """A sentence that offers the actions, any of which helps.

    Args:
        values: what the actions' words have places for.
    """
    return join([_ACTIONS[each][_place.command_line].format(**values) for each in actions])


def join(ways: list[str]) -> str:
    """Ways to do something as one sentence, the last after "or"."""
    *first, last = ways
    text = f"{', '.join(first)}, or {last}" if first else last
    return f"{text[0].upper()}{text[1:]}."
