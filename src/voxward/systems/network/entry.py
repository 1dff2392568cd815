"""What a `system.yaml` says about a network that stands alone, and the plan that follows from it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from voxward.core.errors import UserError
from voxward.core.labels import LabelSet
from voxward.core.plan import ChannelPlan, Padding, Plan
from voxward.core.recipe import Inference
from voxward.core.types import Float3, Size3
from voxward.data.formats.description import labels_of
from voxward.data.normalization import normalization_of
from voxward.pipeline.mean import Mean
from voxward.systems.deployment import Deployment
from voxward.systems.network.axes import Axes

ORDERS = {"linear": 1, "cubic": 3, "nearest": 0}
"""The order of the spline of each interpolation."""
# Any channel shows which figures a normalisation reads.
_PROBE = np.linspace(-500, 900, 64, dtype=np.float32).reshape(4, 4, 4)


@dataclass(frozen=True)
class ChannelEntry:
    """A channel of the volumes, and how it is normalised.

    Attributes:
        name: The name of the channel, such as CT or T1w.
        normalization: A name of data.normalization.NORMALIZATIONS.
        low: The lower end of the intensity range, in the unit of the files.
        high: Its upper end.
        mean: What is subtracted, in the unit of the files.
        std: What the intensities are divided by.
    """

    name: str
    normalization: str = "none"
    low: float | None = None
    high: float | None = None
    mean: float | None = None
    std: float | None = None

    def problems(self) -> list[str]:
        """Return what is wrong, one sentence each: figures that are missing, senseless or not used."""
        try:
            normalization = normalization_of(self.plan)
        except UserError as error:
            return [str(error)]
        given = {name: value for name in _FIGURES if (value := getattr(self, name)) is not None}
        found = [f"std must be above 0, got {self.std}"] if self.std is not None and not self.std > 0 else []
        if normalization.reads_plan and not self.plan.high > self.plan.low:
            found.append(f"the normalization of channel {self.name!r} needs low and high, with low below high")
        elif not found:
            used = {name for name in given if self._reads(name)}
            found += [
                f"channel {self.name!r}: its normalization does not use {name}" for name in given if name not in used
            ]
        return found

    @property
    def plan(self) -> ChannelPlan:
        """Return the channel as a plan holds it."""
        return ChannelPlan(
            self.name, self.normalization, self.low or 0.0, self.high or 0.0, self.mean or 0.0, self.std or 1.0
        )

    @property
    def used(self) -> dict[str, float]:
        """Return the figures that the normalisation uses, by name."""
        return {name: float(getattr(self, name)) for name in _FIGURES if self._reads(name)}

    def _reads(self, figure: str) -> bool:
        """Whether a figure changes what a volume is normalised with."""
        normalization, changed = normalization_of(self.plan), dict(vars(self.plan))
        changed[figure] += 0.25 * (self.plan.high - self.plan.low or 1.0)
        return normalization.measure(_PROBE, self.plan) != normalization.measure(_PROBE, ChannelPlan(**changed))


_FIGURES = ("low", "high", "mean", "std")


@dataclass(frozen=True, kw_only=True)
class NetworkEntry(Deployment):
    """A network that stands alone, and the pipeline around it, in a `system.yaml`.

    Everything that has one value per axis is in the order of the network's own axes.

    Attributes:
        network: A file of torch.export (.pt2), ONNX (.onnx) or TorchScript (.ts, .pt), or `module:function`.
        channels: The channels that the network takes, in order.
        labels: Names and file values, or names and lists of values for regions, as in a dataset.json of nnU-Net.
        regions_class_order: For regions that are not nested: the value that is written for each.
        outputs: The names of classes or regions in the order of the network's outputs. None: classes in the order of
            their values, regions as they are declared.
        window: The number of voxels per axis that the network sees at once; two for a 2D network. None takes the size
            that the file was exported with.
        spacing: The voxel size in mm that volumes are resampled to; None leaves every volume its own voxels.
        orientation: Where the network's axes run to, such as RAS or LPS; or `ijk` in some order, as files store them.
        slicewise: Whether the network is 2D, and takes volumes slice by slice across the last axis.
        returns: What the network returns, `logits` or `probabilities`.
        result: Which of several results holds them, by its number from 0 or its name.
        interpolation: How images are resampled.
        crop: `nonzero` cuts off the margin of zeros around a volume.
        padding: How a volume that is smaller than a window is extended, after it was normalised.
        blending: How overlapping windows are blended, a name of pipeline.windows.WEIGHTS.
        mirror_axes: The axes along which windows are mirrored for `tta: mirrors`; without them `mirrors` takes all.
        mean: What is averaged over mirrored copies, `logits` or `probabilities`.
        gradient: `false`: an .onnx file is run by onnxruntime, which has no gradient.
        name: The name in tables; None takes the file's.
    """

    network: str
    channels: tuple[ChannelEntry, ...]
    labels: Mapping[Any, Any]
    regions_class_order: tuple[int, ...] | None = None
    outputs: tuple[str, ...] | None = None
    window: tuple[int, ...] | None = None
    spacing: Float3 | None = None
    orientation: str = "RAS"
    slicewise: bool = False
    returns: Literal["logits", "probabilities"] = "logits"
    result: int | str | None = None
    interpolation: Literal["linear", "cubic", "nearest"] = "linear"
    crop: Literal["none", "nonzero"] = "none"
    padding: Padding = "zero"
    blending: str = "gaussian"
    mirror_axes: tuple[int, ...] = ()
    mean: Mean = "logits"
    gradient: bool = True
    name: str | None = None

    def problems(self) -> list[str]:
        """Return one sentence for each entry that cannot be."""
        found = [] if self.channels else ["channels must name at least one channel"]
        axes = 2 if self.slicewise else 3
        if self.window is not None and len(self.window) != axes:
            found.append(
                f"window must have {axes} numbers, got {list(self.window)}; slicewise: true is for 2D networks"
            )
        for name in ("checkpoint", "postprocessing"):
            if getattr(self, name) is not None:
                found.append(f"{name} is for trained runs; a network that stands alone has none")
        wrong = [axis for axis in self.mirror_axes if axis not in range(axes)]
        if wrong or len(set(self.mirror_axes)) < len(self.mirror_axes):
            found.append(f"mirror_axes may hold 0 to {axes - 1}, each once, got {list(self.mirror_axes)}")
        return found


def labels_in(entry: NetworkEntry, source: str) -> tuple[LabelSet, tuple[int, ...]]:
    """Return the labels of an entry, and for each of them the number of the network's output.

    Raises:
        UserError: The labels are wrong, or `outputs` does not name them.
    """
    labels = labels_of(entry.labels, Path(source), order=entry.regions_class_order)
    names = labels.scored if labels.regions else labels.names
    declared = [str(name) for name in entry.labels if name in names] if labels.regions else list(names)
    outputs = declared if entry.outputs is None else list(entry.outputs)
    if sorted(outputs) != sorted(names):
        raise UserError(f"{source}: outputs must name each of {', '.join(names)} once, got {', '.join(outputs)}")
    return labels, tuple(outputs.index(name) for name in names)


def plan_of(entry: NetworkEntry, labels: LabelSet, axes: Axes, window: tuple[int, ...], source: str) -> Plan:
    """Return the plan by which volumes are prepared.

    Args:
        entry: What the user says.
        labels: The labels.
        axes: The network's axes.
        window: The number of voxels per axis of the network that it sees at once.
        source: The name of the file, for messages.

    Raises:
        UserError: A number is out of range.
    """
    size, spacing = _size3(axes.back((*window, 1)[:3])), axes.back(entry.spacing or (1.0, 1.0, 1.0))
    order = ORDERS[entry.interpolation]
    plan = Plan(
        dataset=source, labels=labels, channels=tuple(channel.plan for channel in entry.channels),
        spacing=(spacing[0], spacing[1], spacing[2]), spline_order=(order, order, order),
        crop_nonzero=entry.crop == "nonzero", patch_size=size, window_size=size, source_size=size, strides=(),
        kernel_sizes=((3, 3, 3),), padding=entry.padding, batch_size=1, min_object_mm3=(0.0,) * (labels.count - 1),
        resample=entry.spacing is not None,
    )  # fmt: skip
    if problems := plan.problems():
        raise UserError(f"{source}: {'; '.join(problems).replace('window_size', 'window')}")
    return plan


def inference_of(entry: NetworkEntry, axes: Axes) -> Inference:
    """Return how windows are placed, blended and averaged."""
    mirrored = tuple(sorted(axes.order[axis] for axis in entry.mirror_axes))
    return Inference(weights=entry.blending, mirror_axes=mirrored, mean=entry.mean)


def _size3(values: tuple[int, ...]) -> Size3:
    i, j, k = values
    return i, j, k
