"""One call of the UNet, with or without ControlNets, and the noise schedule around it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch

from backend.models.loading import Models, TextEmbedding

__all__ = [
    "Controls",
    "Residuals",
    "add_noise",
    "control",
    "ddim_step",
    "hints",
    "noise_of",
    "noise_target",
    "predict",
    "timesteps",
]


@dataclass(frozen=True, slots=True)
class Controls:
    """Conditions of the two ControlNets; a scale of 0 leaves its ControlNet out.

    Attributes:
        canny: edges, (B, 3, H, W) in {0, 1}, or their `hints`.
        tile: blurred picture, (B, 3, H, W) in [0, 1], or its `hints`.
    """

    canny: torch.Tensor
    tile: torch.Tensor
    canny_scale: float
    tile_scale: float

    def __getitem__(self, rows: Any) -> Controls:
        return replace(self, canny=self.canny[rows], tile=self.tile[rows])

    def expand(self, batch: int) -> Controls:
        """The one picture's conditions, `batch` times."""
        return replace(
            self,
            canny=self.canny.expand(batch, -1, -1, -1),
            tile=self.tile.expand(batch, -1, -1, -1),
        )


@dataclass(frozen=True, slots=True)
class Residuals:
    """What the ControlNets add to the UNet's skips and to its middle, B rows each."""

    skips: tuple[torch.Tensor, ...]
    middle: torch.Tensor

    def __getitem__(self, rows: slice) -> Residuals:
        return Residuals(tuple(each[rows] for each in self.skips), self.middle[rows])

    def with_rows(self, other: Residuals) -> Residuals:
        """These rows, then those of another."""
        skips = tuple(torch.cat(pair) for pair in zip(self.skips, other.skips))
        return Residuals(skips, torch.cat([self.middle, other.middle]))


@torch.no_grad()
def hints(models: Models, controls: Controls | None) -> Controls | None:
    """Conditions with each picture as its ControlNet first sees it; for pictures used again."""
    if controls is None:
        return None
    found = {}
    for name in ("canny", "tile"):
        picture = getattr(controls, name)
        if getattr(controls, f"{name}_scale") != 0.0:
            models.residence.need(f"controlnet_{name}")
            network = getattr(models, f"controlnet_{name}")
            picture = network.controlnet_cond_embedding(picture.to(models.dtype))
        found[name] = picture
    return replace(controls, **found)


@torch.no_grad()
def control(
    models: Models,
    latents: torch.Tensor,
    timestep: torch.Tensor | int,
    text: TextEmbedding,
    controls: Controls,
    *,
    size: tuple[int, int] | None = None,
) -> Residuals | None:
    """What the ControlNets say of noisy latents; None if both are left out. As for `predict`."""
    found: Residuals | None = None
    for name, picture, scale in (
        ("controlnet_canny", controls.canny, controls.canny_scale),
        ("controlnet_tile", controls.tile, controls.tile_scale),
    ):
        if scale == 0.0:
            continue
        models.residence.need(name)
        network = getattr(models, name)
        skips, middle = network(
            latents.to(models.dtype),
            timestep,
            encoder_hidden_states=text.hidden,
            controlnet_cond=picture.to(models.dtype),
            conditioning_scale=scale,
            added_cond_kwargs=_added(models, latents, text, size),
            return_dict=False,
        )
        if found is not None:
            skips = [a + b for a, b in zip(found.skips, skips)]
            middle = found.middle + middle
        found = Residuals(tuple(skips), middle)
    return found


def predict(
    models: Models,
    latents: torch.Tensor,
    timestep: torch.Tensor | int,
    text: TextEmbedding,
    controls: Controls | Residuals | None = None,
    *,
    size: tuple[int, int] | None = None,
) -> torch.Tensor:
    """The UNet's output for noisy latents; no gradient goes into the ControlNets.

    Args:
        latents: (B, C, h, w), z_t.
        timestep: one for all rows, or (B,).
        text: of the same batch.
        controls: of the same batch, or what `control` said of these latents, or None.
        size: height and width in pixels that the base is told; that of the latents if absent.

    Returns:
        (B, C, h, w): ε, or v where the base predicts velocity.
    """
    said = controls
    if isinstance(said, Controls):
        said = control(models, latents, timestep, text, said, size=size)
    models.residence.need("unet")
    output: torch.Tensor = models.unet(
        latents.to(models.dtype),
        timestep,
        encoder_hidden_states=text.hidden,
        added_cond_kwargs=_added(models, latents, text, size),
        down_block_additional_residuals=None if said is None else said.skips,
        mid_block_additional_residual=None if said is None else said.middle,
        return_dict=False,
    )[0]
    return output


def _added(
    models: Models, latents: torch.Tensor, text: TextEmbedding, size: tuple[int, int] | None
) -> dict[str, torch.Tensor]:
    batch, _, height, width = latents.shape
    size = size or (height * models.factor, width * models.factor)
    return {"text_embeds": text.pooled, "time_ids": models.time_ids(batch, *size)}


def add_noise(
    models: Models, latents: torch.Tensor, noise: torch.Tensor, timestep: torch.Tensor | int
) -> torch.Tensor:
    """z_t = √ᾱ_t z_0 + √(1-ᾱ_t) ε, computed in float32."""
    alpha = _alpha(models, timestep)
    return alpha.sqrt() * latents.float() + (1.0 - alpha).sqrt() * noise.float()


def noise_target(
    models: Models, latents: torch.Tensor, noise: torch.Tensor, timestep: torch.Tensor | int
) -> torch.Tensor:
    """What the UNet should say: ε, or v = √ᾱ ε - √(1-ᾱ) z_0 for a velocity model."""
    if models.scheduler.config.prediction_type == "epsilon":
        return noise.float()
    alpha = _alpha(models, timestep)
    return alpha.sqrt() * noise.float() - (1.0 - alpha).sqrt() * latents.float()


def timesteps(models: Models, steps: int, until: float = 0.0) -> list[int]:
    """`steps` timesteps from noisy to clean, evenly spaced up to T-1 (trailing spacing).

    Args:
        until: share of all timesteps, at the clean end, that are left to the last step.
    """
    total = models.alphas().shape[0]
    return [round(total * (steps - (1.0 - until) * i) / steps) - 1 for i in range(steps)]


def noise_of(
    models: Models, latents: torch.Tensor, output: torch.Tensor, timestep: torch.Tensor | int
) -> torch.Tensor:
    """ε, float32, in the UNet's output for z_t, whatever it predicts."""
    if models.scheduler.config.prediction_type == "epsilon":
        return output.float()
    alpha = _alpha(models, timestep)
    return alpha.sqrt() * output.float() + (1.0 - alpha).sqrt() * latents.float()


def clean_of(
    models: Models, latents: torch.Tensor, output: torch.Tensor, timestep: int
) -> torch.Tensor:
    """z_0, float32, that the UNet's output for z_t expects."""
    noise = noise_of(models, latents, output, timestep)
    return ddim_step(models, latents, noise, timestep, -1)


def ddim_step(
    models: Models, latents: torch.Tensor, noise: torch.Tensor, here: int, there: int
) -> torch.Tensor:
    """The deterministic DDIM step from timestep `here` to `there`, either way along the schedule.

    Source: Song, Meng, Ermon, "Denoising Diffusion Implicit Models", 2021, equation 12, σ = 0.

    Args:
        noise: ε, of `noise_of`.
        here, there: timesteps; -1 is the clean end.
    """
    a, b = _alpha(models, here), _alpha(models, there)
    clean = (latents.float() - (1.0 - a).sqrt() * noise.float()) / a.sqrt()
    return b.sqrt() * clean + (1.0 - b).sqrt() * noise.float()


def _alpha(models: Models, timestep: torch.Tensor | int) -> torch.Tensor:
    """ᾱ_t shaped to multiply latents; 1 at the clean end, t = -1."""
    if isinstance(timestep, int):
        # A number on the CPU multiplies tensors of any device: planes of latents stay on the CPU.
        known = models.scheduler.alphas_cumprod
        return known[timestep].float().cpu() if timestep >= 0 else torch.ones(())
    table = models.alphas()
    return table[timestep.to(table.device)].reshape(-1, 1, 1, 1)
