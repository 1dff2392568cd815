"""Post-processing of class maps, and the decision for each class whether it helps.

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
from voxward.core.recipe import PostProcessing
from voxward.core.registry import Registry, unknown_name
from voxward.core.spacing import voxel_mm3
from voxward.core.types import Float3
from voxward.metrics.overlap import confusion, dice, part_counts

Pair = tuple[np.ndarray, np.ndarray, Float3]
Box = tuple[slice, ...]

Step = Callable[[np.ndarray], np.ndarray]

_TOUCHING = np.ones((3, 3, 3), dtype=bool)


def keep_largest_component(label: np.ndarray, classes: Sequence[int]) -> np.ndarray:
    """Keep only the largest component of each class; its other voxels become background.

    Args:
        label: Class indices (i, j, k).
        classes: The classes that this is done to.

    Returns:
        A changed copy. Of components of equal size the first in array order stays.
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
    """Turn small isolated parts of some classes into background.

    Parts are the 26-connected components of all voxels of `classes` together. Whatever the fraction, the part with the
    most voxels stays, and for each class the part with the most voxels of that class, so that no organ is lost to a
    larger one. Of equal parts the first in array order stays.

    Args:
        label: Class indices (i, j, k).
        fraction: The share, in [0, 1], of all voxels of `classes` below which a part is small (0.2 in the ResDSN paper,
            section 4.1.2, and 0.05 in section 4.1.3).
        classes: The classes that this is done to; others are left alone.

    Returns:
        A changed copy.
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
    """Turn background that a class encloses into that class.

    A voxel is enclosed if no way from face to face leads from it to the volume's rim; along an axis of one voxel, as 2D
    images have, there is no way at all. Other classes inside (a cyst in an organ) stay.

    Args:
        label: Class indices (i, j, k).
        classes: The classes whose holes are filled. What several of them enclose becomes the last of them.

    Returns:
        A changed copy.
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
    """Turn small components of a class into the class around them.

    That is the most frequent class among the voxels that touch the component, which may be the background; of equally
    frequent classes, the lower one. A component that fills the whole volume stays.

    Args:
        label: Class indices (i, j, k).
        klass: The class whose components are looked at.
        minimum_mm3: The volume in mm3 below which a component is small.
        spacing: The voxel size in mm along (i, j, k).

    Returns:
        A changed copy.
    """
    result = label.copy()
    one = voxel_mm3(spacing)
    for _, box in _present(label, (klass,)):
        components, _ = ndimage.label(label[box] == klass, _TOUCHING)
        small = np.bincount(components.ravel()) * one < minimum_mm3
        for number, part in enumerate(ndimage.find_objects(components), start=1):
            if small[number]:
                own = components[part] == number
                _fuse(label, result, _within(box, part), own)
    return result


@dataclass(frozen=True)
class PostProcess:
    """The post-processing that was chosen for a run, kept as JSON. By default nothing is done.

    Attributes:
        kinds: What is done to each foreground class, names of KINDS.
        minimum_mm3: For each foreground class, the volume in mm3 below which a component is small; only kinds that need
            it read it.
        fraction: The share of a class's voxels, in [0, 1], below which the kind `share` drops a component.
        filled: Whether the holes of each foreground class are filled; () means no holes are.

    Raises:
        UserError: A kind is unknown, or a kind needs `minimum_mm3` and there is not one value per class.
    """

    kinds: tuple[str, ...] = ()
    minimum_mm3: tuple[float, ...] = ()
    fraction: float = 0.2
    filled: tuple[bool, ...] = ()

    def __post_init__(self) -> None:
        needs_minimum = [KINDS[kind].needs_minimum for kind in self.kinds]
        if any(needs_minimum) and len(self.minimum_mm3) != len(self.kinds):
            raise UserError(f"minimum_mm3 needs a value for each of the kinds {self.kinds}, got {self.minimum_mm3}")

    @property
    def idle(self) -> bool:
        """Return whether every class map is left as it is."""
        return not any(KINDS[kind].changes for kind in self.kinds) and not any(self.filled)

    def apply(self, label: np.ndarray, spacing: Float3) -> np.ndarray:
        """Post-process a class map: the kinds in the order of KINDS, then the holes.

        Args:
            label: Class indices (i, j, k).
            spacing: The voxel size in mm along (i, j, k).

        Returns:
            The post-processed class indices (i, j, k).
        """
        for name, kind in KINDS.items():
            classes = [klass for klass, own in enumerate(self.kinds, start=1) if own == name]
            if classes:
                label = kind.apply(label, classes, self, spacing)
        return fill_holes(label, self.hollow) if any(self.filled) else label

    @property
    def hollow(self) -> tuple[int, ...]:
        """Return the classes whose holes are filled."""
        return tuple(klass for klass, yes in enumerate(self.filled, start=1) if yes)


def choose_postprocess(
    pairs: Iterable[Pair], wanted: PostProcessing, minimum_mm3: tuple[float, ...], labels: LabelSet
) -> PostProcess:
    """Choose for each class whether post-processing helps.

    What is done to a class's components is kept only if, done alone to the predictions, it raises the class's mean Dice
    over the pairs and does not lower the mean Dice of what is scored (the foreground classes or the regions). The
    filling of a class's holes is judged in the same way. How several steps act on each other is not tried. The Dice of
    a class that neither map holds counts 1, so that the means before and after are over the same cases.

    Args:
        pairs: Ground truth and prediction (class indices (i, j, k)) and the spacing in mm of the selection cases. They
            are read once, and none is held while the next one is made; if nothing is wanted, none is read.
        wanted: The recipe's part on post-processing.
        minimum_mm3: For each foreground class, the volume in mm3 below which a component is small.
        labels: The classes and regions.

    Returns:
        The post-processing that helps.

    Raises:
        UserError: `wanted` names an unknown class or kind, there is no pair, the shapes of a pair differ, or
            `minimum_mm3` has not one value per foreground class.
    """
    check_postprocessing(wanted, labels)
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
    chosen = tuple(kind if yes else _NOTHING for kind, yes in zip(kinds, helps[: len(kinds)], strict=True))
    return PostProcess(chosen, minimum_mm3, wanted.fraction, tuple(helps[len(kinds) :]))


def check_postprocessing(wanted: PostProcessing, labels: LabelSet) -> None:
    """Refuse a recipe whose post-processing names unknown classes or kinds.

    Args:
        wanted: The recipe's part on post-processing.
        labels: The dataset's classes.

    Raises:
        UserError: A class is not in the dataset, or there is no kind of that name; the message lists the legal names.
    """
    wanted.kinds(labels)
    for key, kind in (("kind", wanted.kind), *((f"classes.{name}", kind) for name, kind in wanted.classes.items())):
        if kind not in KINDS:
            raise UserError(f"postprocessing.{key}: {unknown_name(KINDS.family, kind, KINDS)}")


def _organ(label: np.ndarray, classes: Sequence[int], settled: PostProcess, spacing: Float3) -> np.ndarray:
    """Keep the largest component of each class."""
    return keep_largest_component(label, classes)


def _share(label: np.ndarray, classes: Sequence[int], settled: PostProcess, spacing: Float3) -> np.ndarray:
    """Drop components with less than `fraction` of their class's voxels."""
    for klass in classes:
        label = drop_small_parts(label, settled.fraction, (klass,))
    return label


def _lesion(label: np.ndarray, classes: Sequence[int], settled: PostProcess, spacing: Float3) -> np.ndarray:
    """Fuse components below `minimum_mm3` with the class around them."""
    for klass in classes:
        label = fuse_small_components(label, klass, settled.minimum_mm3[klass - 1], spacing)
    return label


def _none(label: np.ndarray, classes: Sequence[int], settled: PostProcess, spacing: Float3) -> np.ndarray:
    """Leave the classes alone."""
    return label


@dataclass(frozen=True)
class Kind:
    """A kind of post-processing of a class's components.

    Attributes:
        apply: From a class map (i, j, k), the classes of this kind, the post-processing and the spacing in mm to the
            changed class map.
        changes: Whether it ever changes a class map.
        needs_minimum: Whether it reads `PostProcess.minimum_mm3`.
    """

    apply: Callable[[np.ndarray, Sequence[int], PostProcess, Float3], np.ndarray]
    changes: bool = True
    needs_minimum: bool = False


# The name of the kind that classes get for which post-processing does not help.
_NOTHING = "none"
# In the order in which they are applied: what is left of the organs then surrounds the lesions.
KINDS: Registry[Kind] = Registry(
    "kind of post-processing",
    {
        "organ": Kind(_organ),
        "share": Kind(_share),
        "lesion": Kind(_lesion, needs_minimum=True),
        _NOTHING: Kind(_none, changes=False),
    },
)


def _scores(wanted: PostProcess, labels: LabelSet, pair: Pair) -> np.ndarray:
    """Return the Dice of each foreground class, then of all that is scored (the regions, or the same classes again).

    The first row is for the prediction as it is; one row follows for each step that `_alone` gives. The voxels are
    counted once, and then only the voxels that a step changes are counted again.
    """
    truth, prediction, spacing = pair
    count = len(wanted.kinds) + 1
    unknown = labels.ignored(truth)
    matrix = _annotated_confusion(truth, prediction, count, unknown)
    scores = np.tile(_dice_of_parts(matrix, labels), (count + len(wanted.filled), 1))
    for klass, box in _present(prediction, range(1, count)):
        wide = _widened(box)  # what touches a component decides what it becomes
        before = prediction[wide]
        for row, step in _alone(wanted, klass, spacing):
            after = step(before)
            changed = after != before
            if unknown is not None:
                changed &= ~unknown[wide]
            if changed.any():
                true = truth[wide][changed]
                moved = confusion(true, after[changed], count) - confusion(true, before[changed], count)
                scores[row] = _dice_of_parts(matrix + moved, labels)
    return scores


def _annotated_confusion(
    truth: np.ndarray, prediction: np.ndarray, count: int, unknown: np.ndarray | None
) -> np.ndarray:
    if unknown is None:
        return confusion(truth, prediction, count)
    return confusion(truth[~unknown], prediction[~unknown], count)


def _alone(wanted: PostProcess, klass: int, spacing: Float3) -> Iterator[tuple[int, Step]]:
    """Yield the steps for one class, each with its row of `_scores`: first the class's components, then its holes."""
    kind = KINDS[wanted.kinds[klass - 1]]
    if kind.changes:
        yield klass, lambda label: kind.apply(label, (klass,), wanted, spacing)
    if klass in wanted.hollow:
        yield len(wanted.kinds) + klass, lambda label: fill_holes(label, (klass,))


def _dice_of_parts(matrix: np.ndarray, labels: LabelSet) -> np.ndarray:
    classes = [(klass,) for klass in range(1, labels.count)]
    regions = labels.region_maps.parts if labels.regions else classes
    values = [dice(part_counts(matrix, part)) for part in (*classes, *regions)]
    return np.asarray([1.0 if value is None else value for value in values])


def _present(label: np.ndarray, classes: Sequence[int]) -> Iterator[tuple[int, Box]]:
    """Return the classes among `classes` that the map holds, each with its bounding box."""
    if label.ndim != 3 or not np.issubdtype(label.dtype, np.integer):
        raise UserError(f"label must be a 3D integer class map, got shape {label.shape} of {label.dtype}")
    boxes = ndimage.find_objects(label, max_label=max(classes, default=0))
    return ((klass, boxes[klass - 1]) for klass in classes if boxes[klass - 1] is not None)


def _widened(box: Box) -> Box:
    """Return the box with one voxel more on every side, as far as the volume goes."""
    return tuple(slice(max(side.start - 1, 0), side.stop + 1) for side in box)


def _within(outer: Box, inner: Box) -> Box:
    """Return the box `inner`, whose voxels count from the corner of `outer`, in the coordinates of the volume."""
    return tuple(slice(a.start + b.start, a.start + b.stop) for a, b in zip(outer, inner, strict=True))


def _fuse(label: np.ndarray, result: np.ndarray, box: Box, own: np.ndarray) -> None:
    """Give one component (`own`, inside `box`) the most frequent class of the voxels of `label` that touch it."""
    wide = _widened(box)
    room = np.zeros(label[wide].shape, dtype=bool)
    room[tuple(slice(a.start - b.start, a.stop - b.start) for a, b in zip(box, wide, strict=True))] = own
    ring = ndimage.binary_dilation(room, _TOUCHING) & ~room
    if ring.any():
        result[box][own] = np.bincount(label[wide][ring]).argmax()
