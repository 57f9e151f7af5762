"""Networks that come to the device and go: which are there, and that no picture changes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from restyling import artwork, finish, tiny_style

from backend.emolora.adapter import with_style
from backend.jobs import RestyleJob
from backend.models import loading
from backend.models.loading import Models
from backend.models.memory import MODES, applied
from backend.models.profiles import Profile
from backend.models.residence import Residence
from backend.restyle.image import restyle


class _Network(torch.nn.Module):
    """Says where it is told to go."""

    def __init__(self, name: str, trips: list[tuple[str, str]]) -> None:
        super().__init__()
        self._name, self._trips = name, trips

    def to(self, *places: Any, **_: Any) -> Any:
        self._trips.append((self._name, str(places[0])))
        return self


@pytest.mark.parametrize(
    ("offload", "together"),
    [("none", 6), ("phase", 3), ("network", 1)],
)
def test_what_is_not_needed_is_parked(offload: str, together: int) -> None:
    trips: list[tuple[str, str]] = []
    names = ("unet", "vae", "text_encoder", "text_encoder_2", "controlnet_canny", "controlnet_tile")
    networks = {name: _Network(name, trips) for name in names}
    residence = Residence(networks, torch.device("meta"), offload)
    assert len(residence.present) == (6 if offload == "none" else 0)
    most = 0
    for name in ("text_encoder", "vae", "unet", "controlnet_tile", "controlnet_canny", "unet"):
        residence.need(name)
        assert name in residence.present
        there: dict[str, str] = dict(trips)
        assert residence.present == {key for key, place in there.items() if place == "meta"}
        most = max(most, len(residence.present))
    assert most == together
    before = len(trips)
    residence.need("unet")
    assert len(trips) == before


@pytest.mark.parametrize(
    ("offload", "asked", "there"),
    [
        ("none", "vae", {"unet", "vae", "text_encoder"}),
        ("phase", "vae", {"vae"}),
        ("network", "vae", {"vae"}),
        ("phase", "", set()),
    ],
)
def test_a_device_is_left_to_others_for_a_while(offload: str, asked: str, there: set[str]) -> None:
    trips: list[tuple[str, str]] = []
    names = ("unet", "vae", "text_encoder")
    networks = {name: _Network(name, trips) for name in names}
    residence = Residence(networks, torch.device("meta"), offload)
    if asked:
        residence.need(asked)

    def places() -> set[str]:
        return {name for name, place in dict(trips).items() if place == "meta"}

    def cancelled() -> None:
        with residence.vacated():
            assert places() == residence.present == set()
            raise GeneratorExit

    with pytest.raises(GeneratorExit):
        cancelled()
    assert places() == residence.present == there


def test_other_networks_have_other_phases() -> None:
    networks = {name: _Network(name, []) for name in ("t5", "clip", "clip_2")}
    phases = (("clip", "clip_2"), ("t5",))
    residence = Residence(networks, torch.device("meta"), "phase", phases)
    for name, present in (
        ("clip", {"clip"}),
        ("clip_2", {"clip", "clip_2"}),
        ("t5", {"t5"}),
        ("clip", {"clip"}),
    ):
        residence.need(name)
        assert residence.present == present


@pytest.mark.parametrize("name", ["24", "12"])
def test_offload_gives_the_same_picture(tiny_model: Path, tiny_profile: Profile, name: str) -> None:
    style, pictures = None, []
    rgba = artwork(64, 72)
    for mode in (MODES[0], next(each for each in MODES if each.name == name)):
        models = loading.load(applied(tiny_profile, mode), base=str(tiny_model), device="cpu")
        style = style or tiny_style(models)
        # Colours uncorrected: where a last bit differs, OpenCV's CIELAB may jump by 2e-3.
        job = RestyleJob(
            style="s", input="i", out="o", start="design", guidance=3.0, colours="none"
        )
        pictures.append(finish(restyle(models, style, rgba, None, job)))
        held = len(models.residence.present)
        assert held <= {"none": 6, "phase": 3}[mode.offload]
    # Windows one at a time are the same sums in another order.
    assert np.abs(pictures[0] - pictures[1]).max() < 1e-4


def test_one_network_at_a_time_gives_the_same_picture(
    tiny_model: Path, tiny_profile: Profile
) -> None:
    rgba, pictures = artwork(64, 64), []
    for offload in ("none", "network"):
        models = loading.load(
            replace(tiny_profile, offload=offload), base=str(tiny_model), device="cpu"
        )
        job = RestyleJob(style="s", input="i", out="o", start="design")
        pictures.append(finish(restyle(models, tiny_style(models), rgba, None, job)))
    assert len(models.residence.present) == 1
    assert np.array_equal(*pictures)


def test_a_style_leaves_the_weights_it_found_though_they_were_moved(tiny_models: Models) -> None:
    style = tiny_style(tiny_models)
    tiny_models.residence = Residence({"unet": tiny_models.unet}, torch.device("cpu"), "phase")
    before = {name: value.clone() for name, value in tiny_models.unet.state_dict().items()}
    with with_style(tiny_models, dict(style.weights)):
        for parameter in tiny_models.unet.parameters():
            parameter.data = parameter.data.clone()  # as a trip to another device and back does
    after = tiny_models.unet.state_dict()
    assert all(torch.equal(value, after[name]) for name, value in before.items())
