"""A folder of results holds results of one setting only, so that an interrupted benchmark goes on as it began."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from voxward.core.files import write_json


def keep_settings(out: Path, settings: Mapping[str, Any]) -> None:
    """Write OUT/settings.json, or raise ValueError where the folder's results are of other settings than these."""
    path, now = out / "settings.json", json.loads(json.dumps(settings))  # tuples as the lists that a file gives back
    if not path.is_file():
        write_json(path, now)
    elif json.loads(path.read_text()) != now:
        raise ValueError(f"{out} holds results of other settings, see {path}: choose another --out")
