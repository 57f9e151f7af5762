"""Inversion, similarity of the pair's self-attention, and the choice of style blocks."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from backend.emolora import blocks
from backend.emolora.inversion import invert, reconstruct
from backend.errors import InputError
from backend.models.loading import Models
from backend.models.prediction import timesteps
from backend.models.settings import ATTENTION_BLOCKS, PAPER_BLOCKS
from backend.progress import outcome


def _latents(seed: int) -> torch.Tensor:
    return torch.randn((1, 4, 8, 8), generator=torch.Generator().manual_seed(seed))


def test_renoise_reconstructs_better_than_ddim(tiny_models: Models) -> None:
    for parameter in tiny_models.unet.conv_out.parameters():
        parameter.data *= 3.0  # a livelier network, so that steps differ
    text = tiny_models.encode_prompts(["a motif"])
    clean = _latents(0)
    errors = []
    for iterations in (0, 4):
        along = outcome(invert(tiny_models, clean, text, steps=6, iterations=iterations))
        assert list(along) == timesteps(tiny_models, 6)
        back = reconstruct(tiny_models, along[timesteps(tiny_models, 6)[0]], text, steps=6)
        errors.append(float((back - clean).square().mean()))
    assert errors[1] < 0.2 * errors[0]


def _measured(models: Models, design: torch.Tensor, embroidery: torch.Tensor) -> np.ndarray:
    text = models.encode_prompts(["a motif"])
    values = list(blocks.measure(models, design, embroidery, text, models.profile.blocks))
    assert values[:-1] == [None] * blocks.passes(models.profile.blocks)
    assert values[-1] is not None
    return values[-1]


def test_similarity_is_one_for_the_same_image_and_less_for_another(tiny_models: Models) -> None:
    same = _measured(tiny_models, _latents(0), _latents(0))
    assert same.shape == (11, tiny_models.profile.blocks.segments)
    assert same == pytest.approx(np.ones_like(same), abs=1e-4)
    other = _measured(tiny_models, _latents(0), _latents(1))
    assert (other < 0.999).all()
    assert not [m for m in tiny_models.unet.modules() if m._forward_hooks]


def test_recorder_averages_cosines_over_places_and_passes(tiny_models: Models) -> None:
    with blocks.recording(tiny_models, rows=3, segments=2) as recorder:
        features = torch.zeros(4, 2, 2)
        features[0] = torch.tensor([[1.0, 0.0], [0.0, 2.0]])
        features[1] = torch.tensor([[1.0, 0.0], [1.0, 0.0]])  # like, then square to it
        features[2] = -features[0]
        recorder.segment = 1
        recorder.add(3, features)
        features[1] = features[0]
        recorder.add(3, features)
    found = recorder.similarities()
    assert found.shape == (2, 11, 2)
    assert float(found[0, 3, 1]) == pytest.approx(0.75)
    assert float(found[1, 3, 1]) == pytest.approx(-1.0)
    assert torch.isnan(found[0, 3, 0])


def test_segments_cut_the_steps_evenly() -> None:
    assert [blocks.segment_of(step, 50, 10) for step in (0, 4, 5, 49)] == [0, 0, 1, 9]
    assert [blocks.segment_of(step, 5, 10) for step in range(5)] == [0, 2, 4, 6, 8]


def _table(late: list[float]) -> np.ndarray:
    table = np.zeros((11, 10))  # early segments must not count
    table[:, 5:] = np.array(late)[:, None]
    return table


def test_the_rule_takes_what_is_low_late(tiny_models: Models) -> None:
    settings = replace(tiny_models.profile.blocks, late=5, at_least=2, at_most=5)
    late = [0.9, 0.5, 0.55, 0.9, 0.95, 0.9, 0.6, 0.52, 0.9, 0.97, 0.98]
    chosen = blocks.choose(_table(late), ATTENTION_BLOCKS, settings)
    assert chosen == tuple(ATTENTION_BLOCKS[i] for i in (1, 2, 6, 7))


def test_one_very_different_block_does_not_hide_others(tiny_models: Models) -> None:
    settings = replace(tiny_models.profile.blocks, late=5, at_least=2, at_most=5)
    late = [0.9992, 0.9997, 1.0, 1.0, 1.0, 1.0, 0.99995, 1.0, 0.93, 0.72, 0.986]
    chosen = blocks.choose(_table(late), ATTENTION_BLOCKS, settings)
    assert chosen == ATTENTION_BLOCKS[8:11]


@pytest.mark.parametrize(
    ("late", "count"), [([0.9] * 10 + [0.1], 2), ([0.1] * 5 + [0.5] + [0.9] * 5, 4)]
)
def test_the_rule_keeps_its_bounds(tiny_models: Models, late: list[float], count: int) -> None:
    settings = replace(tiny_models.profile.blocks, late=5, at_least=2, at_most=4)
    assert len(blocks.choose(_table(late), ATTENTION_BLOCKS, settings)) == count


def test_every_judgement_gives_its_reason(tiny_models: Models) -> None:
    settings = replace(tiny_models.profile.blocks, late=5, at_least=2, at_most=3)
    late = [0.9, 0.1, 0.11, 0.1, 0.12, 0.9, 0.9, 0.9, 0.9, 0.9, 0.8]
    found = blocks.judge(_table(late), ATTENTION_BLOCKS, settings)
    assert [each.block for each in found] == list(ATTENTION_BLOCKS)
    assert [each.late for each in found] == pytest.approx(late)
    different = np.log(1.0 - np.array(late))
    deviations = (different.mean() - different) / different.std()
    assert [each.deviations for each in found] == pytest.approx(deviations)
    assert [index for index, each in enumerate(found) if each.style] == [1, 2, 3]
    assert "below the mean" in found[1].why
    assert "style begins at 0.5 below" in found[1].why
    assert "3 blocks are still lower" in found[4].why
    assert "above the mean" in found[0].why
    settings = replace(settings, threshold=9.0)
    found = blocks.judge(_table(late), ATTENTION_BLOCKS, settings)
    assert [each.block for each in found if each.style] == [ATTENTION_BLOCKS[i] for i in (1, 3)]
    assert all("at least" in each.why for each in found if each.style)


def test_blocks_that_are_all_alike_are_judged_without_fuss(tiny_models: Models) -> None:
    found = blocks.judge(_table([0.5] * 11), ATTENTION_BLOCKS, tiny_models.profile.blocks)
    assert sum(each.style for each in found) == tiny_models.profile.blocks.at_least
    assert all(each.deviations == 0.0 for each in found)


def test_named_choices(tiny_models: Models) -> None:
    assert blocks.named("paper", tiny_models) == PAPER_BLOCKS
    assert blocks.named("all", tiny_models) == ATTENTION_BLOCKS
    assert blocks.named("auto", tiny_models) is None
    wanted = f"{ATTENTION_BLOCKS[7]}, {ATTENTION_BLOCKS[2]}"
    assert blocks.named(wanted, tiny_models) == (ATTENTION_BLOCKS[2], ATTENTION_BLOCKS[7])
    with pytest.raises(InputError, match=r"attentions\.5"):
        blocks.named("up_blocks.0.attentions.5", tiny_models)
    with pytest.raises(InputError, match="without a name"):
        blocks.named(" , ", tiny_models)


def test_plot_marks_the_chosen() -> None:
    table = np.random.default_rng(0).random((11, 10))
    plain = blocks.plot(table, ATTENTION_BLOCKS, ())
    marked = blocks.plot(table, ATTENTION_BLOCKS, ATTENTION_BLOCKS[4:5])
    assert plain.shape == marked.shape
    rows = np.flatnonzero((plain != marked).any(axis=(1, 2)))
    assert 0 < rows.max() - rows.min() < 30
    with_mean = blocks.plot(table, ATTENTION_BLOCKS, (), late=5)
    assert with_mean.shape[0] == plain.shape[0]
    assert with_mean.shape[1] > plain.shape[1]
