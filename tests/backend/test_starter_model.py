"""The architecture's block names, and the shipped weights."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from diffusers import ControlNetModel, StableDiffusionXLPipeline

import backend
from backend.starter.architecture import CONTROLNETS, TINY, build
from backend.starter.diffusion import encode_text
from backend.starter.vocabulary import make_tokenizer

SHIPPED = Path(backend.__file__).parent / "models" / "starter"
BLOCKS = {
    "down_blocks.1.attentions.0", "down_blocks.1.attentions.1",
    "down_blocks.2.attentions.0", "down_blocks.2.attentions.1",
    "mid_block.attentions.0",
    "up_blocks.0.attentions.0", "up_blocks.0.attentions.1", "up_blocks.0.attentions.2",
    "up_blocks.1.attentions.0", "up_blocks.1.attentions.1", "up_blocks.1.attentions.2",
}  # fmt: skip


def _attention_blocks(unet: torch.nn.Module) -> set[str]:
    return {name for name, m in unet.named_modules() if type(m).__name__ == "Transformer2DModel"}


def test_has_the_eleven_attention_blocks_of_sdxl() -> None:
    assert _attention_blocks(build(TINY, 0)["unet"]) == BLOCKS


def test_seed_decides_the_weights_and_global_randomness_is_left_alone() -> None:
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    one, two, other = build(TINY, 0), build(TINY, 0), build(TINY, 1)
    assert torch.equal(torch.rand(3), expected)
    weight = [parts["unet"].conv_in.weight for parts in (one, two, other)]
    assert torch.equal(weight[0], weight[1])
    assert not torch.equal(weight[0], weight[2])


def test_tokenizer_tells_textiles_and_trigger_apart() -> None:
    tokenizer = build(TINY, 0)["tokenizer"]
    texts = ["a cup", "a cup in [emb] style", "a cup, satin embroidery", "a cup, knit embroidery"]
    ids = [tuple(tokenizer(text, padding="max_length").input_ids) for text in texts]
    assert len(set(ids)) == 4
    assert {len(row) for row in ids} == {TINY.text_tokens}


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # diffusers'
def test_vocabulary_is_the_same_every_time() -> None:
    one, two = (make_tokenizer(2000, 48).get_vocab() for _ in range(2))
    assert one == two


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # diffusers
def test_diffusers_loads_what_is_saved(tiny_model: Path) -> None:
    pipeline = StableDiffusionXLPipeline.from_pretrained(tiny_model)
    assert _attention_blocks(pipeline.unet) == BLOCKS
    ControlNetModel.from_unet(pipeline.unet)
    for name in CONTROLNETS:
        ControlNetModel.from_pretrained(tiny_model / name)
    pipeline.set_progress_bar_config(disable=True)
    picture = pipeline(
        "a cup in [emb] style", num_inference_steps=2, height=64, width=64, output_type="np"
    ).images[0]
    assert picture.shape == (64, 64, 3)


@pytest.mark.skipif(not (SHIPPED / "unet").exists(), reason="the weights are not in this checkout")
def test_shipped_weights_are_small_half_precision_and_complete() -> None:
    files = list(SHIPPED.rglob("*.safetensors"))
    assert sum(path.stat().st_size for path in files) <= 96 * 2**20
    assert not list(SHIPPED.rglob("*.bin"))
    pipeline = StableDiffusionXLPipeline.from_pretrained(SHIPPED, dtype=torch.float16)
    assert _attention_blocks(pipeline.unet) == BLOCKS
    assert pipeline.vae.config.scaling_factor != 1.0
    for name in CONTROLNETS:
        assert ControlNetModel.from_pretrained(SHIPPED / name).config.in_channels == 16
    assert "## Licences" in (SHIPPED / "MODEL_CARD.md").read_text("utf-8")


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # diffusers'
def test_a_fresh_text_encoder_hears_every_word_wherever_it_stands() -> None:
    parts = build(replace(TINY, text_layers=2), 0)
    captions = [
        "a cup, satin embroidery",
        "a cup, knit embroidery",
        "a red cup with a long handle, satin embroidery",
    ]
    with torch.no_grad():
        hidden, pooled = encode_text(parts, captions)
        routed, subject = encode_text(parts, captions[:1], ["a cup"])
        _, alone = encode_text(parts, ["a cup"])
    for satin, knit in ((hidden[0], hidden[1]), (pooled[0], pooled[1])):
        assert (satin - knit).norm() > 0.1 * satin.norm()
    # The last token is padding: it carries the whole sentence.
    assert (hidden[0, -1] - hidden[1, -1]).norm() > 0.1 * hidden[0, -1].norm()
    torch.testing.assert_close(routed, hidden[:1])
    torch.testing.assert_close(subject, alone)
