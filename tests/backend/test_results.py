"""Whoever vouches for a result sees it whole, and before it is in its place."""

from __future__ import annotations

from pathlib import Path

import pytest
from restyling import collect, tiny_models, tiny_style
from running import artwork, embroidery, save

from backend.checks import remove_leftovers
from backend.engine import Engine
from backend.errors import ResourceError
from backend.jobs import (
    AnalyseJob,
    GenerateJob,
    Job,
    PreviewJob,
    RestyleJob,
    Result,
    TrainJob,
)
from backend.service.artefacts import Artefact, measure

KINDS = ("train", "restyle", "generate", "preview", "analyse")


def make(kind: str, folder: Path, model: Path) -> Job:
    """A small job of a kind; what it needs is in the folder `inputs`."""
    inputs, out, base = folder / "inputs", str(folder / "results" / "out.png"), str(model)
    inputs.mkdir()
    photo = str(save(inputs / "photo.png", embroidery(128)))
    art = str(save(inputs / "art.png", artwork(64, 64)))
    match kind:
        case "preview":
            return PreviewJob(reference=photo, input=art, out=out)
        case "analyse":
            return AnalyseJob(reference=photo, out=out, base=base)
        case "train":
            return TrainJob(
                reference=photo, out=out, base=base, steps_one=1, steps_two=0, blocks="paper"
            )
    style = inputs / "style"
    tiny_style(tiny_models(model)).save(style)
    if kind == "generate":
        return GenerateJob(
            style=str(style), prompt="a dog", out=out, base=base, steps=1, width=64, height=64
        )
    return RestyleJob(style=str(style), input=art, out=out, base=base, steps=1, start="design")


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_vouched_for_is_what_is_put_in_place(
    kind: str, tmp_path: Path, tiny_model: Path
) -> None:
    job = make(kind, tmp_path, tiny_model)
    out, told = Path(job.out), list[tuple[Result, list[Artefact]]]()

    def vouch(result: Result, aside: Path) -> None:
        assert not any(Path(each).exists() for each in result.outputs.values())
        told.append((result, measure(result, out, aside)))

    _, result = collect(Engine().run(job, vouch))
    assert told == [(result, measure(result))]
    assert told[0][1]
    assert [each.name for each in out.parent.iterdir()] == [out.name]


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_is_put_in_place_that_nobody_could_vouch_for(
    kind: str, tmp_path: Path, tiny_model: Path
) -> None:
    job = make(kind, tmp_path, tiny_model)
    out = Path(job.out)

    def vouch(result: Result, aside: Path) -> None:
        raise OSError(28, "No space left on device", "receipt")

    with pytest.raises(ResourceError, match=r"disk is full|No space left"):
        collect(Engine().run(job, vouch))
    left = {each.name for each in out.parent.iterdir()}
    # Training goes on from its checkpoint; an analysis adds to a folder, which may be there before.
    assert left == {"train": {"out.png.partial"}, "analyse": {"out.png"}}.get(kind, set())
    assert not out.is_dir() or not any(out.iterdir())


def test_the_checkpoint_of_a_finished_training_goes(tmp_path: Path) -> None:
    job = TrainJob(reference="/r.png", out=str(tmp_path / "style"))
    names = ("style", "style.partial", "other.partial")
    for name in names:
        (tmp_path / name).mkdir()
        (tmp_path / name / "job.json").touch()
    remove_leftovers(job)
    assert sorted(each.name for each in tmp_path.iterdir()) == sorted(names)
    picture = PreviewJob(reference="/r.png", input="/i.png", out=job.out)
    remove_leftovers(picture, finished=True)
    assert sorted(each.name for each in tmp_path.iterdir()) == sorted(names)
    remove_leftovers(job, finished=True)
    assert sorted(each.name for each in tmp_path.iterdir()) == ["other.partial", "style"]
