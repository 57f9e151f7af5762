"""`settings`: every setting of a profile, its value, and what it is for."""

from __future__ import annotations

import argparse
import dataclasses
import json
from typing import Any

from backend.commands import EXIT_OK, add_command

__all__ = ["add_settings"]


def add_settings(commands: Any) -> None:
    """Add the command."""
    about = "Print every setting of a profile, for training and for inference, and what it is for."
    parser = add_command(commands, "settings", about, _settings)
    parser.add_argument("--profile", default="starter", help="base model (default: starter)")
    parser.add_argument("--json", action="store_true", help="print JSON")


def _settings(options: argparse.Namespace) -> int:
    from backend.models import profiles

    profile = profiles.get(options.profile)
    rows = [
        {"setting": name, "value": _value(profile, name), "meaning": meaning}
        for name, meaning in profiles.describe(profile).items()
    ]
    # Of a part, its own settings tell.
    rows = [row for row in rows if not dataclasses.is_dataclass(row["value"])]
    if options.json:
        print(json.dumps(rows, indent=2, ensure_ascii=False, default=str))
        return EXIT_OK
    for row in rows:
        print(f"{row['setting']} = {row['value']!r}\n    {row['meaning']}")
    return EXIT_OK


def _value(profile: Any, name: str) -> Any:
    for part in name.split("."):
        profile = getattr(profile, part)
    return profile
