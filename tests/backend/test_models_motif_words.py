"""Prompts in the words of a base that knows motifs by name."""

from __future__ import annotations

from pathlib import Path

import pytest

from backend.errors import InputError, ProfileError
from backend.evaluation.benchmark.sets import PROMPTS
from backend.models import profiles
from backend.models.motif_words import MotifWords, composer_in, motif_words, wording

KNOWN = MotifWords(
    (
        "heart",
        "broken heart",
        "leaf",
        "maple leaf",
        "cherry",
        "anchor",
        "letter b",
        "octopus",
        "fleur-de-lis",
    ),
    ("red", "gray", "orange"),
)


@pytest.mark.parametrize(
    ("prompt", "said"),
    [
        ("a red heart", "a red heart"),
        ("Two big RED hearts, please", "a red heart"),
        ("a broken heart", "a broken heart"),
        ("maple leaves in orange", "an orange maple leaf"),
        ("cherries", "a cherry"),
        ("anchor", "an anchor"),
        ("a grey Letter B", "a gray letter b"),
        ("an octopus", "an octopus"),
        ("a striped heart", "a heart"),
        ("a gray fleur de lis", "a gray fleur-de-lis"),
    ],
)
def test_prompts_are_worded_as_in_training(prompt: str, said: str) -> None:
    assert KNOWN.recognised(prompt) == said


@pytest.mark.parametrize("prompt", ["", "a cathedral", "sweetheart", "a letter"])
def test_unknown_motifs_are_refused_with_what_to_do(prompt: str) -> None:
    with pytest.raises(InputError, match="knows 9 motifs by name") as refused:
        KNOWN.recognised(prompt)
    assert "sdxl" in str(refused.value.remedy)


def test_all_that_the_starter_knows_is_recognised_and_its_card_lists_it() -> None:
    base = profiles.get("starter").folder
    assert base is not None
    composer = composer_in(base)
    assert composer is not None
    known = motif_words(composer)
    assert len(known.motifs) == 267
    said = [wording(name, colour) for name in known.motifs for colour in ("", *known.colours)]
    assert [known.recognised(each) for each in said] == said
    card = " ".join((base / "MODEL_CARD.md").read_text("utf-8").split())
    assert all(f"{name}," in card for name in known.motifs if " " not in name)
    assert f"In {', '.join(known.colours)}." in card


@pytest.mark.parametrize("prompt", PROMPTS)
def test_the_benchmark_asks_for_what_the_starter_knows(prompt: str) -> None:
    base = profiles.get("starter").folder
    assert base is not None
    assert motif_words(base / "composer").recognised(prompt)


def test_a_slip_of_the_pen_gets_a_proposal() -> None:
    with pytest.raises(InputError) as refused:
        KNOWN.recognised("a red anchr")
    assert "Did you mean 'anchor'?" in str(refused.value.remedy)


def test_articles_are_grammar() -> None:
    said = [wording("owl", "red"), wording("fox", "orange"), wording("unicorn", "")]
    assert said == ["a red owl", "an orange fox", "a unicorn"]


def test_the_list_is_written_and_read(tmp_path: Path) -> None:
    KNOWN.save(tmp_path / "motifs.json")
    assert MotifWords.load(tmp_path / "motifs.json") == KNOWN
    (tmp_path / "motifs.json").write_text("[]", "utf-8")
    with pytest.raises(ProfileError, match="cannot be read"):
        MotifWords.load(tmp_path / "motifs.json")


def test_a_base_without_a_composer_has_no_list(tmp_path: Path, tiny_model: Path) -> None:
    for base in (tmp_path, tiny_model, "hub/name", "a\0b", "x" * 5000):
        assert composer_in(base) is None
