"""LoRA by blocks: who gets gradients, what is saved, whom the routed prompt reaches."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import safetensors.torch
import torch
from diffusers import StableDiffusionXLPipeline

from backend.emolora import stage_one, stage_two
from backend.emolora.adapter import (
    Adapter,
    attention_blocks,
    routed,
    style_targets,
    with_style,
)
from backend.emolora.encoded import EncodedPair
from backend.errors import InputError
from backend.models.loading import Models
from backend.models.prediction import Controls, predict
from backend.models.settings import ATTENTION_BLOCKS, PAPER_BLOCKS
from backend.styles import WEIGHTS

BLOCKS = ("down_blocks.2.attentions.0", "up_blocks.0.attentions.1")


def _noise(seed: int = 0, rows: int = 1) -> torch.Tensor:
    return torch.randn((rows, 4, 8, 8), generator=torch.Generator().manual_seed(seed))


def _shaken(models: Models, blocks: tuple[str, ...] = BLOCKS, seed: int = 1) -> Adapter:
    """An adapter whose second factors are not zero any more."""
    adapter = Adapter(models, blocks, rank=2, seed=seed)
    generator = torch.Generator().manual_seed(9)
    for parameter in adapter.parameters:
        parameter.data = torch.randn(parameter.shape, generator=generator) * 0.05
    return adapter


def _pair(models: Models, seed: int, controls: None = None) -> EncodedPair:
    text = models.encode_prompts(["a motif", "a motif in [emb] style"])
    return EncodedPair(
        design=_noise(seed),
        embroidery=_noise(seed + 1),
        weight=torch.ones(1, 1, 8, 8),
        design_text=text[:1],
        embroidery_text=text[1:],
        controls=controls,
    )


def test_the_blocks_are_sdxls(tiny_models: Models) -> None:
    assert attention_blocks(tiny_models) == ATTENTION_BLOCKS


def test_a_fresh_adapter_changes_nothing_and_leaves_nothing(tiny_models: Models) -> None:
    text = tiny_models.encode_prompts(["a motif"])
    with torch.no_grad():
        before = predict(tiny_models, _noise(), 500, text)
        adapter = Adapter(tiny_models, BLOCKS, rank=2, seed=0)
        fresh = predict(tiny_models, _noise(), 500, text)
        adapter.remove()
        after = predict(tiny_models, _noise(), 500, text)
    # While training, products are summed in another order.
    torch.testing.assert_close(fresh, before)
    assert torch.equal(before, after)
    assert not any("lora" in name for name, _ in tiny_models.unet.named_modules())
    assert not any(p.requires_grad for p in tiny_models.unet.parameters())


def test_start_depends_on_the_seed_alone(tiny_models: Models) -> None:
    states = []
    for seed, disturb in ((3, 0), (3, 1), (4, 0)):
        torch.manual_seed(disturb)
        before = torch.random.get_rng_state()
        adapter = Adapter(tiny_models, BLOCKS, rank=2, seed=seed)
        assert torch.equal(before, torch.random.get_rng_state())
        states.append(adapter.state())
        adapter.remove()
    names = list(states[0])
    assert all(torch.equal(states[0][n], states[1][n]) for n in names)
    assert not all(torch.equal(states[0][n], states[2][n]) for n in names)


def test_base_and_style_only_switch_and_switch_back(tiny_models: Models) -> None:
    text = tiny_models.encode_prompts(["a motif"])
    with torch.no_grad():
        plain = predict(tiny_models, _noise(), 500, text)
        adapter = _shaken(tiny_models)
        whole = predict(tiny_models, _noise(), 500, text)
        with adapter.base():
            torch.testing.assert_close(predict(tiny_models, _noise(), 500, text), plain)
        with adapter.style_only():
            style = predict(tiny_models, _noise(), 500, text)
        assert torch.equal(predict(tiny_models, _noise(), 500, text), whole)
    assert not torch.allclose(style, whole)
    assert not torch.allclose(style, plain)
    assert all(p.requires_grad for p in adapter.parameters)


def test_attention_alone_is_adapted_as_in_the_paper(tiny_models: Models) -> None:
    training = replace(tiny_models.profile.training, convolutions=False)
    tiny_models.profile = replace(tiny_models.profile, training=training)
    targets = style_targets(tiny_models, PAPER_BLOCKS)
    assert len(targets) == 4 * 2 * 4  # blocks, self- and cross-attention, projections
    adapter = Adapter(tiny_models, PAPER_BLOCKS, rank=2, seed=0)
    assert len(adapter.parameters) == 2 * 11 * 2 * 4
    assert len(adapter.style_parameters) == 2 * len(targets)


def test_convolutions_join_the_style_blocks_only(tiny_models: Models) -> None:
    training = replace(
        tiny_models.profile.training,
        convolutions=True,
        extra_style_modules=("up_blocks.2.resnets.0",),
    )
    tiny_models.profile = replace(tiny_models.profile, training=training)
    targets = style_targets(tiny_models, BLOCKS)
    assert "down_blocks.2.resnets.0.conv1" in targets
    assert "up_blocks.2.resnets.0.conv2" in targets
    assert "up_blocks.0.attentions.1.proj_in" in targets
    assert not [name for name in targets if name.startswith(("down_blocks.1", "mid_block"))]


def test_a_wrong_block_is_named(tiny_models: Models) -> None:
    with pytest.raises(InputError, match=r"up_blocks\.9"):
        style_targets(tiny_models, ["up_blocks.9.attentions.0"])


@pytest.mark.parametrize("convolutions", [False, True])
def test_plain_diffusers_loads_the_style_and_predicts_the_same(
    tiny_model: Path, tiny_models: Models, tmp_path: Path, convolutions: bool
) -> None:
    training = replace(
        tiny_models.profile.training,
        convolutions=convolutions,
        extra_style_modules=("up_blocks.2.resnets.0",),
    )
    tiny_models.profile = replace(tiny_models.profile, training=training)
    text = tiny_models.encode_prompts(["a motif in [emb] style"])
    adapter = _shaken(tiny_models)
    weights = adapter.style_weights()
    with torch.no_grad(), adapter.style_only():
        wanted = predict(tiny_models, _noise(), 500, text)
    adapter.remove()
    with torch.no_grad(), with_style(tiny_models, weights):
        torch.testing.assert_close(predict(tiny_models, _noise(), 500, text), wanted)
    with torch.no_grad(), with_style(tiny_models, weights, strength=0.5):
        assert not torch.allclose(predict(tiny_models, _noise(), 500, text), wanted)
    safetensors.torch.save_file(weights, tmp_path / WEIGHTS, metadata={"format": "pt"})
    pipeline = StableDiffusionXLPipeline.from_pretrained(tiny_model)
    pipeline.load_lora_weights(tmp_path)
    with torch.no_grad():
        theirs = pipeline.unet(
            _noise(),
            500,
            encoder_hidden_states=text.hidden,
            added_cond_kwargs={
                "text_embeds": text.pooled,
                "time_ids": tiny_models.time_ids(1, 64, 64),
            },
        ).sample
    torch.testing.assert_close(theirs, wanted)


def test_routed_words_reach_the_style_blocks_alone(tiny_models: Models) -> None:
    text = tiny_models.encode_prompts(["a motif", "a red heart in [emb] style"])
    seen: dict[str, torch.Tensor] = {}

    def spy(name: str):  # type: ignore[no-untyped-def]
        def hook(_m: object, _a: object, kwargs: dict[str, torch.Tensor]) -> None:
            seen[name] = kwargs["encoder_hidden_states"]

        return hook

    handles = [
        tiny_models.unet.get_submodule(f"{block}.transformer_blocks.0").register_forward_pre_hook(
            spy(block), with_kwargs=True
        )
        for block in ATTENTION_BLOCKS
    ]
    with torch.no_grad():
        plain = predict(tiny_models, _noise(), 500, text[:1])
        with routed(tiny_models, BLOCKS, text[1:].hidden):
            other = predict(tiny_models, _noise(), 500, text[:1])
    for handle in handles:
        handle.remove()
    for block in ATTENTION_BLOCKS:
        expected = text.hidden[1:] if block in BLOCKS else text.hidden[:1]
        assert torch.equal(seen[block], expected), block
    assert not torch.equal(plain, other)
    with torch.no_grad():
        assert torch.equal(predict(tiny_models, _noise(), 500, text[:1]), plain)


def _reached(adapter: Adapter) -> tuple[int, int]:
    """Parameters with a gradient that is not zero, in θ_e and in the rest."""
    style = {id(p) for p in adapter.style_parameters}
    with_gradient = [p for p in adapter.parameters if p.grad is not None and p.grad.any()]
    inside = sum(id(p) in style for p in with_gradient)
    return inside, len(with_gradient) - inside


@pytest.mark.parametrize(("loss", "beyond"), [("design", True), ("embroidery", False)])
def test_the_design_teaches_all_blocks_and_the_embroidery_the_style_alone(
    tiny_models: Models, monkeypatch: pytest.MonkeyPatch, loss: str, beyond: bool
) -> None:
    adapter, pair = _shaken(tiny_models), _pair(tiny_models, 5)
    chance = stage_one.draw(tiny_models, pair, (0, 1, 0))
    original = stage_one.reconstruction

    def alone(*maps: torch.Tensor) -> torch.Tensor:
        """The other loss counts nothing."""
        design, embroidery = original(*maps).chunk(2)
        shares = (1.0, 0.0) if loss == "design" else (0.0, 1.0)
        return torch.cat([design * shares[0], embroidery * shares[1]])

    monkeypatch.setattr(stage_one, "reconstruction", alone)
    losses = stage_one.accumulate(tiny_models, adapter, BLOCKS, pair, chance)
    style, rest = len(adapter.style_parameters), len(adapter.parameters)
    assert _reached(adapter) == (style, rest - style if beyond else 0)
    assert set(losses) == {"design", "embroidery"}


def test_without_the_design_the_embroidery_teaches_all_blocks(tiny_models: Models) -> None:
    training = replace(tiny_models.profile.training, design=False)
    tiny_models.profile = replace(tiny_models.profile, training=training)
    adapter, pair = _shaken(tiny_models), _pair(tiny_models, 5)
    chance = stage_one.draw(tiny_models, pair, (0, 1, 0))
    losses = stage_one.accumulate(tiny_models, adapter, BLOCKS, pair, chance)
    style, rest = len(adapter.style_parameters), len(adapter.parameters)
    assert _reached(adapter) == (style, rest - style)
    assert set(losses) == {"embroidery"}


def test_the_contrastive_loss_teaches_the_style_alone(
    tiny_models: Models, monkeypatch: pytest.MonkeyPatch
) -> None:
    adapter, pair, other = _shaken(tiny_models), _pair(tiny_models, 5), _pair(tiny_models, 7)
    chance = stage_one.draw(tiny_models, pair, (0, 2, 0))
    original = stage_one.learn
    calls: list[tuple[int, int]] = []

    def forgotten(*given: object) -> stage_one.Learnt:
        learnt = original(*given)  # type: ignore[arg-type]
        calls.append(_reached(adapter))
        for parameter in adapter.parameters:
            parameter.grad = None
        return learnt

    monkeypatch.setattr(stage_two, "learn", forgotten)
    losses = stage_two.accumulate(tiny_models, adapter, BLOCKS, pair, other, chance)
    style, rest = len(adapter.style_parameters), len(adapter.parameters)
    assert calls == [(style, rest - style)] * 2
    assert _reached(adapter) == (style, 0)
    assert set(losses) == {"design", "embroidery", "contrastive"}


def test_gradient_checkpointing_changes_no_gradient(tiny_models: Models) -> None:
    found = []
    for checkpointing in (False, True):
        training = replace(tiny_models.profile.training, gradient_checkpointing=checkpointing)
        tiny_models.profile = replace(tiny_models.profile, training=training)
        adapter, pair = _shaken(tiny_models), _pair(tiny_models, 5)
        assert tiny_models.unet.is_gradient_checkpointing is checkpointing
        chance = stage_one.draw(tiny_models, pair, (0, 1, 0))
        stage_one.accumulate(tiny_models, adapter, BLOCKS, pair, chance)
        found.append([parameter.grad for parameter in adapter.parameters])
        adapter.remove()
    assert not tiny_models.unet.is_gradient_checkpointing
    for plain, checkpointed in zip(*found):
        torch.testing.assert_close(plain, checkpointed)


def test_chance_is_drawn_from_its_key_alone(tiny_models: Models) -> None:
    pair = _pair(tiny_models, 5)
    first = stage_one.draw(tiny_models, pair, (0, 1, 7))
    torch.manual_seed(123)
    again = stage_one.draw(tiny_models, pair, (0, 1, 7))
    other = stage_one.draw(tiny_models, pair, (0, 1, 8))
    assert torch.equal(first.noise, again.noise)
    assert torch.equal(first.timestep, again.timestep)
    assert torch.equal(first.corners, again.corners)
    assert not torch.equal(first.noise, other.noise)


def test_crops_are_cut_alike_from_latents_weights_and_controls(tiny_models: Models) -> None:
    rows = torch.arange(2 * 3 * 64 * 64, dtype=torch.float32).reshape(2, 3, 64, 64)
    pair = replace(
        _pair(tiny_models, 5),
        design=_noise(1, rows=2),
        embroidery=_noise(2, rows=2),
        weight=torch.rand(2, 1, 8, 8),
        controls=Controls(rows, rows + 1, 0.5, 0.5),
    )
    seen = pair.cut(torch.tensor([1, 0]), torch.tensor([[2, 4], [0, 1]]), 4)
    assert torch.equal(seen.design[0], pair.design[1, :, 2:6, 4:8])
    assert torch.equal(seen.embroidery[1], pair.embroidery[0, :, 0:4, 1:5])
    assert torch.equal(seen.weight[0], pair.weight[1, :, 2:6, 4:8])
    assert seen.controls is not None
    assert torch.equal(seen.controls.canny[0], rows[1, :, 16:48, 32:64])
    assert torch.equal(seen.controls.tile[1], rows[0, :, 0:32, 8:40] + 1)
