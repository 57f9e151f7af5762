"""LoRA on the UNet, split into style blocks θ_e and the rest, and prompt routing between them.

Paper, section 3.2: LoRA on the attention projections of all attention blocks (θ_a); only the
style blocks' share (θ_e ⊂ θ_a) is kept as the style.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
from peft import LoraConfig

from backend.emolora.lean import fatten, slim
from backend.emolora.lora import Lora, Teaching
from backend.errors import InputError
from backend.models.loading import Models

__all__ = ["Adapter", "attention_blocks", "routed", "style_targets", "with_style"]

_ATTENTION = re.compile(r"\.attn[12]\.(to_q|to_k|to_v|to_out\.0)$")
_OTHER_LINEAR = re.compile(r"(proj_in|proj_out|ff\.net\.0\.proj|ff\.net\.2)$")
_CONVOLUTION = re.compile(r"\.conv[12]$")
_ADAPTER = "style"
_DOWN, _UP = ".lora_A.weight", ".lora_B.weight"


def attention_blocks(models: Models) -> tuple[str, ...]:
    """Names of the UNet's attention blocks in the order data passes them (11 in SDXL)."""
    found = re.compile(r"(down_blocks\.\d+|mid_block|up_blocks\.\d+)\.attentions\.\d+")
    blocks = [name for name, _ in models.unet.named_modules() if found.fullmatch(name)]
    order = {"d": 0, "m": 1, "u": 2}
    return tuple(sorted(blocks, key=lambda name: (order[name[0]], name)))


def style_targets(models: Models, blocks: Sequence[str]) -> list[str]:
    """Names of the layers that carry θ_e: attention, and what the profile adds to it.

    Raises:
        InputError: a block that the base model does not have.
    """
    unknown = [block for block in blocks if block not in attention_blocks(models)]
    if unknown or not blocks:
        raise InputError(
            f"The base model has no attention block {', '.join(unknown) or '(none given)'}.",
            f"Choose among: {', '.join(attention_blocks(models))}.",
        )
    settings = models.profile.training
    resnets = [block.replace(".attentions.", ".resnets.") for block in blocks]
    resnets = [*resnets, *settings.extra_style_modules] if settings.convolutions else []
    targets = []
    for name, _ in models.unet.named_modules():
        name = name.removesuffix(".base_layer")
        in_block = any(name.startswith(f"{block}.") for block in blocks)
        in_resnet = any(name.startswith(f"{resnet}.") for resnet in resnets)
        if (in_block and _ATTENTION.search(name)) or (
            settings.convolutions
            and (
                (in_block and _OTHER_LINEAR.search(name))
                or (in_resnet and _CONVOLUTION.search(name))
            )
        ):
            targets.append(name)
    return list(dict.fromkeys(targets))


class Adapter:
    """The trainable LoRA of one training run; `remove` leaves the UNet as it was.

    Initial weights are drawn from `seed` alone; the global random state is not touched.

    Args:
        soft: scale of each style block's LoRA, 1 where absent; `style_weights` has it in it.
    """

    def __init__(
        self,
        models: Models,
        blocks: Sequence[str],
        *,
        rank: int,
        seed: int,
        soft: Mapping[str, float] | None = None,
    ) -> None:
        self._unet = models.unet
        if models.profile.training.gradient_checkpointing:
            self._unet.enable_gradient_checkpointing()
        style = set(style_targets(models, blocks))
        trained = tuple(f"{each}." for each in models.profile.training.lora_blocks)
        everywhere = {
            name
            for name, _ in self._unet.named_modules()
            if _ATTENTION.search(name) and (not trained or name.startswith(trained))
        }
        targets = sorted(style | everywhere)
        self.rank = rank
        with torch.random.fork_rng(devices=[]):
            config = LoraConfig(r=rank, lora_alpha=rank, target_modules=targets)
            self._unet.add_adapter(config, adapter_name=_ADAPTER)
        slim(self._unet)
        self._content_teaching = Teaching()
        self._style: list[Lora] = []
        self._content: list[Lora] = []
        self._parameters: dict[str, torch.nn.Parameter] = {}
        self._style_names: set[str] = set()
        self._scales: dict[str, float] = {}
        generator = torch.Generator().manual_seed(seed)
        for name in targets:
            layer = self._unet.get_submodule(name)
            down, up = layer.lora_A[_ADAPTER].weight, layer.lora_B[_ADAPTER].weight
            start = torch.randn(down.shape, generator=generator) / rank
            down.data = start.to(models.device, torch.float32)
            up.data = torch.zeros(up.shape, device=models.device)
            teaching = Teaching() if name in style else self._content_teaching
            layer.forward = lora = Lora(layer.base_layer, down, up, teaching)
            (self._style if name in style else self._content).append(lora)
            if name in style:
                self._scales[f"unet.{name}"] = lora.scale = _scale_of(name, soft or {})
            mine = {f"unet.{name}.lora_A.weight": down, f"unet.{name}.lora_B.weight": up}
            self._parameters |= mine
            if name in style:
                self._style_names |= set(mine)

    @property
    def style_parameters(self) -> list[torch.nn.Parameter]:
        """θ_e."""
        return [p for name, p in self._parameters.items() if name in self._style_names]

    @property
    def parameters(self) -> list[torch.nn.Parameter]:
        """θ_a."""
        return list(self._parameters.values())

    @contextmanager
    def content_learns_from(self, rows: int) -> Iterator[None]:
        """Within, a batch's gradient reaches blocks other than style blocks from its first rows.

        Backward passes belong inside too, since gradient checkpointing runs the blocks again.
        """
        self._content_teaching.rows = rows
        try:
            yield
        finally:
            self._content_teaching.rows = None

    @contextmanager
    def base(self) -> Iterator[None]:
        """Within, the UNet predicts as if nothing had been adapted: ε_{θ0}."""
        with _switched_off([*self._style, *self._content]):
            yield

    @contextmanager
    def style_only(self) -> Iterator[None]:
        """Within, only θ_e is added to the base, as at inference (paper, section 3.4)."""
        with _switched_off(self._content):
            yield

    def style_weights(self) -> dict[str, torch.Tensor]:
        """θ_e under the names that diffusers' `load_lora_weights` reads, soft scales included."""
        return {
            name: value * self._scales[name.removesuffix(_UP)] if name.endswith(_UP) else value
            for name, value in self.state().items()
            if name in self._style_names
        }

    def state(self) -> dict[str, torch.Tensor]:
        """All of θ_a, to go on from later."""
        return {name: p.detach().to("cpu").clone() for name, p in self._parameters.items()}

    def restore(self, state: dict[str, torch.Tensor]) -> None:
        """Take over a `state`."""
        for name, parameter in self._parameters.items():
            parameter.data.copy_(state[name])

    def remove(self) -> None:
        """Take the LoRA out of the UNet again."""
        self._unet.disable_gradient_checkpointing()
        fatten(self._unet)
        self._unet.unload_lora()
        self._unet.requires_grad_(False)


def _scale_of(layer: str, soft: Mapping[str, float]) -> float:
    """A block's scale holds for its attention and for the ResNet before it."""
    for block, scale in soft.items():
        if layer.startswith((f"{block}.", f"{block.replace('.attentions.', '.resnets.')}.")):
            return scale
    return 1.0


@contextmanager
def _switched_off(layers: Sequence[Lora]) -> Iterator[None]:
    before = [layer.on for layer in layers]
    for layer in layers:
        layer.on = False
    try:
        yield
    finally:
        for layer, on in zip(layers, before):
            layer.on = on


@contextmanager
def routed(models: Models, blocks: Sequence[str], hidden: torch.Tensor) -> Iterator[None]:
    """Within, the style blocks' cross-attention reads other words than the rest (section 3.2).

    Backward passes belong inside too, since gradient checkpointing runs the blocks again.

    Args:
        hidden: (B, L, D), a row for each row of the batch: the embroidery prompt's, or for a row
            that is not routed the design prompt's.
    """

    def hook(
        module: torch.nn.Module, args: tuple[object, ...], kwargs: dict[str, object]
    ) -> tuple[tuple[object, ...], dict[str, object]]:
        return args, {**kwargs, "encoder_hidden_states": hidden}

    handles = [
        models.unet.get_submodule(block).register_forward_pre_hook(hook, with_kwargs=True)
        for block in blocks
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def with_style(
    models: Models, weights: dict[str, torch.Tensor], *, strength: float = 1.0
) -> Iterator[None]:
    """Within, a trained style's weights are added to the UNet's own, times `strength`.

    W + strength · B A, so that a pass takes no longer than the base's. Networks may be parked and
    fetched meanwhile.
    """
    own: dict[torch.nn.Module, torch.Tensor] = {}
    try:
        for name, down in weights.items():
            if not name.endswith(_DOWN):
                continue
            up = weights[name.removesuffix(_DOWN) + _UP]
            layer = models.unet.get_submodule(name.removesuffix(_DOWN).removeprefix("unet."))
            weight = layer.weight.data
            # Where networks are parked, the device has no room for a second copy.
            own[layer] = weight.to("cpu") if models.residence.moves else weight
            change = up.float().flatten(1) @ down.float().flatten(1)
            change = strength * change.view(weight.shape).to(weight.device)
            layer.weight.data = (weight.float() + change).to(weight.dtype)
        yield
    finally:
        for layer, weight in own.items():
            current = layer.get_parameter("weight")
            current.data = weight.to(current.device)
