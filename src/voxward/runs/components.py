"""What can be done to the connected components of a class map.

Components are 26-connected: voxels that touch by a face, an edge or a corner belong together, as in the fingerprint.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from scipy import ndimage

from voxward.core.errors import UserError
from voxward.core.recipe.postprocessing import FractionOf
from voxward.core.spacing import voxel_mm3
from voxward.core.types import Float3

Box = tuple[slice, ...]

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
    for klass, box in present(label, classes):
        components, count = ndimage.label(label[box] == klass, _TOUCHING)
        if count > 1:
            sizes = np.bincount(components.ravel())
            largest = 1 + int(sizes[1:].argmax())
            result[box][(components > 0) & (components != largest)] = 0
    return result


def drop_small_parts(label: np.ndarray, fraction: float, classes: Sequence[int], of: FractionOf = "mask") -> np.ndarray:
    """Turn small isolated parts of some classes into background.

    Parts are the 26-connected components of all voxels of `classes` together. Whatever the fraction, the part with the
    most voxels stays, and for each class the part with the most voxels of that class, so that no organ is lost to a
    larger one. Of equal parts the first in array order stays.

    Args:
        label: Class indices (i, j, k).
        fraction: The share, in [0, 1], below which a part is small (0.2 in the ResDSN paper, section 4.1.2, and 0.05 in
            section 4.1.3).
        classes: The classes that this is done to; others are left alone.
        of: What the share is of: all voxels of `classes` (`mask`), or those of the largest part (`largest`).

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
    keep = sizes / (sizes.sum() if of == "mask" else sizes.max()) >= fraction
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
    for klass, box in present(label, classes):
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
    for _, box in present(label, (klass,)):
        components, _ = ndimage.label(label[box] == klass, _TOUCHING)
        small = np.bincount(components.ravel()) * one < minimum_mm3
        for number, part in enumerate(ndimage.find_objects(components), start=1):
            if small[number]:
                own = components[part] == number
                _fuse(label, result, _within(box, part), own)
    return result


def present(label: np.ndarray, classes: Sequence[int]) -> Iterator[tuple[int, Box]]:
    """Return the classes among `classes` that the map holds, each with its bounding box."""
    if label.ndim != 3 or not np.issubdtype(label.dtype, np.integer):
        raise UserError(f"label must be a 3D integer class map, got shape {label.shape} of {label.dtype}")
    boxes = ndimage.find_objects(label, max_label=max(classes, default=0))
    return ((klass, boxes[klass - 1]) for klass in classes if boxes[klass - 1] is not None)


def widened(box: Box) -> Box:
    """Return the box with one voxel more on every side, as far as the volume goes."""
    return tuple(slice(max(side.start - 1, 0), side.stop + 1) for side in box)


def _within(outer: Box, inner: Box) -> Box:
    """Return the box `inner`, whose voxels count from the corner of `outer`, in the coordinates of the volume."""
    return tuple(slice(a.start + b.start, a.start + b.stop) for a, b in zip(outer, inner, strict=True))


def _fuse(label: np.ndarray, result: np.ndarray, box: Box, own: np.ndarray) -> None:
    """Give one component (`own`, inside `box`) the most frequent class of the voxels of `label` that touch it."""
    wide = widened(box)
    room = np.zeros(label[wide].shape, dtype=bool)
    room[tuple(slice(a.start - b.start, a.stop - b.start) for a, b in zip(box, wide, strict=True))] = own
    ring = ndimage.binary_dilation(room, _TOUCHING) & ~room
    if ring.any():
        result[box][own] = np.bincount(label[wide][ring]).argmax()
