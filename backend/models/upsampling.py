"""The autoencoder on a CPU: enlarging with fewer operations, sums in fewer passes over memory."""

from __future__ import annotations

from typing import Any, cast

import torch
from diffusers.models.resnet import ResnetBlock2D
from torch.nn.functional import conv2d

__all__ = ["Enlarged", "Summed", "quicken"]

# Which taps of a 3-tap kernel fall on which of two neighbours, for even and for odd positions.
_TAPS = torch.tensor([[[1.0, 0, 0], [0, 1, 1]], [[1, 1, 0], [0, 0, 1]]])


class Enlarged(torch.nn.Module):
    """Twice the size by repetition, then a 3 × 3 convolution; in one of 2 × 2 at the small size.

    Of nine products over repeated pixels four are left (Shi et al., "Real-Time Single Image and
    Video Super-Resolution Using an Efficient Sub-Pixel Convolutional Neural Network", 2016).
    """

    weight: torch.Tensor
    bias: torch.Tensor

    def __init__(self, convolution: torch.nn.Conv2d) -> None:
        super().__init__()
        whole = convolution.weight.detach()
        taps = _TAPS.to(whole.device)
        weight = torch.einsum("pay,qbx,oiyx->pqoiab", taps, taps, whole.float())
        weight = weight.flatten(0, 2).to(whole.dtype)
        # As the other convolutions of a CPU: see `loading.load`.
        self.register_buffer("weight", weight.contiguous(memory_format=torch.channels_last))
        self.register_buffer("bias", cast(torch.Tensor, convolution.bias).detach().repeat(4))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, C, 2H, 2W) of (B, C, H, W)."""
        _, _, height, width = x.shape
        found = conv2d(x, self.weight, self.bias, padding=1)
        channels = found.shape[1] // 4
        large = torch.empty(
            (len(x), channels, 2 * height, 2 * width),
            dtype=x.dtype,
            device=x.device,
            memory_format=torch.channels_last,
        )
        for number, part in enumerate(found.split(channels, dim=1)):
            down, right = divmod(number, 2)
            here = part[:, :, down : down + height, right : right + width]
            large[:, :, down::2, right::2] = here
        return large


class Summed(torch.nn.Module):
    """An autoencoder's residual block that adds in place, and divides by nothing.

    Args:
        block: whose layers it has, under the same names; it must fit.
    """

    def __init__(self, block: ResnetBlock2D) -> None:
        super().__init__()
        self.norm1, self.conv1 = block.norm1, block.conv1
        self.norm2, self.conv2 = block.norm2, block.conv2
        self.conv_shortcut = block.conv_shortcut
        self.nonlinearity = block.nonlinearity

    @classmethod
    def fits(cls, part: torch.nn.Module) -> bool:
        """Whether `part` is a block that keeps its size and knows no timestep."""
        return (
            type(part) is ResnetBlock2D
            and part.time_emb_proj is None
            and part.upsample is None
            and part.downsample is None
            and part.output_scale_factor == 1.0
        )

    def forward(self, input_tensor: torch.Tensor, temb: None = None) -> torch.Tensor:
        """(B, out, H, W) of (B, in, H, W)."""
        hidden = self.conv1(self.nonlinearity(self.norm1(input_tensor)))
        found: torch.Tensor = self.conv2(self.nonlinearity(self.norm2(hidden)))
        same = input_tensor if self.conv_shortcut is None else self.conv_shortcut(input_tensor)
        return found.add_(same)


def quicken(vae: Any) -> None:
    """Let an autoencoder that is never trained decode and encode in less time, to the same end."""
    for block in vae.decoder.up_blocks:
        if block.upsamplers is not None:
            each = block.upsamplers[0]
            block.upsamplers[0] = Enlarged(each.conv)
    for parent in list(vae.modules()):
        for name, part in parent.named_children():
            if isinstance(part, torch.nn.SiLU):
                part.inplace = True
            elif Summed.fits(part):
                parent.add_module(name, Summed(part))
