"""One analysis job: which blocks tell a photo's embroidery from its design (paper, section 3.1).

Its folder holds analysis.json (similarities by block and segment, the choice and its reasons),
blocks.png (the same as a picture), and the pair that was measured.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Generator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from backend import tasks
from backend.emolora.adapter import attention_blocks
from backend.emolora.blocks import Judgement, judge, measure, passes, plot
from backend.emolora.encoded import encoding_steps
from backend.emolora.pair import Pair, pair_steps
from backend.imaging.files import write_png
from backend.jobs import AnalyseJob, Progress, Result
from backend.models.loading import Models
from backend.progress import Meter, Stage
from backend.results import Vouch, nobody

__all__ = ["SCHEMA", "analyse", "to_text"]

SCHEMA = 2
_JSON, _PLOT = "analysis.json", "blocks.png"
_PAIR, _BLOCKS = "pair", "style blocks"


def analyse(
    job: AnalyseJob, models: Models, vouch: Vouch = nobody, made: Pair | None = None
) -> Generator[Progress, None, Result]:
    """Measure the photo's pair and judge the blocks; yields after every denoising step.

    Args:
        made: the pair, if that is made already.

    Raises:
        InputError: the photo, the design or the mask cannot be used.
    """
    profile = tasks.get(job.task).settings(models.profile)
    models = replace(models, profile=profile)
    settings = profile.blocks
    if job.inversion is not None:
        settings = replace(settings, inversion="ddim" if job.inversion == "ddim" else "renoise")
    meter = Meter([Stage(_PAIR, 1, 12.0), Stage(_BLOCKS, passes(settings), 0.4)])
    if made is None:
        steps = pair_steps(
            models,
            job.reference,
            design=job.design,
            mask=job.mask,
            subject=job.subject,
            seed=job.seed,
        )
        made = yield from meter.within(_PAIR, steps)
    # One window is measured: the one that shows most motif.
    one = replace(profile, pair=replace(profile.pair, windows=1, recoloured=1))
    encoded = yield from meter.within(
        _PAIR,
        encoding_steps(replace(models, profile=one), made, profile.prompts(job.subject)),
    )
    yield meter.tick(_PAIR)
    table: NDArray[np.float64] | None = None
    for table in measure(
        models,
        encoded.design,
        encoded.embroidery,
        encoded.design_text,
        settings,
        encoded.controls,
    ):
        if table is None:
            yield meter.tick(_BLOCKS)
    assert table is not None
    blocks = attention_blocks(models)
    judgements = judge(table, blocks, settings)
    chosen = tuple(each.block for each in judgements if each.style)
    data = {
        "schema": SCHEMA,
        "reference": Path(job.reference).name,
        "task": job.task,
        "designed": made.designed,
        "profile": profile.name,
        "base": {"id": models.base, "hash": models.fingerprint()},
        "seed": job.seed,
        "settings": asdict(settings),
        "chosen": chosen,
        "blocks": [
            {**asdict(each), "similarities": row.tolist()} for each, row in zip(judgements, table)
        ],
    }
    folder = Path(job.out)
    folder.mkdir(parents=True, exist_ok=True)
    result = Result(
        outputs={"analysis": str(folder / _JSON), "plot": str(folder / _PLOT)},
        measures={f"late similarity of {each.block}": each.late for each in judgements},
        seconds=meter.seconds,
    )
    with tempfile.TemporaryDirectory(prefix=f".{folder.name}.", dir=folder.parent) as name:
        aside = Path(name)
        text = json.dumps(data, indent=2, ensure_ascii=False) + "\n"
        (aside / _JSON).write_text(text, encoding="utf-8")
        made.save(aside)
        write_png(aside / _PLOT, plot(table, blocks, chosen, late=settings.late))
        vouch(result, aside)
        # The description comes first: a folder that has it may be written to again. The plot comes
        # last: where both are, all is.
        files = sorted(aside.iterdir(), key=lambda each: (each.name == _PLOT, each.name != _JSON))
        for each in files:
            os.replace(each, folder / each.name)
    return result


def to_text(path: str | Path) -> str:
    """The judgements of an analysis.json as lines for a terminal, style first."""
    data: dict[str, Any] = json.loads(Path(path).read_text(encoding="utf-8"))
    judgements = [
        Judgement(**{key: value for key, value in each.items() if key != "similarities"})
        for each in data["blocks"]
    ]
    lines = [_line(each) for each in sorted(judgements, key=lambda each: each.late)]
    return "\n".join(lines)


def _line(judgement: Judgement) -> str:
    part = "style  " if judgement.style else "content"
    return f"{part}  {judgement.block:<28}{judgement.late:6.3f}  {judgement.why}"
