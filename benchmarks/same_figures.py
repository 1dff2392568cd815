"""Do two commits give the same figures? Compare the folders of results that they made.

    python -m benchmarks.same_figures OLD NEW

All weights (*.safetensors) are compared tensor by tensor, all segmentations and volumes (.nii, .nii.gz) voxel by voxel,
and all records of attacks (records/**/*.json) field by field. Files are matched by their path inside the two folders.
A file, tensor, record or field that only one folder has counts as different. The exit code is 1 if anything differs.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file

from voxward.data.io import read_image

# Fields of a record that may differ between two commits although the figures are the same.
FREE = ("seconds", "version", "torch", "system")
SHOWN = 5  # differing items that are named, per kind

Items = Mapping[str, Any]
"""Each item of a file by its name: a tensor, the voxels, or a field of a record."""


@dataclass(frozen=True)
class Kind:
    """One kind of result.

    Attributes:
        name: The name in the table.
        unit: What is counted.
        holds: Whether a path, relative to the folder, is of this kind.
        items: Reads the items of a file.
    """

    name: str
    unit: str
    holds: Callable[[Path], bool]
    items: Callable[[Path], Items]


@dataclass(frozen=True)
class Comparison:
    """What the comparison of one kind has found.

    Attributes:
        kind: The kind of result.
        equal: The number of items that are equal in both folders.
        total: The number of items that at least one folder has.
        largest: The largest absolute difference of two numbers; infinite where an item is missing or has another form.
        differing: The names of the items that differ.
    """

    kind: Kind
    equal: int
    total: int
    largest: float
    differing: tuple[str, ...]

    def line(self) -> str:
        """Return the line of the table."""
        text = f"{self.kind.name}: {self.equal} of {self.total} {self.kind.unit} equal"
        return f"{text}, largest difference {self.largest:g}"


def tensors(path: Path) -> Items:
    """Return the tensors of a safetensors file."""
    # NumPy has no bfloat16; in float32 its values are the same.
    loaded = load_file(path).items()
    return {name: (value.float() if value.dtype == torch.bfloat16 else value).numpy() for name, value in loaded}


def voxels(path: Path) -> Items:
    """Return the intensities, or label values, and the affine of a volume file."""
    volume = read_image([path])
    return {"voxels": volume.array, "affine": volume.affine}


def record_fields(path: Path) -> Items:
    """Return the fields of all records in a file, each named by the place of its record: version 0.1 wrote a list."""
    data = json.loads(path.read_text())
    records = data["records"] if isinstance(data, dict) else data
    fields = ((place, name, value) for place, record in enumerate(records) for name, value in record.items())
    return {f"[{place}].{name}": value for place, name, value in fields if name not in FREE}


KINDS = (
    Kind("weights", "tensors", lambda path: path.suffix == ".safetensors", tensors),
    Kind("volumes", "arrays", lambda path: path.name.endswith((".nii", ".nii.gz")), voxels),
    Kind("records", "fields", lambda path: "records" in path.parts[:-1] and path.suffix == ".json", record_fields),
)


def compare(old: Path, new: Path) -> tuple[Comparison, ...]:
    """Compare all results in two folders.

    Raises:
        FileNotFoundError: A folder does not exist.
        ValueError: Neither folder holds any result.
    """
    for folder in (old, new):
        if not folder.is_dir():
            raise FileNotFoundError(f"there is no folder {folder}")
    found = tuple(_compare_kind(kind, old, new) for kind in KINDS)
    if not any(comparison.total for comparison in found):
        raise ValueError(f"neither {old} nor {new} holds weights, volumes or records")
    return found


def difference(one: Any, other: Any) -> float:
    """Return by how much two items differ.

    Args:
        one: An array, or a value from a JSON file.
        other: What it is compared with.

    Returns:
        The largest absolute difference of two numbers in them: 0 only where the items are equal, NaN counting as equal
        to NaN; infinity where they differ in form, number type or text.
    """
    if isinstance(one, np.ndarray) and isinstance(other, np.ndarray):
        return _array_difference(one, other)
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        if one.keys() != other.keys():
            return math.inf
        return max((difference(one[name], other[name]) for name in one), default=0.0)
    if isinstance(one, list) and isinstance(other, list):
        if len(one) != len(other):
            return math.inf
        return max((difference(*pair) for pair in zip(one, other, strict=True)), default=0.0)
    if _is_number(one) and _is_number(other):
        return float(abs(one - other))
    return 0.0 if type(one) is type(other) and one == other else math.inf


def main(argv: Sequence[str] | None = None) -> int:
    """Print one line per kind, then the items that differ. Return 1 if there are any."""
    parser = argparse.ArgumentParser(description="Compare the results of two commits.")
    parser.add_argument("old", type=Path, help="the folder of results of one commit")
    parser.add_argument("new", type=Path, help="the folder of results of the other commit")
    arguments = parser.parse_args(argv)
    found = compare(arguments.old, arguments.new)
    for comparison in found:
        print(comparison.line())
    for comparison in found:
        _print_differing(comparison)
    return int(any(comparison.differing for comparison in found))


def _compare_kind(kind: Kind, old: Path, new: Path) -> Comparison:
    equal, differing, largest = 0, list[str](), 0.0
    for name, gap in _differences(kind, old, new):
        largest = max(largest, gap)
        if gap == 0:
            equal += 1
        else:
            differing.append(f"{name}: {gap:g}")
    return Comparison(kind, equal, equal + len(differing), largest, tuple(differing))


def _differences(kind: Kind, old: Path, new: Path) -> Iterator[tuple[str, float]]:
    """The name of every item that a folder has, and how much it differs; one file of each folder is read at a time."""
    one, other = _files(kind, old), _files(kind, new)
    for name in sorted({*one, *other}):
        first = kind.items(one[name]) if name in one else {}
        second = kind.items(other[name]) if name in other else {}
        for item in sorted({*first, *second}):
            missing = item not in first or item not in second
            yield f"{name} {item}", math.inf if missing else difference(first[item], second[item])


def _files(kind: Kind, folder: Path) -> dict[str, Path]:
    """The files of a kind by their path inside a folder; a dot marks what a killed process left unfinished."""
    paths = (path for path in folder.rglob("*") if path.is_file() and not path.name.startswith("."))
    pairs = ((path.relative_to(folder), path) for path in paths)
    return {inner.as_posix(): path for inner, path in pairs if kind.holds(inner)}


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _array_difference(one: np.ndarray, other: np.ndarray) -> float:
    if one.shape != other.shape or one.dtype != other.dtype:
        return math.inf
    same = (one == other) | ((one != one) & (other != other))  # NaN alone is not equal to itself
    if same.all():
        return 0.0
    gaps = np.abs(one[~same].astype(np.float64) - other[~same].astype(np.float64))
    # Where only one of the two is NaN, or infinite, there is no finite difference.
    return float(np.nan_to_num(gaps, nan=math.inf, posinf=math.inf).max())


def _print_differing(comparison: Comparison) -> None:
    for name in comparison.differing[:SHOWN]:
        print(f"  {name}")
    if len(comparison.differing) > SHOWN:
        print(f"  and {len(comparison.differing) - SHOWN} more")


if __name__ == "__main__":
    raise SystemExit(main())
