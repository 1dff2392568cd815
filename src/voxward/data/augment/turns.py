"""Quarter turns of a batch: how often each axis turns is drawn first, then applied; no voxel is interpolated."""

from __future__ import annotations

import torch
from jaxtyping import Integer, Shaped
from torch import Tensor

from voxward.core.recipe import Augmentation

# The plane that turns about each spatial axis, as axes counted from the last.
_PLANES = ((-2, -1), (-1, -3), (-3, -2))


def draw_turns(recipe: Augmentation, batch: int, generator: torch.Generator) -> Integer[Tensor, "b 3"]:
    """Draw how many quarter turns each sample makes about each axis, 0 to 3, all equally likely.

    Args:
        recipe: The axes about which samples turn. Without any, nothing is drawn from the generator.
        batch: Number of samples.
        generator: The source of the random numbers, on the CPU.

    Returns:
        Quarter turns (b, 3); 0 about an axis that the recipe does not name.
    """
    if not recipe.quarter_turns:
        return torch.zeros(batch, 3, dtype=torch.int64)
    drawn = torch.randint(4, (batch, 3), generator=generator)
    return drawn * torch.tensor([axis in recipe.quarter_turns for axis in range(3)])


def apply_turns(x: Shaped[Tensor, "b ... d h w"], turns: Integer[Tensor, "b 3"]) -> Shaped[Tensor, "b ... d h w"]:
    """Turn every sample about the axes 0, 1 and 2, in this order.

    A quarter turn of a plane that is not square would change the shape. There 1 and 2 quarter turns become a half turn,
    and 3 become none.

    Args:
        x: Images or labels (b, ..., d, h, w).
        turns: Quarter turns (b, 3).

    Returns:
        The turned batch, of the same shape.
    """
    if not turns.any():
        return x
    return torch.stack([_turned(sample, counts) for sample, counts in zip(x, turns.tolist(), strict=True)])


def _turned(sample: Tensor, counts: list[int]) -> Tensor:
    for count, plane in zip(counts, _PLANES, strict=True):
        square = sample.shape[plane[0]] == sample.shape[plane[1]]
        sample = torch.rot90(sample, count if square else 2 * (count in (1, 2)), plane)
    return sample
