"""What a run without an interface leaves behind: `manifest.json`, from which a report is written.

Its form is the one that `python -m backend report` reads; `outputs` and `run` are for programs.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .link.jobs import Result

__all__ = ["Record"]

PICTURES = {
    "before": ("printed, as it came", "The garment"),
    "after": ("embroidered", "The garment"),
    "closeup": ("embroidered, from near", "The garment"),
    "texture_before": ("the bake: flat artwork", "The patch"),
    "texture_cloth": ("the bake: cloth", "The patch"),
    "texture_preview": ("instant preview: patch synthesis, no training", "The patch"),
    "texture_after": ("trained style", "The patch"),
}
STYLE_PICTURES = {
    "reference.png": "the photo it was learnt from",
    "design.png": "the photo's flat design",
    "preview.png": "that design in the trained style",
    "blocks.png": "similarity by block",
}
NOTES = (
    "The plain artwork keeps its own colours best and has no thread; it is here for comparison "
    "only. The instant preview carries the photo's detail over without learning anything.",
)


@dataclass(slots=True)
class Record:
    """Files, times and measures of a run, gathered while it goes.

    Attributes:
        folder: where the results lie.
        outputs: role → absolute path.
        measures: "job.name" → value, as the jobs reported them.
        seconds: (group, stage) → wall seconds.
    """

    folder: Path
    outputs: dict[str, str] = field(default_factory=dict)
    measures: dict[str, float] = field(default_factory=dict)
    seconds: dict[tuple[str, str], float] = field(default_factory=dict)

    @contextmanager
    def timing(self, group: str, stage: str) -> Iterator[None]:
        began = time.perf_counter()
        yield
        self._spend(group, stage, time.perf_counter() - began)

    def file(self, role: str, name: str) -> Path:
        """The path of a result, noted under its role."""
        self.outputs[role] = str(self.folder / name)
        return self.folder / name

    def take(self, kind: str, result: Result | None) -> None:
        """Add a job's own measures and times."""
        if result is not None:
            self.measures |= {f"{kind}.{name}": value for name, value in result.measures.items()}
            for stage, seconds in result.seconds.items():
                self._spend(kind, stage, seconds)

    def write(self, title: str, run: dict[str, Any], facts: dict[str, str]) -> Path:
        """Write `manifest.json` beside the results and return its path."""
        data = {
            "title": title,
            "subtitle": "Made by Stitchwork: baked, restyled and applied in Blender.",
            "facts": [{"name": name, "value": value} for name, value in facts.items()],
            "pictures": self._pictures(),
            "timings": [
                {"group": group, "stage": stage, "seconds": round(seconds, 3)}
                for (group, stage), seconds in self.seconds.items()
            ],
            "comparisons": self._comparisons(),
            "notes": list(NOTES) if "texture_preview" in self.outputs else [],
            "outputs": self.outputs,
            "run": {**run, "measures": self.measures},
        }
        path = self.folder / "manifest.json"
        aside = path.with_suffix(".partial")
        aside.write_text(json.dumps(data, indent=1, ensure_ascii=False), encoding="utf-8")
        aside.replace(path)
        return path

    def _spend(self, group: str, stage: str, seconds: float) -> None:
        self.seconds[group, stage] = self.seconds.get((group, stage), 0.0) + seconds

    def _pictures(self) -> list[dict[str, str]]:
        pictures = []
        numbers = dict.fromkeys(role.partition("-")[2] for role in self.outputs)
        for number in sorted(numbers, key=lambda each: int(each or 1)):
            for base, (caption, group) in PICTURES.items():
                path = self.outputs.get(f"{base}-{number}" if number else base, "")
                if Path(path).is_file():
                    group = f"Patch {number}" if number else group
                    pictures.append({"path": path, "caption": caption, "group": group})
        style = Path(self.outputs.get("style", ""))
        if "style" in self.outputs:
            pictures += [
                {"path": str(style / name), "caption": caption, "group": "The style"}
                for name, caption in STYLE_PICTURES.items()
                if (style / name).is_file()
            ]
        return pictures

    def _comparisons(self) -> list[dict[str, Any]]:
        """The first patch: its plain artwork, the instant preview, and the trained style."""
        style = Path(self.outputs.get("style", ""))
        if "style" not in self.outputs or "texture_before" not in self.outputs:
            return []
        common = {
            "design": self.outputs["texture_before"],
            "mask": self.outputs["mask"],
            "reference": str(style / "reference.png"),
            "reference_mask": str(style / "mask.png") if (style / "mask.png").is_file() else None,
        }
        rivals = (
            ("plain", "texture_before"),
            ("instant preview", "texture_preview"),
            ("trained", "texture_after"),
        )
        return [
            {"label": label, "image": self.outputs[role], **common, "baseline": label == "plain"}
            for label, role in rivals
            if role in self.outputs
        ]
