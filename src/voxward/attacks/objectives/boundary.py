"""The signed distance to the boundary of each class, as an objective."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

from voxward.attacks.objectives.dice import foreground
from voxward.attacks.objectives.weights import Weights, check_weights, weights_of, wide
from voxward.core.model import Scores, Truth, Values, annotated_part

CAP = 10
"""Distances are cut off here, in voxels, so that what is far away does not outweigh the boundary."""

_KEPT = 4


@dataclass(frozen=True)
class BoundaryLoss:
    """The boundary loss of Kervadec et al. (2019) with its sign turned, the mean over the foreground classes (regions).

    For each class (or region) that is in the ground truth it is sum(phi p) / sum |phi|, where p is the probability and
    phi the signed distance of the ground truth, positive outside and negative inside, at most `CAP` voxels. So it rises
    as the class leaves its place and appears far away. A case with empty ground truth is driven to predict anything:
    its value is the mean of p, the mean over all foreground classes. Distances are in voxels, because an objective does
    not know how large a voxel is.

    Attributes:
        class_weights: Weights of the classes or regions; None: 1 each.
        distances: Computes phi, once for each ground truth.

    Raises:
        UserError: The weights are illegal or, when the loss is computed, not one per class or region.
    """

    class_weights: Weights = None
    distances: Distances = field(default_factory=lambda: Distances(), init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        check_weights(self.class_weights)

    def __call__(self, logits: Scores, target: Truth, progress: float) -> Values:
        """Compute the loss.

        Args:
            logits: Logits (b, k, *spatial).
            target: The ground truth.
            progress: Not used.

        Returns:
            One value per case (b).
        """
        z = wide(logits)
        regions = target.ndim == z.ndim
        phi = self.distances(target, None if regions else z.shape[1]).to(z)
        p = z.sigmoid() if regions else z.softmax(1)[:, 1:]
        length = phi.abs().flatten(2).sum(2)
        weights = (length > 0).to(z)
        if self.class_weights is not None:
            weights = weights * weights_of(self.class_weights, z)[0 if regions else 1 :]
        values = (phi * p).flatten(2).sum(2) / length.clamp_min(1e-30)
        return (weights * values).sum(1) / weights.sum(1).clamp_min(1e-30)


class Distances:
    """The signed distances of ground truths, which are kept for the last few of them.

    An attack asks for the same distances in every step. What is kept is found by comparing the whole ground truth with
    a copy of its own, so that it can never belong to another one.
    """

    def __init__(self) -> None:
        self._kept: deque[tuple[int | None, Tensor, Tensor]] = deque(maxlen=_KEPT)

    def __call__(self, target: Truth, classes: int | None) -> Tensor:
        """Return the signed distances (b, f, *spatial), float32, of the foreground classes or regions.

        They are 0 where nobody has annotated, and for a class that is absent from a case in which another one is
        present. They are 1 in all annotated voxels if none is present.

        Args:
            target: The ground truth.
            classes: The number of classes, the background included; None for regions.
        """
        for count, known, found in self._kept:
            if count == classes and known.device == target.device and torch.equal(known, target.to(known.dtype)):
                return found
        found = _signed(target, classes)
        self._kept.append((classes, target.to(torch.int32, copy=True), found))
        return found


def _signed(target: Truth, classes: int | None) -> Tensor:
    truth, known = annotated_part(target)
    inside = foreground(truth, classes).cpu().numpy()
    annotated = np.ones_like(inside[:, 0]) if known is None else (known if classes else known[:, 0]).cpu().numpy()
    phi = np.zeros(inside.shape, np.float32)
    for case, (masks, legal) in enumerate(zip(inside, annotated, strict=True)):
        if not masks.any():
            phi[case] = legal
            continue
        for row, mask in enumerate(masks):
            if mask.any():
                phi[case, row] = np.where(legal, _signed_distance(mask, legal), 0)
    return torch.from_numpy(phi).to(target.device)


def _signed_distance(inside: np.ndarray, annotated: np.ndarray) -> np.ndarray:
    """The capped distance of one mask, which is computed only where it is below the cap."""
    (tight,) = ndimage.find_objects(inside.astype(np.uint8))
    box = tuple(slice(max(part.start - CAP, 0), part.stop + CAP) for part in tight)
    mask, outside = inside[box], annotated[box] & ~inside[box]
    found = np.full(inside.shape, CAP, np.float32)
    near = ndimage.distance_transform_edt(~mask).clip(max=CAP)
    # Without any voxel outside, scipy would measure the distance to nothing.
    deep = ndimage.distance_transform_edt(~outside).clip(max=CAP) if outside.any() else CAP
    found[box] = np.where(mask, -deep, near)
    return found
