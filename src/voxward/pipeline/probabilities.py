"""The probability of every class or region in every voxel, kept while a volume is segmented slab by slab."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from voxward.core.case import Frame
from voxward.core.labels import LabelSet, largest
from voxward.core.types import Size3
from voxward.data.orient import box_slices, orient


def probabilities_of(logits: Tensor, labels: LabelSet) -> Tensor:
    """Return the probabilities that logits stand for: softmax over classes, or sigmoid for each region.

    Where rounding makes two classes equal, or a region exactly 0.5, the number next to it is taken, so that the largest
    probability (of regions: every one above 0.5) says the same as the logits do.

    Args:
        logits: Logits (k, d, h, w) of classes or regions.
        labels: The classes and regions.

    Returns:
        Probabilities (k, d, h, w), float32.
    """
    if labels.regions:
        found, half = logits.float().sigmoid(), torch.tensor(0.5, device=logits.device)
        above = torch.nextafter(half, torch.ones_like(half))
        return torch.where(logits > 0, found.maximum(above), found.minimum(half))
    found, winner = logits.float().softmax(0), largest(logits).long()[None]
    top = found.amax(0, keepdim=True)
    least = torch.nextafter(top, torch.full_like(top, 2.0))
    lost = largest(found).long()[None] != winner
    return found.scatter(0, winner, torch.where(lost, least, found.gather(0, winner)))


def certain(labels: LabelSet, shape: Size3) -> np.ndarray:
    """Return the probabilities of a volume in which all is background for certain.

    Args:
        labels: The classes and regions.
        shape: The shape (i, j, k) of the volume.

    Returns:
        An array (k, i, j, k) of 0 and 1, float32.
    """
    found = np.zeros((labels.outputs, *shape), np.float32)
    if not labels.regions:
        found[0] = 1.0
    return found


def agree(probabilities: np.ndarray, label: np.ndarray, labels: LabelSet) -> None:
    """Make probabilities certain of a class map where they say something else, such as where a part was dropped.

    Args:
        probabilities: Probabilities (k, i, j, k), which are changed.
        label: Class indices (i, j, k).
        labels: The classes and regions.
    """
    for plane, (own, index) in enumerate(zip(probabilities.swapaxes(0, 1), label, strict=True)):
        found = torch.from_numpy(np.ascontiguousarray(own))[:, None]
        target = labels.target(torch.from_numpy(index.astype(np.int64))[None])
        if not labels.regions:
            target = torch.nn.functional.one_hot(target, labels.outputs).movedim(-1, 0)
        said = labels.read(found - 0.5 if labels.regions else found)[0].numpy()
        probabilities[:, plane] = np.where(said == index, own, target[:, 0].numpy())


@dataclass(eq=False)
class Reader:
    """Reads logits that arrive in rows which follow each other, and keeps their probabilities.

    Attributes:
        labels: The classes and regions.
        place: Where the probabilities go, (k, d, h, w) in RAS order.
        axis: The spatial axis (0, 1, 2) along which the rows follow each other.
        row: The first row that has not come yet.
    """

    labels: LabelSet
    place: np.ndarray
    axis: int
    row: int = 0

    def __call__(self, logits: Tensor) -> Tensor:
        """Return the class indices (d, h, w) of some rows of logits (k, d, h, w), which come next."""
        rows = slice(self.row, self.row + logits.shape[self.axis + 1])
        self.row = rows.stop
        self.place[(slice(None),) * (self.axis + 1) + (rows,)] = probabilities_of(logits, self.labels).cpu().numpy()
        return self.labels.read(logits)


def reader_of(labels: LabelSet, probabilities: np.ndarray, frame: Frame, axis: int, box: bool = True) -> Reader:
    """Return a reader of the rows of a volume, or of its crop box.

    Args:
        labels: The classes and regions.
        probabilities: Gets the probabilities (k, i, j, k), in the voxel order of the file.
        frame: How the crop box lies in the file.
        axis: The spatial axis (0, 1, 2) along which the rows follow each other.
        box: Whether the rows are those of the crop box; otherwise they are those of the whole volume.
    """
    whole = orient(probabilities, frame.axes, frame.flips)
    part = box_slices(frame.box_start, frame.box_stop)
    return Reader(labels, whole[(slice(None), *part)] if box else whole, axis)
