"""Settings that all calls which fill one folder must share."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping
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
    if unlike := sorted(text for key, text in _unlike(before, wanted) if key not in free):
        listed = "; ".join(unlike)
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


def _unlike(before: Any, wanted: Any, path: str = "") -> Iterator[tuple[str, str]]:
    """Yield the dotted key of each entry that differs, and what is said of it."""
    if isinstance(before, Mapping) and isinstance(wanted, Mapping):
        for key in {*before, *wanted}:
            inner = f"{path}.{key}" if path else str(key)
            yield from _unlike(before.get(key, _MISSING), wanted.get(key, _MISSING), inner)
    elif before != wanted:
        # Of an entry that is wholly new, such as another system, its single values say nothing more.
        if before == _MISSING and isinstance(wanted, Mapping):
            yield path, f"{path} is new"
        elif wanted == _MISSING and isinstance(before, Mapping):
            yield path, f"{path} is left out"
        else:
            yield path, f"{path}: {wanted}, was {before}"
