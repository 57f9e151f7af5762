"""The automatic choice of style blocks beside the paper's four and beside random ones.

Stage one is trained with each choice on references whose look is known. A style is then asked for
the noise in the true embroideries of designs that it has not seen: how far it is off, as a share of
what the base without LoRA is off, says how well the choice carries the look to other designs, and
needs neither sampling nor a measure of pictures.
"""

from __future__ import annotations

import json
from collections.abc import Generator, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch

from backend.emolora.adapter import attention_blocks, routed, with_style
from backend.emolora.sampling import controls_of, seeded_noise, to_tensor
from backend.evaluation.benchmark import making
from backend.evaluation.benchmark.methods import METHODS, Method
from backend.evaluation.benchmark.sets import Reference, designs, rendered
from backend.evaluation.benchmark.settings import Extent, Settings
from backend.evaluation.benchmark.statistics import bootstrap
from backend.evaluation.benchmark.store import JUDGES, MAKERS, Store, digest, sources
from backend.jobs import Progress
from backend.models import profiles
from backend.models.loading import Models, load
from backend.models.prediction import add_noise, hints, noise_target, predict
from backend.models.profiles import Profile
from backend.models.settings import PAPER_BLOCKS
from backend.progress import Meter, Stage
from backend.starter.designs import Design, load_icons
from backend.styles import Style

__all__ = ["STUDY", "compared", "study", "to_text", "truth_error"]

STUDY = Extent(looks=1, families=3, designs=6, prompts=0, photo=2.0, side=1.0, steps=(60, 0))
"""How much is done: little for each choice, since many are trained."""

_TIMESTEPS = (150, 350, 550, 750, 900)
_CHOICES = 3  # number that keeps the chance of choices apart from that of sets
RULE, FOUR, RANDOM = "automatic", "fixed four", "random"


@dataclass(frozen=True, slots=True)
class _Choice:
    """Blocks by name, and what the choice is called."""

    name: str
    blocks: tuple[str, ...]


def study(
    settings: Settings, count: int = 20, profile: Profile | None = None
) -> Generator[Progress, None, Path]:
    """Train and judge every choice; blocks.json, which `to_text` shows, in the settings' folder.

    What is done is kept: after an interruption the same call goes on where it was.

    Args:
        count: of random choices, each of as many blocks as the rule takes.

    Raises:
        InputError: the folder is another thing's, or icons cannot be used.
    """
    extent = settings.extent
    profile = _shortened(profile or profiles.get(settings.profile))
    store, icons = Store(settings.out), load_icons(settings.icons)
    yield Progress(stage="making the sets", step=0, steps=1)
    references = rendered(
        store, profile, extent.looks, extent.families, extent.photo, settings.seed, icons
    )
    shown = designs(round(extent.side * profile.window), extent.designs, settings.seed, icons)
    models = load(profile, base=settings.base)
    each = count + 4
    meter = Meter([Stage("choices", len(references) * each, 40.0)])
    found = []
    for number, reference in enumerate(references):
        adjusted = making.profile_of(profile, METHODS[0], reference)
        mine = replace(models, profile=adjusted)
        measured = yield from making.measure_blocks(
            mine, reference, settings, store.place(f"analysis/{reference.name}") / "measured"
        )
        base = truth_error(mine, None, reference, shown, settings.seed)
        results = []
        for choice in _choices(measured, attention_blocks(models), count, settings.seed + number):
            error = _judged(store, mine, reference, choice, shown, settings)
            results.append({**asdict(choice), "error": [a / b for a, b in zip(error, base)]})
            yield meter.tick("choices", message=f"{reference.name}: {choice.name}")
        found.append({"name": reference.name, "title": reference.title, "choices": results})
    report = {
        "seed": settings.seed,
        "steps": list(extent.steps or ()),
        "base": models.fingerprint(),
        "references": found,
        "compared": compared(found, settings.seed),
    }
    store.write("blocks.json", json.dumps(report, indent=1))
    return store.folder / "blocks.json"


def _shortened(profile: Profile) -> Profile:
    """Fewer windows to encode, for every choice alike."""
    pair = replace(
        profile.pair,
        windows=min(6, profile.pair.windows),
        recoloured=min(2, profile.pair.recoloured),
    )
    return replace(profile, pair=pair, cpu_dtype="float32")


def _choices(
    measured: making.Blocks, blocks: Sequence[str], count: int, seed: int
) -> list[_Choice]:
    rule = tuple(measured["rule"].split(","))
    fixed = [
        _Choice(RULE, rule),
        _Choice(FOUR, PAPER_BLOCKS),
        _Choice("lowest two", tuple(measured["lowest two"].split(","))),
        _Choice("all", tuple(blocks)),
    ]
    rng = np.random.default_rng([seed, _CHOICES])
    drawn: list[_Choice] = []
    while len(drawn) < count:
        picked = sorted(rng.choice(len(blocks), len(rule), replace=False).tolist())
        drawn.append(_Choice(f"{RANDOM} {len(drawn) + 1}", tuple(blocks[i] for i in picked)))
    return [*fixed, *drawn]


def _judged(
    store: Store,
    models: Models,
    reference: Reference,
    choice: _Choice,
    shown: Sequence[Design],
    settings: Settings,
) -> list[float]:
    name = f"choices/{reference.name}/{choice.name.replace(' ', '-')}"
    parts = [asdict(models.profile), models.fingerprint(), settings.seed, reference.key]
    parts += [sources(*MAKERS, *JUDGES), settings.extent.steps]
    key = digest([*parts, choice.blocks, [each.name for each in shown]])
    known = store.get(name, key)
    if known is None:
        method = Method(
            name=choice.name, title=choice.name, meaning="", blocks=",".join(choice.blocks)
        )
        folder = store.place(f"{name}/style")
        for _ in making.train_style(models, reference, method, settings, {}, folder):
            pass
        known = {"error": truth_error(models, Style.load(folder), reference, shown, settings.seed)}
        store.put(name, key, known)
    error: list[float] = known["error"]
    return error


@torch.no_grad()
def truth_error(
    models: Models,
    style: Style | None,
    reference: Reference,
    shown: Sequence[Design],
    seed: int,
) -> list[float]:
    """‖ε - ε_θ(z_t, t, c)‖² on the true embroidery of each design, prompts routed, mean over t.

    Args:
        style: None: the base alone.
    """
    settings = models.profile.training
    text, styled = (models.encode_prompts([each]) for each in models.profile.prompts())
    errors = []
    lora = nullcontext() if style is None else with_style(models, dict(style.weights))
    with lora, routed(models, PAPER_BLOCKS if style is None else style.blocks, styled.hidden):
        for number, design in enumerate(shown):
            truth = reference.truth(design)
            if truth is None:
                raise ValueError("only a rendered reference has true answers")
            latents = models.encode_image(to_tensor(truth))
            side = latents.shape[-2:]
            share = cv2.resize(
                design.art.astype(np.float32), side[::-1], interpolation=cv2.INTER_AREA
            )
            weight = torch.from_numpy(share).to(models.device)
            scales = (settings.canny_scale, settings.tile_scale)
            controls = hints(models, controls_of(models, design.flat, *scales))
            sums = []
            for index, t in enumerate(_TIMESTEPS):
                noise = seeded_noise(models.device, latents.shape, seed + 100 * number + index)
                at = torch.tensor([t], device=models.device)
                output = predict(models, add_noise(models, latents, noise, at), at, text, controls)
                off = (output.float() - noise_target(models, latents, noise, at)).square()
                sums.append(float((off.mean(dim=1) * weight).sum() / weight.sum()))
            errors.append(float(np.mean(sums)))
    return errors


def compared(references: Sequence[dict[str, Any]], seed: int) -> dict[str, dict[str, Any]]:
    """The rule's error less another choice's, over references and designs, with its interval.

    "best random" is the one of lowest mean error on each reference, chosen by these very errors.
    """
    found = {}
    for name in (FOUR, "lowest two", "all", "mean random", "best random"):
        pairs = []
        for each in references:
            errors = {choice["name"]: choice["error"] for choice in each["choices"]}
            random = [value for key, value in errors.items() if key.startswith(RANDOM)]
            if name == "mean random":
                other = np.mean(random, axis=0).tolist()
            elif name == "best random":
                other = min(random, key=lambda value: float(np.mean(value)))
            else:
                other = errors[name]
            pairs.append([ours - theirs for ours, theirs in zip(errors[RULE], other)])
        interval = bootstrap(pairs, seed)
        at_least = interval.low <= 0.0
        found[name] = {**asdict(interval), "at_least_as_good": at_least}
    return found


def to_text(report: dict[str, Any]) -> str:
    """A table for the terminal."""
    rows = [
        f"error on true embroideries of other designs, base without LoRA = 100 ({report['base']})"
    ]
    for each in report["references"]:
        ordered = sorted(each["choices"], key=lambda choice: float(np.mean(choice["error"])))
        rows.append(f"{each['title']}")
        for rank, choice in enumerate(ordered, 1):
            if rank <= 3 or not choice["name"].startswith(RANDOM):
                error, names = 100 * float(np.mean(choice["error"])), " ".join(choice["blocks"])
                short = (
                    names.replace("_blocks", "").replace(".attentions", "").replace("_block", "")
                )
                rows.append(f"  {rank:>2}. {choice['name']:<12}{error:>7.2f}  {short}")
    for name, each in report["compared"].items():
        low, mean, high = (100 * each[key] for key in ("low", "mean", "high"))
        verdict = "at least as good" if each["at_least_as_good"] else "worse"
        rows.append(f"automatic less {name:<12}{mean:>7.2f}  [{low:.2f}, {high:.2f}]  {verdict}")
    return "\n".join(rows)
