"""Post-processing of class maps, and the decision for each class whether it helps."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from voxward.core.errors import UserError
from voxward.core.labels import LabelSet
from voxward.core.recipe import PostProcessing
from voxward.core.recipe.postprocessing import FractionOf
from voxward.core.registry import Registry, unknown_name
from voxward.core.types import Float3
from voxward.metrics.overlap import confusion, dice, part_counts
from voxward.runs.components import (
    Box,
    drop_small_parts,
    fill_holes,
    fuse_small_components,
    keep_largest_component,
    present,
    widened,
)

Pair = tuple[np.ndarray, np.ndarray, Float3]
Step = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class PostProcess:
    """The post-processing that was chosen for a run, kept as JSON. By default nothing is done.

    Attributes:
        kinds: What is done to each foreground class, names of KINDS.
        minimum_mm3: For each foreground class, the volume in mm3 below which a component is small; only kinds that need
            it read it.
        fraction: The share, in [0, 1], below which the kind `share` drops a component.
        filled: Whether the holes of each foreground class are filled; () means no holes are.
        fraction_of: What the share is of, see the recipe's `PostProcessing`.
        islands: The share, in [0, 1], of the largest part of all foreground together below which another part of it
            becomes background; 0 drops none.

    Raises:
        UserError: A kind is unknown, or a kind needs `minimum_mm3` and there is not one value per class.
    """

    kinds: tuple[str, ...] = ()
    minimum_mm3: tuple[float, ...] = ()
    fraction: float = 0.2
    filled: tuple[bool, ...] = ()
    fraction_of: FractionOf = "mask"
    islands: float = 0.0

    def __post_init__(self) -> None:
        needs_minimum = [KINDS[kind].needs_minimum for kind in self.kinds]
        if any(needs_minimum) and len(self.minimum_mm3) != len(self.kinds):
            raise UserError(f"minimum_mm3 needs a value for each of the kinds {self.kinds}, got {self.minimum_mm3}")

    @property
    def idle(self) -> bool:
        """Return whether every class map is left as it is."""
        return not any(KINDS[kind].changes for kind in self.kinds) and not any(self.filled) and not self.islands

    def apply(self, label: np.ndarray, spacing: Float3) -> np.ndarray:
        """Post-process a class map: the islands, then the kinds in the order of KINDS, then the holes.

        Args:
            label: Class indices (i, j, k).
            spacing: The voxel size in mm along (i, j, k).

        Returns:
            The post-processed class indices (i, j, k).
        """
        label = self.without_islands(label)
        for name, kind in KINDS.items():
            classes = [klass for klass, own in enumerate(self.kinds, start=1) if own == name]
            if classes:
                label = kind.apply(label, classes, self, spacing)
        return fill_holes(label, self.hollow) if any(self.filled) else label

    def without_islands(self, label: np.ndarray) -> np.ndarray:
        """Drop the islands alone.

        Args:
            label: Class indices (i, j, k).
        """
        if not self.islands or not label.any():
            return label
        return drop_small_parts(label, self.islands, range(1, int(label.max()) + 1), "largest")

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
    filling of a class's holes is judged in the same way. Islands are dropped only if that raises the mean Dice of what
    is scored. How several steps act on each other is not tried. The Dice of
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
    filled = (True,) * len(kinds) if wanted.fill_holes else ()
    asked = PostProcess(kinds, minimum_mm3, wanted.fraction, filled, wanted.fraction_of, wanted.islands)
    if asked.idle:
        return PostProcess()
    cases = list(map(partial(_scores, asked, labels), pairs))
    if not cases:
        raise UserError("choosing a post-processing needs at least one (truth, prediction, spacing)")
    before, *after, dropped = np.mean(cases, axis=0)
    scored = slice(len(kinds), None)
    places = [*range(len(kinds)), *range(len(asked.filled))]
    helps = [
        bool(row[n] > before[n] and row[scored].mean() >= before[scored].mean())
        for n, row in zip(places, after, strict=True)
    ]
    chosen = tuple(kind if yes else _NOTHING for kind, yes in zip(kinds, helps[: len(kinds)], strict=True))
    islands = asked.islands if dropped[scored].mean() > before[scored].mean() else 0.0
    return replace(asked, kinds=chosen, filled=tuple(helps[len(kinds) :]), islands=islands)


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
    """Drop components with less than `fraction` of their class's voxels, or of its largest component's."""
    for klass in classes:
        label = drop_small_parts(label, settled.fraction, (klass,), settled.fraction_of)
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

    The first row is for the prediction as it is; one row follows for each step that `_alone` gives, and the last one is
    for the dropping of islands. The voxels are counted once, and then only the voxels that a step changes are counted
    again.
    """
    truth, prediction, spacing = pair
    count = len(wanted.kinds) + 1
    unknown = labels.ignored(truth)
    matrix = _annotated_confusion(truth, prediction, count, unknown)
    scores = np.tile(_dice_of_parts(matrix, labels), (count + len(wanted.filled) + 1, 1))

    def score(row: int, box: Box, step: Step) -> None:
        before = prediction[box]
        after = step(before)
        changed = after != before
        if unknown is not None:
            changed &= ~unknown[box]
        if changed.any():
            true = truth[box][changed]
            moved = confusion(true, after[changed], count) - confusion(true, before[changed], count)
            scores[row] = _dice_of_parts(matrix + moved, labels)

    for klass, box in present(prediction, range(1, count)):
        wide = widened(box)  # what touches a component decides what it becomes
        for row, step in _alone(wanted, klass, spacing):
            score(row, wide, step)
    if wanted.islands:
        score(len(scores) - 1, (), wanted.without_islands)
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
