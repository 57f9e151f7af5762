"""Soft block weights: from the measure to the LoRA's scale, the style and its export."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from restyling import collect
from safetensors.torch import load_file

from backend.emolora import blocks
from backend.emolora.adapter import Adapter, with_style
from backend.emolora.training import train
from backend.jobs import TrainJob
from backend.library.lora import export_lora
from backend.models.loading import Models
from backend.models.prediction import predict
from backend.models.settings import ATTENTION_BLOCKS, PAPER_BLOCKS, BlockSettings
from backend.styles import Style

SETTINGS = BlockSettings(late=1, threshold=0.5, at_least=2)
TWO = ("down_blocks.2.attentions.0", "up_blocks.0.attentions.1")


def _table(late: list[float]) -> np.ndarray:
    """First segments say the contrary: only the late ones may count."""
    return np.stack([1.0 - np.array(late), np.array(late)], axis=1)


def test_weights_follow_how_far_below_the_mean_a_block_lies() -> None:
    late = [0.9] * 11
    late[2], late[6], late[7] = 0.1, 0.6, 0.82
    table = _table(late)
    found = blocks.soft_weights(table, ATTENTION_BLOCKS, SETTINGS)
    different = np.log(1.0 - np.array(late))
    wanted = (different - different.mean()) / different.std()
    assert set(found) == {ATTENTION_BLOCKS[i] for i in (2, 6, 7)}
    assert found[ATTENTION_BLOCKS[2]] == found[ATTENTION_BLOCKS[6]] == 1.0
    assert 0.1 < wanted[7] < 0.5
    assert found[ATTENTION_BLOCKS[7]] == pytest.approx(wanted[7])
    hard = blocks.choose(table, ATTENTION_BLOCKS, SETTINGS)
    assert set(hard) <= set(found)
    assert all(found[name] >= 0.5 for name in hard)


def test_named_blocks_keep_a_say_and_others_get_none() -> None:
    late = [0.5 + 0.04 * index for index in range(11)]
    found = blocks.soft_weights(_table(late), ATTENTION_BLOCKS, SETTINGS, PAPER_BLOCKS)
    assert tuple(found) == PAPER_BLOCKS
    assert found[PAPER_BLOCKS[-1]] == blocks.LEAST_WEIGHT
    assert found[PAPER_BLOCKS[0]] > found[PAPER_BLOCKS[1]] > blocks.LEAST_WEIGHT


def test_blocks_that_say_the_same_weigh_the_same() -> None:
    found = blocks.soft_weights(_table([0.7] * 11), ATTENTION_BLOCKS, SETTINGS)
    assert list(found.values()) == [0.5, 0.5]


def test_the_scale_is_the_same_in_training_and_in_the_saved_weights(tiny_models: Models) -> None:
    soft = {TWO[0]: 0.25, TWO[1]: 1.0}
    latents = torch.randn((1, 4, 8, 8), generator=torch.Generator().manual_seed(0))
    text = tiny_models.encode_prompts(["a motif"])
    answers, saved = {}, {}
    for name, scales in (("plain", {}), ("soft", soft)):
        adapter = Adapter(tiny_models, TWO, rank=2, seed=1, soft=scales)
        generator = torch.Generator().manual_seed(9)
        for parameter in adapter.parameters:
            parameter.data = torch.randn(parameter.shape, generator=generator) * 0.1
        with torch.no_grad(), adapter.style_only():
            answers[name] = predict(tiny_models, latents, 500, text)
        saved[name] = adapter.style_weights()
        adapter.remove()
    for key, value in saved["plain"].items():
        quarter = key.endswith("lora_B.weight") and key.split("unet.")[1].startswith(
            (f"{TWO[0]}.", f"{TWO[0].replace('attentions', 'resnets')}.")
        )
        torch.testing.assert_close(saved["soft"][key], value * (0.25 if quarter else 1.0))
    with torch.no_grad(), with_style(tiny_models, saved["soft"]):
        merged = predict(tiny_models, latents, 500, text)
    torch.testing.assert_close(merged, answers["soft"], rtol=1e-4, atol=1e-5)
    assert (answers["plain"] - answers["soft"]).abs().max() > 1e-3


@pytest.mark.parametrize("choice", ["auto", "paper"])
def test_a_style_is_trained_saved_and_exported_with_them(
    tiny_models: Models, photo: Path, tmp_path: Path, choice: str
) -> None:
    job = TrainJob(
        reference=str(photo),
        out=str(tmp_path / "soft"),
        steps_one=2,
        steps_two=0,
        blocks=choice,
        soft=True,
    )
    collect(train(job, tiny_models))
    style = Style.load(job.out)
    assert style.plot is not None  # measured, though the paper's blocks are named
    assert tuple(style.block_weights) == style.blocks
    assert all(0.0 < weight <= 1.0 for weight in style.block_weights.values())
    assert len(set(style.block_weights.values())) > 1
    if choice == "paper":
        assert style.blocks == PAPER_BLOCKS
    export_lora(style, "diffusers", tmp_path / "out.safetensors")
    exported = load_file(tmp_path / "out.safetensors")
    assert all(torch.equal(value, exported[name]) for name, value in style.weights.items())


def test_without_them_nothing_is_recorded(tiny_models: Models, photo: Path, tmp_path: Path) -> None:
    job = TrainJob(
        reference=str(photo), out=str(tmp_path / "hard"), steps_one=1, steps_two=0, blocks="paper"
    )
    collect(train(job, tiny_models))
    style = Style.load(job.out)
    assert style.block_weights == {}
    assert style.plot is None
    replace(style, block_weights={"up_blocks.0.attentions.1": 0.5}).save(tmp_path / "again")
    assert Style.load(tmp_path / "again").block_weights == {"up_blocks.0.attentions.1": 0.5}
