"""The channels and classes of a bundle, from its metadata.json."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from voxward.core.errors import UserError
from voxward.core.labels import LabelSet
from voxward.core.model import Head
from voxward.systems.bundle.config import config_file, inside, read_tree

_HINT = "--set 'regions={name: [values], ...}'"


def read_metadata(root: Path) -> Mapping[str, Any]:
    """Return the content of a bundle's metadata.json; empty if there is none.

    Raises:
        UserError: It is damaged, or lies outside the bundle.
    """
    file = config_file(root, "metadata")
    if file is None:
        return {}
    if not inside(file, root):
        raise UserError(f"{file} lies outside the bundle {root}")
    return read_tree(file)


def channel_names(metadata: Mapping[str, Any], count: int) -> tuple[str, ...]:
    """Return the names of the channels that a network takes; numbers where the metadata does not name them."""
    return _names(metadata, "inputs", "image", count) or tuple(f"channel {place}" for place in range(count))


def output_names(metadata: Mapping[str, Any], count: int) -> tuple[str, ...] | None:
    """Return the names of a network's outputs; None where the metadata does not name all of them."""
    return _names(metadata, "outputs", "pred", count)


def labels_of(
    names: Sequence[str] | None,
    count: int,
    head: Head,
    regions: Mapping[str, Sequence[int]] | None,
    order: Sequence[int] | None,
) -> tuple[LabelSet, tuple[int, ...]]:
    """Return the classes or regions of a bundle.

    Args:
        names: The names of the network's outputs, if they are known.
        count: Their number.
        head: How they are read.
        regions: The label values in each region, by the name of its output; needed where there are several regions.
        order: For each region the label value that is written where it is found, see `LabelSet.with_regions`.

    Returns:
        The labels, and for each class or region in their order the place of its output.

    Raises:
        UserError: It is not known what the outputs stand for.
    """
    if head == "softmax":
        if regions is not None:
            raise UserError("regions are for networks with one sigmoid per region; this one decides between classes")
        if count < 2:
            raise UserError("a network with one output and argmax finds nothing but background")
        found = names or ("background", *[f"class {place}" for place in range(1, count)])
        return LabelSet(tuple(found), tuple(range(count))), tuple(range(count))
    outputs = tuple(names or [f"region {place}" for place in range(count)])
    if regions is None:
        if count > 1:
            raise UserError(f"the network has one sigmoid for each of {', '.join(outputs)}; say which label values "
                            f"each of these regions holds, by its name: {_HINT}")  # fmt: skip
        regions = {outputs[0]: [1]}
    if set(regions) != set(outputs):
        raise UserError(f"regions must name {', '.join(outputs)}, got {', '.join(regions)}")
    values = sorted({value for held in regions.values() for value in held})
    plain = LabelSet(("background", *[_class_name(value, regions) for value in values]), (0, *values))
    labels = plain.with_regions({name: tuple(regions[name]) for name in outputs}, order)
    return labels, tuple(outputs.index(region.name) for region in labels.regions)


def _class_name(value: int, regions: Mapping[str, Sequence[int]]) -> str:
    alone = [name for name, held in regions.items() if list(held) == [value]]
    return alone[0] if alone else f"label {value}"


def _names(metadata: Mapping[str, Any], side: str, key: str, count: int) -> tuple[str, ...] | None:
    found: Any = metadata
    for part in ("network_data_format", side, key, "channel_def"):
        found = found.get(part) if isinstance(found, Mapping) else None
    if not isinstance(found, Mapping) or len(found) != count or set(map(str, found)) != set(map(str, range(count))):
        return None
    named = {str(place): str(name) for place, name in found.items()}
    names = tuple(named[str(place)] for place in range(count))
    return names if len(set(names)) == count else None
