"""Losses of a batch that several processes share: sums over the whole batch, not over one process's part of it.

The mean of the processes' losses is the loss of the whole batch only where that is itself a mean over samples. A Dice
over the whole batch and a mean over the annotated voxels are not: their sums have to be taken over all processes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor
from torch.nn import functional as F

if TYPE_CHECKING:
    from monai.losses import DiceLoss

Total = Callable[[Tensor], Tensor]
"""A function that adds up the values of all processes, in each of them; it can be differentiated."""

_TOTAL: ContextVar[Total | None] = ContextVar("total", default=None)


@contextmanager
def whole_batch(total: Total | None) -> Iterator[None]:
    """Let the losses inside a `with` block take their sums over the batches of all processes.

    All processes have to compute the same losses in the same order. The mean over the processes of the value, and of
    its gradients by the weights, is then that of the whole batch.

    Args:
        total: The function that adds up; None for a batch that no other process has a part of.
    """
    token = _TOTAL.set(total)
    try:
        yield
    finally:
        _TOTAL.reset(token)


def over_batch(values: Tensor) -> Tensor:
    """Return the sum of sums over all processes that have a part of the batch; without others, the sums themselves.

    Args:
        values: Sums over this process's part of the batch, of any shape.
    """
    total = _TOTAL.get()
    return values if total is None else total(values)


def total_of_processes(values: Tensor) -> Tensor:
    """Add up a tensor over all processes of a training; the gradient is added up, too.

    Args:
        values: A tensor of the same shape in every process.
    """
    from torch.distributed.nn.functional import all_reduce

    found: Tensor = all_reduce(values)
    return found


def dice_loss(**options: Any) -> DiceLoss:
    """Create MONAI's DiceLoss; with `batch=True` its sums go over the whole batch, also where processes share it.

    Args:
        options: The arguments of `monai.losses.DiceLoss`: `sigmoid` or `softmax`, `to_onehot_y`, `include_background`,
            `squared_pred`, `batch`, `smooth_nr` and `smooth_dr`.
    """
    from monai.losses import DiceLoss

    class WholeDice(DiceLoss):  # type: ignore[misc]
        def forward(self, input: Tensor, target: Tensor) -> Tensor:
            if self.batch and _TOTAL.get() is not None:
                return _over_processes(self, input, target)
            return cast(Tensor, super().forward(input, target))

    return WholeDice(**options)


def _over_processes(dice: DiceLoss, logits: Tensor, target: Tensor) -> Tensor:
    """1 - soft Dice of each class over the batches of all processes, then the mean over the classes."""
    p = logits.sigmoid() if dice.sigmoid else logits.softmax(1) if dice.softmax else logits
    truth = F.one_hot(target[:, 0].long(), p.shape[1]).movedim(-1, 1).to(p) if dice.to_onehot_y else target
    if not dice.include_background:
        p, truth = p[:, 1:], truth[:, 1:]
    axes = (0, *range(2, p.ndim))
    sizes = (p * p, truth * truth) if dice.squared_pred else (p, truth)
    both, predicted, true = over_batch(torch.stack([x.sum(axes) for x in (p * truth, *sizes)]))
    found: Tensor = 1 - (2 * both + dice.smooth_nr) / (predicted + true + dice.smooth_dr)
    return found.mean()
