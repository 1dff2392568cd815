"""What every objective is made of: its type, the weights of the classes, and the number type that it computes in."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from voxward.core.errors import UserError
from voxward.core.model import Scores, Truth, Values

Weights = tuple[float, ...] | None
"""One weight per class, the background included, or per region; None: 1 each."""

Loss = Callable[[Scores, Truth, float], Values]
"""(logits, ground truth, progress) -> one value per case; progress, 0 to 1, is the share of the steps that are done."""


def wide(logits: Tensor) -> Tensor:
    """Return logits in the number type that objectives compute in: half precision becomes float32.

    Args:
        logits: Logits of any floating point type.
    """
    return logits.float() if logits.dtype in (torch.bfloat16, torch.float16) else logits


def check_weights(weights: Weights) -> None:
    """Check the weights of classes or regions.

    Args:
        weights: The weights.

    Raises:
        UserError: They are not finite, negative or all 0.
    """
    if weights is not None and not (all(math.isfinite(w) and w >= 0 for w in weights) and sum(weights) > 0):
        raise UserError(f"class_weights must be finite, at least 0 and not all 0, got {weights}")


def weights_of(weights: tuple[float, ...], z: Tensor) -> Tensor:
    """Return weights as a tensor (k), in the number type and on the device of the logits.

    Args:
        weights: One weight per class or region.
        z: Logits (b, k, *spatial).

    Raises:
        UserError: There is not one weight per class or region.
    """
    if len(weights) != z.shape[1]:
        raise UserError(f"class_weights must be one per class or region ({z.shape[1]}), got {len(weights)}")
    return torch.tensor(weights, dtype=z.dtype, device=z.device)
