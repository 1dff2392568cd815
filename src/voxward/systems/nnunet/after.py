"""nnU-Net's post-processing, from the JSON file beside it; the pickle of functions is never opened."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy import ndimage

from voxward.core.errors import UserError
from voxward.core.labels import LabelSet
from voxward.core.types import Float3
from voxward.data.formats.description import read_object

_FUNCTION = "remove_all_but_largest_component_from_segmentation"
_TOUCHING = np.ones((3, 3, 3), dtype=bool)


@dataclass(frozen=True)
class LargestComponents:
    """Of each group of classes together only the largest component stays; its other voxels become background.

    Attributes:
        groups: Class indices of each group, in the order in which they are treated.
    """

    groups: tuple[tuple[int, ...], ...] = ()

    @property
    def idle(self) -> bool:
        """Return whether nothing is done."""
        return not self.groups

    def apply(self, label: np.ndarray, spacing: Float3) -> np.ndarray:
        """Treat a class map.

        Args:
            label: Class indices (i, j, k).
            spacing: The voxel size, on which nothing depends.

        Returns:
            A changed copy.
        """
        found = label.copy()
        for group in self.groups:
            components, count = ndimage.label(np.isin(found, group), _TOUCHING)
            if count > 1:
                largest = 1 + int(np.bincount(components.ravel())[1:].argmax())
                found[(components > 0) & (components != largest)] = 0
        return found


def read_after(folder: Path, labels: LabelSet) -> LargestComponents:
    """Read the post-processing that nnU-Net chose for a results folder.

    Args:
        folder: The results folder.
        labels: The classes.

    Raises:
        FileNotFoundError: The folder has no crossval_results_*/postprocessing.json.
        UserError: There are several that differ, or one names a function that is not known here.
    """
    files = sorted(folder.glob("crossval_results_*/postprocessing.json"))
    if not files:
        raise FileNotFoundError(
            f"{folder} has no crossval_results_*/postprocessing.json: nnUNetv2_find_best_configuration writes it"
        )
    found = {path: _steps(read_object(path), labels, path) for path in files}
    if len(set(found.values())) > 1:
        raise UserError(f"{folder}: {', '.join(map(str, files))} differ: leave only the one that is deployed")
    return next(iter(found.values()))


def _steps(content: Mapping[str, Any], labels: LabelSet, path: Path) -> LargestComponents:
    names, options = content.get("postprocessing_fns", []), content.get("postprocessing_kwargs", [])
    if not isinstance(names, list) or not isinstance(options, list) or len(names) != len(options):
        raise UserError(f"{path}: postprocessing_fns and postprocessing_kwargs must be lists of the same length")
    if unknown := [name for name in names if str(name).rpartition(".")[2] != _FUNCTION]:
        raise UserError(f"{path}: the function {unknown[0]!r} is not known; known: {_FUNCTION}")
    return LargestComponents(tuple(_group(each, labels, path) for each in options))


def _group(options: Any, labels: LabelSet, path: Path) -> tuple[int, ...]:
    given = options.get("labels_or_regions") if isinstance(options, Mapping) else None
    values = _flat(given if isinstance(given, Sequence) and not isinstance(given, str) else [given])
    if not values or any(value not in labels.values for value in values):
        raise UserError(f"{path}: labels_or_regions must hold label values of {list(labels.values)}, got {given!r}")
    return tuple(sorted(labels.values.index(value) for value in values))


def _flat(values: Sequence[Any]) -> list[Any]:
    return [inner for value in values for inner in (value if isinstance(value, Sequence) else [value])]
