"""The paper's equations once more: slow, plain, in float64, and sharing nothing with the program.

One-shot Embroidery Customization via Contrastive LoRA Modulation (arXiv 2509.18948), sections 3.1
to 3.3. Of the program's models only weights and encoded words are taken. LoRA is W + B A, written
out; gradients come from autograd through that sum.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

__all__ = ["Slow", "contrastive", "cosine"]

LoRA = Mapping[str, tuple[Tensor, Tensor]]
"""Layer → A (rank, in) and B (out, rank)."""


def cosine(first: Tensor, second: Tensor) -> Tensor:
    """a·b / (‖a‖ ‖b‖) of the flattened."""
    a, b = first.flatten(), second.flatten()
    return (a * b).sum() / ((a * a).sum().sqrt() * (b * b).sum().sqrt())


def contrastive(
    e_des: tuple[Tensor, Tensor], e_emb: tuple[Tensor, Tensor], tau: float, *, mean: bool = False
) -> Tensor:
    """L_con of (reference, generated); `mean` of the two negatives as the released code has it."""
    star = [emb - des for emb, des in zip(e_emb, e_des)]
    above = (cosine(star[0], star[1]) / tau).exp()
    below = (cosine(star[0], e_des[1]) / tau).exp() + (cosine(e_des[0], star[1]) / tau).exp()
    return -(above / (below / 2.0 if mean else below)).log()


class Slow:
    """A base model's UNet in float64.

    Args:
        models: the program's.
        blocks: θ_e.
    """

    def __init__(self, models: Any, blocks: Sequence[str]) -> None:
        self.unet = copy.deepcopy(models.unet).double()
        self.blocks = tuple(blocks)
        config = models.scheduler.config
        self.velocity = config.prediction_type == "v_prediction"
        low, high = math.sqrt(config.beta_start), math.sqrt(config.beta_end)
        count = config.num_train_timesteps
        kept, self.alphas = 1.0, []
        for index in range(count):
            kept *= 1.0 - (low + (high - low) * index / (count - 1)) ** 2
            self.alphas.append(kept)

    def alpha(self, t: int) -> float:
        """ᾱ_t; 1 at the clean end, t = -1."""
        return self.alphas[t] if t >= 0 else 1.0

    def schedule(self, steps: int) -> list[int]:
        """Evenly spaced timesteps, noisy first, from the last of all."""
        return [round(len(self.alphas) * (steps - i) / steps) - 1 for i in range(steps)]

    def noisy(self, z: Tensor, noise: Tensor, t: int) -> Tensor:
        """z_t = √ᾱ z + √(1-ᾱ) ε."""
        a = self.alpha(t)
        return math.sqrt(a) * z.double() + math.sqrt(1.0 - a) * noise.double()

    def says(
        self, z: Tensor, t: int, words: Any, *, lora: LoRA | None = None, style: Any = None
    ) -> Tensor:
        """The UNet's output for one picture z (1, C, h, w).

        Args:
            words: prompt that all blocks read, and whose pooled embedding counts.
            style: prompt that the blocks of θ_e read in its place.
        """
        side = [float(8 * length) for length in z.shape[2:]]
        sizes = torch.tensor([[*side, 0.0, 0.0, *side]], dtype=torch.float64)
        weights = {
            f"{layer}.weight": self.unet.get_parameter(f"{layer}.weight") + up @ down
            for layer, (down, up) in (lora or {}).items()
        }
        with self._reading(style):
            output: Tensor = torch.func.functional_call(
                self.unet,
                weights,
                (z.double(), t),
                {
                    "encoder_hidden_states": words.hidden.double(),
                    "added_cond_kwargs": {"text_embeds": words.pooled.double(), "time_ids": sizes},
                },
            ).sample
        return output

    @contextmanager
    def _reading(self, style: Any) -> Iterator[None]:
        """Within, the style blocks' cross-attention (attn2) reads other words."""
        if style is None:
            yield
            return

        def replace(module: Any, given: tuple[Any, ...], named: dict[str, Any]) -> Any:
            return given, {**named, "encoder_hidden_states": style.hidden.double()}

        handles = [
            module.register_forward_pre_hook(replace, with_kwargs=True)
            for name, module in self.unet.named_modules()
            if name.endswith(".attn2") and name.startswith(tuple(f"{b}." for b in self.blocks))
        ]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def epsilon(self, z: Tensor, t: int, words: Any, **options: Any) -> Tensor:
        """ε_θ(z_t, t, c)."""
        output = self.says(z, t, words, **options)
        if not self.velocity:
            return output
        a = self.alpha(t)
        return math.sqrt(a) * output + math.sqrt(1.0 - a) * z.double()

    def squared_error(self, z: Tensor, noise: Tensor, t: int, words: Any, **options: Any) -> Tensor:
        """‖ε - ε_θ‖², mean over the map; of velocities where those are predicted."""
        output, wanted = self.says(self.noisy(z, noise, t), t, words, **options), noise.double()
        if self.velocity:
            a = self.alpha(t)
            wanted = math.sqrt(a) * wanted - math.sqrt(1.0 - a) * z.double()
        return ((output - wanted) ** 2).mean()

    def move(self, z: Tensor, noise: Tensor, here: int, there: int) -> Tensor:
        """DDIM's step without noise of its own (Song et al., equation 12 with σ = 0)."""
        a, b = self.alpha(here), self.alpha(there)
        clean = (z.double() - math.sqrt(1.0 - a) * noise) / math.sqrt(a)
        return math.sqrt(b) * clean + math.sqrt(1.0 - b) * noise

    def inverted(self, z: Tensor, words: Any, steps: int, iterations: int) -> dict[int, Tensor]:
        """ReNoise (Garibi et al., 2024); without iterations DDIM inversion.

        Each step is repeated with what is predicted at its own noisy end; of several repetitions
        the mean counts, the first left out.
        """
        found, here = {}, -1
        for t in reversed(self.schedule(steps)):
            guess = self.move(z, self.epsilon(z, t, words), here, t)
            said = []
            for _ in range(iterations):
                said.append(self.epsilon(guess, t, words))
                guess = self.move(z, said[-1], here, t)
            if iterations > 1:
                guess = self.move(z, torch.stack(said[1:]).mean(dim=0), here, t)
            found[t] = z = guess
            here = t
        return found

    @contextmanager
    def features(self) -> Iterator[Callable[[], dict[str, list[Tensor]]]]:
        """Within, F = f_o(softmax(QKᵀ/√d)V) of every self-attention layer, by attention block.

        Yields a function that gives the features of the passes since it was last called.
        """
        seen: dict[str, list[Tensor]] = {}

        def look(block: str) -> Any:
            def hook(layer: Any, given: tuple[Any, ...], named: dict[str, Any]) -> None:
                tokens = given[0] if given else named["hidden_states"]
                seen.setdefault(block, []).append(_self_attention(layer, tokens[0]))

            return hook

        handles = []
        for name, module in self.unet.named_modules():
            if name.endswith(".attn1"):
                block = name.split(".transformer_blocks.")[0]
                handles.append(module.register_forward_pre_hook(look(block), with_kwargs=True))

        def taken() -> dict[str, list[Tensor]]:
            found = dict(seen)
            seen.clear()
            return found

        try:
            yield taken
        finally:
            for handle in handles:
                handle.remove()


def _self_attention(layer: Any, tokens: Tensor) -> Tensor:
    """One layer's output feature (N, C) of one picture's tokens (N, C), head by head."""
    queries, keys, values = (
        tokens @ part.weight.T for part in (layer.to_q, layer.to_k, layer.to_v)
    )
    width = queries.shape[1] // layer.heads
    heads = []
    for first in range(0, queries.shape[1], width):
        q, k, v = (each[:, first : first + width] for each in (queries, keys, values))
        score = q @ k.T / math.sqrt(width)
        share = (score - score.max()).exp()
        heads.append(share / share.sum(dim=1, keepdim=True) @ v)
    out: Tensor = torch.cat(heads, dim=1) @ layer.to_out[0].weight.T + layer.to_out[0].bias
    return out
