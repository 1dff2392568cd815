"""What `check` says about labels: classes that differ in left and right, and labelled voxels that get lost."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from voxward.core.case import Case, Dataset, Volume
from voxward.core.errors import UserError
from voxward.core.labels import LabelSet
from voxward.core.sides import sides_of
from voxward.core.spacing import spacing_of
from voxward.core.types import Size3
from voxward.data.check_geometry import Fault
from voxward.data.io import read_header, read_label
from voxward.data.orient import nonzero_box, orient, orientation
from voxward.data.remarks import collected
from voxward.data.resample_labels import ClassCount, as_index, labelled_box, resample_counted
from voxward.data.volume_file import Header, affine_fault

# Names, and cases, that a message lists.
_SHOWN, _CASES = 6, 4
# Labels are looked at again where the median voxel is so many times as large as theirs.
_COARSER = 2.0


def sides_warning(labels: LabelSet) -> str | None:
    """Return what a user should know about classes that differ in left and right; None where there are none.

    Args:
        labels: The classes and regions of a dataset.
    """
    sides = sides_of((*labels.foreground, *(region.name for region in labels.regions)))
    if not sides.names:
        return None
    named = [" and ".join(pair) for pair in sides.pairs] + [f"{name} (one side)" for name in sides.single]
    more = f" and {len(named) - _SHOWN} more" if len(named) > _SHOWN else ""
    return (
        f"classes differ in left and right: {'; '.join(named[:_SHOWN])}{more}. Training will not mirror axis 0 "
        "(left-right) unless augmentation.mirror_pairs or augmentation.sides says otherwise"
    )


def label_faults(path: Path, images: Sequence[Volume], label: Volume, legal: LabelSet) -> Iterator[Fault]:
    """Find labelled voxels of a case that the crop to its non-zero voxels would cut off.

    Args:
        path: The file of the label.
        images: The channels of the case, in one or several volumes of the label's shape.
        label: The label (1, i, j, k), as its file stores it.
        legal: The classes.
    """
    if any(image.shape != label.shape for image in images):
        return  # reported elsewhere
    boxes = [nonzero_box(channel[None]) for image in images for channel in image.array if channel.any()]
    if not boxes:
        return
    low, high = (np.array(ends) for ends in zip(*boxes, strict=True))
    start, stop = (tuple(map(int, ends)) for ends in (low.min(0), high.max(0)))
    outside = labelled_box(label.array[0], legal.values[1:], _size3(start), _size3(stop))[2]
    if outside:
        yield (
            "warning", "label outside",
            f"{path}: {outside} labelled voxels lie outside the box of the non-zero voxels, to which volumes are "
            "cropped: training keeps them, but predictions are background there",
        )  # fmt: skip


def vanishing(dataset: Dataset) -> list[tuple[str, str]]:
    """Find objects that are too thin for voxels of the median size, in the cases whose voxels are half of that or less.

    Args:
        dataset: The dataset. Files that cannot be read are left to others.

    Returns:
        Kind and message, one for each class.
    """
    headers = {case.id: header for case in dataset.cases if (header := _header(case)) is not None}
    if not headers:
        return []
    spacings = {id: _oriented(header) for id, header in headers.items()}
    median = np.median(list(spacings.values()), axis=0)
    fine = [
        case for case in dataset.cases
        if case.id in spacings and np.prod(median) >= _COARSER * np.prod(spacings[case.id])
    ]  # fmt: skip
    lost: dict[int, list[str]] = {}
    for case in fine:
        for count in _counts_at(case, dataset.labels, spacings[case.id], median):
            if count.objects and count.left is not None and count.left < count.objects:
                said = f"{case.id}: {count.objects - count.left} of {count.objects}"
                lost.setdefault(count.index, []).append(said)
    where = " x ".join(f"{mm:.3g}" for mm in median)
    return [
        (
            "small objects",
            f"class {dataset.labels.names[k]!r}: objects too small for the median voxel of {where} mm in {len(said)} "
            f"cases ({'; '.join(said[:_CASES])}{'; ...' if len(said) > _CASES else ''}); see "
            "preparation.label_resampling",
        )
        for k, said in sorted(lost.items())
    ]


def _header(case: Case) -> Header | None:
    try:
        with collected():
            header = None if case.label is None else read_header(case.label)
    except (UserError, OSError):
        return None
    return header if header is not None and affine_fault(header.affine) is None else None


def _oriented(header: Header) -> tuple[float, float, float]:
    axes, _ = orientation(header.affine)
    x, y, z = (spacing_of(header.affine)[axis] for axis in axes)
    return x, y, z


def _counts_at(
    case: Case, labels: LabelSet, spacing: tuple[float, float, float], median: np.ndarray
) -> tuple[ClassCount, ...]:
    """What plain resampling to the median voxel size leaves of the classes of a case."""
    assert case.label is not None
    try:
        with collected():
            label = read_label(case.label)
        index = labels.to_index(orient(label.array, *orientation(label.affine)))
    except (UserError, OSError):
        return ()
    unknown = labels.ignored(index)
    if unknown is not None:
        index = np.where(unknown, 0, index).astype(index.dtype)
    shape = _size3(
        tuple(
            max(1, round(n * old / new)) if n > 1 else 1
            for n, old, new in zip(index.shape, spacing, median, strict=True)
        )
    )
    return resample_counted(as_index(index), shape, labels.count, "linear")[1]


def _size3(values: tuple[int, ...]) -> Size3:
    i, j, k = values
    return i, j, k
