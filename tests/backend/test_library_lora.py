"""A style's LoRA for other programs: their names, their alpha, the same prediction."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
from diffusers import StableDiffusionXLPipeline
from restyling import tiny_models, tiny_style
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from backend import cli
from backend.emolora.adapter import with_style
from backend.errors import InputError, StyleError
from backend.library.lora import export_lora, to_kohya
from backend.styles import Style


@pytest.fixture(scope="module")
def style(tiny_model: Path) -> Style:
    """A style with attention, feed-forward and convolution layers, in encoder and decoder."""
    return tiny_style(tiny_models(tiny_model))


def predicted(unet: torch.nn.Module, style: Style, model: Path) -> torch.Tensor:
    models = tiny_models(model)
    text = models.encode_prompts(["a rose in [emb] style"])
    noise = torch.randn((1, 4, 8, 8), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        answer: torch.Tensor = unet(
            noise,
            500,
            encoder_hidden_states=text.hidden,
            added_cond_kwargs={"text_embeds": text.pooled, "time_ids": models.time_ids(1, 64, 64)},
        ).sample
    return answer


# diffusers passes an option that huggingface_hub no longer knows, and peft names old modules.
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("form", ["kohya", "diffusers"])
def test_diffusers_predicts_the_same_with_the_exported_file(
    style: Style, tiny_model: Path, tmp_path: Path, form: str
) -> None:
    export_lora(style, form, tmp_path / "lora.safetensors")
    ours = tiny_models(tiny_model)
    with with_style(ours, dict(style.weights)):
        expected = predicted(ours.unet, style, tiny_model)
    plain = predicted(ours.unet, style, tiny_model)
    pipeline = StableDiffusionXLPipeline.from_pretrained(tiny_model, local_files_only=True)
    pipeline.load_lora_weights(tmp_path / "lora.safetensors")
    found = predicted(pipeline.unet, style, tiny_model)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    assert (expected - plain).abs().max() > 1e-2


@pytest.mark.filterwarnings("ignore")
def test_alpha_is_read_as_kohya_means_it(style: Style, tiny_model: Path, tmp_path: Path) -> None:
    """Half the alpha is half the LoRA: ours must be the rank, or strengths would be wrong."""
    tensors = to_kohya(style.weights)
    alphas = {name: value for name, value in tensors.items() if name.endswith(".alpha")}
    assert {value.item() for value in alphas.values()} == {float(style.rank)}
    assert len(alphas) * 3 == len(tensors)
    save_file(
        {name: value / 2 if name in alphas else value for name, value in tensors.items()},
        tmp_path / "half.safetensors",
    )
    ours = tiny_models(tiny_model)
    with with_style(ours, dict(style.weights), strength=0.5):
        expected = predicted(ours.unet, style, tiny_model)
    pipeline = StableDiffusionXLPipeline.from_pretrained(tiny_model, local_files_only=True)
    pipeline.load_lora_weights(tmp_path / "half.safetensors")
    found = predicted(pipeline.unet, style, tiny_model)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (
            "down_blocks.1.attentions.0.transformer_blocks.1.attn1.to_q",
            "input_blocks_4_1_transformer_blocks_1_attn1_to_q",
        ),
        (
            "down_blocks.2.attentions.1.transformer_blocks.9.attn2.to_out.0",
            "input_blocks_8_1_transformer_blocks_9_attn2_to_out_0",
        ),
        ("mid_block.attentions.0.proj_in", "middle_block_1_proj_in"),
        ("mid_block.resnets.1.conv2", "middle_block_2_out_layers_3"),
        (
            "up_blocks.0.attentions.1.transformer_blocks.0.ff.net.0.proj",
            "output_blocks_1_1_transformer_blocks_0_ff_net_0_proj",
        ),
        ("up_blocks.1.attentions.2.proj_out", "output_blocks_5_1_proj_out"),
        ("up_blocks.2.resnets.0.conv1", "output_blocks_6_0_in_layers_2"),
        ("down_blocks.1.resnets.1.conv_shortcut", "input_blocks_5_0_skip_connection"),
    ],
)
def test_layers_have_the_names_of_stability_s_own_unet(ours: str, theirs: str) -> None:
    """As SDXL's single-file checkpoint numbers them."""
    down, up = torch.ones(2, 3), torch.ones(4, 2)
    found = to_kohya({f"unet.{ours}.lora_A.weight": down, f"unet.{ours}.lora_B.weight": up})
    name = f"lora_unet_{theirs}"
    assert found.keys() == {f"{name}.lora_down.weight", f"{name}.lora_up.weight", f"{name}.alpha"}
    assert found[f"{name}.lora_down.weight"] is down
    assert found[f"{name}.lora_up.weight"] is up
    assert found[f"{name}.alpha"].shape == ()


@pytest.mark.parametrize(
    "layer", ["conv_in", "down_blocks.0.downsamplers.0.conv", "mid_block.0.attentions.0.proj_in"]
)
def test_a_layer_without_a_name_elsewhere_is_refused(layer: str) -> None:
    names = [f"unet.{layer}.lora_{part}.weight" for part in "AB"]
    with pytest.raises(StyleError, match=re.escape(names[0].split(".lora")[0].split("unet.")[1])):
        to_kohya(dict.fromkeys(names, torch.ones(2, 2)))


def test_the_file_says_what_it_is(style: Style, tmp_path: Path) -> None:
    export_lora(style, "kohya", tmp_path / "lora.safetensors")
    with safe_open(tmp_path / "lora.safetensors", framework="pt") as stored:
        about = stored.metadata()
    assert about["modelspec.trigger_phrase"] == style.prompts.trigger
    assert about["ss_network_dim"] == about["ss_network_alpha"] == "4"
    assert "ss_base_model_version" not in about  # it is no LoRA for SDXL
    with pytest.raises(InputError, match="already"):
        export_lora(style, "kohya", tmp_path / "lora.safetensors")
    with pytest.raises(InputError, match="safetensors"):
        export_lora(style, "kohya", tmp_path / "lora.pt")


def test_the_command_warns_of_what_is_lost(
    style: Style, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    style.save(tmp_path / "tiny")
    out = tmp_path / "lora.safetensors"
    arguments = ["styles", "export-lora", "tiny", "--library", str(tmp_path), "--format", "kohya"]
    assert cli.main([*arguments, "--out", str(out)]) == 0
    text = capsys.readouterr().out
    assert "trigger words: in [emb] style" in text
    assert "not SDXL" in text
    assert load_file(out).keys() == to_kohya(style.weights).keys()
    with pytest.raises(SystemExit):
        cli.main(["styles", "export-lora", "--help"])
    text = " ".join(capsys.readouterr().out.split())
    assert "Prompt routing is not carried along" in text
