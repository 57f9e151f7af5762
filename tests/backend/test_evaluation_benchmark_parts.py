"""Parts of the benchmark: methods as configurations, sets, statistics, optional measures."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from transformers import CLIPConfig, CLIPModel, CLIPTokenizerFast

from backend.emolora.adapter import Adapter, attention_blocks
from backend.emolora.encoded import encode
from backend.emolora.pair import pair_steps
from backend.emolora.stage_one import accumulate, draw
from backend.evaluation.benchmark.making import profile_of
from backend.evaluation.benchmark.methods import METHODS, Method
from backend.evaluation.benchmark.optional import clip_score
from backend.evaluation.benchmark.rows import busiest
from backend.evaluation.benchmark.sets import Reference, designs, from_folder, rendered
from backend.evaluation.benchmark.statistics import bootstrap
from backend.evaluation.benchmark.store import Store
from backend.evaluation.benchmark.summary import compare, targets
from backend.imaging.files import read_rgba
from backend.models.loading import Models
from backend.models.profiles import Profile
from backend.progress import outcome
from backend.starter.designs import Icon, is_held_out

STYLE, CONTENT = "up_blocks.0.attentions.1", "up_blocks.0.attentions.0"


def test_a_crop_shows_where_most_of_the_artwork_is() -> None:
    art = np.zeros((40, 60), np.float32)
    art[25:31, 44:50] = 1.0
    assert busiest(art, 6) == (25, 44)
    assert busiest(np.ones((40, 60), np.float32), 40) == (0, 10)
    assert busiest(art, 100) == (0, 0)


def method(name: str) -> Method:
    return next(each for each in METHODS if each.name == name)


@pytest.fixture(scope="module")
def references(tmp_path_factory: pytest.TempPathFactory, tiny_profile: Profile) -> list[Reference]:
    store = Store(tmp_path_factory.mktemp("sets"))
    return rendered(store, tiny_profile, 1, 2, 2.0, 3)


def test_b_lora_trains_two_blocks_on_the_picture_alone(
    tiny_models: Models, references: list[Reference]
) -> None:
    models = tiny_models
    models.profile = profile_of(models.profile, method("b-lora"), references[0])
    # Its own layers alone, without those that the starter adds to every style.
    training = replace(models.profile.training, convolutions=False)
    models.profile = replace(models.profile, training=training)
    adapter = Adapter(models, (STYLE,), rank=2, seed=0)
    trained = {name.removeprefix("unet.") for name in adapter.state()}
    assert {block for block in attention_blocks(models) for name in trained if block in name} == {
        STYLE,
        CONTENT,
    }
    assert all(STYLE in name for name in adapter.style_weights())
    pair = outcome(pair_steps(models, str(references[0].photo), mask=str(references[0].mask)))
    encoded = encode(models, pair, models.profile.prompts())
    assert encoded.controls is None
    chance = draw(models, encoded, (0, 1, 0))
    losses = accumulate(models, adapter, (STYLE,), encoded, chance)
    assert set(losses) == {"embroidery"}
    assert all(each.grad is not None for each in adapter.parameters)
    # The design is not looked at.
    first = [torch.clone(each.grad) for each in adapter.parameters if each.grad is not None]
    other = replace(encoded, design=encoded.design + 1.0)
    for each in adapter.parameters:
        each.grad = None
    accumulate(models, adapter, (STYLE,), other, chance)
    assert all(
        torch.equal(a, b.grad) for a, b in zip(first, adapter.parameters) if b.grad is not None
    )


def test_only_the_named_part_of_an_ablation_differs(tiny_profile: Profile) -> None:
    ours = method("ours")
    for name in ("no-stage-two", "all-blocks", "two-blocks", "fixed-four"):
        other = method(name)
        assert other.adjust(tiny_profile) == ours.adjust(tiny_profile)
        differ = [
            field
            for field in ("blocks", "stage_two", "all_steps", "strength", "start", "style")
            if getattr(other, field) != getattr(ours, field)
        ]
        assert len(differ) == 1


def test_true_answers_have_the_scale_of_the_trained_pair(
    tiny_models: Models, tmp_path: Path
) -> None:
    # A pair's sides are multiples of 8, which stretches small ones.
    wide = replace(tiny_models.profile.pair, largest=4.0)
    profile = replace(tiny_models.profile, pair=wide)
    for reference in rendered(Store(tmp_path), profile, 1, 2, 4.0, 3):
        models = replace(tiny_models, profile=profile_of(profile, METHODS[0], reference))
        pair = outcome(pair_steps(models, str(reference.photo), mask=str(reference.mask)))
        photo = read_rgba(reference.photo)[..., :3]
        height, width = (side // 2 for side in pair.embroidery.shape[:2])
        middle = pair.embroidery[height // 2 :, width // 2 :][:height, :width]
        found = cv2.matchTemplate(photo, np.ascontiguousarray(middle), cv2.TM_CCOEFF_NORMED)
        assert float(found.max()) > 0.93


def test_sets_depend_on_the_seed_alone(tmp_path: Path, tiny_profile: Profile) -> None:
    one, same, other = (
        rendered(Store(tmp_path / str(number)), tiny_profile, 1, 1, 2.0, seed)[0]
        for number, seed in enumerate((3, 3, 4))
    )
    assert one.key == same.key != other.key
    first, second = (designs(64, 3, 3) for _ in range(2))
    assert all(np.array_equal(a.flat, b.flat) for a, b in zip(first, second))
    assert [each.name for each in designs(64, 2, 3)] == [each.name for each in first[:2]]


def test_icons_are_those_that_training_never_saw() -> None:
    pytest.importorskip("resvg_py")
    body = '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 8 8" width="{side}" '
    body += 'height="{side}"><circle cx="4" cy="4" r="3" fill="#c03040"/></svg>'
    icons = [Icon(f"icon-{number}", body) for number in range(60)]
    held_out = {each.name for each in icons if is_held_out(each.name)}
    names = {each.name.rsplit("-", 1)[0] for each in designs(64, 8, 0, icons)[::2]}
    assert names <= held_out
    assert 0 < len(held_out) < len(icons)


def test_masks_and_designs_beside_a_photo_go_with_it(tmp_path: Path, photo: Path) -> None:
    for name in ("rose.png", "rose_mask.png", "lone_mask.png"):
        (tmp_path / name).write_bytes(photo.read_bytes())
    lone, rose = sorted(from_folder(tmp_path), key=lambda each: each.title)
    assert (lone.title, lone.mask) == ("lone_mask", None)
    assert (rose.title, rose.mask, rose.design) == ("rose", tmp_path / "rose_mask.png", None)
    assert rose.truth(designs(64, 1, 0)[0]) is None


def test_bootstrap_is_as_sure_as_its_values() -> None:
    same = bootstrap([[2.0, 2.0], [2.0]], 0)
    assert (same.mean, same.low, same.high) == (2.0, 2.0, 2.0)
    rng = np.random.default_rng(0)
    few, many = (
        bootstrap([rng.normal(1.0, 1.0, 8).tolist() for _ in range(count)], 0) for count in (4, 60)
    )
    assert few.low < few.mean < few.high
    assert many.low < 1.0 < many.high
    assert many.high - many.low < 0.5 * (few.high - few.low)
    # Every reference counts alike, however many designs it has.
    assert bootstrap([[0.0] * 9, [1.0]], 0).mean == 0.5


def cells(name: str, values: dict[str, float], measure: str) -> list[dict[str, Any]]:
    return [
        {"method": name, "reference": "r", "design": design, "measures": {measure: value}}
        for design, value in values.items()
    ]


def test_ours_is_judged_in_pairs_and_by_what_is_better() -> None:
    # Designs differ far more than methods do.
    ours = {"a": 1.0, "b": 5.0, "c": 9.0, "d": 2.0, "e": 3.0, "f": 7.0}
    worse, noisy = ({key: value + more for key, value in ours.items()} for more in (0.5, 0.0))
    noisy |= {"a": noisy["a"] + 1.0, "b": noisy["b"] - 1.0, "c": noisy["c"] + 0.1}
    for measure, verdict in (("band_distance", "better"), ("colour_psnr", "worse")):
        table = compare(
            [
                *cells("ours", ours, measure),
                *cells("db-lora", worse, measure),
                *cells("b-lora", noisy, measure),
            ],
            0,
        )
        assert table["db-lora"][measure]["ours_is"] == verdict
        assert table["b-lora"][measure]["ours_is"] == "tied"
        holds = {each["group"]: each["holds"] for each in targets(table, METHODS)}
        assert holds == {"style": True, "colour": verdict != "worse", "content": True}


def test_few_pairs_prove_nothing() -> None:
    values = {"a": 1.0, "b": 2.0}
    worse = {name: value + 1.0 for name, value in values.items()}
    measure = "band_distance"
    table = compare([*cells("ours", values, measure), *cells("db-lora", worse, measure)], 0)
    assert table["db-lora"][measure]["ours_is"] == "unknown"
    assert [each["holds"] for each in targets(table, METHODS)] == [None] * 3


def test_clip_score_is_read_from_disk_or_not_at_all(tmp_path: Path, tiny_model: Path) -> None:
    assert clip_score(str(tmp_path / "nowhere")) is None
    tokenizer = CLIPTokenizerFast.from_pretrained(tiny_model / "tokenizer")
    small = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1}
    config = CLIPConfig(
        text_config={**small, "num_attention_heads": 2, "vocab_size": len(tokenizer)},
        vision_config={**small, "num_attention_heads": 2, "image_size": 32, "patch_size": 16},
        projection_dim=8,
    )
    CLIPModel(config).save_pretrained(tmp_path / "clip")
    tokenizer.save_pretrained(tmp_path / "clip")
    score = clip_score(str(tmp_path / "clip"))
    assert score is not None
    picture = np.random.default_rng(0).random((48, 40, 3))
    assert -100.0 <= score(picture, "a red heart") <= 100.0
    assert score(picture, "a red heart") == score(picture, "a red heart")
    assert score(picture, "a red heart") != score(1.0 - picture, "a red heart")
