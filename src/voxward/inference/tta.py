"""Test-time augmentation: the mean of the logits over mirrored copies of a window."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

from voxward.core.types import Images, Logits
from voxward.inference.windows import Forward


def flips(axes: Sequence[int]) -> list[tuple[int, ...]]:
    """All subsets of the spatial `axes` (of 0, 1, 2), the empty one first.

    Raises ValueError for another axis, or for one that is there twice.
    """
    if not set(axes) <= {0, 1, 2} or len(set(axes)) < len(axes):
        raise ValueError(f"mirror_axes may only hold 0, 1, 2, each once, got {tuple(axes)}")
    return [subset for size in range(len(axes) + 1) for subset in combinations(axes, size)]


def flipped(forward: Forward, axes: Sequence[int]) -> Forward:
    """`forward` on windows (n, c, d, h, w) flipped along the spatial `axes`, its logits flipped back."""
    if not axes:
        return forward
    dims = [axis - 3 for axis in axes]
    return lambda images: forward(images.flip(dims)).flip(dims)


def mirrored(forward: Forward, axes: Sequence[int]) -> Forward:
    """The mean of the logits over the flips along every subset of the spatial `axes`; no axes: `forward` itself."""
    views = [flipped(forward, subset) for subset in flips(axes)]
    if len(views) == 1:
        return forward

    def mean(images: Images) -> Logits:
        total = views[0](images)
        for view in views[1:]:
            total = total + view(images)
        return total / len(views)

    return mean
