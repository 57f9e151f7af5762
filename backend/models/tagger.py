"""What a picture shows, in words: a tagger of the WD14 family (paper, section 3.1).

Its folder holds model.onnx and selected_tags.csv. It runs in onnxruntime, which is an optional
package, on the CPU: one picture takes a second.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from backend.errors import ProfileError

__all__ = ["Tagger"]

_GENERAL = "0"  # other categories are characters' names and ratings


class Tagger:
    """A tagger in memory.

    Args:
        folder: of its model and tags.

    Raises:
        ProfileError: they cannot be read, or do not belong together.
    """

    def __init__(self, folder: Path) -> None:
        import onnxruntime
        from onnxruntime.capi import onnxruntime_pybind11_state as state

        self._folder = folder
        damaged = (state.Fail, state.InvalidGraph, state.InvalidProtobuf, state.NotImplemented)
        try:
            with open(folder / "selected_tags.csv", encoding="utf-8", newline="") as lines:
                self._tags = [(each["name"], each["category"]) for each in csv.DictReader(lines)]
            options = onnxruntime.SessionOptions()
            options.log_severity_level = 3
            self._session = onnxruntime.InferenceSession(
                str(folder / "model.onnx"), options, providers=["CPUExecutionProvider"]
            )
        except (OSError, ValueError, KeyError, *damaged) as error:
            raise self._unusable(str(error)) from error
        inputs = self._session.get_inputs()
        self._input = inputs[0].name
        shape = inputs[0].shape
        if len(shape) != 4 or shape[3] != 3 or not isinstance(shape[1], int):
            raise self._unusable(f"its input is {shape}, not pictures")
        self._side = shape[1]

    def tags(
        self, rgb: NDArray[np.floating], threshold: float, ignored: Sequence[str] = ()
    ) -> list[str]:
        """What a picture (H, W, 3) in [0, 1] shows, likeliest first.

        Args:
            threshold: likelihood from which a tag is believed.
            ignored: tags that hold any of these are left out.

        Raises:
            ProfileError: model and tags do not belong together.
        """
        (answer,) = self._session.run(None, {self._input: self._seen(rgb)})
        likelihoods = np.asarray(answer, dtype=np.float64).reshape(-1)
        if len(likelihoods) != len(self._tags):
            raise self._unusable(f"{len(likelihoods)} answers for {len(self._tags)} tags")
        found = []
        for index in np.argsort(-likelihoods, kind="stable"):
            name, category = self._tags[index]
            words = name.replace("_", " ")
            if likelihoods[index] < threshold:
                break
            drawn = sum(each.isalpha() for each in words) < 2  # faces made of signs
            if category == _GENERAL and not drawn and not any(each in words for each in ignored):
                found.append(words)
        return found

    def _seen(self, rgb: NDArray[np.floating]) -> NDArray[np.float32]:
        """As the tagger was trained: square on white, blue first, 0 to 255, (1, S, S, 3)."""
        height, width = rgb.shape[:2]
        side = max(height, width)
        square = np.ones((side, side, 3), dtype=np.float32)
        top, left = (side - height) // 2, (side - width) // 2
        square[top : top + height, left : left + width] = np.clip(rgb, 0.0, 1.0)
        method = cv2.INTER_AREA if side > self._side else cv2.INTER_CUBIC
        scaled = cv2.resize(square, (self._side, self._side), interpolation=method)
        return np.ascontiguousarray(np.clip(scaled[None, ..., ::-1], 0.0, 1.0) * 255.0)

    def _unusable(self, reason: str) -> ProfileError:
        return ProfileError(
            f"{self._folder}: this tagger cannot be used ({reason}).",
            "Download model.onnx and selected_tags.csv again, or take them away: the subject is "
            "all that words tell then.",
        )
