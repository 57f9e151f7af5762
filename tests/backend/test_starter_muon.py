"""Muon: what its iterations make of a matrix, what it moves, and that a run with it resumes."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from backend.starter.muon import Muon, muon_and_adamw, orthogonalised
from backend.starter.training import Budget, fit


def _plain(matrix: Tensor, iterations: int = 5) -> Tensor:
    """Newton-Schulz as Jordan et al. (2024) write it, in double precision."""
    x = matrix.double() / matrix.double().norm()
    x = x.T if len(matrix) > matrix.shape[1] else x
    for _ in range(iterations):
        gram = x @ x.T
        x = 3.4445 * x + (-4.7750 * gram + 2.0315 * gram @ gram) @ x
    return x.T if len(matrix) > matrix.shape[1] else x


@pytest.mark.parametrize("shape", [(24, 24), (16, 144), (96, 32)])
def test_all_directions_get_nearly_one_length(shape: tuple[int, int]) -> None:
    matrix = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    matrix[0] *= 8.0
    even = orthogonalised(matrix)
    torch.testing.assert_close(even.double(), _plain(matrix), atol=2e-4, rtol=0)
    assert torch.linalg.svdvals(matrix).max() > 1.5 * torch.linalg.svdvals(matrix).median()
    assert torch.linalg.svdvals(even).max() < 1.3
    assert torch.linalg.svdvals(even).median() > 0.6


def test_a_rare_direction_is_learned_as_quickly_as_a_frequent_one() -> None:
    weight = nn.Parameter(torch.zeros(8, 8))
    weight.grad = torch.diag(torch.tensor([1.0] + [0.02] * 7))
    Muon([weight], lr=0.1, weight_decay=0.0).step()
    moved = -weight.detach().diagonal()
    assert moved.min() > 0.5 * moved.max() > 0.03


def test_a_convolution_moves_as_the_matrix_of_its_outputs() -> None:
    kernel = torch.randn((6, 4, 3, 3), generator=torch.Generator().manual_seed(1))
    flat, spatial = nn.Parameter(torch.zeros(6, 36)), nn.Parameter(torch.zeros(6, 4, 3, 3))
    flat.grad = kernel.flatten(1)
    spatial.grad = kernel.to(memory_format=torch.channels_last)
    Muon([flat, spatial]).step()
    torch.testing.assert_close(spatial.flatten(1), flat)
    assert flat.abs().max() > 0


def test_embeddings_and_what_touches_latents_are_left_to_adamw() -> None:
    module = nn.ModuleDict(
        {
            "conv_in": nn.Conv2d(4, 8, 3),
            "token_embedding": nn.Embedding(9, 8),
            "inner": nn.Conv2d(8, 8, 3),
            "norm": nn.LayerNorm(8),
        }
    )
    muon, adamw = muon_and_adamw({"m": module}, 2e-3)
    assert [id(w) for w in muon.param_groups[0]["params"]] == [id(module["inner"].weight)]
    assert len(adamw.param_groups[0]["params"]) == 6
    assert (muon.param_groups[0]["lr"], adamw.param_groups[0]["lr"]) == (0.04, 2e-3)


def test_a_run_with_both_goes_on_where_it_was_left(tmp_path: Path) -> None:
    def trained(path: Path, *steps: int) -> Tensor:
        for until in steps:
            torch.manual_seed(3)
            layer = nn.Sequential(nn.Linear(6, 6), nn.LayerNorm(6))

            def loss(generator: torch.Generator, layer: nn.Module = layer) -> Tensor:
                x = torch.randn((8, 6), generator=generator)
                return (layer(x) - x.roll(1, 1)).pow(2).mean()

            run = fit({"m": layer}, loss, Budget(until, 1e6), path, seed=0,
                      cool_down=1e-9, optimisers=muon_and_adamw)  # fmt: skip
            for _ in run:
                pass
        return torch.load(path, weights_only=True)["modules"]["m"]["0.weight"]

    whole = trained(tmp_path / "whole.pt", 9)
    assert torch.equal(trained(tmp_path / "cut.pt", 4, 9), whole)
