"""What helps the designer where it is installed: soft edges and tags."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from onnx_file import save_tagger
from safetensors.torch import save_file
from torch.nn import functional as F

from backend.emolora import sd3
from backend.errors import ProfileError
from backend.imaging.edges import canny
from backend.models import designer as places
from backend.models import profiles
from backend.models.designer import Designer, find
from backend.models.soft_edges import HED, read_hed, soft_edges
from backend.models.tagger import Tagger

SDXL = profiles.get("sdxl")
CPU = torch.device("cpu")
TAGS = [("red_flower", "0"), ("embroidery", "0"), ("some_one", "4")]


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The network with random weights, as it is shared."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = HED()
    network.norm.data += 100.0
    path = tmp_path_factory.mktemp("hed") / "ControlNetHED.pth"
    torch.save(network.state_dict(), path)
    return path


def _half_and_half(side: int = 48) -> NDArray[np.float32]:
    picture = np.full((side, side, 3), 0.1, dtype=np.float32)
    picture[:, side // 2 :] = 0.9
    return picture


def _plainly(state: dict[str, torch.Tensor], rgb: torch.Tensor) -> torch.Tensor:
    """Holistically-nested edges, transcribed step by step in float64."""
    state = {name: value.double() for name, value in state.items()}
    features = rgb.double() * 255.0 - state["norm"]
    total = torch.zeros(1, 1, *rgb.shape[-2:], dtype=torch.float64)
    for block, layers in enumerate((2, 2, 3, 3, 3), start=1):
        if block > 1:
            features = F.max_pool2d(features, kernel_size=2, stride=2)
        for layer in range(layers):
            name = f"block{block}.convs.{layer}"
            features = F.conv2d(features, state[f"{name}.weight"], state[f"{name}.bias"], padding=1)
            features = features.clamp(min=0.0)
        name = f"block{block}.projection"
        edges = F.conv2d(features, state[f"{name}.weight"], state[f"{name}.bias"])
        total += F.interpolate(edges, size=rgb.shape[-2:], mode="bilinear", align_corners=False)
    return torch.sigmoid(total / 5.0)


def test_soft_edges_are_those_of_the_shared_network(weights: Path, tmp_path: Path) -> None:
    network = read_hed(weights)
    picture = _half_and_half()
    picture[10:20, 5:15, 1] = 0.6
    found = soft_edges(network, picture, CPU)
    assert found.shape == picture.shape[:2]
    assert found.std() > 0.0
    state = torch.load(weights, weights_only=True)
    wanted = _plainly(state, torch.from_numpy(picture).permute(2, 0, 1)[None])[0, 0].numpy()
    np.testing.assert_allclose(found, wanted, atol=1e-5)
    save_file(state, tmp_path / "ControlNetHED.safetensors")
    other = soft_edges(read_hed(tmp_path / "ControlNetHED.safetensors"), picture, CPU)
    assert np.array_equal(found, other)


class _Hostile:
    def __reduce__(self) -> tuple[Callable[..., Any], tuple[str]]:
        return print, ("this must never be seen",)


@pytest.mark.parametrize("kind", ["cut", "empty", "other", "hostile", "list", "safetensors"])
def test_a_file_that_is_no_such_network_is_named(
    weights: Path, tmp_path: Path, kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "ControlNetHED.pth"
    match kind:
        case "cut":
            path.write_bytes(weights.read_bytes()[:90_000])
        case "empty":
            path.write_bytes(b"")
        case "other":
            torch.save({"norm": torch.zeros(3)}, path)
        case "hostile":
            torch.save({"norm": _Hostile()}, path)
        case "list":
            torch.save([1, 2], path)
        case _:
            path = path.with_suffix(".safetensors")
            path.write_bytes(b"\x08\0\0\0\0\0\0\0not json")
    with pytest.raises(ProfileError, match="soft edges cannot be found with it") as caught:
        read_hed(path)
    assert str(path) in caught.value.message
    assert capsys.readouterr().out == ""


def test_soft_edges_are_shrunk_and_back_and_canny_stands_in(
    weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert SDXL.designer is not None
    monkeypatch.setattr("backend.models.soft_edges.read_hed", lambda path: "network")
    stripes = np.zeros((64, 64), dtype=np.float32)
    stripes[::2] = 1.0  # as threads are in a map of edges
    monkeypatch.setattr("backend.models.soft_edges.soft_edges", lambda *_: stripes)
    place = Path()
    profile = replace(SDXL, window=64, designer=replace(SDXL.designer, edge_side=32))
    assert profile.designer is not None
    nobody = Designer(profile.designer, place, place, place)
    flat = _half_and_half(64)
    sewn = np.clip(flat + 0.1 * np.sin(np.arange(64))[:, None, None], 0, 1).astype(np.float32)
    order = sd3.Order(sewn, flat, None)
    seen = sd3._eyes(replace(nobody, edges=weights), profile, CPU)(order)
    np.testing.assert_allclose(seen.edges, 0.5, atol=1e-6)
    seen = sd3._eyes(nobody, profile, CPU)(order)
    assert seen.tags == []
    # The shape's edge and no thread.
    assert canny(sewn)[:, :20].any()
    assert np.flatnonzero(seen.edges.any(axis=0)) == pytest.approx([31], abs=1)
    # Blurred as the paper blurs 1024 px with 15, though nothing is less than three.
    assert 0.1 < seen.colours[5, 31, 0] < seen.colours[5, 32, 0] < 0.9


@pytest.fixture
def runtime(monkeypatch: pytest.MonkeyPatch) -> list[NDArray[np.float32]]:
    """onnxruntime as far as it is used, answering as `save_tagger`'s model; what it was shown."""
    shown: list[NDArray[np.float32]] = []

    class Session:
        def __init__(self, path: str, *_: object, **__: object) -> None:
            if Path(path).stat().st_size < 10:
                raise module.capi.onnxruntime_pybind11_state.InvalidProtobuf("no model")

        def get_inputs(self) -> list[Any]:
            return [SimpleNamespace(name="pixels", shape=[1, 8, 8, 3])]

        def run(self, _: None, given: dict[str, NDArray[np.float32]]) -> list[NDArray[np.float32]]:
            shown.append(given["pixels"])
            return [given["pixels"].mean(axis=(1, 2)) / 255.0]

    errors = ("Fail", "InvalidGraph", "InvalidProtobuf", "NotImplemented")
    state: Any = ModuleType("onnxruntime_pybind11_state")
    for name in errors:
        setattr(state, name, type(name, (Exception,), {}))
    module: Any = ModuleType("onnxruntime")
    module.capi = SimpleNamespace(onnxruntime_pybind11_state=state)
    module.InferenceSession, module.SessionOptions = Session, SimpleNamespace
    monkeypatch.setitem(sys.modules, "onnxruntime", module)
    monkeypatch.setitem(sys.modules, "onnxruntime.capi", module.capi)
    return shown


def _check_tags(folder: Path) -> None:
    """What a tagger says of a picture whose blue, green and red are 0.9, 0.6 and 0.5."""
    picture = np.ones((8, 8, 3), dtype=np.float32) * (0.5, 0.6, 0.9)
    tagger = Tagger(save_tagger(folder / "one", TAGS))
    assert tagger.tags(picture, 0.35) == ["red flower", "embroidery"]
    assert tagger.tags(picture, 0.7) == ["red flower"]
    assert tagger.tags(picture, 0.35, ["embroider"]) == ["red flower"]
    faces = Tagger(save_tagger(folder / "two", [("^_^", "0"), ("a_b", "0"), ("rose", "0")]))
    assert faces.tags(picture, 0.35) == ["a b", "rose"]
    for name, tags in (("three", TAGS[:2]), ("four", [])):
        with pytest.raises(ProfileError, match="tags"):
            Tagger(save_tagger(folder / name, tags)).tags(picture, 0.35)
    (folder / "one" / "model.onnx").write_bytes(b"none")
    (folder / "two" / "selected_tags.csv").write_text("name\nrose\n")
    for name in ("one", "two"):
        with pytest.raises(ProfileError, match="this tagger cannot be used") as caught:
            Tagger(folder / name)
        assert str(folder / name) in caught.value.message


def test_tags_are_the_likely_ones_that_tell_of_the_design(
    tmp_path: Path, runtime: list[NDArray[np.float32]]
) -> None:
    _check_tags(tmp_path)
    # Wide pictures are seen whole, on white, blue first.
    Tagger(save_tagger(tmp_path / "wide", TAGS)).tags(np.zeros((4, 8, 3), np.float32), 0.35)
    seen = runtime[-1]
    assert seen.shape == (1, 8, 8, 3)
    assert seen.dtype == np.float32
    assert not seen[0, 2:6].any()
    assert (seen[0, :2] == 255.0).all()


def test_tags_by_the_real_runtime(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    _check_tags(tmp_path)


def test_helpers_are_used_where_they_are_and_named_where_not(
    tmp_path: Path, weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(places, "_cached", lambda name, file: None)
    monkeypatch.setattr(places, "_is_network", lambda folder: True)
    for name in places._PLAIN:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    found, note = find(SDXL, str(tmp_path))
    assert found is not None
    assert found.edges is found.tagger is None
    assert "Canny edges of the flattened photo stand in" in note
    assert "SmilingWolf" in note
    (tmp_path / "hed").mkdir()
    (tmp_path / "hed" / weights.name).symlink_to(weights)
    save_tagger(tmp_path / "tagger", TAGS)
    really_find = importlib.util.find_spec

    def installed(yes: bool) -> None:
        def spec(name: str, package: str | None = None) -> Any:
            return yes or None if name == "onnxruntime" else really_find(name, package)

        monkeypatch.setattr(importlib.util, "find_spec", spec)

    installed(False)
    found, note = find(SDXL, str(tmp_path))
    assert found is not None
    assert found.edges == tmp_path / "hed" / weights.name
    assert found.tagger is None
    assert "onnxruntime is not installed" in note
    installed(True)
    found, note = find(SDXL, str(tmp_path))
    assert found is not None
    assert found.tagger == tmp_path / "tagger"
    assert note == "Stable Diffusion 3 draws the design"


def test_a_profile_without_a_designer_has_nothing_to_say() -> None:
    assert find(profiles.get("starter")) == (None, "")
