"""The paper's two training stages as its reference code runs them, written plainly.

One-shot Embroidery Customization via Contrastive LoRA Modulation (arXiv 2509.18948), sections 3.2
and 3.3. Every step encodes its images and prompts anew, and passes run one after another. Nothing
here is shared with `backend.emolora`: it is what the faster stages are compared with, in loss and
in time (`backend.evaluation.bench_training`).

The page leaves two things open. The losses of a step are summed before the optimiser steps once,
since a weight on the contrastive loss has no meaning to AdamW otherwise. Latents are the mode of
the autoencoder's distribution, not a sample, so that curves can be compared.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from peft import LoraConfig

from backend.models.loading import Models, TextEmbedding
from backend.models.settings import TrainingSettings

__all__ = ["PlainTraining", "Shown"]


@dataclass(frozen=True, slots=True)
class Shown:
    """A pair as the procedure is given it: pictures (1, 3, H, W) in [0, 1] and prompts."""

    design: torch.Tensor
    embroidery: torch.Tensor
    design_prompt: str
    embroidery_prompt: str


class PlainTraining:
    """LoRA on all attention blocks of `models.unet` (θ_a), those of `blocks` being θ_e.

    Args:
        start: initial LoRA weights by name, "unet.….lora_A.weight" and "unet.….lora_B.weight".

    Losses are computed in the arithmetic of the noise that a step is given.
    """

    def __init__(
        self,
        models: Models,
        blocks: Sequence[str],
        settings: TrainingSettings,
        start: Mapping[str, torch.Tensor],
    ) -> None:
        self._models, self._blocks, self._settings = models, blocks, settings
        self._unet = models.unet
        with torch.random.fork_rng(devices=[]):
            self._unet.add_adapter(
                LoraConfig(
                    r=settings.rank,
                    lora_alpha=settings.rank,
                    target_modules=["to_q", "to_k", "to_v", "to_out.0"],
                )
            )
        self.parameters: dict[str, torch.nn.Parameter] = {
            f"unet.{name.replace('.default', '')}": parameter
            for name, parameter in self._unet.named_parameters()
            if ".lora_A." in name or ".lora_B." in name
        }
        self._style = [
            parameter
            for name, parameter in self.parameters.items()
            if any(name.startswith(f"unet.{block}.") for block in blocks)
        ]
        self.begin(start)

    def begin(self, start: Mapping[str, torch.Tensor]) -> None:
        """Take these initial weights and forget every step."""
        for name, parameter in self.parameters.items():
            parameter.data = start[name].to(self._models.device).clone()
        self.optimiser = torch.optim.AdamW(
            self.parameters.values(),
            lr=self._settings.learning_rate,
            weight_decay=self._settings.weight_decay,
        )

    def step_one(self, pair: Shown, noise: torch.Tensor, t: torch.Tensor) -> dict[str, float]:
        """A step of stage one; noise (1, C, h, w) and timestep (1,) are those of both images."""
        self.optimiser.zero_grad(set_to_none=True)
        z_des, z_emb = self._latents([pair.design]), self._latents([pair.embroidery])
        c_des = self._models.encode_prompts([pair.design_prompt])
        c_emb = self._models.encode_prompts([pair.embroidery_prompt])

        l_des = self._squared_error(z_des, noise, t, c_des).mean()
        l_des.backward()

        with self._routed(c_emb):
            l_emb = self._squared_error(z_emb, noise, t, c_des).mean()
            l_emb.backward(inputs=self._style)

        self.optimiser.step()
        return {"design": l_des.item(), "embroidery": l_emb.item()}

    def step_two(
        self, reference: Shown, generated: Shown, noise: torch.Tensor, t: torch.Tensor
    ) -> dict[str, float]:
        """A step of stage two; both pairs get the same noise (1, C, h, w) and timestep (1,)."""
        settings = self._settings
        self.optimiser.zero_grad(set_to_none=True)
        pairs = [reference, generated]
        z_des = self._latents([each.design for each in pairs])
        z_emb = self._latents([each.embroidery for each in pairs])
        c_des = self._models.encode_prompts([each.design_prompt for each in pairs])
        c_emb = self._models.encode_prompts([each.embroidery_prompt for each in pairs])
        noise, t = torch.cat([noise, noise]), torch.cat([t, t])
        weights = torch.tensor(
            [settings.reference_weight, settings.generated_weight], device=noise.device
        )

        each_des = self._squared_error(z_des, noise, t, c_des)
        (weights * each_des).sum().backward()

        with self._routed(c_emb):
            each_emb = self._squared_error(z_emb, noise, t, c_des)
            (weights * each_emb).sum().backward(inputs=self._style)

        z_t = self._noisy(z_des, noise, t)
        with torch.no_grad():
            adapted_des = self._output(z_t, t, c_des)
            self._unet.disable_adapters()
            base_des = self._output(z_t, t, c_des)
            with self._routed(c_emb):
                base_emb = self._output(z_t, t, c_des)
            self._unet.enable_adapters()
        with self._routed(c_emb):
            adapted_emb = self._output(z_t, t, c_des)
            e_des = adapted_des.to(noise.dtype) - base_des.to(noise.dtype)
            e_emb = adapted_emb.to(noise.dtype) - base_emb.to(noise.dtype)
            e_star = e_emb - e_des
            tau = settings.temperature
            positive = (_cosine(e_star[0], e_star[1]) / tau).exp()
            negative = (_cosine(e_star[0], e_des[1]) / tau).exp()
            negative = negative + (_cosine(e_des[0], e_star[1]) / tau).exp()
            l_con = -(positive / negative).log()
            (settings.contrastive_weight * l_con).backward(inputs=self._style)

        self.optimiser.step()
        return {
            "design": each_des[0].item(),
            "embroidery": each_emb[0].item(),
            "contrastive": l_con.item(),
        }

    def _latents(self, pictures: Sequence[torch.Tensor]) -> torch.Tensor:
        return torch.cat([self._models.encode_image(picture) for picture in pictures])

    def _noisy(self, z: torch.Tensor, noise: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        alpha = self._models.alphas()[t].view(-1, 1, 1, 1)
        return alpha.sqrt() * z.to(noise.dtype) + (1 - alpha).sqrt() * noise

    def _squared_error(
        self, z: torch.Tensor, noise: torch.Tensor, t: torch.Tensor, words: TextEmbedding
    ) -> torch.Tensor:
        """‖ε - ε_θ(z_t, t, c)‖² of every row; of velocities where the base predicts those."""
        output = self._output(self._noisy(z, noise, t), t, words).to(noise.dtype)
        wanted = noise
        if self._models.scheduler.config.prediction_type == "v_prediction":
            alpha = self._models.alphas()[t].view(-1, 1, 1, 1)
            wanted = alpha.sqrt() * noise - (1 - alpha).sqrt() * z.to(noise.dtype)
        return (output - wanted).square().mean(dim=(1, 2, 3))

    def _output(self, z_t: torch.Tensor, t: torch.Tensor, words: TextEmbedding) -> torch.Tensor:
        rows, _, height, width = z_t.shape
        factor = self._models.factor
        sizes = self._models.time_ids(rows, height * factor, width * factor)
        output: torch.Tensor = self._unet(
            z_t.to(self._models.dtype),
            t,
            encoder_hidden_states=words.hidden,
            added_cond_kwargs={"text_embeds": words.pooled, "time_ids": sizes},
        ).sample
        return output

    @contextmanager
    def _routed(self, words: TextEmbedding) -> Iterator[None]:
        """Within, the style blocks read these words whatever the UNet is given."""
        modules = [self._unet.get_submodule(block) for block in self._blocks]
        for module in modules:
            module.forward = _reading(module.forward, words.hidden)
        try:
            yield
        finally:
            for module in modules:
                del module.forward


def _reading(forward: Any, hidden: torch.Tensor) -> Any:
    def read(*values: Any, **named: Any) -> Any:
        return forward(*values, **{**named, "encoder_hidden_states": hidden})

    return read


def _cosine(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    return (first * second).sum() / (first.norm() * second.norm())
