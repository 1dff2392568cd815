"""The parts of a dataset.json that several layouts share: channels, labels, and where the list of folds lies."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from voxward.core.errors import UserError
from voxward.core.labels import LabelSet
from voxward.core.reading import read_json


def read_description(root: Path) -> dict[str, Any]:
    """Return the content of a folder's dataset.json, or {} if there is none.

    Raises:
        UserError: The file holds no JSON object.
    """
    path = root / "dataset.json"
    return read_object(path) if path.is_file() else {}


def read_object(path: Path) -> dict[str, Any]:
    """Return the content of a JSON file that holds an object.

    Raises:
        UserError: The file holds something else; the message names the file.
    """
    value = read_json(path)
    if not isinstance(value, dict):
        raise UserError(f"{path} must hold a JSON object, got {type(value).__name__}")
    return value


def channels_of(description: Mapping[str, Any], path: Path) -> tuple[str, ...]:
    """Return the names of the channels in order.

    Args:
        description: The content of dataset.json. Its entry "channel_names" or "modality" is {"0": name, ...} or a list.
        path: The file, for messages.

    Raises:
        UserError: There is no such entry, or it has another form.
    """
    given = description.get("channel_names", description.get("modality"))
    if isinstance(given, list) and given:
        return tuple(map(str, given))
    if isinstance(given, Mapping) and sorted(given) == sorted(map(str, range(len(given)))) and given:
        return tuple(str(given[str(n)]) for n in range(len(given)))
    raise UserError(f'{path}: "modality" or "channel_names" must be {{"0": name, "1": name, ...}}, got {given!r}')


def labels_of(given: Any, path: Path, regions: Any = None) -> LabelSet:
    """Return the classes and regions that a description declares.

    Args:
        given: {"0": "background", ...} as in the Decathlon, or {"background": 0, ...} as in nnU-Net. If nnU-Net lists
            several values under a name, all names are regions, and each class is named after what its region adds to
            the region inside it.
        path: The file, for messages.
        regions: {name: [values]} beside plain labels, see core.labels.LabelSet; None for no regions.

    Raises:
        UserError: `given` has another form, regions are not nested, or there is an ignore label.
    """
    if not isinstance(given, Mapping) or not given:
        raise UserError(f'{path}: "labels" must be an object of names and values, got {given!r}')
    _refuse_odd_values(given, path)
    if "ignore" in given:
        raise UserError(f'{path}: the label "ignore" is not supported; remove the voxels or give them a class')
    try:
        if any(isinstance(value, list | tuple) for value in given.values()):
            return _of_regions(given)
        labels = label_set([_value_and_name(key, value, path) for key, value in given.items()])
        return labels.with_regions(None if regions is None else _checked(regions))
    except UserError as error:
        raise UserError(f"{path}: {error}") from error


def _refuse_odd_values(given: Mapping[Any, Any], path: Path) -> None:
    """Labels are names, integers, or lists of integers; what JSON allows beside these is refused by name."""
    for key, value in given.items():
        values = value if isinstance(value, list) and value else [value]
        legal = (int,) if isinstance(value, list) else (int, str)
        if not all(isinstance(each, legal) and not isinstance(each, bool) for each in values):
            raise UserError(f"{path}: label {key!r}: {value!r} must pair a name with an integer, or a list of integers")


def label_set(pairs: list[tuple[int, str]]) -> LabelSet:
    """Return the classes, with the background first and the others in the order of their values.

    Args:
        pairs: The file value and the name of each class.

    Raises:
        UserError: Values or names repeat, or there is no background or no foreground class.
    """
    ordered = sorted(pairs, key=lambda pair: (pair[0] != 0, pair[0]))
    return LabelSet(tuple(name for _, name in ordered), tuple(value for value, _ in ordered))


def _of_regions(given: Mapping[Any, Any]) -> LabelSet:
    """{"background": 0, "whole": [1, 2], "core": [2]} -> classes 1 "whole without core" and 2 "core", and the regions.

    Raises ValueError for values that are no integers, and regions that are not nested.
    """
    regions = {str(name): [value] if isinstance(value, int) else list(value) for name, value in given.items() if value}
    _checked(regions)
    pairs, inside, before = [(0, "background")], set[int](), ""
    for name, values in sorted(regions.items(), key=lambda item: len(item[1])):
        added = set(values) - inside
        if len(added) != 1 or not inside < set(values):
            raise UserError(f"regions must be nested, each with one value more than the one inside it, got {regions}")
        pairs.append((added.pop(), f"{name} without {before}" if before else name))
        inside, before = set(values), name
    return label_set(pairs).with_regions(regions)


def _checked(regions: Any) -> Mapping[str, list[int]]:
    """The regions, where they are {name: [integers]}. Raises ValueError otherwise."""
    fits = isinstance(regions, Mapping) and all(
        isinstance(values, list) and all(isinstance(value, int) and not isinstance(value, bool) for value in values)
        for values in regions.values()
    )
    if not fits:
        raise UserError(f"regions must be {{name: [integers]}}, got {regions!r}")
    return {str(name): list(values) for name, values in regions.items()}


def splits_of(root: Path) -> Path | None:
    """Return the folder's own list of folds, splits.json or splits_final.json, or None if it has none."""
    return next((path for name in ("splits.json", "splits_final.json") if (path := root / name).is_file()), None)


def _value_and_name(key: Any, value: Any, path: Path) -> tuple[int, str]:
    if isinstance(value, str) and str(key).removeprefix("-").isdecimal():
        return int(key), value
    if isinstance(value, int) and not isinstance(value, bool):
        return value, str(key)
    raise UserError(f"{path}: label {key!r}: {value!r} must pair a name with an integer")
