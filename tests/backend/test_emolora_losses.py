"""The losses against a plain float64 transcription of the paper's formulas."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from backend.emolora.losses import contrastive, reconstruction


def _maps(count: int) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(4, 6, 6, generator=generator) for _ in range(count)]


def _transcribed(maps: list[torch.Tensor], temperature: float) -> float:
    des_ref, des_gen, emb_ref, emb_gen = (m.double().numpy().ravel() for m in maps)
    star_ref, star_gen = emb_ref - des_ref, emb_gen - des_gen

    def s(a: np.ndarray, b: np.ndarray) -> float:
        return float(a @ b / (np.linalg.norm(a) * np.linalg.norm(b))) / temperature

    above = math.exp(s(star_ref, star_gen))
    below = math.exp(s(star_ref, des_gen)) + math.exp(s(des_ref, star_gen))
    return -math.log(above / below)


@pytest.mark.parametrize("temperature", [1.0, 0.1])
def test_contrastive_is_the_papers_formula(temperature: float) -> None:
    maps = _maps(4)
    loss = contrastive(maps[0], maps[1], maps[2], maps[3], temperature)
    assert float(loss) == pytest.approx(_transcribed(maps, temperature), abs=1e-5)


def test_contrastive_is_lowest_where_shifts_agree_and_differ_from_designs() -> None:
    des_ref, des_gen, shift, _ = _maps(4)
    alike = contrastive(des_ref, des_gen, des_ref + shift, des_gen + shift)
    opposed = contrastive(des_ref, des_gen, des_ref + shift, des_gen - shift)
    copied = contrastive(des_ref, des_ref, des_ref + des_ref, des_ref + des_ref)
    assert float(alike) < float(opposed)
    assert float(alike) < float(copied)


def test_contrastive_sends_no_gradient_into_designs() -> None:
    maps = [m.requires_grad_() for m in _maps(4)]
    loss = contrastive(maps[0], maps[1], maps[2], maps[3])
    torch.autograd.backward(loss)
    assert maps[0].grad is None
    assert maps[1].grad is None
    assert all(m.grad is not None and m.grad.abs().sum() > 0 for m in maps[2:])


def test_contrastive_gradient_is_the_derivative() -> None:
    maps = [m[:1, :2, :2].double() for m in _maps(4)]
    maps[2].requires_grad_()
    torch.autograd.backward(contrastive(maps[0], maps[1], maps[2], maps[3]))
    assert maps[2].grad is not None
    step = 1e-6
    for index in range(4):
        shifted = maps[2].detach().clone()
        shifted.view(-1)[index] += step
        slope = (
            _transcribed([*maps[:2], shifted, maps[3]], 1.0)
            - _transcribed([*maps[:2], maps[2].detach(), maps[3]], 1.0)
        ) / step
        assert float(maps[2].grad.view(-1)[index]) == pytest.approx(slope, abs=1e-4)


def test_reconstruction_is_the_mean_square_of_each_row() -> None:
    first, second = torch.stack(_maps(2)), torch.stack(_maps(4)[2:])
    expected = ((first.double() - second.double()) ** 2).mean(dim=(1, 2, 3))
    assert reconstruction(first, second).double().numpy() == pytest.approx(expected.numpy())


def test_weights_of_reconstruction_are_shares() -> None:
    prediction, target = torch.zeros(1, 2, 2, 2), torch.zeros(1, 2, 2, 2)
    prediction[..., 0] = 1.0  # the left half is wrong by 1, the right half by 3
    prediction[..., 1] = 3.0
    weight = torch.tensor([[[[3.0, 1.0], [3.0, 1.0]]]])
    assert float(reconstruction(prediction, target, weight)) == pytest.approx((3 + 9) / 4)
    assert float(reconstruction(prediction, target, 7.0 * weight)) == pytest.approx(3.0)
