"""The parts of a dataset.json that several layouts share: channels, labels, and where the list of folds lies."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from voxward.core.errors import UserError
from voxward.core.labels import LabelSet
from voxward.core.reading import read_json

SPLITS_FILES = ("splits.json", "splits_final.json")
"""The names of a folder's own list of folds."""


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


def declared_labels(description: Mapping[str, Any], path: Path) -> LabelSet:
    """Return the classes and regions of a dataset.json: its "labels", "regions" and "regions_class_order".

    Raises:
        UserError: See `labels_of`.
    """
    regions, order = description.get("regions"), description.get("regions_class_order")
    return labels_of(description.get("labels"), path, regions, order)


def labels_file(path: Path) -> LabelSet:
    """Return the classes and regions of a labels.json: {name: value}, in which the background may be left out.

    Args:
        path: The file. Beside the names it may hold "regions_class_order".

    Raises:
        UserError: See `labels_of`.
    """
    given = read_object(path)
    order = given.pop("regions_class_order", None)
    return labels_of(given if 0 in given.values() or "0" in given else {"background": 0, **given}, path, order=order)


def labels_of(given: Any, path: Path, regions: Any = None, order: Any = None) -> LabelSet:
    """Return the classes and regions that a description declares.

    Args:
        given: {"0": "background", ...} as in the Decathlon, or {"background": 0, ...} as in nnU-Net. If nnU-Net lists
            several values under a name, all names are regions, and each class is named after the region that has this
            value alone, or after what a region adds to the regions inside it. A class that is called "ignore" says
            which voxels are not annotated.
        path: The file, for messages.
        regions: {name: [values]} beside plain labels, see core.labels.LabelSet; None for no regions.
        order: nnU-Net's regions_class_order, see core.labels.LabelSet.with_regions; None for nested regions. It says
            nothing without regions.

    Raises:
        UserError: `given` has another form, regions are neither nested nor have an order, or the ignore label is no
            value of its own.
    """
    if not isinstance(given, Mapping) or not given:
        raise UserError(f'{path}: "labels" must be an object of names and values, got {given!r}')
    _refuse_odd_values(given, path)
    try:
        declared, ignore = _without_ignore(given)
        numbers = None if order is None else _numbers(order)
        if any(isinstance(value, list | tuple) for value in declared.values()):
            labels = _of_lists(declared, numbers)
        else:
            labels = label_set([_value_and_name(key, value, path) for key, value in declared.items()])
            labels = labels.with_regions(None if regions is None else _checked(regions), numbers)
        labels = replace(labels, ignore=ignore)
    except UserError as error:
        raise UserError(f"{path}: {error}") from error
    warn_of_rewritten(labels, str(path))
    return labels


def warn_of_rewritten(labels: LabelSet, source: str) -> None:
    """Warn of values that a label map cannot give back, because regions overlap and none stands for them.

    Args:
        labels: The labels.
        source: Where they are declared, for the message.
    """
    if labels.rewritten:
        pairs = ", ".join(f"{value} as {written}" for value, written in labels.rewritten.items())
        warnings.warn(
            f"{source}: predicted label maps cannot hold every combination of regions: by regions_class_order, "
            f"voxels with exactly the regions of a value are written as another value ({pairs}), and some of their "
            "regions are lost; declare a region of that value alone, last in the order, to keep them",
            stacklevel=2,
        )


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


def _without_ignore(given: Mapping[Any, Any]) -> tuple[dict[Any, Any], int | None]:
    """The labels without "ignore", however it is spelt, and its value; nnU-Net's name for what is not annotated."""
    pairs = {key: (value, key) if isinstance(value, str) else (key, value) for key, value in given.items()}
    found = [key for key, (name, _) in pairs.items() if str(name).lower() == "ignore"]
    if not found:
        return dict(given), None
    values = [pairs[key][1] for key in found]
    number = str(values[0])
    if len(found) > 1 or isinstance(values[0], bool) or not number.removeprefix("-").isdecimal():
        raise UserError(f'the label "ignore" needs one integer, got {values if len(found) > 1 else values[0]!r}')
    if int(number) == 0:
        raise UserError('the label "ignore" must not have the value 0, which is the background')
    return {key: value for key, value in given.items() if key not in found}, int(number)


def _of_lists(given: Mapping[Any, Any], order: Sequence[int] | None) -> LabelSet:
    """{"background": 0, "whole": [1, 2], "core": [2]} -> classes 1 "whole without core" and 2 "core", and the regions.

    As in nnU-Net, lists of one value each are plain classes, unless there is only one. Raises UserError for values that
    are no integers, and regions that are neither nested nor have an order.
    """
    regions = _checked({name: list(v) if isinstance(v, list | tuple) else [v] for name, v in given.items()})
    regions = {name: values for name, values in regions.items() if values != [0]}
    values = sorted({value for held in regions.values() for value in held})
    if len(regions) > 1 and all(len(held) == 1 for held in regions.values()):
        return label_set([(0, "background"), *((held[0], name) for name, held in regions.items())])
    pairs = [(value, _class_name(value, regions)) for value in values]
    if 0 in values:
        raise UserError(f"a region must not hold 0, the background, got {regions}")
    return label_set([(0, "background"), *pairs]).with_regions(regions, order)


def _class_name(value: int, regions: Mapping[str, Sequence[int]]) -> str:
    """The region of the value alone, or what a region adds to the regions inside it, or just the value."""
    around = {name: set(held) for name, held in regions.items() if value in held}
    name, own = min(around.items(), key=lambda item: len(item[1]))
    inside = {other: set(held) for other, held in regions.items() if set(held) < own}
    largest = [other for other, held in inside.items() if not any(held < wider for wider in inside.values())]
    if own - set().union(*inside.values()) != {value}:
        return f"value {value}"
    return f"{name} without {' and '.join(largest)}" if largest else name


def _checked(regions: Any) -> dict[str, list[int]]:
    """The regions, where they are {name: [integers]}. Raises UserError otherwise."""
    if not isinstance(regions, Mapping) or not all(map(_are_integers, regions.values())):
        raise UserError(f"regions must be {{name: [integers]}}, got {regions!r}")
    return {str(name): list(values) for name, values in regions.items()}


def _numbers(order: Any) -> list[int]:
    if not _are_integers(order):
        raise UserError(f"regions_class_order must be a list of integers, got {order!r}")
    return list(order)


def _are_integers(values: Any) -> bool:
    return isinstance(values, list | tuple) and all(
        isinstance(value, int) and not isinstance(value, bool) for value in values
    )


def splits_of(root: Path) -> Path | None:
    """Return the folder's own list of folds, splits.json or splits_final.json, or None if it has none."""
    return next((path for name in SPLITS_FILES if (path := root / name).is_file()), None)


def _value_and_name(key: Any, value: Any, path: Path) -> tuple[int, str]:
    if isinstance(value, str) and str(key).removeprefix("-").isdecimal():
        return int(key), value
    if isinstance(value, int) and not isinstance(value, bool):
        return value, str(key)
    raise UserError(f"{path}: label {key!r}: {value!r} must pair a name with an integer")
