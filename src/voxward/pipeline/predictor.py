"""From a volume in its own geometry to its segmentation: prepare, pad, segment the windows, restore, post-process."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from voxward.core.case import PreparedCase, Volume
from voxward.core.errors import UserError
from voxward.core.sides import LEFT_RIGHT, output_order
from voxward.core.types import Images, Logits, Size3
from voxward.data.padding import Padded
from voxward.data.prepare import measured, prepare, restore_argmax
from voxward.data.volume_file import affine_fault
from voxward.nets.one_sample import OneSample
from voxward.pipeline.mean import Mean
from voxward.pipeline.memory import fitting
from voxward.pipeline.precision import Precision, autocast, resolve_precision
from voxward.pipeline.probabilities import reader_of
from voxward.pipeline.tta import View, averaged, mirror_views, symmetry_views
from voxward.pipeline.windows import Windows, check_inference, plan_windows, sweep, voting
from voxward.runs.folder import TrainedModel

Tta = Literal["none", "mirrors", "symmetries"]
Done = Callable[[int, int], None]
"""A function that is called with the number of windows that are finished and their number in all."""

# The windows of one forward pass together hold about this many voxels: enough to keep the device busy on small
# windows. On a CPU, more would make the tensors so large that their memory goes back to the system and is mapped again
# each time.
VOXELS_PER_FORWARD = {"cpu": 100_000}
ON_ACCELERATORS = 400_000
# At least two windows of up to this many voxels each: PyTorch has a slower convolution for a single sample of few
# channels.
_PAIRED = 200_000


@dataclass(frozen=True, eq=False)
class Predictor:
    """A trained model with the settings that it is deployed with.

    Attributes:
        model: The trained model.
        device: Where the network computes; it must be there already.
        precision: `fp32`, `bf16` or `fp16`; `auto` is bf16 where the hardware computes it fast, else fp32.
        overlap: The share of a window, in [0, 1), that neighbouring windows have in common; None takes the recipe's.
        mirror_axes: The spatial axes (0, 1, 2) along which windows are flipped for `mirrors`; None takes the recipe's.
        tta: The copies of a window that are averaged: `none`; `mirrors`, along all axes where neither `mirror_axes` nor
            the recipe names any (but for axis 0 where classes differ in left and right); or `symmetries`, the 16
            symmetries of a volume with square axial slices, without those that exchange such classes. None takes the
            recipe's.
        graphs: How many windows' graphs a gradient through the pipeline may hold at once; each copy of test-time
            augmentation counts. A volume with no more windows has each of them computed once instead of twice. The
            graph of one batch is always held.

    Raises:
        UserError: `graphs` is negative, `overlap` is not in [0, 1), the recipe places windows by count and so has no
            use for an overlap, the symmetries cannot turn the plan's window, or `mirror_axes` exchanges sides.

    Example:
        >>> predictor = voxward.Predictor(voxward.load_run("runs/liver"), torch.device("cpu"))
        >>> label = predictor.segment(voxward.read_image(["scan.nii.gz"]))
    """

    model: TrainedModel
    device: torch.device
    precision: Precision = "auto"
    overlap: float | None = None
    mirror_axes: tuple[int, ...] | None = None
    tta: Tta | None = None
    graphs: int = 0

    def __post_init__(self) -> None:
        check_inference(self.model.inference)
        if self.graphs < 0:
            raise UserError(f"graphs must be at least 0, got {self.graphs}")
        placement = self.model.inference.placement
        if self.overlap is not None and placement != "step":
            raise UserError(
                f"overlap must be left out where the recipe places windows by {placement!r} (inference.placement): "
                f"inference.extra_windows decides how many there are, got {self.overlap}"
            )
        if self.overlap is not None and not 0 <= self.overlap < 1:
            raise UserError(f"overlap must be in [0, 1), got {self.overlap}")
        (i, j, _), (a, b, _) = self.model.plan.window_size, self.model.plan.total_stride
        if self._keeps_sides and LEFT_RIGHT in self.mirrors:
            names = ", ".join(self.model.inference.sides)
            raise UserError(f"mirror_axes must not hold 0 where classes differ in left and right ({names})")
        if self.augmentation == "symmetries" and (i % b or j % a):
            raise UserError(
                f"tta 'symmetries' turns windows of {(i, j)} voxels, which the strides {(a, b)} must divide"
            )

    @property
    def mirrors(self) -> tuple[int, ...]:
        """Return the spatial axes along which windows are flipped; empty without `mirrors`."""
        if self.augmentation != "mirrors":
            return ()
        axes = self.model.inference.mirror_axes if self.mirror_axes is None else self.mirror_axes
        if self.tta == "mirrors" and not axes:
            return tuple(axis for axis in range(3) if axis != LEFT_RIGHT or not self._keeps_sides)
        return axes

    @property
    def _keeps_sides(self) -> bool:
        """Whether left and right may not be exchanged."""
        return bool(self.model.inference.sides) and not self.model.inference.mirror_pairs

    @property
    def views(self) -> tuple[View, ...]:
        """Return the views of a window whose logits are averaged."""
        inference, order = self.model.inference, None
        if inference.mirror_pairs:
            order = output_order(self.model.plan.labels, inference.mirror_pairs)
        if self.augmentation == "symmetries":
            return symmetry_views(bool(inference.sides), order)
        return mirror_views(self.mirrors, order)

    @property
    def mean(self) -> Mean:
        """Return what is averaged over the views, `logits` or `probabilities`."""
        return self.model.inference.mean

    @property
    def augmentation(self) -> Tta:
        """Return the test-time augmentation that is used."""
        return self.tta or self.model.inference.tta

    @property
    def batch(self) -> int:
        """Return the number of windows in one forward pass, at least 1."""
        return windows_per_pass(self.model.plan.window_size, self.device)

    def segment(
        self,
        volume: Volume,
        done: Done | None = None,
        whole: Volume | None = None,
        probabilities: np.ndarray | None = None,
    ) -> np.ndarray:
        """Segment a volume, post-processing included.

        Args:
            volume: The volume (c, i, j, k) as its file stores it.
            done: Called with the number of windows that are finished and their number in all.
            whole: The volume that this one is a part of; its statistics then normalise the part.
            probabilities: An array (k, i, j, k) of a volume that is background for certain, which gets the
                probabilities before post-processing, see `pipeline.probabilities`; None keeps none.

        Returns:
            Class indices (i, j, k) in the volume's own voxel order and shape.

        Raises:
            UserError: The volume does not have the plan's channels, its affine does not place it in space, or the
                network returns NaN or infinite logits.
        """
        self.check(volume.array.shape[0], volume.affine)
        plan = self.model.plan
        prepared = prepare(volume, None, plan, figures=None if whole is None else measured(whole, plan))
        label = restore_argmax_of(self, prepared, done, probabilities)
        segmentation: np.ndarray = self.model.postprocess.apply(label, volume.spacing)
        return segmentation

    def check(self, channels: int, affine: np.ndarray) -> None:
        """Refuse a volume by its header.

        Args:
            channels: The number of channels of the volume.
            affine: Its affine (4, 4), from voxel indices to millimetres.

        Raises:
            UserError: The model does not take so many channels, or the affine does not place the volume in space (it is
                singular, for example).
        """
        refuse_header([channel.name for channel in self.model.plan.channels], channels, affine)

    def windows(self, shape: Size3) -> Windows:
        """Place the windows of a prepared volume.

        Args:
            shape: The shape (d, h, w) of the prepared volume, which is padded to at least one window.

        Returns:
            The windows of the padded volume.
        """
        size, inference = self.model.plan.window_size, self.model.inference
        i, j, k = map(max, shape, size)
        overlap = inference.overlap if self.overlap is None else self.overlap
        return plan_windows((i, j, k), size, overlap, inference.weights, inference.placement, inference.extra_windows)

    def slabs(self, prepared: PreparedCase, done: Done | None = None, axis: int | None = None) -> Iterator[Tensor]:
        """Compute the blended logits of a prepared volume, slab by slab along one axis.

        Args:
            prepared: The prepared volume.
            done: Called with the number of windows that are finished and their number in all.
            axis: The spatial axis (0, 1 or 2) along which the slabs follow each other; None takes that of `windows`,
                which needs the least memory.

        Returns:
            Logits (k, d, h, w) of one slab after the other, which together cover the volume without its padding.
        """
        plan, shape = self.model.plan, _spatial(prepared.image)
        padded, offset = Padded.to(prepared.image, plan.window_size, plan.padding)
        windows = self.windows(shape)
        windows = windows if axis is None else replace(windows, axis=axis)
        forward = averaged(fitting(self.forward), self.views, plan.labels.head, self.mean)
        if self.model.inference.combine == "vote":
            forward = voting(forward, plan.labels.head)
        report = None if done is None else (lambda finished: done(finished, windows.count))
        return _unpad(sweep(forward, padded, windows, self.batch, report), windows.axis, offset, shape)

    @torch.no_grad()
    def forward(self, images: Images) -> Logits:
        """Compute the logits of a batch of windows, without a gradient.

        Args:
            images: The windows (n, c, d, h, w).

        Returns:
            Logits (n, k, d, h, w), in the number type and on the device of `images`.

        Raises:
            UserError: A logit is NaN or infinite. Every comparison with such a logit would silently say background.
        """
        logits = self.scores(images)
        if not bool(torch.isfinite(logits).all()):
            precision = resolve_precision(self.precision, self.device)
            hint = "" if precision == "fp32" else f"; they may have overflowed in {precision}: try precision fp32"
            raise UserError(f"the model returns NaN or infinite logits{hint}")
        return logits

    def scores(self, images: Images) -> Logits:
        """Compute the logits of a batch of windows, followed by autograd.

        Args:
            images: The windows (n, c, d, h, w).

        Returns:
            Logits (n, k, d, h, w), in the number type and on the device of `images`.
        """
        with autocast(self.precision, self.device), OneSample():
            kind = next(self.model.network.parameters(), images).dtype
            logits: Tensor = self.model.network(images.to(self.device, kind))
        return logits.to(images)


def refuse_header(names: Sequence[str], channels: int, affine: np.ndarray) -> None:
    """Refuse a volume by its header.

    Args:
        names: The names of the channels that a model takes.
        channels: The number of channels of the volume.
        affine: Its affine (4, 4), from voxel indices to millimetres.

    Raises:
        UserError: The model does not take so many channels, or the affine does not place the volume in space.
    """
    if channels != len(names):
        raise UserError(f"the model takes {len(names)} channels ({', '.join(names)}), got {channels}")
    if fault := affine_fault(affine):
        raise UserError(f"the volume cannot be placed in space: {fault}")


def windows_per_pass(window: Size3, device: torch.device) -> int:
    """Return how many windows one forward pass takes, at least 1.

    Args:
        window: The shape of a window.
        device: Where the network computes.
    """
    voxels = int(np.prod(window))
    return max(2 if voxels <= _PAIRED else 1, VOXELS_PER_FORWARD.get(device.type, ON_ACCELERATORS) // voxels)


def restore_argmax_of(
    predictor: Predictor, prepared: PreparedCase, done: Done | None = None, probabilities: np.ndarray | None = None
) -> np.ndarray:
    """Compute the class of every voxel of the source file, without post-processing.

    Args:
        predictor: The trained model with its settings.
        prepared: The prepared volume.
        done: Called with the number of windows that are finished and their number in all.
        probabilities: Gets the probabilities, as in `Predictor.segment`.

    Returns:
        Class indices (i, j, k) in the voxel order and shape of the source file.
    """
    axis, labels, frame = predictor.windows(_spatial(prepared.image)).axis, predictor.model.plan.labels, prepared.frame
    read = labels.read if probabilities is None else reader_of(labels, probabilities, frame, axis)
    return restore_argmax(predictor.slabs(prepared, done), frame, axis, read)


def _unpad(slabs: Iterator[Tensor], axis: int, offset: Size3, shape: Size3) -> Iterator[Tensor]:
    """Cut the padding off slabs, consecutive along `axis`, of a padded volume."""
    box = [slice(start, start + length) for start, length in zip(offset, shape, strict=True)]
    row = 0
    for slab in slabs:
        rows = slab.shape[axis + 1]
        first, last = max(offset[axis] - row, 0), min(offset[axis] + shape[axis] - row, rows)
        row += rows
        if first < last:
            box[axis] = slice(first, last)
            yield slab[(slice(None), *box)]


def _spatial(x: Tensor) -> Size3:
    d, h, w = x.shape[-3:]
    return d, h, w
