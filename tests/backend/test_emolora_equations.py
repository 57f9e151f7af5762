"""Every equation of the method against a plain transcription in float64, on SDXL's own layout."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny_sd3 import tiny_sdxl_profile
from torch import Tensor
from transcription import Slow, contrastive, cosine

from backend.emolora import blocks as block_choice
from backend.emolora import candidates, complementary, losses, stage_one, stage_two
from backend.emolora.adapter import Adapter
from backend.emolora.encoded import EncodedPair
from backend.emolora.inversion import invert
from backend.models import loading
from backend.models.loading import Models
from backend.models.settings import ATTENTION_BLOCKS
from backend.progress import outcome

BLOCKS = ("down_blocks.1.attentions.1", "up_blocks.0.attentions.2")
PROFILE = tiny_sdxl_profile()


@pytest.fixture
def models(tiny_sdxl: Path) -> Models:
    """Under the paper's own weights of the losses, but for one that could not be seen."""
    training = replace(PROFILE.training, gradient_checkpointing=False, contrastive_weight=0.5)
    return loading.load(replace(PROFILE, training=training), base=str(tiny_sdxl), device="cpu")


def _noise(seed: int) -> Tensor:
    return torch.randn((1, 4, 8, 8), generator=torch.Generator().manual_seed(seed))


def _pair(models: Models, subject: str, seed: int) -> EncodedPair:
    text = models.encode_prompts(list(models.profile.prompts(subject)))
    weight = torch.ones(1, 1, 8, 8)
    return EncodedPair(_noise(seed), _noise(seed + 1), weight, text[:1], text[1:], None)


def _adapter(models: Models) -> Adapter:
    """One that has learnt something."""
    adapter = Adapter(models, BLOCKS, rank=2, seed=1)
    generator = torch.Generator().manual_seed(9)
    for parameter in adapter.parameters:
        parameter.data = torch.randn(parameter.shape, generator=generator) * 0.3
    return adapter


def _lora(adapter: Adapter) -> dict[str, tuple[Tensor, Tensor]]:
    """Layer → A and B, float64, that want gradients."""
    state = {name: value.double().requires_grad_() for name, value in adapter.state().items()}
    return {
        name.removeprefix("unet.").removesuffix(".lora_A.weight"): (
            down,
            state[name.replace("lora_A", "lora_B")],
        )
        for name, down in state.items()
        if ".lora_A." in name
    }


@pytest.mark.parametrize("stage", ["one", "two"])
def test_a_stage_has_the_losses_and_the_gradients_of_the_paper(models: Models, stage: str) -> None:
    slow, adapter = Slow(models, BLOCKS), _adapter(models)
    lora = _lora(adapter)
    assert len(lora) == 70 * 2 * 4  # SDXL's transformer layers, self- and cross-attention
    theta_a = [each for pair in lora.values() for each in pair]
    theta_e = [
        each
        for name, pair in lora.items()
        for each in pair
        if name.startswith(tuple(f"{block}." for block in BLOCKS))
    ]
    assert 0 < len(theta_e) < len(theta_a)
    pairs = [_pair(models, "heart", 10), _pair(models, "yellow dog", 20)]
    chance = stage_one.draw(models, pairs[0], (3, 1, 4))
    noise, t = chance.noise, int(chance.timestep)
    settings = models.profile.training
    if stage == "one":
        found = stage_one.accumulate(models, adapter, BLOCKS, pairs[0], chance)
        shares, pairs = [1.0], pairs[:1]
    else:
        found = stage_two.accumulate(models, adapter, BLOCKS, pairs[0], pairs[1], chance)
        shares = [settings.reference_weight, settings.generated_weight]
        assert shares == [1.0, 0.1]

    gradient = {id(each): torch.zeros_like(each) for each in theta_a}

    def add(loss: Tensor, parameters: list[Tensor]) -> None:
        for parameter, value in zip(parameters, torch.autograd.grad(loss, parameters)):
            gradient[id(parameter)] += value

    wanted = {"design": 0.0, "embroidery": 0.0}
    for index, (share, pair) in enumerate(zip(shares, pairs)):
        l_des = slow.squared_error(pair.design, noise, t, pair.design_text, lora=lora)
        add(share * l_des, theta_a)
        l_emb = slow.squared_error(
            pair.embroidery, noise, t, pair.design_text, lora=lora, style=pair.embroidery_text
        )
        add(share * l_emb, theta_e)
        if index == 0:
            wanted = {"design": l_des.item(), "embroidery": l_emb.item()}
    if stage == "two":
        e_des, e_emb = [], []
        for pair in pairs:
            z_t = slow.noisy(pair.design, noise, t)
            with torch.no_grad():
                base_des = slow.says(z_t, t, pair.design_text)
                base_emb = slow.says(z_t, t, pair.design_text, style=pair.embroidery_text)
                e_des.append(slow.says(z_t, t, pair.design_text, lora=lora) - base_des)
            adapted = slow.says(z_t, t, pair.design_text, lora=lora, style=pair.embroidery_text)
            e_emb.append(adapted - base_emb)
        l_con = contrastive((e_des[0], e_des[1]), (e_emb[0], e_emb[1]), settings.temperature)
        add(settings.contrastive_weight * l_con, theta_e)
        wanted["contrastive"] = l_con.item()

    assert found == pytest.approx(wanted, rel=1e-3)  # of small differences in float32
    outside = 0
    for name, (down, up) in lora.items():
        layer = models.unet.get_submodule(name)
        for ours, theirs in (
            (layer.lora_A["style"].weight.grad, gradient[id(down)]),
            (layer.lora_B["style"].weight.grad, gradient[id(up)]),
        ):
            size = float(theirs.abs().max())
            assert size > 0.0, name
            torch.testing.assert_close(ours.double(), theirs, rtol=0.0, atol=1e-2 * size)
            outside += not name.startswith(BLOCKS)
    assert outside == len(theta_a) - len(theta_e)


def test_the_mean_of_the_negatives_moves_the_loss_and_nothing_else() -> None:
    """The paper adds them, its released code averages: log 2, the same gradient."""
    maps = [_noise(seed)[0].double() for seed in range(4)]
    first, second = (each.clone().requires_grad_() for each in maps[2:])
    values = {
        mean: contrastive((maps[0], maps[1]), (first, second), 1.0, mean=mean)
        for mean in (False, True)
    }
    ours = losses.contrastive(maps[0], maps[1], first, second)
    assert ours.item() == pytest.approx(values[False].item(), abs=1e-6)
    assert (values[False] - values[True]).item() == pytest.approx(math.log(2.0))
    gradients = [torch.autograd.grad(values[mean], [first, second]) for mean in (False, True)]
    for one, other in zip(*gradients):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("iterations", [0, 1, 4])
def test_inversion_is_ddims_or_renoises(models: Models, iterations: int) -> None:
    slow, text = Slow(models, BLOCKS), models.encode_prompts(["a heart"])
    for parameter in (*models.unet.conv_out.parameters(), *slow.unet.conv_out.parameters()):
        parameter.data *= 3.0  # a livelier network, so that repetitions differ
    found = outcome(invert(models, _noise(0), text, steps=4, iterations=iterations))
    with torch.no_grad():
        wanted = slow.inverted(_noise(0).double(), text, 4, iterations)
    assert list(found) == slow.schedule(4)
    for t, latents in found.items():
        torch.testing.assert_close(latents.double(), wanted[t], rtol=1e-3, atol=1e-4)


def _compared(
    slow: Slow, first: dict[str, list[Tensor]], second: dict[str, list[Tensor]]
) -> list[float]:
    """By attention block: mean cosine of two passes' features, over places and layers."""
    found = []
    for block in ATTENTION_BLOCKS:
        layers = [
            sum(float(cosine(p, q)) for p, q in zip(a, b)) / len(a)
            for a, b in zip(first[block], second[block], strict=True)
        ]
        found.append(sum(layers) / len(layers))
    return found


def test_similarities_are_those_of_self_attentions_output_features(models: Models) -> None:
    settings = replace(models.profile.blocks, steps=4, segments=2, late=1, renoise_iterations=2)
    text = models.encode_prompts(["a heart"])
    *_, table = block_choice.measure(models, _noise(1), _noise(2), text, settings)
    slow = Slow(models, BLOCKS)
    schedule = slow.schedule(4)
    wanted = np.zeros((11, 2))
    with torch.no_grad():
        images = [slow.inverted(_noise(seed).double(), text, 4, 2)[schedule[0]] for seed in (1, 2)]
        with slow.features() as taken:
            for step, (here, there) in enumerate(zip(schedule, [*schedule[1:], -1])):
                seen = []
                for index, z in enumerate(images):
                    images[index] = slow.move(z, slow.epsilon(z, here, text), here, there)
                    seen.append(taken())
                wanted[:, step // 2] += np.array(_compared(slow, *seen)) / 2
    assert [len(seen[0][block]) for block in ATTENTION_BLOCKS] == [2, 2, *[10] * 6, 2, 2, 2]
    assert table is not None
    np.testing.assert_allclose(table, wanted, atol=2e-4)
    assert wanted.min() < 0.98


def test_candidates_are_judged_by_late_features_beside_the_reference(models: Models) -> None:
    """θ_e alone, guided; the reference along its own inverted way, each with its own words."""
    settings = replace(models.profile.complementary, steps=4, guidance=5.0, batch=2)
    models.profile = replace(
        models.profile,
        complementary=settings,
        blocks=replace(models.profile.blocks, segments=4, late=2),
    )
    slow = Slow(models, BLOCKS)
    adapter, reference = _adapter(models), _pair(models, "heart", 10)
    lora = {
        name: each
        for name, each in _lora(adapter).items()
        if name.startswith(tuple(f"{block}." for block in BLOCKS))
    }
    words = models.encode_prompts(["a red car in [emb] style", models.profile.inference.negative])
    noise = torch.randn((2, 4, 8, 8), generator=torch.Generator().manual_seed(7))
    part = [
        candidates.Candidate("silver robot", None),
        candidates.Candidate("red car", None),
    ]
    with adapter.style_only():
        along = outcome(invert(models, reference.embroidery, reference.embroidery_text, steps=4))
        made = list(complementary._embroider(models, part, BLOCKS, reference, along, None, 7))
    schedule, z, likeness = slow.schedule(4), noise[1:].double(), []
    with torch.no_grad(), slow.features() as taken:
        for step, (here, there) in enumerate(zip(schedule, [*schedule[1:], -1])):
            slow.epsilon(along[here], here, reference.embroidery_text, lora=lora)
            theirs = taken()
            wanted = slow.epsilon(z, here, words[:1], lora=lora)
            ours = taken()
            unwanted = slow.epsilon(z, here, words[1:], lora=lora)
            taken()
            z = slow.move(z, unwanted + 5.0 * (wanted - unwanted), here, there)
            if step >= 2:
                likeness.append(np.mean(_compared(slow, theirs, ours)))
    latents, found = made[-1]
    torch.testing.assert_close(latents[1:].double(), z, rtol=1e-3, atol=2e-3)
    assert found[1] == pytest.approx(float(np.mean(likeness)), abs=1e-3)


def test_ten_candidates_leave_five_and_three(
    models: Models, monkeypatch: pytest.MonkeyPatch
) -> None:
    """⌈10/2⌉ by style, designs of those alone, ⌈10/4⌉ of them least like the reference's."""
    assert PROFILE.complementary.count == 4  # for other tests
    models.profile = replace(
        models.profile, complementary=replace(models.profile.complementary, count=10, batch=3)
    )
    adapter, reference = _adapter(models), _pair(models, "heart", 10)
    own = np.random.default_rng(0).random((64, 64, 3)).astype(np.float32)
    likeness = [0.3, 0.9, 0.1, 0.8, 0.2, 0.7, 0.4, 0.6, 0.05, 0.5]
    # How much of the reference's design is in that of a candidate.
    shares = {1: 0.9, 3: 0.1, 5: 0.6, 7: 0.3, 9: 0.5}
    asked: list[str] = []

    def embroider(_m: Any, part: Any, *_: Any) -> Any:
        first = len(asked)
        asked.extend(each.subject for each in part)
        latents = torch.stack([torch.full((4, 8, 8), float(first + i)) for i in range(len(part))])
        yield latents, likeness[first : first + len(part)]

    def designs(_m: Any, pictures: Any, subjects: list[str], _seed: int) -> Any:
        assert subjects == [asked[index] for index in (1, 3, 5, 7, 9)]
        assert len(pictures) == 5
        yield
        return [shares[asked.index(each)] * own for each in subjects]

    def encoded(_m: Any, picture: Tensor) -> Tensor:
        """A design's latents: as like the reference's as its share says."""
        share = float(picture.max()) / float(own.max())
        return torch.tensor([[share, math.sqrt(1.0 - min(share, 1.0) ** 2)]])

    monkeypatch.setattr(complementary, "_embroider", embroider)
    monkeypatch.setattr(complementary, "designs_of", designs)
    monkeypatch.setattr(Models, "encode_image", encoded)
    *_, found = complementary.make(models, adapter, BLOCKS, reference, own, 0)
    assert len(set(asked)) == 10
    assert all(len(each.split()) == 2 for each in asked)  # (colour) (object)
    assert found is not None
    assert [asked.index(each.subject) for each in found] == [3, 7, 9]
    assert [float(each.embroidery.mean()) for each in found] == [3.0, 7.0, 9.0]
