"""Planners, which turn a fingerprint into a plan: one function and one line of the registry at the end each."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np

from voxward.core.errors import UserError
from voxward.core.plan import CaseFingerprint, ChannelPlan, Fingerprint, Plan
from voxward.core.recipe import Preparation
from voxward.core.registry import Registry
from voxward.core.types import Float3, Size3
from voxward.data.intensities import pooled
from voxward.data.normalization import check_normalization, plan_channel
from voxward.data.planner_nnunet import fit_pooling, nnunet_sizes, nnunet_spacing
from voxward.data.planner_rog import rog_batch_size, rog_sizes
from voxward.data.resample_labels import LABEL_RESAMPLING

# An axis coarser than this many times the finest is resampled with the nearest voxel: nothing lies between its slices.
_ANISOTROPIC = 3.0
# The share of the training set's objects that is smaller than a suspicious one.
_SUSPICIOUS_PERCENTILE = 5.0
# Halving stops here. On less, PyTorch's (2.13) bfloat16 weight gradients of 3D convolutions are not reliable on a CPU:
# with 2 x 2 x 2 voxels and 16 channels some are read from memory that nobody wrote.
_SMALLEST_EDGE = 4
# The size of most volumes, by which MPUNet chooses its planes, and what four halvings divide.
_LARGE_PERCENTILE, _CUBE_STEP = 75.0, 16
# Turning by 15 degrees and zooming by 1.15 needs about a fifth more than the patch.
AUGMENTATION_MARGIN = 1.2


def make_plan(fingerprint: Fingerprint, preparation: Preparation) -> Plan:
    """Decide geometry, intensities and memory with the planner that the recipe names.

    Args:
        fingerprint: The measured training cases.
        preparation: The recipe's part on preparation.

    Raises:
        UserError: The planner or the normalisation is unknown or lacks a setting, or the fingerprint has no cases.
    """
    if not fingerprint.cases:
        raise UserError(f"cannot plan: the fingerprint of {fingerprint.dataset!r} has no cases")
    check_preparation(preparation)
    return PLANNERS[preparation.planner](fingerprint, preparation)


def check_preparation(preparation: Preparation) -> None:
    """Refuse a recipe with an unknown planner, normalisation or label resampling, or a setting that is missing.

    No file is read for it.

    Args:
        preparation: The recipe's part on preparation.

    Raises:
        UserError: There is no such planner, normalisation or label resampling, or the normalisation needs a setting
            that is not there.
    """
    PLANNERS[preparation.planner]
    LABEL_RESAMPLING[preparation.label_resampling]
    check_normalization(preparation)


def rog_plan(fingerprint: Fingerprint, preparation: Preparation) -> Plan:
    """Plan as ROG does: median spacing, power-of-two patches, strides from the smallest object.

    The batch size is the largest that the memory holds, see `planner_rog.rog_batch_size`.

    Args:
        fingerprint: The measured training cases.
        preparation: The recipe's part on preparation.
    """
    spacing = _median([case.spacing for case in fingerprint.cases])
    i, j, k = fingerprint.object_size
    sizes = rog_sizes(_median(_shapes_at(fingerprint, spacing)), (i, j, k), fingerprint.object_volume)
    kernel = _size3([1 if edge == 1 else 3 for edge in sizes.patch])
    cases, classes = len(fingerprint.cases), fingerprint.labels.count
    return _assemble(
        fingerprint,
        preparation,
        spacing=spacing,
        patch=sizes.patch,
        window=sizes.window,
        source=sizes.source,
        strides=sizes.strides,
        kernels=(kernel,) * (len(sizes.strides) + 1),
        batch_size=rog_batch_size(sizes, cases, classes, preparation.memory_gib),
    )


def nnunet_plan(fingerprint: Fingerprint, preparation: Preparation) -> Plan:
    """Plan as nnU-Net does: a finer spacing of a coarse axis, and the largest patch that the memory holds.

    The batch size takes the memory that is left.

    Args:
        fingerprint: The measured training cases.
        preparation: The recipe's part on preparation.
    """
    spacing = nnunet_spacing([case.shape for case in fingerprint.cases], [case.spacing for case in fingerprint.cases])
    shapes = _shapes_at(fingerprint, spacing)
    median = _median(shapes)
    voxels = math.prod(median) * len(shapes)
    sizes = nnunet_sizes(median, spacing, voxels, fingerprint.labels.count, preparation.memory_gib)
    return _assemble(
        fingerprint,
        preparation,
        spacing=spacing,
        patch=sizes.patch,
        window=sizes.patch,
        source=_source(sizes.patch, shapes),
        strides=sizes.pooling.strides,
        kernels=sizes.pooling.kernel_sizes,
        batch_size=sizes.batch_size,
    )


def fixed_plan(fingerprint: Fingerprint, preparation: Preparation) -> Plan:
    """Plan with the recipe's patch whatever the data, as ResDSN and the BraTS recipes do.

    Every axis is halved up to three times, and a step takes one patch. Nothing is read around a patch, so augmentation
    that turns it by other than quarter turns sees its border continued by the padding rule.

    Args:
        fingerprint: The measured training cases.
        preparation: The recipe's part on preparation.
    """
    patch, steps = preparation.patch_size, []
    edges = list(patch)
    for _ in range(3):
        step = _size3([2 if edge % 2 == 0 and edge >= 2 * _SMALLEST_EDGE else 1 for edge in edges])
        edges = [edge // stride for edge, stride in zip(edges, step, strict=True)]
        steps.append(step)
    return _assemble(
        fingerprint,
        preparation,
        spacing=_median([case.spacing for case in fingerprint.cases]),
        patch=patch,
        window=patch,
        source=patch,
        strides=tuple(steps),
        kernels=(_size3([1 if edge == 1 else 3 for edge in patch]),) * 4,
        batch_size=1,
    )


def slices_plan(fingerprint: Fingerprint, preparation: Preparation) -> Plan:
    """Plan for a 2D network by nnU-Net's rules: whole axial slices, which are never mixed with each other.

    With `preparation.slice_size` the median slice comes to have that many voxels per axis; otherwise the spacing is the
    median. Larger slices are seen in windows, smaller ones are padded. The size is rounded up to what the pooling
    divides.

    Args:
        fingerprint: The measured training cases.
        preparation: The recipe's part on preparation.
    """
    spacing = _median([case.spacing for case in fingerprint.cases])
    if preparation.slice_size is not None:
        extent = _median([_extent(case) for case in fingerprint.cases])
        i, j = preparation.slice_size
        spacing = (extent[0] / i, extent[1] / j, spacing[2])
    shapes = _shapes_at(fingerprint, spacing)
    x, y, _ = _median(shapes)
    slices = sum(shape[2] for shape in shapes)
    sizes = nnunet_sizes((x, y, 1.0), spacing, x * y * slices, fingerprint.labels.count, preparation.memory_gib)
    patch, pooling = sizes.patch, sizes.pooling
    if preparation.slice_size is not None:
        patch, pooling = fit_pooling((*preparation.slice_size, 1), spacing)
    plan = _assemble(
        fingerprint,
        preparation,
        spacing=spacing,
        patch=patch,
        window=patch,
        source=_source(patch, [(i, j, 1) for i, j, _ in shapes]),
        strides=pooling.strides,
        kernels=pooling.kernel_sizes,
        batch_size=sizes.batch_size,
    )
    return replace(plan, spline_order=(3, 3, 0))


def isotropic_plan(fingerprint: Fingerprint, preparation: Preparation) -> Plan:
    """Plan for a network that turns volumes, as MPUNet does: equal voxels, and a cube as the patch.

    The edge of a voxel is the 75th percentile of all extents in mm, over all axes and cases, divided by that of all
    extents in voxels. The cube holds so many voxels per axis where the memory does, a multiple of 16.

    Args:
        fingerprint: The measured training cases.
        preparation: The recipe's part on preparation.
    """
    extent = float(np.percentile([_extent(case) for case in fingerprint.cases], _LARGE_PERCENTILE))
    spacing = (extent / float(np.percentile([case.shape for case in fingerprint.cases], _LARGE_PERCENTILE)),) * 3
    shapes = _shapes_at(fingerprint, spacing)
    large = float(np.percentile(shapes, _LARGE_PERCENTILE))
    voxels = math.prod(_median(shapes)) * len(shapes)
    sizes = nnunet_sizes((large,) * 3, spacing, voxels, fingerprint.labels.count, preparation.memory_gib)
    cube = (max(1, math.ceil(min(sizes.patch) / _CUBE_STEP)) * _CUBE_STEP,) * 3
    return _assemble(
        fingerprint,
        preparation,
        spacing=spacing,
        patch=cube,
        window=cube,
        source=_source(cube, shapes),
        strides=((2, 2, 2),) * 4,
        kernels=((3, 3, 3),) * 5,
        batch_size=sizes.batch_size,
    )


def _assemble(
    fingerprint: Fingerprint,
    preparation: Preparation,
    *,
    spacing: Float3,
    patch: Size3,
    window: Size3,
    source: Size3,
    strides: tuple[Size3, ...],
    kernels: tuple[Size3, ...],
    batch_size: int,
) -> Plan:
    """A planner's decisions together with those that all planners share."""
    return Plan(
        dataset=fingerprint.dataset,
        labels=fingerprint.labels,
        channels=tuple(_channels(fingerprint, preparation)),
        spacing=spacing,
        spline_order=_size3([0 if mm > _ANISOTROPIC * min(spacing) else 3 for mm in spacing]),
        crop_nonzero=preparation.crop_nonzero,
        patch_size=patch,
        window_size=window,
        source_size=source,
        strides=strides,
        kernel_sizes=kernels,
        padding=preparation.padding,
        batch_size=preparation.batch_size or batch_size,
        min_object_mm3=tuple(_suspicious(volumes) for volumes in fingerprint.objects),
        resample=preparation.resample,
        label_resampling=preparation.label_resampling,
        nan=preparation.nan,
        affine_tolerance=preparation.affine_tolerance,
    )


def _channels(fingerprint: Fingerprint, preparation: Preparation) -> Iterator[ChannelPlan]:
    for n, channel in enumerate(fingerprint.channels):
        measured = [case.intensities[n] for case in fingerprint.cases if n < len(case.intensities)]
        yield plan_channel(preparation, channel, n, pooled(measured) if measured else None)


def _suspicious(volumes: tuple[float, ...]) -> float:
    return float(np.percentile(volumes, _SUSPICIOUS_PERCENTILE)) if volumes else 0.0


def _shapes_at(fingerprint: Fingerprint, spacing: Float3) -> list[Size3]:
    """The cases' shapes after resampling; an axis of one voxel stays one."""
    return [
        _size3(
            [
                max(1, round(n * old / new)) if n > 1 else 1
                for n, old, new in zip(case.shape, case.spacing, spacing, strict=True)
            ]
        )
        for case in fingerprint.cases
    ]


def _source(patch: Size3, shapes: list[Size3]) -> Size3:
    """The patch and a margin, but no more than the patch or the longest case of that axis holds."""
    longest = np.max(shapes, axis=0)
    return _size3(
        [
            max(edge, min(math.ceil(AUGMENTATION_MARGIN * edge), int(most)))
            for edge, most in zip(patch, longest, strict=True)
        ]
    )


def _extent(case: CaseFingerprint) -> Float3:
    """In mm."""
    x, y, z = (n * mm for n, mm in zip(case.shape, case.spacing, strict=True))
    return x, y, z


def _median(rows: list[Size3] | list[Float3]) -> Float3:
    x, y, z = np.median(rows, axis=0)
    return float(x), float(y), float(z)


def _size3(values: list[int]) -> Size3:
    i, j, k = values
    return i, j, k


PLANNERS: Registry[Callable[[Fingerprint, Preparation], Plan]] = Registry(
    "planner",
    {
        "rog": rog_plan,
        "nnunet": nnunet_plan,
        "fixed": fixed_plan,
        "slices": slices_plan,
        "isotropic": isotropic_plan,
    },
)
