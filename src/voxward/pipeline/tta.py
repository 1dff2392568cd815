"""Test-time augmentation: the mean over moved copies of a window, each one's logits moved back."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from itertools import combinations

import torch
from torch import Tensor

from voxward.core.errors import UserError
from voxward.core.model import Head
from voxward.core.types import Images, Logits
from voxward.pipeline.mean import Mean, mean_logits
from voxward.pipeline.symmetries import seen_through, symmetries
from voxward.pipeline.windows import Forward

View = Callable[[Forward], Forward]
"""How a network sees a window: the forward of the moved window, its logits moved back."""


def flips(axes: Sequence[int]) -> list[tuple[int, ...]]:
    """All subsets of the spatial `axes` (of 0, 1, 2), the empty one first.

    Raises ValueError for another axis, or for one that is there twice.
    """
    if not set(axes) <= {0, 1, 2} or len(set(axes)) < len(axes):
        raise UserError(f"mirror_axes may only hold 0, 1, 2, each once, got {tuple(axes)}")
    return [subset for size in range(len(axes) + 1) for subset in combinations(axes, size)]


def flipped(forward: Forward, axes: Sequence[int]) -> Forward:
    """`forward` on windows (n, c, d, h, w) flipped along the spatial `axes`, its logits flipped back."""
    if not axes:
        return forward
    dims = [axis - 3 for axis in axes]
    return lambda images: forward(images.flip(dims)).flip(dims)


def mirror_views(axes: Sequence[int]) -> tuple[View, ...]:
    """The flips along every subset of the spatial `axes`; no axes: the window as it is."""
    return tuple(partial(flipped, axes=subset) for subset in flips(axes))


def symmetry_views() -> tuple[View, ...]:
    """The 16 symmetries of a volume with square axial slices, see pipeline.symmetries."""
    return tuple(partial(seen_through, symmetry=symmetry) for symmetry in symmetries())


def averaged(forward: Forward, views: Sequence[View], head: Head = "softmax", mean: Mean = "logits") -> Forward:
    """The mean over the views, of the logits or of the probabilities; one view: that view itself."""
    seen = [view(forward) for view in views]
    if len(seen) == 1:
        return seen[0]
    if mean == "probabilities":
        return lambda images: mean_logits([view(images) for view in seen], head, mean)

    def of_logits(images: Images) -> Logits:
        total = seen[0](images)
        for view in seen[1:]:
            total = total + view(images)
        return total / len(seen)

    return of_logits


def shares(
    forward: Forward, views: Sequence[View], images: Images, cotangent: Logits, head: Head, mean: Mean
) -> list[Tensor]:
    """Per view, the gradient for its own logits, from the `cotangent` of `averaged`'s. forward: without a graph."""
    if len(views) == 1 or mean == "logits":
        return [cotangent / len(views)] * len(views)
    own = [view(forward)(images).detach().requires_grad_() for view in views]
    with torch.enable_grad():
        return list(torch.autograd.grad(mean_logits(own, head, mean), own, cotangent))
