"""Training cases that are prepared as nnU-Net prepares them: its axes, crop box, normalisation and resampling."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Integer
from torch import Tensor

from voxward.core.case import Case, ClassKept, Dataset, Frame, LabelKept, PreparedCase, Volume
from voxward.core.errors import UserError
from voxward.core.files import inside
from voxward.core.plan import ChannelPlan, Plan
from voxward.core.spacing import voxel_mm3
from voxward.core.structure import to_data
from voxward.core.types import CaseLabels, Size3
from voxward.data.case_record import read_record, warn_of_unannotated
from voxward.data.channels import in_order_of
from voxward.data.identity import identity_of, unchanged
from voxward.data.io import read_case, read_truth
from voxward.data.label_losses import report_losses
from voxward.data.parallel import for_each_case
from voxward.data.planner import AUGMENTATION_MARGIN
from voxward.data.preparation_digest import case_digest
from voxward.data.resample_labels import counted
from voxward.data.store import is_current, write_case
from voxward.systems.digest import digest
from voxward.systems.nnunet import intensities
from voxward.systems.nnunet.geometry import Geometry, geometry_of
from voxward.systems.nnunet.judge import prepared
from voxward.systems.nnunet.member import clean_figures
from voxward.systems.nnunet.plans import NnPlan, Resampling, Scheme
from voxward.systems.nnunet.resampling import resampled

_SHOWN = 4
_NORMALIZATIONS = {
    "ZScoreNormalization": "standard",
    "CTNormalization": "ct",
    "RescaleTo01Normalization": "rescale",
    "RGBTo01Normalization": "rgb",
    "NoNormalization": "none",
}
"""Which normalisation of voxward each of nnU-Net's is; that of a masked channel keeps its zeros."""
_MASKED = "zscore"
# A share of exactly a half must not depend on how it was added up.
_ROUNDING = 1e-9


def training_plan(plan: NnPlan, batch_size: int) -> Plan:
    """Return what the training loop needs of an nnU-Net's plan. Axes are those of nnU-Net's array, not RAS.

    Args:
        plan: The plan of the results folder.
        batch_size: The number of patches in a batch.
    """
    architecture, flat = plan.architecture, plan.slicewise

    def along(values: Sequence[int]) -> Size3:
        i, j, k = (1, *values) if flat else values
        return i, j, k

    i, j, k = (plan.spacing[0], *plan.spacing) if flat else plan.spacing
    a, b, c = (math.ceil(AUGMENTATION_MARGIN * edge) if edge > 1 else 1 for edge in plan.window)
    return Plan(
        dataset=plan.dataset,
        labels=plan.labels,
        channels=tuple(map(_channel, plan.channels, plan.schemes)),
        spacing=(i, j, k),
        spline_order=(3, 3, 3),
        crop_nonzero=True,
        patch_size=plan.window,
        window_size=plan.window,
        source_size=(a, b, c),
        strides=tuple(along(stride) for stride in architecture.strides[1:]),
        kernel_sizes=tuple(along(kernel) for kernel in architecture.kernels),
        padding="zero",
        batch_size=batch_size,
        min_object_mm3=(0.0,) * (plan.labels.count - 1),
    )


def _channel(name: str, scheme: Scheme) -> ChannelPlan:
    own = _MASKED if scheme.masked else _NORMALIZATIONS[scheme.name]
    return ChannelPlan(name, own, scheme.low, scheme.high, scheme.mean, scheme.std)


def fitting(dataset: Dataset, plan: NnPlan) -> Dataset:
    """Return the dataset of an nnU-Net, with its channels and labels as the network has them.

    Args:
        dataset: The dataset, as its description declares it.
        plan: The plan of the results folder.

    Raises:
        UserError: The channels or the label values are others.
    """
    found = in_order_of(dataset, plan.channels)
    if len(found.channels) != len(plan.channels):
        raise UserError(
            f"{dataset.root} has the channels {', '.join(dataset.channels)}, but the network takes "
            f"{', '.join(plan.channels)}"
        )
    # The classes of regions have names of nnU-Net's own making: only their values can be compared.
    given, own = dataset.labels.with_regions({}).with_ignore(plan.labels.ignore), plan.labels
    same = set(given.values) == set(own.values) if own.regions else given.classes == own.classes
    if not same:
        raise UserError(
            f"the network was trained on the labels {_said(plan)}, but {dataset.root} has "
            + ", ".join(f"{name} = {value}" for name, value in zip(given.names, given.values, strict=True))
        )
    return replace(found, labels=own)


def _said(plan: NnPlan) -> str:
    return ", ".join(f"{name} = {value}" for name, value in zip(plan.labels.names, plan.labels.values, strict=True))


def prepare_cases(
    dataset: Dataset,
    ids: Sequence[str],
    plan: NnPlan,
    out: Path,
    workers: int = 2,
    progress: Callable[[int, int], None] | None = None,
    begun: bool = False,
) -> None:
    """Prepare cases as nnU-Net does, each into a folder of prepared cases; those that are there are kept.

    Args:
        dataset: The dataset, see `fitting`.
        ids: The ids of the cases.
        plan: The plan of the results folder.
        out: The folder that gets one folder per case.
        workers: How many cases are prepared at once.
        progress: A function that is told after each case how many are done, and of how many.
        begun: Whether a training has begun on them: then a case that has another image now is refused.

    Raises:
        CasesFailed: Cases cannot be read, or do not fit the plan; all others are prepared.
    """
    decisions = digest(to_data(plan))

    def work(case: Case) -> None:
        _prepare_case(case, plan, out, decisions, begun)

    for_each_case(work, [dataset.case(id) for id in ids], workers, progress)
    records = [read_record(inside(out, id)) for id in ids]
    warn_of_unannotated(records)
    kept = [(record.id, record.kept) for record in records if record.kept is not None]
    _warn_of_outside(kept)
    report_losses([(id, replace(each, outside=0)) for id, each in kept], plan.labels, allowed=True)


def _warn_of_outside(kept: Sequence[tuple[str, LabelKept]]) -> None:
    found = [f"{id}: {each.outside}" for id, each in kept if each.outside]
    if found:
        more = f"; and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
        warnings.warn(
            f"labelled voxels lie outside the box of the non-zero voxels in {len(found)} cases "
            f"({'; '.join(found[:_SHOWN])}{more}): they are cut off, as nnU-Net does",
            stacklevel=3,
        )


def _prepare_case(case: Case, plan: NnPlan, out: Path, decisions: str, begun: bool) -> None:
    folder = inside(out, case.id)
    # Taken before the files are read: one that changes meanwhile is prepared again next time.
    current = case_digest(case, decisions)
    if is_current(case, out, decisions, whole=True):
        return
    volume = read_case(case)
    identity = identity_of(volume)
    before = read_record(folder).identity if begun and (folder / "case.json").is_file() else None
    if before is not None and not unchanged(identity, before):
        raise UserError(
            "it is another image than when the training began: give that dataset, or begin again in another --out"
        )
    made = prepare_as_nnunet(volume, read_truth(case, volume), plan, case.id)
    write_case(folder, made, plan.window, plan.labels.count, current, identity=identity)


def prepare_as_nnunet(volume: Volume, label: Volume, plan: NnPlan, id: str = "") -> PreparedCase:
    """Prepare a case as nnU-Net does.

    Args:
        volume: The image (c, i, j, k) as its file stores it.
        label: The ground truth, with the file's values in the image's voxels.
        plan: The plan of the results folder.
        id: The case's id.

    Returns:
        The image (c, d, h, w) that the network sees, the class indices, and the frame. The intensity range of a channel
        in the frame is the one that an attack keeps within: of CT what the plan clips to, otherwise the scan's own.

    Raises:
        UserError: The label has a value that is not declared, or the image does not have the plan's channels.
    """
    if len(volume.array) != len(plan.channels):
        raise UserError(f"the network takes {len(plan.channels)} channels, got {len(volume.array)}")
    geometry = geometry_of(volume, plan)
    image = prepared(volume, geometry, plan)
    index, kept = _label(label, geometry, plan)
    return PreparedCase(id, image.contiguous(), index, _frame(volume, geometry, plan), kept)


def _label(label: Volume, geometry: Geometry, plan: NnPlan) -> tuple[CaseLabels, LabelKept]:
    labels = plan.labels
    whole = labels.to_index(label.array)
    box = geometry.cut(torch.from_numpy(np.ascontiguousarray(whole, np.int32)))
    found = resampled_label(box, geometry, plan)
    outside = int(_classes(whole, labels.count).sum() - _classes(box.numpy(), labels.count).sum())
    before, after = counted(box.numpy(), labels.count), counted(found.numpy(), labels.count)
    voxel = voxel_mm3(label.spacing)
    larger = voxel * box.numel() / found.numel()
    kept = (ClassKept(k, n * voxel, after[k] * larger) for k, n in enumerate(before.tolist()) if k and n)
    narrow = torch.uint8 if labels.count <= 256 else torch.int32
    return found.to(narrow).contiguous(), LabelKept(tuple(kept), outside)


def resampled_label(box: Integer[Tensor, "d h w"], geometry: Geometry, plan: NnPlan) -> Integer[Tensor, "d2 h2 w2"]:
    """Resample class indices as nnU-Net does: each class linearly, and of a thick axis the nearest slice.

    A voxel is of the class that fills most of it; of two that fill as much, it is the one at its centre.

    Args:
        box: Class indices of the crop box.
        geometry: How it lies.
        plan: The plan.
    """
    if tuple(box.shape) == geometry.grid:
        return box
    name, force = "resample_data_or_seg_to_shape", plan.data.force_separate_z

    def at(x: Tensor, order: int) -> Tensor:
        how = Resampling(name, order, 0, force)
        return resampled(x.double()[None], geometry.grid, geometry.spacing, geometry.target, how)[0]

    centre = at(box, 0)
    found, most = box.new_zeros(geometry.grid), torch.zeros(geometry.grid, dtype=torch.float64)
    for k in np.unique(box.numpy()).tolist():
        share = at(box == k, 1)
        better = (share > most + _ROUNDING) | ((share > most - _ROUNDING) & (centre == k))
        found[better], most = k, torch.maximum(most, share)
    return found


def _classes(index: np.ndarray, count: int) -> np.ndarray:
    """Which voxels are of a foreground class."""
    inside: np.ndarray = (index > 0) & (index < count)
    return inside


def _frame(volume: Volume, geometry: Geometry, plan: NnPlan) -> Frame:
    box = geometry.cut(torch.from_numpy(np.ascontiguousarray(volume.array, np.float32))).numpy()
    low, high = zip(*intensities.ranges(box, plan.schemes), strict=True)
    shifts, divisors = zip(*clean_figures(volume, geometry, plan), strict=True)
    a, b, c = (part.start for part in geometry.box)
    d, e, f = (part.stop for part in geometry.box)
    rows = [tuple(map(float, row)) for row in volume.affine]
    return Frame(
        source_shape=volume.shape,
        affine=tuple((p, q, r, s) for p, q, r, s in rows),
        axes=geometry.axes,
        flips=geometry.flips,
        box_start=(a, b, c),
        box_stop=(d, e, f),
        shape=geometry.grid,
        low=tuple(map(float, low)),
        high=tuple(map(float, high)),
        mean=tuple(map(float, shifts)),
        std=tuple(map(float, divisors)),
    )
