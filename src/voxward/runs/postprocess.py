"""What is done to a segmentation after the network, on class maps, and how it is decided per class.

Components are 26-connected: voxels that touch by a face, an edge or a corner belong together, as in the fingerprint.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from scipy import ndimage

from voxward.core.errors import UserError
from voxward.core.labels import LabelSet
from voxward.core.recipe import PostProcessing, PostProcessingKind
from voxward.core.types import Float3
from voxward.metrics.overlap import confusion, dice, part_counts

Pair = tuple[np.ndarray, np.ndarray, Float3]
Box = tuple[slice, ...]

Step = Callable[[np.ndarray], np.ndarray]

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


def drop_small_parts(label: np.ndarray, fraction: float, classes: Sequence[int]) -> np.ndarray:
    """A copy of the class map (i, j, k) in which small isolated parts of `classes` are background.

    Parts are the 26-connected components of all voxels of `classes` together; small are those with less than
    `fraction` of these voxels (0.2 in the ResDSN paper's section 4.1.2, 0.05 in 4.1.3). Whatever the fraction, the part
    with the most voxels stays, and for each class the part with the most voxels of that class, so that no organ is lost
    to a larger one; of equal parts the first in array order. Other classes are left alone.
    """
    result = label.copy()
    mask = np.isin(label, classes)
    if not mask.any():
        return result
    (box,) = ndimage.find_objects(mask.view(np.uint8))
    components, count = ndimage.label(mask[box], _TOUCHING)
    sizes = np.bincount(components[mask[box]], minlength=count + 1)
    keep = sizes / sizes.sum() >= fraction
    keep[sizes.argmax()] = True
    for klass in classes:
        own = np.bincount(components[label[box] == klass], minlength=count + 1)
        keep[own.argmax()] |= own.any()
    result[box][mask[box] & ~keep[components]] = 0
    return result


def fill_holes(label: np.ndarray, classes: Sequence[int]) -> np.ndarray:
    """A copy of the class map (i, j, k) in which background that one of `classes` encloses has become that class.

    Enclosed is what no way from face to face leads out of, to the volume's rim; along an axis of one voxel (a 2D image)
    there is no way at all. Other classes inside (a cyst in an organ) stay. What several classes enclose becomes the
    last of them.
    """
    result = label.copy()
    ways = ndimage.generate_binary_structure(3, 1)
    for axis, length in enumerate(label.shape):
        if length == 1:
            ways &= np.indices(ways.shape)[axis] == 1
    for klass, box in _present(label, classes):
        inside = ndimage.binary_fill_holes(label[box] == klass, ways)
        result[box][inside & (label[box] == 0)] = klass
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
    """A post-processing as it was settled for a run; JSON through `core.structure`. By default nothing is done.

    kinds: one per foreground class; `organ` keeps the largest component, `share` drops those with less than `fraction`
    of the class's voxels, `lesion` fuses components under minimum_mm3 (one per foreground class) with what surrounds
    them, `none` leaves the class alone. filled: whether each foreground class's holes are filled; () means no.
    """

    kinds: tuple[PostProcessingKind, ...] = ()
    minimum_mm3: tuple[float, ...] = ()
    fraction: float = 0.2
    filled: tuple[bool, ...] = ()

    def __post_init__(self) -> None:
        if "lesion" in self.kinds and len(self.minimum_mm3) != len(self.kinds):
            raise UserError(f"minimum_mm3 needs a value for each of the kinds {self.kinds}, got {self.minimum_mm3}")

    @property
    def idle(self) -> bool:
        """Whether it leaves everything as it is."""
        return set(self.kinds) <= {"none"} and not any(self.filled)

    def apply(self, label: np.ndarray, spacing: Float3) -> np.ndarray:
        """The class map (i, j, k) after post-processing: organs, then lesions class by class, then holes.

        spacing: in mm.
        """
        for kind, step in _STEPS.items():
            classes = [klass for klass, own in enumerate(self.kinds, start=1) if own == kind]
            if classes:
                label = step(label, classes, self, spacing)
        return fill_holes(label, self.hollow) if any(self.filled) else label

    @property
    def hollow(self) -> tuple[int, ...]:
        """The classes whose holes are filled."""
        return tuple(klass for klass, yes in enumerate(self.filled, start=1) if yes)


def choose_postprocess(
    pairs: Iterable[Pair], wanted: PostProcessing, minimum_mm3: tuple[float, ...], labels: LabelSet
) -> PostProcess:
    """Settle for each class whether its post-processing helps on (truth, prediction, spacing) class maps.

    What is done to a class's components is kept only if, done alone to the predictions, it raises the class's mean Dice
    over the pairs and does not lower the mean Dice of what is scored, the foreground classes or the regions; likewise
    the filling of its holes, where `wanted` has it. How several of them act on each other is not tried. What is in
    neither map counts 1 here, so that the means before and after are over the same cases. The pairs are read once, and
    none is held while the next is made; with nothing wanted, none is read.

    Raises ValueError when `wanted` names an unknown class, for no pairs, for a pair whose shapes differ, or unless
    minimum_mm3 has one value per foreground class.
    """
    kinds = wanted.kinds(labels)
    if len(minimum_mm3) != len(kinds):
        raise UserError(f"minimum_mm3 needs {len(kinds)} values, one per foreground class, got {minimum_mm3}")
    asked = PostProcess(kinds, minimum_mm3, wanted.fraction, (True,) * len(kinds) if wanted.fill_holes else ())
    if asked.idle:
        return PostProcess()
    cases = list(map(partial(_scores, asked, labels), pairs))
    if not cases:
        raise UserError("choosing a post-processing needs at least one (truth, prediction, spacing)")
    before, *after = np.mean(cases, axis=0)
    scored = slice(len(kinds), None)
    places = [*range(len(kinds)), *range(len(asked.filled))]
    helps = [
        bool(row[n] > before[n] and row[scored].mean() >= before[scored].mean())
        for n, row in zip(places, after, strict=True)
    ]
    chosen = tuple(kind if yes else "none" for kind, yes in zip(kinds, helps[: len(kinds)], strict=True))
    return PostProcess(chosen, minimum_mm3, wanted.fraction, tuple(helps[len(kinds) :]))


def _organ(label: np.ndarray, classes: Sequence[int], settled: PostProcess, spacing: Float3) -> np.ndarray:
    return keep_largest_component(label, classes)


def _share(label: np.ndarray, classes: Sequence[int], settled: PostProcess, spacing: Float3) -> np.ndarray:
    for klass in classes:
        label = drop_small_parts(label, settled.fraction, (klass,))
    return label


def _lesion(label: np.ndarray, classes: Sequence[int], settled: PostProcess, spacing: Float3) -> np.ndarray:
    for klass in classes:
        label = fuse_small_components(label, klass, settled.minimum_mm3[klass - 1], spacing)
    return label


# In the order in which they are applied: what is left of the organs then surrounds the lesions.
_STEPS: dict[PostProcessingKind, Callable[[np.ndarray, Sequence[int], PostProcess, Float3], np.ndarray]] = {
    "organ": _organ,
    "share": _share,
    "lesion": _lesion,
}


def _scores(wanted: PostProcess, labels: LabelSet, pair: Pair) -> np.ndarray:
    """Dice of each foreground class, and behind these of all that is scored (regions, or the same again).

    First row as predicted, then one for each step that `_alone` gives. The voxels are counted once; then only those
    that a step changes.
    """
    truth, prediction, spacing = pair
    count = len(wanted.kinds) + 1
    matrix = confusion(truth, prediction, count)
    scores = np.tile(_dice_of_parts(matrix, labels), (count + len(wanted.filled), 1))
    for klass, box in _present(prediction, range(1, count)):
        wide = _widened(box)  # what touches a component decides what it becomes
        before = prediction[wide]
        for row, step in _alone(wanted, klass, spacing):
            after = step(before)
            changed = after != before
            if changed.any():
                true = truth[wide][changed]
                moved = confusion(true, after[changed], count) - confusion(true, before[changed], count)
                scores[row] = _dice_of_parts(matrix + moved, labels)
    return scores


def _alone(wanted: PostProcess, klass: int, spacing: Float3) -> Iterator[tuple[int, Step]]:
    """What is done to one class, each step with its row of `_scores`: components in row `klass`, holes behind these."""
    kind = wanted.kinds[klass - 1]
    if kind != "none":
        yield klass, lambda label: _STEPS[kind](label, (klass,), wanted, spacing)
    if klass in wanted.hollow:
        yield len(wanted.kinds) + klass, lambda label: fill_holes(label, (klass,))


def _dice_of_parts(matrix: np.ndarray, labels: LabelSet) -> np.ndarray:
    classes = [(klass,) for klass in range(1, labels.count)]
    added = labels.nested.labels if labels.regions else ()
    regions = [added[: n + 1] for n in range(len(added))]
    values = [dice(part_counts(matrix, part)) for part in (*classes, *(regions or classes))]
    return np.asarray([1.0 if value is None else value for value in values])


def _present(label: np.ndarray, classes: Sequence[int]) -> Iterator[tuple[int, Box]]:
    """Those of `classes` that the map holds, each with its bounding box."""
    if label.ndim != 3 or not np.issubdtype(label.dtype, np.integer):
        raise UserError(f"label must be a 3D integer class map, got shape {label.shape} of {label.dtype}")
    boxes = ndimage.find_objects(label, max_label=max(classes, default=0))
    return ((klass, boxes[klass - 1]) for klass in classes if boxes[klass - 1] is not None)


def _widened(box: Box) -> Box:
    """The box and one voxel around it, as far as the volume goes."""
    return tuple(slice(max(side.start - 1, 0), side.stop + 1) for side in box)


def _within(outer: Box, inner: Box) -> Box:
    """`inner`, counted from the corner of `outer`, in the coordinates of the volume."""
    return tuple(slice(a.start + b.start, a.start + b.stop) for a, b in zip(outer, inner, strict=True))


def _fuse(label: np.ndarray, result: np.ndarray, box: Box, own: np.ndarray) -> None:
    """Give one component (`own`, inside `box`) the most frequent class of the voxels of `label` that touch it."""
    wide = _widened(box)
    room = np.zeros(label[wide].shape, dtype=bool)
    room[tuple(slice(a.start - b.start, a.stop - b.start) for a, b in zip(box, wide, strict=True))] = own
    ring = ndimage.binary_dilation(room, _TOUCHING) & ~room
    if ring.any():
        result[box][own] = np.bincount(label[wide][ring]).argmax()
