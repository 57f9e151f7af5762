"""The autoencoder's shorter way to the same picture."""

from __future__ import annotations

import copy

import pytest
import torch
from diffusers import AutoencoderKL
from diffusers.models.resnet import ResnetBlock2D
from diffusers.models.upsampling import Upsample2D

from backend.models.upsampling import Enlarged, Summed, quicken


@pytest.mark.parametrize("size", [(5, 7), (1, 1), (16, 4)])
def test_enlarging_in_one_convolution_equals_repeating_and_convolving(
    size: tuple[int, int],
) -> None:
    torch.manual_seed(0)
    plain = Upsample2D(6, use_conv=True, out_channels=4)
    x = torch.randn(2, 6, *size)
    with torch.no_grad():
        torch.testing.assert_close(Enlarged(plain.conv)(x), plain(x), atol=1e-5, rtol=1e-5)


def test_a_quickened_autoencoder_says_the_same() -> None:
    torch.manual_seed(0)
    vae = AutoencoderKL(
        block_out_channels=(4, 8),
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        norm_num_groups=2,
    ).eval()
    quick = copy.deepcopy(vae)
    quicken(quick)
    picture = torch.rand(1, 3, 16, 24)
    with torch.no_grad():
        latents = vae.encode(picture).latent_dist.mode()
        torch.testing.assert_close(quick.encode(picture).latent_dist.mode(), latents)
        wanted = vae.decode(latents).sample
        torch.testing.assert_close(quick.decode(latents).sample, wanted, atol=1e-5, rtol=1e-5)
    for kind in (Enlarged, Summed):
        assert any(isinstance(each, kind) for each in quick.modules())


def test_only_an_autoencoders_blocks_are_taken_for_one() -> None:
    sizes = {"in_channels": 4, "groups": 2}
    assert Summed.fits(ResnetBlock2D(**sizes, temb_channels=None))
    assert not Summed.fits(ResnetBlock2D(**sizes, temb_channels=8))
    assert not Summed.fits(ResnetBlock2D(**sizes, temb_channels=None, up=True))
    assert not Summed.fits(ResnetBlock2D(**sizes, temb_channels=None, output_scale_factor=2.0))
