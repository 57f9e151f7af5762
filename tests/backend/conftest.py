"""Fixtures of the backend's tests."""

from __future__ import annotations

from pathlib import Path

import pytest

from backend.starter.architecture import TINY, build, save


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a complete untrained model: a pipeline and its two ControlNets."""
    folder = tmp_path_factory.mktemp("tiny_model")
    save(build(TINY, seed=0), folder)
    return folder
