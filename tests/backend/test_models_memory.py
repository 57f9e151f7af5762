"""Memory modes: which one is taken, what it parks, and that it changes no result."""

from __future__ import annotations

import dataclasses
import importlib.util
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from restyling import collect

from backend import engine
from backend.checks import clear_failures
from backend.emolora import stage_one, stage_two
from backend.emolora.adapter import Adapter
from backend.emolora.checkpoint import Partial
from backend.emolora.encoded import EncodedPair
from backend.emolora.optimiser import make_optimiser, take_step
from backend.errors import ResourceError
from backend.jobs import GenerateJob, TrainJob
from backend.models import loading, memory, profiles
from backend.models.loading import Models
from backend.models.memory import MODES, NEEDS, Place, applied, fitting, neutral, with_precision
from backend.models.prediction import predict
from backend.models.profiles import Profile

SDXL = profiles.get("sdxl")
BLOCKS = ("down_blocks.2.attentions.0", "up_blocks.0.attentions.1")


@pytest.mark.parametrize("task", ["train", "restyle"])
def test_auto_takes_the_fastest_mode_that_fits(task: str) -> None:
    for row in NEEDS["sdxl"]:
        gib = getattr(row, task)
        mode = fitting(SDXL, "auto", task, Place("cuda", gib))
        assert mode is not None
        assert getattr(next(r for r in NEEDS["sdxl"] if r.mode == mode.name), task) <= gib
    needs = [getattr(row, task) for row in NEEDS["sdxl"]]
    assert needs == sorted(needs, reverse=True)
    # A card of so many GB has about 0.5 GiB less to give.
    assert all(getattr(r, task) <= int(r.mode) - 0.5 for r in NEEDS["sdxl"] if r.mode != "full")


def test_a_mode_that_will_not_fit_names_the_one_that_does() -> None:
    with pytest.raises(ResourceError, match=r"mode 24 needs about .* 11\.5 GiB free.*--memory 12"):
        fitting(SDXL, "24", "train", Place("cuda", 11.5))
    with pytest.raises(ResourceError, match=r"even in memory mode 8, the cuda has 4\.0 GiB free"):
        fitting(SDXL, "auto", "train", Place("cuda", 4.0))
    with pytest.raises(ResourceError, match="even in memory mode 8"):
        fitting(SDXL, "12", "train", Place("cuda", 4.0))


def test_parking_frees_nothing_where_memory_is_shared() -> None:
    mode = fitting(SDXL, "auto", "train", Place("mps", 24.0))
    assert mode is not None
    assert mode.offload == "none"
    with pytest.raises(ResourceError):
        fitting(SDXL, "8", "train", Place("mps", 12.0))


def test_float32_takes_twice_as_much() -> None:
    for mode in MODES:
        whole = memory.need(SDXL, mode, "train", "cuda", "float32")
        assert whole == 2.0 * memory.need(SDXL, mode, "train", "cuda")
    assert memory.need(profiles.get("starter"), MODES[0], "train", "cpu", "float32") == 2.0


def test_a_smaller_base_needs_less(tiny_model: Path) -> None:
    tiny, none = str(tiny_model), str(tiny_model / "none")
    assert fitting(SDXL, "auto", "train", Place("cpu", 1.0), base=tiny) == MODES[0]
    with pytest.raises(ResourceError):
        fitting(SDXL, "auto", "train", Place("cpu", 1.0), base=none)


def test_a_profile_without_modes_stays_as_it_is() -> None:
    starter = profiles.get("starter")
    assert fitting(starter, "auto", "train", Place("cpu", 8.0)) is None
    assert fitting(starter, "8", "train", Place("cpu", 8.0)) == MODES[-1]


def test_precision_is_the_users_on_every_device(tiny_model: Path, tiny_profile: Profile) -> None:
    assert with_precision(SDXL, "auto") is SDXL
    for name, dtype in (("fp32", torch.float32), ("fp16", torch.float16)):
        profile = with_precision(tiny_profile, name)
        assert loading.precision(profile, torch.device("cuda")) == dtype
        models = loading.load(profile, base=str(tiny_model), device="cpu")
        assert models.unet.dtype == models.dtype == dtype
        assert models.fingerprint() == _models(tiny_profile, tiny_model).fingerprint()
        output = predict(models, _noise(0, 1), 300, models.encode_prompts(["a rose"]))
        assert torch.isfinite(output).all()


@pytest.mark.parametrize("able", [True, False])
def test_a_gpu_without_bfloat16_computes_in_float16(
    monkeypatch: pytest.MonkeyPatch, able: bool
) -> None:
    monkeypatch.setattr(loading, "_gpu_has_bfloat16", lambda _: able)
    wanted = torch.bfloat16 if able else torch.float16
    for kind in ("mps", "cuda"):
        assert loading.precision(SDXL, torch.device(kind)) == wanted


def test_tiles_join_without_a_seam(tiny_model: Path, tiny_profile: Profile) -> None:
    whole, tiled = (
        _models(replace(tiny_profile, vae_tiling=tiling), tiny_model) for tiling in (False, True)
    )
    assert tiled.vae.tile_sample_min_size == tiny_profile.window // 2
    y, x = torch.meshgrid(torch.linspace(0, 1, 64), torch.linspace(0, 1, 64), indexing="ij")
    rgb = torch.stack([x, y, 1.0 - x])[None]
    a, b = (models.decode(models.encode_image(rgb)) for models in (whole, tiled))
    assert not torch.equal(a, b)  # it did tile
    assert (a - b).abs().mean() < 0.02
    steps = (b[..., 1:] - b[..., :-1]).abs().mean(dim=(0, 1, 2))
    assert steps[15:17].max() < 3.0 * steps.mean() + 0.02


@pytest.mark.parametrize("stage", ["one", "two"])
def test_checkpointing_gives_the_same_gradients(
    tiny_model: Path, tiny_profile: Profile, stage: str
) -> None:
    found = []
    for mode in MODES[:2]:
        models = _models(applied(tiny_profile, mode), tiny_model)
        adapter = _shaken(models)
        assert models.unet.is_gradient_checkpointing == mode.gradient_checkpointing
        pair, other = _pair(models, 0), _pair(models, 7)
        chance = stage_one.draw(models, pair, (1, 1, 1))
        if stage == "one":
            stage_one.accumulate(models, adapter, BLOCKS, pair, chance)
        else:
            stage_two.accumulate(models, adapter, BLOCKS, pair, other, chance)
        found.append([p.grad.clone() for p in adapter.parameters if p.grad is not None])
    assert len(found[0]) == len(found[1]) > 0
    for ours, theirs in zip(*found):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-8)
    assert any(gradient.abs().max() > 0 for gradient in found[0])


def test_small_gradients_survive_half_precision(tiny_model: Path, tiny_profile: Profile) -> None:
    found = []
    for precision in ("fp32", "fp16"):
        models = _models(with_precision(tiny_profile, precision), tiny_model)
        adapter = _shaken(models)
        pair = _pair(models, 0)
        chance = stage_one.draw(models, pair, (1, 1, 1))
        stage_one.accumulate(models, adapter, BLOCKS, pair, chance)
        gradients = [p.grad for p in adapter.parameters if p.grad is not None]
        assert all(torch.isfinite(gradient).all() for gradient in gradients)
        found.append(torch.cat([gradient.flatten() for gradient in gradients]))
    assert torch.cosine_similarity(found[0], found[1], dim=0) > 0.99
    torch.testing.assert_close(found[0].norm(), found[1].norm(), rtol=0.05, atol=0.0)


def test_a_step_that_overflowed_is_left_out(tiny_models: Models) -> None:
    parameter = torch.nn.Parameter(torch.ones(3))
    optimiser = make_optimiser([parameter], tiny_models.profile.training)
    parameter.grad = torch.tensor([1.0, torch.inf, 1.0])
    half = replace(tiny_models, dtype=torch.float16)
    take_step(half, [parameter], optimiser)
    assert torch.equal(parameter.data, torch.ones(3))
    parameter.grad = torch.ones(3)
    take_step(half, [parameter], optimiser)
    assert not torch.equal(parameter.data, torch.ones(3))


def test_the_8_bit_optimiser_is_used_where_it_can_be(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[dict[str, float]] = []
    stand_in = SimpleNamespace(
        optim=SimpleNamespace(AdamW8bit=lambda _, **options: asked.append(options))
    )
    settings = applied(SDXL, MODES[-1]).training
    on_gpu: Any = SimpleNamespace(device=torch.device("cuda"))
    on_cpu = torch.nn.Parameter(torch.ones(2))
    assert isinstance(make_optimiser([on_cpu], settings), torch.optim.AdamW)
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: name == "bitsandbytes" or find(name)
    )
    monkeypatch.setitem(sys.modules, "bitsandbytes", stand_in)
    assert isinstance(make_optimiser([on_cpu], settings), torch.optim.AdamW)
    make_optimiser([on_gpu], settings)
    assert asked == [{"lr": settings.learning_rate, "weight_decay": settings.weight_decay}]


def test_a_training_goes_on_in_another_mode(tiny_models: Models, tmp_path: Path) -> None:
    job = TrainJob(reference=str(tmp_path / "photo.png"), out=str(tmp_path / "style"))
    adapter = _shaken(tiny_models)
    optimiser = make_optimiser(adapter.parameters, tiny_models.profile.training)
    for parameter in adapter.parameters:
        parameter.grad = torch.ones_like(parameter)
    optimiser.step()
    first = adapter.parameters[0]
    optimiser.state[first]["step"] = 7  # as bitsandbytes counts
    small = replace(tiny_models, profile=applied(tiny_models.profile, MODES[2]))
    partial = Partial(Path(job.out), job, tiny_models)
    partial.save_state("stage one", 1, adapter, optimiser, {})
    again = Partial(Path(job.out), replace(job, memory="12", offline=True), small)
    other = make_optimiser(adapter.parameters, tiny_models.profile.training)
    assert again.load_state(adapter, other) == ("stage one", 1, {})
    assert other.state[first]["step"] == 7
    assert isinstance(other.state[adapter.parameters[1]]["step"], torch.Tensor)
    assert Partial(Path(job.out), replace(job, seed=1), small).load_state(adapter, other) is None


def test_only_what_changes_no_result_is_left_out_of_a_trainings_identity() -> None:
    plain = dataclasses.asdict(SDXL)
    kept = neutral(plain)
    assert kept == neutral(dataclasses.asdict(applied(SDXL, MODES[1])))
    assert set(plain) - set(kept) == {"offload", "vae_tiling"}
    assert kept["training"]["rank"] == SDXL.training.rank


def test_jobs_carry_mode_and_precision_to_the_models(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[Profile, dict[str, Any]]] = []

    def load(profile: Profile, **options: Any) -> None:
        seen.append((profile, options))
        raise ResourceError("that is all", "")

    monkeypatch.setattr(loading, "load", load)
    job = GenerateJob(
        style="s",
        prompt="p",
        out="o",
        base=str(tiny_model),
        offline=True,
        precision="bf16",
        memory="8",
    )
    with pytest.raises(ResourceError, match="that is all"):
        collect(engine.Engine()._load("starter", job))
    ((profile, options),) = seen
    assert profile.offload == "network"
    assert profile.cpu_dtype == profile.gpu_dtype == "bfloat16"
    assert options["offline"]
    assert options["base"] == str(tiny_model)


@pytest.mark.parametrize(
    ("mode", "named"), [("24", "--memory 12"), ("auto", "--memory 8"), ("8", "Close")]
)
def test_memory_that_runs_out_names_a_smaller_mode(mode: str, named: str) -> None:
    with pytest.raises(ResourceError, match=named), clear_failures("o", mode):
        raise RuntimeError("CUDA out of memory. Tried to allocate 20 MiB")


def _models(profile: Profile, folder: Path) -> Models:
    return loading.load(profile, base=str(folder), device="cpu")


def _noise(seed: int, rows: int) -> torch.Tensor:
    return torch.randn((rows, 4, 8, 8), generator=torch.Generator().manual_seed(seed))


def _shaken(models: Models) -> Adapter:
    """An adapter whose second factors are not zero any more."""
    adapter = Adapter(models, BLOCKS, rank=2, seed=1)
    generator = torch.Generator().manual_seed(9)
    for parameter in adapter.parameters:
        parameter.data = torch.randn(parameter.shape, generator=generator) * 0.05
    return adapter


def _pair(models: Models, seed: int) -> EncodedPair:
    text = models.encode_prompts(["a motif", "a motif in [emb] style"])
    return EncodedPair(
        design=_noise(seed, 1),
        embroidery=_noise(seed + 1, 1),
        weight=torch.ones(1, 1, 8, 8),
        design_text=text[:1],
        embroidery_text=text[1:],
        controls=None,
    )
