"""What networks of slices and of small volumes find in prepared cases, each seen whole and in one piece."""

from __future__ import annotations

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from voxward.core.plan import Plan
from voxward.data.store import open_case
from voxward.training.validate import overlap


def case_counts(network: torch.nn.Module, plan: Plan, prepared: Path, id: str) -> Tensor:
    """Count the voxels of a prepared case.

    Returns:
        (3, classes): for each foreground class what `overlap` counts, of which Dice is made.
    """
    case = open_case(prepared / id, id).load()
    assert case.label is not None
    margins = [margin for n, step in zip(reversed(case.image.shape), reversed(plan.total_stride), strict=False)
               for margin in (0, -n % step)]  # fmt: skip
    with torch.no_grad():
        logits = network(F.pad(case.image[None], margins, mode="replicate"))
    d, h, w = case.label.shape
    return overlap(logits[..., :d, :h, :w], case.label[None], plan.labels)
