"""Settings that all calls which fill one folder must share."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from voxward.core.document import with_checksum, without_format
from voxward.core.errors import UserError
from voxward.core.files import write_json
from voxward.core.reading import read_json
from voxward.core.structure import to_data

_MISSING = "nothing"
_Settings = Mapping[str, Any]


def settle(
    path: Path,
    settings: Mapping[str, Any],
    what: str,
    *,
    grows: Mapping[str, str] | None = None,
    free: Collection[str] = (),
) -> None:
    """Write the settings of a piece of work once; every later call must have the same settings.

    Args:
        path: The JSON file, in the folder that the work fills, which no other process fills meanwhile.
        settings: The settings as plain data.
        what: The name of the work in the error message, such as "records".
        grows: The names of entries that are mappings from what is worked on, to which a later call may add and which it
            need not name whole. The first of them has all keys. What is known of a key must stay as it is: each name
            has the sentence that is said otherwise, with {} for the key.
        free: Dotted names of entries that a later call may replace.

    Raises:
        UserError: The folder was begun with other settings. The message names every key that differs.
    """
    wanted = json.loads(json.dumps(to_data(settings), allow_nan=False))
    if not path.is_file():
        write_json(path, with_checksum(wanted))
        return
    known = before = without_format(read_json(path), str(path))
    if grows:
        grown = _grown(path, before, wanted, grows)
        before, wanted = {**before, **grown}, {**wanted, **grown}
    found, asked = _flat(before), _flat(wanted)
    unlike = {key for key in {*found, *asked} if found.get(key, _MISSING) != asked.get(key, _MISSING)}
    if keys := sorted(unlike - {*free}):
        listed = "; ".join(f"{key}: {asked.get(key, _MISSING)}, was {found.get(key, _MISSING)}" for key in keys)
        raise UserError(f"{path.parent} holds {what} of other settings ({path.name}; {listed}): use another --out")
    if wanted != known:
        write_json(path, with_checksum(wanted))


def _grown(path: Path, before: _Settings, wanted: _Settings, grows: Mapping[str, str]) -> dict[str, Any]:
    """What stands in the file, and what is new."""
    first, found = next(iter(grows)), dict[str, Any]()
    both = [key for key in _entry(before, first) if key in _entry(wanted, first)]
    for name, sentence in grows.items():
        old, new = _entry(before, name), _entry(wanted, name)
        if changed := [sentence.format(key) for key in both if old.get(key) != new.get(key)]:
            raise UserError(
                f"{'; '.join(changed)}. The results in {path.parent} are of before ({path.name}): use another --out"
            )
        if old or new:
            found[name] = {**old, **new}
    return found


def _entry(settings: _Settings, name: str) -> _Settings:
    found = settings.get(name)
    return found if isinstance(found, Mapping) else {}


def _flat(value: Any, path: str = "") -> dict[str, Any]:
    """Return nested mappings as one mapping with dotted keys."""
    if not isinstance(value, Mapping) or not value:
        return {path: value}
    return {
        name: entry
        for key, inner in value.items()
        for name, entry in _flat(inner, f"{path}.{key}" if path else str(key)).items()
    }
