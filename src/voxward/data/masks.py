"""One mask for each class becomes one label."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from voxward.core.errors import UserError
from voxward.core.types import Size3


def label_of_masks(
    masks: Iterable[tuple[str, np.ndarray]], classes: Sequence[str], shape: Size3, over: bool, case: str
) -> np.ndarray:
    """Return a label in which each class has the number of its place, from 1 on.

    Args:
        masks: The name of a class and its mask (i, j, k), in the order of the classes.
        classes: The names of all classes.
        shape: The shape of the label.
        over: Whether later masks are written over earlier ones. Otherwise masks must not overlap.
        case: The id of the case, for messages.

    Raises:
        UserError: Masks overlap and must not.
    """
    label, values = np.zeros(shape, np.int32), {name: value for value, name in enumerate(classes, 1)}
    for name, mask in masks:
        if not over and (before := label[mask]).any():
            shared = int(np.count_nonzero(before))
            other = classes[int(before.max()) - 1]
            raise UserError(
                f"{case}: {other!r} and {name!r} share {shared} voxels, and a voxel has one class: name the classes "
                "with --classes, of which later ones are written over earlier ones"
            )
        label[mask] = values[name]
    return label
