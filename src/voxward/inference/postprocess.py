"""What is done to a segmentation after the network, on class maps, and how it is decided per class.

Components are 26-connected: voxels that touch by a face, an edge or a corner belong together, as in the fingerprint.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from scipy import ndimage

from voxward.core.labels import LabelSet
from voxward.core.types import Float3
from voxward.metrics.overlap import class_counts, confusion, dice

Kind = Literal["organ", "lesion", "none"]
Pair = tuple[np.ndarray, np.ndarray, Float3]
Box = tuple[slice, ...]

_TOUCHING = np.ones((3, 3, 3), dtype=bool)


def keep_largest_component(label: np.ndarray, classes: Sequence[int]) -> np.ndarray:
    """A copy of the class map (i, j, k) in which each of `classes` keeps only its largest component.

    Removed voxels become background. Of components of one size the first in array order stays.
    """
    result = label.copy()
    for klass, box in _present(label, classes):
        components, count = ndimage.label(label[box] == klass, _TOUCHING)
        if count > 1:
            sizes = np.bincount(components.ravel())
            largest = 1 + int(sizes[1:].argmax())
            result[box][(components > 0) & (components != largest)] = 0
    return result


def fuse_small_components(label: np.ndarray, klass: int, minimum_mm3: float, spacing: Float3) -> np.ndarray:
    """A copy of the class map (i, j, k) in which components of `klass` under `minimum_mm3` become what surrounds them.

    That is the class most frequent among the voxels that touch the component, the background possible (on a tie the
    lower class). A component that fills the whole volume stays. spacing in mm.
    """
    result = label.copy()
    voxel_mm3 = float(np.prod(spacing))
    for _, box in _present(label, (klass,)):
        components, _ = ndimage.label(label[box] == klass, _TOUCHING)
        small = np.bincount(components.ravel()) * voxel_mm3 < minimum_mm3
        for number, part in enumerate(ndimage.find_objects(components), start=1):
            if small[number]:
                own = components[part] == number
                _fuse(label, result, _within(box, part), own)
    return result


@dataclass(frozen=True)
class PostProcess:
    """A post-processing as it was settled for a run; JSON through `core.structure`.

    kind: `organ` keeps the largest component, `lesion` fuses small components with what surrounds them. classes: the
    foreground classes for which it is on. minimum_mm3: `lesion`'s threshold, one per foreground class of the labels.
    """

    kind: Kind = "none"
    classes: tuple[int, ...] = ()
    minimum_mm3: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if any(klass < 1 for klass in self.classes):
            raise ValueError(f"classes must be foreground classes, 1 or higher, got {self.classes}")
        if self.kind == "lesion" and any(klass > len(self.minimum_mm3) for klass in self.classes):
            raise ValueError(
                f"minimum_mm3 needs a value for each of the classes {self.classes}, got {self.minimum_mm3}"
            )

    def apply(self, label: np.ndarray, spacing: Float3) -> np.ndarray:
        """The class map (i, j, k) after post-processing, class by class in the order of `classes`. spacing in mm."""
        return _STEPS[self.kind](self, label, spacing)


def choose_postprocess(
    pairs: Sequence[Pair], kind: Kind, minimum_mm3: tuple[float, ...], labels: LabelSet
) -> PostProcess:
    """Settle, class after class, whether post-processing helps on (truth, prediction, spacing) class maps.

    A class is switched on only if its mean Dice over the pairs rises and the mean foreground Dice does not fall. A
    class in neither map counts 1 here, so that the means before and after are over the same cases. Raises ValueError
    for no pairs, for a pair whose shapes differ, or unless minimum_mm3 has one value per foreground class.
    """
    if kind == "none":
        return PostProcess()
    if not pairs:
        raise ValueError("choosing a post-processing needs at least one (truth, prediction, spacing)")
    if len(minimum_mm3) != labels.count - 1:
        raise ValueError(f"minimum_mm3 needs {labels.count - 1} values, one per foreground class, got {minimum_mm3}")
    chosen = PostProcess(kind, (), minimum_mm3)
    current = [prediction for _, prediction, _ in pairs]
    score = _mean_dice(pairs, current, labels.count)
    for klass in range(1, labels.count):
        step = PostProcess(kind, (klass,), minimum_mm3)
        changed = [step.apply(label, spacing) for label, (_, _, spacing) in zip(current, pairs, strict=True)]
        attempt = _mean_dice(pairs, changed, labels.count)
        if attempt[klass - 1] > score[klass - 1] and attempt.mean() >= score.mean():
            chosen = replace(chosen, classes=(*chosen.classes, klass))
            current, score = changed, attempt
    return chosen


def _organ(settled: PostProcess, label: np.ndarray, spacing: Float3) -> np.ndarray:
    return keep_largest_component(label, settled.classes)


def _lesion(settled: PostProcess, label: np.ndarray, spacing: Float3) -> np.ndarray:
    for klass in settled.classes:
        label = fuse_small_components(label, klass, settled.minimum_mm3[klass - 1], spacing)
    return label


_STEPS: dict[str, Callable[[PostProcess, np.ndarray, Float3], np.ndarray]] = {
    "organ": _organ,
    "lesion": _lesion,
    "none": lambda settled, label, spacing: label,
}


def _mean_dice(pairs: Sequence[Pair], predictions: Sequence[np.ndarray], classes: int) -> np.ndarray:
    """Per foreground class the mean Dice over the pairs."""
    rows = []
    for (truth, _, _), prediction in zip(pairs, predictions, strict=True):
        matrix = confusion(truth, prediction, classes)
        values = [dice(class_counts(matrix, klass)) for klass in range(1, classes)]
        rows.append([1.0 if value is None else value for value in values])
    means: np.ndarray = np.asarray(rows).mean(0)
    return means


def _present(label: np.ndarray, classes: Sequence[int]) -> Iterator[tuple[int, Box]]:
    """Those of `classes` that the map holds, each with its bounding box."""
    if label.ndim != 3 or not np.issubdtype(label.dtype, np.integer):
        raise ValueError(f"label must be a 3D integer class map, got shape {label.shape} of {label.dtype}")
    boxes = ndimage.find_objects(label, max_label=max(classes, default=0))
    return ((klass, boxes[klass - 1]) for klass in classes if boxes[klass - 1] is not None)


def _within(outer: Box, inner: Box) -> Box:
    """`inner`, counted from the corner of `outer`, in the coordinates of the volume."""
    return tuple(slice(a.start + b.start, a.start + b.stop) for a, b in zip(outer, inner, strict=True))


def _fuse(label: np.ndarray, result: np.ndarray, box: Box, own: np.ndarray) -> None:
    """Give one component (`own`, inside `box`) the most frequent class of the voxels of `label` that touch it."""
    wide = tuple(slice(max(side.start - 1, 0), side.stop + 1) for side in box)
    room = np.zeros(label[wide].shape, dtype=bool)
    room[tuple(slice(a.start - b.start, a.stop - b.start) for a, b in zip(box, wide, strict=True))] = own
    ring = ndimage.binary_dilation(room, _TOUCHING) & ~room
    if ring.any():
        result[box][own] = np.bincount(label[wide][ring]).argmax()
