"""What a prompt says, in the words of a base that knows a list of motifs and colours."""

from __future__ import annotations

import difflib
import json
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from backend.errors import InputError, ProfileError

__all__ = ["MOTIF_WORDS", "MotifWords", "check_words", "composer_in", "motif_words", "wording"]

MOTIF_WORDS = "motifs.json"

_LIKE_CONSONANTS = ("unicorn",)  # vowels that "a" stands before
_ALSO = {"grey": "gray", "violet": "purple", "golden": "yellow", "gold": "yellow"}


def wording(name: str, colour: str) -> str:
    """The words for a motif in a colour ("": its own): "a red heart", "an anchor"."""
    words = f"{colour} {name}" if colour else name
    vowel = words[0] in "aeiou" and not words.startswith(_LIKE_CONSONANTS)
    return f"{'an' if vowel else 'a'} {words}"


def composer_in(base: str | Path) -> Path | None:
    """The composer's folder in a base model's, if that has networks of its own for words."""
    folder = Path(base) / "composer"
    # In any case an answer, whatever the name.
    return folder if os.path.isfile(folder / "unet" / "config.json") else None


def motif_words(composer: Path) -> MotifWords:
    """What the composer in a folder knows by name.

    Raises:
        ProfileError: see `MotifWords.load`.
    """
    return MotifWords.load(composer / MOTIF_WORDS)


def check_words(prompt: str, base: str | Path | None) -> None:
    """Refuse what a base cannot draw; one that is no folder with a composer draws any words.

    Raises:
        InputError: no motif that it knows is named.
        ProfileError: see `MotifWords.load`.
    """
    composer = composer_in(base) if base else None
    if composer is not None:
        motif_words(composer).recognised(prompt)


@dataclass(frozen=True, slots=True)
class MotifWords:
    """Names of motifs and colours that a composer was trained on."""

    motifs: tuple[str, ...]
    colours: tuple[str, ...]

    @classmethod
    def load(cls, path: Path) -> MotifWords:
        """Read what `save` wrote.

        Raises:
            ProfileError: the file is missing or damaged.
        """
        try:
            said = json.loads(path.read_text("utf-8"))
            return cls(tuple(map(str, said["motifs"])), tuple(map(str, said["colours"])))
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ProfileError(
                f"{path}: the list of motifs cannot be read ({error}).",
                "Install Stitchwork again.",
            ) from error

    def save(self, path: Path) -> None:
        """Write the list."""
        said = {"motifs": list(self.motifs), "colours": list(self.colours)}
        path.write_text(json.dumps(said, indent=1) + "\n", "utf-8")

    def recognised(self, prompt: str) -> str:
        """The prompt's motif and colour, worded as in training; other words are left out.

        Args:
            prompt: "two big red hearts" gives "a red heart".

        Raises:
            InputError: no motif that is known is named.
        """
        words = [_ALSO.get(word, word) for word in _split(prompt)]
        found = [name for name in self.motifs if _names(words, _split(name))]
        if not found:
            raise InputError(
                f'This base cannot draw "{prompt}": it knows {len(self.motifs)} motifs by name.',
                f"{self._near(words)} The model card lists them all; the sdxl profile draws more.",
            )
        name = max(found, key=len)
        colour = next((word for word in words if word in self.colours), "")
        return wording(name, colour)

    def _near(self, words: Sequence[str]) -> str:
        near = [n for word in words for n in difflib.get_close_matches(word, self.motifs, 2, 0.7)]
        return f"Did you mean {' or '.join(map(repr, near))}?" if near else "Ask for one of them."


def _split(text: str) -> list[str]:
    return re.findall(r"[^\W_]+", text.lower())


def _names(words: Sequence[str], name: Sequence[str]) -> bool:
    """Whether a name stands among the words, in singular or plural."""
    places = range(len(words) - len(name) + 1)
    return any(
        list(words[k : k + len(name) - 1]) == list(name[:-1])
        and name[-1] in _singulars(words[k + len(name) - 1])
        for k in places
    )


def _singulars(word: str) -> set[str]:
    endings = {"s": "", "es": "", "ies": "y", "ves": "f"}
    return {word} | {word.removesuffix(s) + e for s, e in endings.items() if word.endswith(s)}
