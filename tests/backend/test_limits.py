"""Jobs that would take more memory or time than there is are refused before their work."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from restyling import collect, tiny_models, tiny_style
from running import artwork, save

from backend.engine import Engine
from backend.errors import ResourceError
from backend.jobs import PreviewJob, Progress, RestyleJob
from backend.limits import GIB, PICTURE, WORK, check_memory, check_minutes
from backend.restyle import image


@pytest.fixture(scope="module")
def style(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Path:
    folder = tmp_path_factory.mktemp("styles") / "tiny"
    tiny_style(tiny_models(tiny_model)).save(folder)
    return folder


@pytest.fixture
def job(tmp_path: Path, style: Path, tiny_model: Path) -> RestyleJob:
    return RestyleJob(
        style=str(style),
        input=str(save(tmp_path / "art.png", artwork(96, 80))),
        out=str(tmp_path / "out.png"),
        base=str(tiny_model),
        steps=1,
        start="design",
    )


def test_the_factor_named_would_fit() -> None:
    size, models, allowed = (4000, 3000), 1.0 * GIB, 2.0 * GIB
    with pytest.raises(ResourceError) as caught:
        check_memory("art.png", size, size[0] * size[1], models, allowed)
    assert "3000 × 4000" in caught.value.message
    factor = float(caught.value.remedy.split()[3])
    smaller = (int(4000 * factor), int(3000 * factor))
    assert check_memory("art.png", smaller, smaller[0] * smaller[1], models, allowed) <= allowed
    larger = (int(4000 * (factor + 0.02)), int(3000 * (factor + 0.02)))
    with pytest.raises(ResourceError):
        check_memory("art.png", larger, larger[0] * larger[1], models, allowed)


def test_a_small_part_of_a_large_picture_is_counted_as_what_it_is() -> None:
    need = check_memory("art.png", (8192, 8192), 10_000, 0.0, 8.0 * GIB)
    assert need == 8192 * 8192 * PICTURE + 10_000 * WORK


def test_minutes_count_what_grows_and_what_does_not() -> None:
    check_minutes("art.png", 1e9, 0.0, None)
    check_minutes("art.png", 100.0, 20.0, 2.0)
    with pytest.raises(ResourceError, match=r"2\.0 minutes.*0\.70 or less"):
        check_minutes("art.png", 100.0, 20.0, 70.0 / 60.0)
    with pytest.raises(ResourceError, match="Raise the limit"):
        check_minutes("art.png", 100.0, 200.0, 1.0)


def test_memory_is_refused_before_the_picture_is_read(
    job: RestyleJob, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("backend.engine.read_rgba", lambda _: pytest.fail("was read"))
    with pytest.raises(ResourceError, match="memory"):
        collect(Engine().run(replace(job, max_memory_gib=0.0001)))
    look = PreviewJob(reference=job.input, input=job.input, out=job.out, max_memory_gib=0.0001)
    with pytest.raises(ResourceError, match="memory"):
        collect(Engine().run(look))
    assert not Path(job.out).exists()


def test_minutes_are_refused_after_one_window_was_tried(job: RestyleJob) -> None:
    engine = Engine()
    with pytest.raises(ResourceError, match="minutes here"):
        collect(engine.run(replace(job, max_minutes=1e-6)))
    assert not Path(job.out).exists()
    progress, _ = collect(engine.run(replace(job, max_minutes=1000.0)))
    stages = [each.stage for each in progress]
    assert stages.index("estimating") < stages.index("embroidering")
    assert Path(job.out).is_file()


def test_only_the_masked_part_is_worked_on(
    job: RestyleJob, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[int, ...]] = []

    def fake(
        _models: Any, _style: Any, rgba: Any, mask: Any, _job: Any, _show: Any
    ) -> Generator[Progress, None, Any]:
        seen.append(rgba.shape)
        yield Progress(stage="embroidering", step=1, steps=1)
        assert mask.sum() == 40 * 30
        changed = rgba.copy()
        changed[mask > 0.5, :3] = 0.0
        return changed

    monkeypatch.setattr(image, "restyle", fake)
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (1300, 1400, 4), dtype=np.uint8)
    pixels[..., 3] = 255
    mask = np.zeros((1300, 1400), dtype=np.uint8)
    mask[900:940, 1000:1030] = 255
    wide = replace(
        job,
        input=str(save(tmp_path / "wide.png", pixels)),
        mask=str(save(tmp_path / "mask.png", mask)),
    )
    collect(Engine().run(wide))
    assert seen == [(1196 - 512, 1286 - 512, 4)]
    from PIL import Image

    with Image.open(job.out) as picture:
        after = np.asarray(picture)
    assert np.array_equal(after[mask == 0], pixels[mask == 0])
    assert (after[mask > 0, :3] == 0).all()
