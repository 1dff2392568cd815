"""Test-time augmentation: the mean over moved copies of a window, with the logits of each moved back."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from itertools import combinations

import torch
from torch import Tensor

from voxward.core.errors import UserError
from voxward.core.model import Head
from voxward.core.sides import LEFT_RIGHT
from voxward.core.types import Images, Logits
from voxward.pipeline.mean import Mean, mean_logits
from voxward.pipeline.symmetries import seen_through, symmetries
from voxward.pipeline.windows import Forward

View = Callable[[Forward], Forward]
"""How a network sees a window: a function that makes a forward pass move its windows, and its logits back."""


def flips(axes: Sequence[int]) -> list[tuple[int, ...]]:
    """Return all subsets of some spatial axes, the empty one first.

    Args:
        axes: Spatial axes, of 0, 1 and 2.

    Raises:
        UserError: There is another axis, or one appears twice.
    """
    if not set(axes) <= {0, 1, 2} or len(set(axes)) < len(axes):
        raise UserError(f"mirror_axes may only hold 0, 1, 2, each once, got {tuple(axes)}")
    return [subset for size in range(len(axes) + 1) for subset in combinations(axes, size)]


def flipped(forward: Forward, axes: Sequence[int]) -> Forward:
    """Return a forward pass that sees its windows flipped, and flips its logits back.

    Args:
        forward: The network's forward pass on windows (n, c, d, h, w).
        axes: The spatial axes along which the windows are flipped.
    """
    if not axes:
        return forward
    dims = [axis - 3 for axis in axes]
    return lambda images: forward(images.flip(dims)).flip(dims)


def exchanged(forward: Forward, view: View, order: Sequence[int]) -> Forward:
    """Return a forward pass through a view that exchanges left and right, with the classes of the two sides put back.

    Args:
        forward: The network's forward pass on windows (n, c, d, h, w).
        view: How the network sees its windows.
        order: For each output channel the one that holds its logit, from `core.sides.output_order`.
    """
    seen, index = view(forward), list(order)
    return lambda images: seen(images)[:, index]


def mirror_views(axes: Sequence[int], order: Sequence[int] | None = None) -> tuple[View, ...]:
    """Return one view per subset of some spatial axes, flipped along the axes of the subset.

    Args:
        axes: Spatial axes, of 0, 1 and 2. Without any, the only view is the window as it is.
        order: The order of the output channels where left and right are exchanged; None leaves them as they are.
    """
    views: list[View] = []
    for subset in flips(axes):
        view: View = partial(flipped, axes=subset)
        if order is not None and LEFT_RIGHT in subset:
            view = partial(exchanged, view=view, order=order)
        views.append(view)
    return tuple(views)


def symmetry_views(sided: bool = False, order: Sequence[int] | None = None) -> tuple[View, ...]:
    """Return the views through the 16 symmetries of a volume with square axial slices, see `pipeline.symmetries`.

    Args:
        sided: Whether classes differ in left and right. Then there are only the 4 symmetries that leave left where it
            is, and with an order also the 4 that exchange left and right.
        order: The order of the output channels where left and right are exchanged.
    """
    if not sided:
        return tuple(partial(seen_through, symmetry=symmetry) for symmetry in symmetries())
    views: list[View] = []
    for symmetry in symmetries():
        view: View = partial(seen_through, symmetry=symmetry)
        if symmetry.direction == 1:
            views.append(view)
        elif symmetry.direction == -1 and order is not None:
            views.append(partial(exchanged, view=view, order=order))
    return tuple(views)


def averaged(forward: Forward, views: Sequence[View], head: Head = "softmax", mean: Mean = "logits") -> Forward:
    """Return a forward pass that is the mean over some views.

    Args:
        forward: The network's forward pass on windows (n, c, d, h, w).
        views: How the network sees a window. The result of a single view is returned as it is.
        head: How the logits are read.
        mean: What is averaged, `logits` or `probabilities` (see `mean_logits`).
    """
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
    """Compute the gradient with respect to each view's own logits, from the gradient with respect to their mean.

    Args:
        forward: The network's forward pass, without a graph.
        views: How the network sees a window.
        images: The windows (n, c, d, h, w).
        cotangent: The gradient with respect to the output of `averaged` (n, k, d, h, w).
        head: How the logits are read.
        mean: What was averaged.

    Returns:
        One gradient (n, k, d, h, w) per view.
    """
    if len(views) == 1 or mean == "logits":
        return [cotangent / len(views)] * len(views)
    own = [view(forward)(images).detach().requires_grad_() for view in views]
    with torch.enable_grad():
        return list(torch.autograd.grad(mean_logits(own, head, mean), own, cotangent))
