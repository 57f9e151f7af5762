"""Makes the starter model: `python -m backend.starter data|autoencoder|unet|textures|…`.

    npm install @iconify-json/fluent-emoji-flat @iconify-json/noto
    python -m backend.starter data --run RUN --icons node_modules/@iconify-json/*/icons.json
    python -m backend.starter autoencoder --run RUN --minutes 13
    python -m backend.starter unet --run RUN --minutes 22
    python -m backend.starter textures --run RUN --minutes 120
    python -m backend.starter decoder --run RUN --minutes 16
    python -m backend.starter samples --run RUN --icons … --out samples.png
    python -m backend.starter export --run RUN --out backend/models/starter
    python -m backend.starter words --run RUN --icons … --minutes 60 --out …/starter/composer
    python -m backend.starter spoken --icons … --out words.png
    python -m backend.starter figures --icons …
    python -m backend.starter unseen --icons … --out FOLDER

Every training goes on where it was left if called again; `--device cuda` trains on a GPU.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from backend.errors import ProfileError, StitchworkError
from backend.models import profiles
from backend.models.composer import with_composer
from backend.models.loading import load
from backend.starter.architecture import CONTROLNETS, Components, build
from backend.starter.autoencoder import autoencoder_loss
from backend.starter.composing import (
    ARCHITECTURE,
    COMPOSER,
    MotifCorpus,
    composing_loss,
    make_motifs,
    save_composer,
)
from backend.starter.data import TRIGGER, make_corpus, stream
from backend.starter.designs import icon_design, is_held_out, load_icons
from backend.starter.diffusion import TEXTURES, TRAINED, diffusion_loss
from backend.starter.figures import figures, unseen_designs
from backend.starter.latents import LatentCorpus, make_latents
from backend.starter.motifs import motifs
from backend.starter.muon import muon_and_adamw
from backend.starter.parallel import agreed, joined, rank
from backend.starter.runs import Run
from backend.starter.samples import recognised, redraw, sheet, survey
from backend.starter.spoken import draw_motifs, rows_of
from backend.starter.stitches.book import BOOK
from backend.starter.training import Budget, Optimisers, Report, adamw, fit
from backend.starter.unseen import write_unseen

__all__ = ["main"]

_SAY_EVERY = 50  # steps


def main(arguments: list[str] | None = None) -> int:
    """Run one command; returns the exit code (0 done, 1 a user's error, 130 interrupted)."""
    options = _parser().parse_args(arguments)
    try:
        with joined():
            options.work(options)
    except StitchworkError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted; call again to go on", file=sys.stderr)
        return 130
    return 0


def _data(run: Run, options: argparse.Namespace) -> None:
    icons = load_icons(options.icons)
    for done in make_corpus(icons, run.corpus, options.count, options.seed):
        if done % 100 == 0 or done == options.count:
            print(f"{done} of {options.count} pairs", flush=True)


def _autoencoder(run: Run, options: argparse.Namespace) -> None:
    corpus = run.open_corpus()
    parts = _placed(run.fresh(options.seed), ("vae",), options.device)
    loss = autoencoder_loss(parts["vae"], corpus, batch=options.batch or 5, device=options.device)
    _train(run, "autoencoder", parts, ("vae",), loss, options, rate=6e-4, average=0.995)


def _decoder(run: Run, options: argparse.Namespace) -> None:
    corpus = run.open_corpus()
    parts = _placed(run.trained(options.seed), ("vae",), options.device)
    loss = autoencoder_loss(
        parts["vae"], corpus, batch=options.batch or 5, device=options.device, decoder=True
    )
    _train(run, "decoder", parts, ("vae",), loss, options, rate=4e-4, average=0.99)


def _unet(run: Run, options: argparse.Namespace) -> None:
    parts = run.trained(options.seed, until="autoencoder")
    _train_denoiser(run, "unet", parts, TRAINED, options)


def _textures(run: Run, options: argparse.Namespace) -> None:
    parts = run.trained(options.seed, until="unet")
    _train_denoiser(run, "textures", parts, TEXTURES, options)


def _controlnets(run: Run, options: argparse.Namespace) -> None:
    parts = run.trained(options.seed, until="textures")
    for name in TRAINED:
        parts[name].requires_grad_(name in CONTROLNETS)
    _train_denoiser(run, "controlnets", parts, CONTROLNETS, options)


def _train_denoiser(
    run: Run,
    name: Literal["unet", "textures", "controlnets"],
    parts: Components,
    trained: tuple[str, ...],
    options: argparse.Namespace,
) -> None:
    _placed(parts, ("vae", *TRAINED), options.device)
    for done in make_latents(parts["vae"], run.open_corpus(), run.latents):
        if done % 400 == 0:
            print(f"{done} pairs encoded", flush=True)
    corpus = LatentCorpus.load(run.latents)
    loss = diffusion_loss(
        parts,
        corpus,
        batch=options.batch or 16,
        device=options.device,
        part="all" if name == "unet" else name,
    )
    _train(run, name, parts, trained, loss, options, rate=1e-3, average=0.998)


def _train(
    run: Run,
    name: str,
    parts: Components,
    trained: tuple[str, ...],
    loss: Callable[[torch.Generator], Tensor],
    options: argparse.Namespace,
    *,
    rate: float,
    average: float,
    optimisers: Optimisers = adamw,
) -> None:
    reports = fit(
        {part: parts[part] for part in trained},
        loss,
        Budget(options.steps, options.minutes),
        run.checkpoint(name),
        seed=options.seed,
        rate=options.rate or rate,
        average=average,
        optimisers=optimisers,
    )
    _tell(name, reports)


def _tell(name: str, reports: Iterator[Report]) -> None:
    recent: list[float] = []
    for report in reports:
        recent.append(report.loss)
        if report.step % _SAY_EVERY == 0 and rank() == 0:
            mean = sum(recent) / len(recent)
            left = report.seconds * (1 - report.spent) / max(report.spent, 1e-6)
            print(
                f"{name}: step {report.step}, loss {mean:.4f}, about {left / 60:.0f} min left",
                flush=True,
            )
            recent.clear()


def _samples(run: Run, options: argparse.Namespace) -> None:
    parts = run.trained(options.seed)
    parts["vae"].register_to_config(scaling_factor=LatentCorpus.load(run.latents).scale)
    icons = load_icons(options.icons)
    unseen = [s for _, s in zip(range(options.count), stream(icons, options.seed, held_out=True))]
    rows = []
    for sample in unseen:
        flat = sample.flat.astype("float32") / 255
        subject = sample.flat_caption.removesuffix(", flat design")
        families = ("satin", "brick", "stem", "chain", "knit", "woven", "terry", "bead")
        words = [subject, *(f"{subject}, {name} embroidery" for name in families)]
        rows.append([flat, *redraw(parts, flat, [*words, f"{subject} {TRIGGER}"])])
    sheet(rows, options.out)
    rng = np.random.default_rng(options.seed)
    right = []
    for icon in [icon for icon in icons if is_held_out(icon.name)][:: 400 // options.count]:
        design = icon_design(icon, 256, rng)
        words = [f"a {design.subject}, {name} embroidery" for name in BOOK]
        found = recognised(dict(zip(BOOK, redraw(parts, design.flat, words))), design)
        right += [asked == nearest for asked, nearest in found.items()]
    print(f"textiles recognised by their names: {sum(right)} of {len(right)}")
    for name, decibels in survey(parts, unseen).items():
        print(f"autoencoder, {name}: {decibels:.1f} dB")
    print(f"{options.out}: design, {', '.join(['no textile', *families, TRIGGER])}")


def _export(run: Run, options: argparse.Namespace) -> None:
    size = run.export(options.out, options.seed)
    print(f"{options.out}: {size / 2**20:.1f} MiB of weights")


def _words(run: Run, options: argparse.Namespace) -> None:
    models = load(replace(profiles.get("starter"), cpu_dtype="float32"), device=options.device)
    drawn = list(motifs(load_icons(options.icons), models.profile.window // 2))
    folder = run.folder / "motifs"
    if rank() == 0:
        for done in make_motifs(models, drawn, folder):
            if done % 20 == 0:
                print(f"{done} of {len(drawn)} motifs encoded", flush=True)
    agreed([1.0])  # the others wait for the first
    parts = _placed(build(ARCHITECTURE, options.seed), COMPOSER, options.device)
    corpus = MotifCorpus.load(folder)
    loss = composing_loss(parts, corpus, batch=options.batch or 16)
    _train(
        run,
        "composer",
        parts,
        COMPOSER,
        loss,
        options,
        rate=5e-4,  # at 1e-3 it began to diverge after 900 steps
        average=0.998,
        optimisers=muon_and_adamw,
    )
    if rank() == 0:
        size = save_composer(parts, corpus, options.out)
        print(f"{options.out}: {size / 2**20:.1f} MiB of weights")


def _figures(options: argparse.Namespace) -> None:
    designs = unseen_designs(load_icons(options.icons), options.count, options.seed)
    for each in figures(designs, options.seed):
        print(each, flush=True)


def _spoken(options: argparse.Namespace) -> None:
    models = load(replace(profiles.get("starter"), cpu_dtype="float32"))
    if models.composer is None:
        raise ProfileError("The starter has no composer.", "Train one with `words`.")
    drawn = list(motifs(load_icons(options.icons), models.profile.window // 2))
    found = []
    for each in draw_motifs(with_composer(models, models.composer), drawn, options.seed):
        found.append(each)
        print(f"{each.words}: {each.error:.1f}{'' if each.motif else ', another motif'}"
              f"{'' if each.colour else ', another colour'}", flush=True)  # fmt: skip
    sheet(rows_of([each.picture for each in found], 16), options.out)
    motif, colour = (sum(values) for values in zip(*((f.motif, f.colour) for f in found)))
    print(f"{options.out}: of {len(found)}, {motif} nearest to their motif, {colour} to their "
          f"colour; RMS error {np.mean([each.error for each in found]):.1f} of 256")  # fmt: skip


def _unseen(options: argparse.Namespace) -> None:
    manifest = write_unseen(load_icons(options.icons), options.out, options.count, options.seed)
    print(f"now: python -m backend batch {manifest} --out … --sheet grid.png")


def _placed(parts: Components, names: tuple[str, ...], device: str) -> Components:
    for name in names:
        parts[name].to(device, memory_format=torch.channels_last)
    return parts


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m backend.starter",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(required=True)

    def add(name: str, work: Callable[..., None], text: str) -> argparse.ArgumentParser:
        command = commands.add_parser(name, help=text, description=text)
        command.add_argument("--run", type=Path, required=True, help="folder of this training run")
        command.add_argument("--seed", type=int, default=0, help="of everything random")
        command.set_defaults(work=lambda options: work(Run(options.run), options))
        return command

    def add_training(name: str, work: Callable[..., None], text: str) -> argparse.ArgumentParser:
        command = add(name, work, text)
        command.add_argument("--minutes", type=float, help="time to spend, earlier calls included")
        command.add_argument("--steps", type=int, help="steps to do, earlier calls included")
        command.add_argument("--batch", type=int, help="samples a step")
        command.add_argument("--rate", type=float, help="highest learning rate")
        command.add_argument("--device", default="cpu", help='"cpu" or "cuda"')
        return command

    data = add("data", _data, "render the training pictures")
    data.add_argument("--count", type=int, default=3000, help="pairs of design and textile")
    add_training("autoencoder", _autoencoder, "train the autoencoder")
    add_training("unet", _unet, "train UNet, text encoders and ControlNets together")
    add_training("textures", _textures, "go on with UNet and text encoders where thread forms")
    add_training("controlnets", _controlnets, "go on with the ControlNets alone")
    add_training("decoder", _decoder, "go on with the autoencoder's decoder, for named textiles")
    words = add_training("words", _words, "train the composer, which draws motifs from words")
    words.add_argument("--out", type=Path, required=True, help="folder of the composer")
    samples = add("samples", _samples, "draw unseen designs as textiles and measure")
    samples.add_argument("--count", type=int, default=5, help="designs")
    samples.add_argument("--out", type=Path, default=Path("samples.png"), help="the picture")
    text = "measure the shipped model on icons and stitches that no training saw"
    measuring = commands.add_parser("figures", help=text, description=text)
    measuring.add_argument("--count", type=int, default=12, help="designs")
    measuring.add_argument("--seed", type=int, default=0, help="of everything random")
    measuring.set_defaults(work=_figures)
    text = "write stitches and icons that no training saw, as photos and artwork for a batch"
    unseen = commands.add_parser("unseen", help=text, description=text)
    unseen.add_argument("--out", type=Path, required=True, help="folder of pictures and manifest")
    unseen.add_argument("--count", type=int, default=4, help="icons")
    unseen.add_argument("--seed", type=int, default=0, help="of everything random")
    unseen.set_defaults(work=_unseen)
    text = "draw every motif with the shipped composer, from words alone, and measure"
    spoken = commands.add_parser("spoken", help=text, description=text)
    spoken.add_argument("--out", type=Path, default=Path("words.png"), help="the picture")
    spoken.add_argument("--seed", type=int, default=0, help="of everything random")
    spoken.set_defaults(work=_spoken)
    for command in (data, words, samples, measuring, unseen, spoken):
        command.add_argument(
            "--icons", type=Path, nargs="+", required=True, help="icons.json files"
        )
    export = add("export", _export, "write the model in half precision, as shipped")
    export.add_argument("--out", type=Path, required=True, help="folder of the model")
    return parser


if __name__ == "__main__":
    sys.exit(main())
