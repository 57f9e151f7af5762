"""Adapted and frozen layers of a training against plain formulas in float64."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from diffusers.models.activations import GEGLU
from diffusers.models.resnet import ResnetBlock2D

from backend.emolora.lean import fatten, slim
from backend.emolora.lora import Lora, Teaching
from backend.models.products import HalvedConv2d, HalvedLinear, halve, product

RANK, SCALE = 3, 0.7


def _random(*shape: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64)


def _layer(kind: str) -> tuple[torch.nn.Module, torch.Tensor, tuple[int, ...], tuple[int, ...]]:
    """A base layer, its input, and the shapes of A and B."""
    if kind == "linear":
        base: torch.nn.Module = torch.nn.Linear(6, 5).double()
        return base, _random(4, 7, 6), (RANK, 6), (5, RANK)
    base = torch.nn.Conv2d(6, 5, 3, stride=2, padding=1).double()
    return base, _random(4, 6, 8, 8), (RANK, 6, 3, 3), (5, RANK, 1, 1)


def _plain(
    base: torch.nn.Module, x: torch.Tensor, down: torch.Tensor, up: torch.Tensor
) -> torch.Tensor:
    if isinstance(base, torch.nn.Linear):
        return base(x) + SCALE * (x @ down.T) @ up.T
    inner = torch.conv2d(x, down, stride=2, padding=1)
    return base(x) + SCALE * torch.einsum("or,brhw->bohw", up[..., 0, 0], inner)


@pytest.mark.parametrize("rows", [None, 3, 0])
@pytest.mark.parametrize("kind", ["linear", "convolution"])
def test_first_rows_alone_teach_a_layer(kind: str, rows: int | None) -> None:
    base, x, *shapes = _layer(kind)
    base.requires_grad_(False)
    down, up = (torch.nn.Parameter(_random(*shape, seed=1)) for shape in shapes)
    teaching = Teaching(rows)
    layer = Lora(base, down, up, teaching)
    layer.scale = SCALE
    x.requires_grad_()
    first = len(x) if rows is None else rows
    wanted = torch.cat(
        [
            _plain(base, x[:first], down, up),
            _plain(base, x[first:], down.detach(), up.detach()),
        ]
    )
    found = layer(x)
    torch.testing.assert_close(found, wanted)
    toward = _random(*wanted.shape, seed=2)
    learnt = (x, down, up)
    for ours, theirs in zip(
        torch.autograd.grad((found * toward).sum(), learnt, allow_unused=True),
        torch.autograd.grad((wanted * toward).sum(), learnt),
    ):
        torch.testing.assert_close(torch.zeros_like(theirs) if ours is None else ours, theirs)


def test_a_layer_switched_off_is_its_base() -> None:
    base, x, *shapes = _layer("linear")
    layer = Lora(base, *(torch.nn.Parameter(_random(*shape)) for shape in shapes), Teaching())
    layer.on = False
    assert torch.equal(layer(x), base(x))


def _resnet() -> tuple[torch.nn.Module, Callable[[torch.Tensor], tuple[torch.Tensor, ...]]]:
    block = ResnetBlock2D(in_channels=8, out_channels=16, temb_channels=4, groups=4)
    return block, lambda x: (x, _random(len(x), 4, seed=3))


def _gate() -> tuple[torch.nn.Module, Callable[[torch.Tensor], tuple[torch.Tensor, ...]]]:
    return GEGLU(8, 12), lambda x: (x.flatten(2).transpose(1, 2),)


@pytest.mark.parametrize("make", [_resnet, _gate])
def test_slim_layers_say_the_same_and_keep_less(make: Callable[[], tuple]) -> None:  # type: ignore[type-arg]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        module, arguments = make()
    module.double().eval().requires_grad_(False)
    holder = torch.nn.ModuleList([module])
    x = _random(2, 8, 6, 6).requires_grad_()
    weights = {each.data_ptr() for each in module.parameters()}

    def outcome() -> tuple[torch.Tensor, torch.Tensor, int]:
        kept: dict[int, int] = {}

        def keep(value: torch.Tensor) -> torch.Tensor:
            storage = value.untyped_storage()
            if value.data_ptr() not in weights and value.data_ptr() != x.data_ptr():
                kept[storage.data_ptr()] = storage.nbytes()
            return value

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda value: value):
            y = module(*arguments(x))
        size = sum(kept.values())
        return y, torch.autograd.grad((y * y).sum(), x)[0], size

    plain = outcome()
    slim(holder)
    lean = outcome()
    fatten(holder)
    assert "forward" not in module.__dict__
    torch.testing.assert_close(lean[0], plain[0])
    torch.testing.assert_close(lean[1], plain[1])
    assert lean[2] < 0.7 * plain[2]


def test_what_learns_is_not_slimmed() -> None:
    holder = torch.nn.ModuleList([torch.nn.Linear(3, 2)])
    slim(holder)
    assert "forward" not in holder[0].__dict__


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_products_are_those_of_linear_layers(dtype: torch.dtype) -> None:
    x, bias = _random(2, 5, 6).to(dtype), _random(3, seed=2).to(dtype)
    for weight in (_random(3, 6, seed=1).to(dtype), _random(6, 3, seed=1).to(dtype).t()):
        with torch.no_grad():
            wanted = torch.nn.functional.linear(x, weight, bias)
            torch.testing.assert_close(product(x, weight, bias), wanted)


def _halves(kind: str) -> tuple[torch.nn.Module, torch.nn.Module, torch.Tensor, list[torch.Tensor]]:
    """A frozen layer as it is and halved, its input, and its LoRA's factors, in float32."""
    base, x, *shapes = _layer(kind)
    base = base.float().requires_grad_(False)
    halved = copy.deepcopy(base)
    halve(halved)
    return base, halved, x.float(), [_random(*shape, seed=1).float() for shape in shapes]


@pytest.mark.parametrize("kind", ["linear", "convolution"])
def test_a_halved_layer_teaches_as_its_whole_but_for_rounding(kind: str) -> None:
    base, halved, x, factors = _halves(kind)
    assert halved.weight.dtype == torch.bfloat16
    found = []
    for layer in (base, halved):
        down, up = (torch.nn.Parameter(each.clone()) for each in factors)
        lora, given = Lora(layer, down, up, Teaching()), x.clone().requires_grad_()
        lora.scale = SCALE
        made = lora(given)
        toward = _random(*made.shape, seed=2).float()
        found.append(
            [made.detach(), *torch.autograd.grad((made * toward).sum(), (given, down, up))]
        )
    for ours, wanted in zip(*reversed(found)):
        assert ours.dtype == torch.float32
        # A few of bfloat16's last places of what is summed.
        torch.testing.assert_close(ours, wanted, rtol=0.0, atol=0.02 * float(wanted.abs().max()))
    assert not torch.equal(found[0][0], found[1][0])
    # The gradient of A and B takes no product with frozen weights.
    assert torch.equal(found[0][2], found[1][2])
    assert torch.equal(found[0][3], found[1][3])


@pytest.mark.parametrize("kind", ["linear", "convolution"])
def test_a_halved_frozen_layer_passes_its_gradient_on(kind: str) -> None:
    base, halved, x, _ = _halves(kind)
    holder = torch.nn.ModuleList([halved])
    with torch.no_grad():
        alone = halved(x)
    slim(holder)
    results = []
    for layer in (base, halved):
        given = x.clone().requires_grad_()
        made = layer(given)
        toward = _random(*made.shape, seed=2).float()
        results.append((made.detach(), torch.autograd.grad((made * toward).sum(), given)[0]))
    fatten(holder)
    for wanted, ours in zip(*results):
        assert ours.dtype == torch.float32
        torch.testing.assert_close(ours, wanted, rtol=0.0, atol=0.02 * float(wanted.abs().max()))
    assert torch.equal(results[1][0], alone)


def test_what_is_no_product_stays_whole() -> None:
    layers = torch.nn.ModuleList(
        [torch.nn.Linear(4, 4), torch.nn.Conv2d(4, 4, 3), torch.nn.GroupNorm(2, 4)]
    )
    halve(layers)
    assert [type(each) for each in layers] == [HalvedLinear, HalvedConv2d, torch.nn.GroupNorm]
    dtypes = [each.weight.dtype for each in layers]
    assert dtypes == [torch.bfloat16, torch.bfloat16, torch.float32]
