"""A system seen through its masks alone: all that an attack can ask of one that has neither gradient nor scores."""

from __future__ import annotations

import torch
from torch import Tensor

from voxward.core.case import Volume
from voxward.core.gradientless import Scored
from voxward.core.labels import LabelSet
from voxward.core.model import Inputs, Scores
from voxward.data.stored_values import as_read
from voxward.systems.system import System

CERTAIN = 50.0
"""The logit of a class that a mask names: its softmax is 1 up to rounding, so that the soft Dice is the mask's own."""


def masks_of(system: System, clean: Volume, why: str) -> Scored:
    """Bind a system to a clean volume through its masks, as an attack sees it.

    Every query is what a file would be: intensities in the clean volume's number type, segmented by `system.segment`
    with its post-processing. The logits are those of a system that is certain of its mask.

    Args:
        system: The system.
        clean: The clean volume, whose number type, scaling and place in space every query has.
        why: Why there is no gradient, as one sentence.
    """

    def scores(volumes: Inputs) -> Scores:
        asked = (as_read(one.cpu().numpy(), clean) for one in volumes)
        masks = [torch.from_numpy(system.segment(one).label.astype("int64")) for one in asked]
        return torch.stack([logits_of(mask, system.labels) for mask in masks]).to(volumes.device)

    return Scored(system.labels.head, scores, why)


def logits_of(index: Tensor, labels: LabelSet) -> Tensor:
    """Return logits that are certain of a mask.

    Args:
        index: Class indices (i, j, k), int64.
        labels: The classes or regions.

    Returns:
        Logits (k, i, j, k) in float32: for classes `CERTAIN` for the one that the mask names and 0 for the others, for
        regions `CERTAIN` inside and `-CERTAIN` outside.
    """
    if labels.regions:
        return (2 * labels.predicted.target(index).float() - 1) * CERTAIN
    return torch.zeros((labels.count, *index.shape)).scatter_(0, index[None], CERTAIN)
