"""The mean of the logits of several models or views."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import reduce
from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import log_softmax, logsigmoid

from voxward.core.model import Head, Scores

Mean = Literal["logits", "probabilities"]


def mean_logits(members: Sequence[Tensor], head: Head, mean: Mean) -> Scores:
    """Return the mean of several logits, or the logits of the mean of their probabilities.

    The latter are log p for a softmax head (whose softmax is p) and log p - log(1 - p) for regions. They are computed
    with logarithms throughout, so that they are finite, and have a gradient, where a probability is rounded to 0 or 1.
    A single member is returned as it is, because its logits stand for its probabilities already.

    Args:
        members: Logits (b, k, ...) of the same shape, one per member.
        head: How the logits are read.
        mean: What is averaged, `logits` or `probabilities`.

    Returns:
        Logits (b, k, ...).
    """
    if len(members) == 1:
        return members[0]
    if mean == "logits":
        return torch.stack(list(members)).mean(0)
    if head == "softmax":
        return _log_mean([log_softmax(logits, 1) for logits in members])
    return _log_mean(list(map(logsigmoid, members))) - _log_mean([logsigmoid(-logits) for logits in members])


def _log_mean(logs: list[Tensor]) -> Tensor:
    """The logarithm of the mean of numbers given by their logarithms."""
    return reduce(torch.logaddexp, logs) - math.log(len(logs))
