"""The classes of a batch where samples are mirrored left to right: what was on the left is then called right."""

from __future__ import annotations

from collections.abc import Sequence

from jaxtyping import Bool, Integer
from torch import Tensor


def exchanged(
    labels: Integer[Tensor, "b d h w"], mirrored: Bool[Tensor, " b"], swaps: Sequence[tuple[int, int]]
) -> Integer[Tensor, "b d h w"]:
    """Exchange the classes of the two sides in some samples of a batch.

    Args:
        labels: Class indices (b, d, h, w).
        mirrored: Which samples (b) are mirrored left to right, in host memory.
        swaps: Pairs of class indices, each class in one pair at most.

    Returns:
        The class indices; `labels` itself where nothing is exchanged.
    """
    if not swaps or not bool(mirrored.any()):
        return labels
    found = labels.clone()
    for n in mirrored.nonzero().flatten().tolist():
        for left, right in swaps:
            found[n][labels[n] == left] = right
            found[n][labels[n] == right] = left
    return found
