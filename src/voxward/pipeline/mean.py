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


def mean_logits(members: Sequence[Tensor], head: Head, mean: Mean, weights: Sequence[float] | None = None) -> Scores:
    """Return the mean of several logits, or the logits of the mean of their probabilities.

    The latter are log p for a softmax head (whose softmax is p) and log p - log(1 - p) for regions. They are computed
    with logarithms throughout, so that they are finite, and have a gradient, where a probability is rounded to 0 or 1.
    A single member is returned as it is, because its logits stand for its probabilities already.

    Args:
        members: Logits (b, k, ...) of the same shape, one per member.
        head: How the logits are read.
        mean: What is averaged, `logits` or `probabilities`.
        weights: The shares of the members, which sum to 1; None gives all the same share.

    Returns:
        Logits (b, k, ...).
    """
    if len(members) == 1:
        return members[0]
    if mean == "logits":
        if weights is None:
            return torch.stack(list(members)).mean(0)
        return torch.stack([share * logits for share, logits in zip(weights, members, strict=True)]).sum(0)
    if head == "softmax":
        return _log_mean([log_softmax(logits, 1) for logits in members], weights)
    inside, outside = list(map(logsigmoid, members)), [logsigmoid(-logits) for logits in members]
    return _log_mean(inside, weights) - _log_mean(outside, weights)


def _log_mean(logs: list[Tensor], weights: Sequence[float] | None) -> Tensor:
    """The logarithm of the mean of numbers given by their logarithms."""
    if weights is None:
        return reduce(torch.logaddexp, logs) - math.log(len(logs))
    return reduce(torch.logaddexp, [log + math.log(share) for share, log in zip(weights, logs, strict=True)])
