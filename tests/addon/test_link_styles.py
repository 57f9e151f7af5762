"""Which styles the panel takes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from blender_addon.link.client import LinkError
from blender_addon.link.tasks import read_style


def test_garments_take_styles_of_embroidery_alone(tmp_path: Path) -> None:
    path = tmp_path / "style.json"
    for told in ({"task": "embroidery"}, {}):  # older styles do not say it
        path.write_text(json.dumps({"thread_width_px": 6.5, **told}))
        assert read_style(tmp_path)["thread_width_px"] == 6.5
    path.write_text(json.dumps({"thread_width_px": 6.5, "task": "painting"}))
    with pytest.raises(LinkError, match="is a style of painting"):
        read_style(tmp_path)
    path.write_text("[]")
    with pytest.raises(LinkError, match="damaged"):
        read_style(tmp_path)
