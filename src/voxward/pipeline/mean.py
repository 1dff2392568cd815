"""Several members' logits become one."""

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
    """The mean of the members' logits (b, k, ...), or the logits of the mean of their probabilities.

    Those are log p for a softmax head (its softmax is p) and log p - log(1 - p) for regions. Computed with logarithms
    throughout, so that they are finite, with a gradient, where a probability is rounded to 0 or 1. One member is
    returned as it is: its logits stand for its probabilities already. weights: shares of the members, which sum to 1;
    None: all the same.
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
