"""The measurement of a dataset's training cases. Every case is read once, and only samples of it are kept."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from voxward.core.case import Case, Dataset, Volume
from voxward.core.errors import UserError
from voxward.core.failures import Failures
from voxward.core.labels import LabelSet
from voxward.core.plan import CaseFingerprint, ChannelFingerprint, Fingerprint
from voxward.core.spacing import voxel_mm3
from voxward.core.types import Float3
from voxward.data.intensities import measure_intensities
from voxward.data.io import read_case, read_truth
from voxward.data.orient import box_slices, nonzero_box, orient, orientation
from voxward.data.parallel import for_each_case
from voxward.data.places import label_fault
from voxward.data.resample_labels import counted, labelled_box

# Foreground voxels that a case contributes to the pooled intensities, so that large organs do not drown small cases.
_SAMPLE = 10_000
# Voxels that touch by a face, an edge or a corner belong to one object.
_CONNECTED = np.ones((3, 3, 3), bool)


@dataclass(frozen=True)
class CaseSummary:
    """The measurements of one case.

    Attributes:
        fingerprint: Shape, spacing and voxels per class.
        sample: Intensities (c, n) of up to 10,000 foreground voxels, in the file's unit.
        volumes: For each foreground class, the volumes in mm3 of its connected components (26 neighbours), sorted.
        extents: For each foreground class, the edges in mm of the box around all of it; None where the class is absent.
    """

    fingerprint: CaseFingerprint
    sample: np.ndarray
    volumes: tuple[tuple[float, ...], ...]
    extents: tuple[Float3 | None, ...]


def fingerprint(
    dataset: Dataset,
    ids: Sequence[str] | None = None,
    workers: int = 2,
    progress: Callable[[int, int], None] | None = None,
    crop_nonzero: bool = True,
    failures: Failures | None = None,
) -> Fingerprint:
    """Measure the labelled cases of a dataset. The result does not depend on chance or on the number of workers.

    Args:
        dataset: The dataset.
        ids: The ids of the cases that are measured; None measures all labelled cases.
        workers: How many cases are measured at once, in threads.
        progress: A function that is told after each case how many are done, and of how many.
        crop_nonzero: Whether preparation will crop to the non-zero voxels; if so, shapes are those of the cropped
            volumes.
        failures: Gets the cases that cannot be measured; None refuses them.

    Returns:
        The pooled measurements.

    Raises:
        UserError: Cases cannot be measured, which the message names, or no case holds any foreground.
    """
    cases = dataset.cases if ids is None else [dataset.case(id) for id in ids]
    if not cases:
        raise UserError(f"cannot fingerprint dataset {dataset.name!r}: no labelled case was given")
    found = for_each_case(
        lambda case: _read_and_summarize(case, dataset, crop_nonzero), cases, workers, progress, failures
    )
    if not found and failures is not None:
        failures.raise_any(len(cases))
    return combine(dataset.name, dataset.channels, dataset.labels, found)


def summarize(volume: Volume, label: Volume, labels: LabelSet, id: str, crop_nonzero: bool = True) -> CaseSummary:
    """Measure one case.

    Args:
        volume: The image, in the file's voxels and intensities.
        label: The ground truth, with the file's values in the image's voxels.
        labels: The dataset's classes.
        id: The case's id.
        crop_nonzero: Whether the case is cropped to its non-zero voxels first.

    Raises:
        UserError: Image and label differ in shape or affine, or a label value is undeclared.
    """
    if (fault := label_fault(volume, label)) is not None:
        raise UserError(fault)
    axes, flips = orientation(volume.affine)
    image, truth = orient(volume.array, axes, flips), orient(label.array, axes, flips)
    intensities = tuple(map(measure_intensities, image))
    if crop_nonzero:
        start, stop, _ = labelled_box(truth, labels.values[1:], *nonzero_box(image))
        box = box_slices(start, stop)
        image, truth = image[(slice(None), *box)], truth[box]
    index = labels.to_index(truth)
    unknown = labels.ignored(index)
    if unknown is not None:  # no foreground; it is taken out of the background's voxels below
        index = np.where(unknown, 0, index).astype(index.dtype)
    x, y, z = (volume.spacing[axis] for axis in axes)
    counts = counted(index, labels.count)
    foreground = index.size - int(counts[0])
    counts[0] -= 0 if unknown is None else np.count_nonzero(unknown)
    d, h, w = index.shape
    voxel = voxel_mm3(volume.spacing)
    objects = [_objects(index, k, (x, y, z), voxel) for k in range(1, labels.count)]
    return CaseSummary(
        CaseFingerprint(id, (d, h, w), (x, y, z), tuple(int(count) for count in counts), intensities),
        _foreground_sample(image, index, foreground),
        tuple(volumes for volumes, _ in objects),
        tuple(extent for _, extent in objects),
    )


def combine(name: str, channels: Sequence[str], labels: LabelSet, cases: Sequence[CaseSummary]) -> Fingerprint:
    """Pool the measurements of cases.

    Args:
        name: The dataset's name.
        channels: The names of the channels.
        labels: The dataset's classes.
        cases: The measured cases, at least one.

    Raises:
        UserError: No case holds any foreground.
    """
    pooled = np.concatenate([case.sample for case in cases], axis=1)
    if not pooled.shape[1]:
        raise UserError(f"dataset {name!r}: none of the {len(cases)} labels holds any foreground voxel")
    size, volume = _smallest_class(cases)
    return Fingerprint(
        dataset=name,
        labels=labels,
        cases=tuple(case.fingerprint for case in cases),
        channels=tuple(_channel(*pair) for pair in zip(channels, pooled, strict=True)),
        objects=tuple(
            tuple(sorted(volume for case in cases for volume in case.volumes[k])) for k in range(labels.count - 1)
        ),
        object_size=size,
        object_volume=volume,
    )


def _read_and_summarize(case: Case, dataset: Dataset, crop_nonzero: bool) -> CaseSummary:
    volume = read_case(case)
    if len(volume.array) != len(dataset.channels):
        where = ", ".join(map(str, case.images))
        raise UserError(f"{where}: {len(volume.array)} channels, but the dataset declares {len(dataset.channels)}")
    return summarize(volume, read_truth(case, volume), dataset.labels, case.id, crop_nonzero)


def _foreground_sample(image: np.ndarray, index: np.ndarray, count: int) -> np.ndarray:
    """Intensities (c, n) at no more than 10,000 of the `count` foreground voxels, drawn with a fixed seed."""
    ranks = np.arange(count)
    if count > _SAMPLE:
        ranks = np.sort(np.random.default_rng(0).integers(0, count, _SAMPLE))
    found, before = [], 0
    for d, plane in enumerate(index):
        rows, columns = np.nonzero(plane)
        chosen = ranks[np.searchsorted(ranks, before) : np.searchsorted(ranks, before + len(rows))] - before
        found.append(image[:, d, rows[chosen], columns[chosen]])
        before += len(rows)
    return np.concatenate(found, axis=1).astype(np.float64)


def _objects(index: np.ndarray, k: int, spacing: Float3, voxel: float) -> tuple[tuple[float, ...], Float3 | None]:
    """Volumes (mm3) of a class's components and the extent (mm) of the class, measured inside its box."""
    mask = index == k
    if not mask.any():
        return (), None
    box = box_slices(*nonzero_box(mask[None]))
    inside = mask[box]
    components, count = ndimage.label(inside, _CONNECTED)
    volumes = np.sort(counted(components, count + 1)[1:] * voxel)
    x, y, z = (n * mm for n, mm in zip(inside.shape, spacing, strict=True))
    return tuple(float(volume) for volume in volumes), (x, y, z)


def _channel(name: str, values: np.ndarray) -> ChannelFingerprint:
    if not np.isfinite(values).all():
        raise UserError(f"channel {name!r} holds NaN or infinite voxels in the foreground")
    low, high = (float(value) for value in np.percentile(values, (0.5, 99.5)))
    clipped = np.clip(values, low, high)
    return ChannelFingerprint(name, low, high, float(clipped.mean()), float(clipped.std()))


def _smallest_class(cases: Sequence[CaseSummary]) -> tuple[Float3, float]:
    """Box and volume of the class with the least median volume, over the cases that hold it, in median voxels."""
    spacing = np.median([case.fingerprint.spacing for case in cases], axis=0)
    measured = []
    for k in range(len(cases[0].volumes)):
        present = [case for case in cases if case.volumes[k]]
        if present:
            volume = float(np.median([sum(case.volumes[k]) for case in present]))
            measured.append((volume, np.median([case.extents[k] for case in present], axis=0)))
    volume, extent = min(measured, key=lambda entry: entry[0])
    x, y, z = (float(mm) for mm in extent / spacing)
    return (x, y, z), float(volume / np.prod(spacing))
