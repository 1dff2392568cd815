"""Settings that all calls which fill one folder must share."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from voxward.core.document import with_checksum, without_format
from voxward.core.errors import UserError
from voxward.core.files import write_json
from voxward.core.reading import read_json
from voxward.core.structure import to_data

_MISSING = "nothing"


def settle(path: Path, settings: Mapping[str, Any], what: str) -> None:
    """Write the settings of a piece of work once; every later call must have the same settings.

    Args:
        path: The JSON file, in the folder that the work fills, which no other process fills meanwhile.
        settings: The settings as plain data.
        what: The name of the work in the error message, such as "records".

    Raises:
        UserError: The folder was begun with other settings. The message names every key that differs.
    """
    wanted = json.loads(json.dumps(to_data(settings), allow_nan=False))
    if not path.is_file():
        write_json(path, with_checksum(wanted))
    found, asked = _flat(without_format(read_json(path), str(path))), _flat(wanted)
    keys = [key for key in sorted({*found, *asked}) if found.get(key, _MISSING) != asked.get(key, _MISSING)]
    if keys:
        listed = "; ".join(f"{key}: {asked.get(key, _MISSING)}, was {found.get(key, _MISSING)}" for key in keys)
        raise UserError(f"{path.parent} holds {what} of other settings ({path.name}; {listed}): use another --out")


def _flat(value: Any, path: str = "") -> dict[str, Any]:
    """Return nested mappings as one mapping with dotted keys."""
    if not isinstance(value, Mapping) or not value:
        return {path: value}
    return {
        name: entry
        for key, inner in value.items()
        for name, entry in _flat(inner, f"{path}.{key}" if path else str(key)).items()
    }
