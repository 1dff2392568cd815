"""The augmentation of a training batch: drawn on the host, applied on the device that holds the batch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from jaxtyping import Bool, Integer
from torch import Tensor

from voxward.core.errors import UserError
from voxward.core.plan import Padding
from voxward.core.recipe import Augmentation
from voxward.core.sides import LEFT_RIGHT
from voxward.core.types import Float3, Images, Labels, Size3
from voxward.data.augment.channels import ChannelDraw, apply_channels, draw_channels
from voxward.data.augment.intensity import IntensityDraw, apply_intensity, draw_intensity
from voxward.data.augment.sides import exchanged
from voxward.data.augment.spatial import (
    Active,
    PatchImages,
    PatchLabels,
    SpatialDraw,
    apply_spatial,
    draw_spatial,
)
from voxward.data.augment.turns import apply_turns, draw_turns

# Weights that add up to 1 do so up to their rounding.
_ALL = 1 - 1e-4


@dataclass(frozen=True, eq=False)
class AugmentationDraw:
    """All random parameters of a batch's augmentation; to apply them twice gives the same batch.

    Attributes:
        spatial: Rotation, zoom and flips.
        intensity: Gamma correction.
        turns: Quarter turns per sample and axis (b, 3).
        channels: Brightness, contrast, noise and dropped channels; None if the recipe has none of these.
    """

    spatial: SpatialDraw
    intensity: IntensityDraw
    turns: Integer[Tensor, "b 3"]
    channels: ChannelDraw | None = None

    def of(self, places: slice) -> AugmentationDraw:
        """Return the draw of some samples of the batch.

        Args:
            places: Which samples.
        """
        found: AugmentationDraw = _part(self, places)
        return found


def draw_augmentation(
    recipe: Augmentation, batch: int, channels: int, axes_active: Active, generator: torch.Generator
) -> AugmentationDraw:
    """Draw all random parameters of a batch's augmentation.

    The draw does not depend on the device, so a run on another device sees the same augmentation.

    Args:
        recipe: Ranges and probabilities.
        batch: Number of samples, at least 1.
        channels: Number of image channels, at least 1.
        axes_active: The axes that rotation and zoom may use, from `spatial.active_axes`.
        generator: The source of the random numbers, on the CPU.

    Raises:
        UserError: `batch` or `channels` is below 1.
    """
    if batch < 1 or channels < 1:
        raise UserError(f"batch and channels must be at least 1, got {batch} and {channels}")
    return AugmentationDraw(
        draw_spatial(recipe, batch, axes_active, generator),
        draw_intensity(recipe, batch, channels, generator),
        draw_turns(recipe, batch, generator),
        draw_channels(recipe, batch, channels, generator),
    )


def _part(draw: Any, places: slice) -> Any:
    """Every tensor of a draw, and of the draws inside it, for some samples of the batch."""
    if isinstance(draw, Tensor):
        return draw[places]
    if draw is None:
        return None
    return replace(draw, **{field.name: _part(getattr(draw, field.name), places) for field in fields(draw)})


def apply_augmentation(
    images: Images,
    labels: Labels,
    draw: AugmentationDraw,
    patch_size: Size3,
    spacing: Float3,
    padding: Padding,
    swaps: Sequence[tuple[int, int]] = (),
) -> tuple[PatchImages, PatchLabels]:
    """Turn source regions into augmented patches.

    The order is: rotation and zoom, crop, flips, quarter turns, gamma, channels. The inputs are left as they are.

    Args:
        images: Normalised intensities of the source regions (b, c, d, h, w).
        labels: Class indices of the source regions (b, d, h, w).
        draw: The random parameters.
        patch_size: Shape of a patch in voxels, at most that of the source region.
        spacing: Voxel size in mm, so that a rotation turns anatomy and not voxels.
        padding: The plan's padding, for what lies beyond the source region.
        swaps: Pairs of classes that are exchanged in the samples that are mirrored left to right.

    Returns:
        Patches (b, c, *patch_size), and their class indices (b, *patch_size) as int64.

    Raises:
        UserError: Images, labels and draw disagree, or the patch exceeds the source region.
    """
    if images.shape[2:] != labels.shape[1:] or images.shape[0] != labels.shape[0]:
        raise UserError(f"images {tuple(images.shape)} and labels {tuple(labels.shape)} must cover the same voxels")
    if draw.intensity.gammas.shape != images.shape[:2]:
        drawn = tuple(draw.intensity.gammas.shape)
        raise UserError(f"the draw is for (batch, channels) {drawn}, but the images have {tuple(images.shape[:2])}")
    patches, truth = apply_spatial(images, labels, draw.spatial, patch_size, spacing, padding)
    truth = exchanged(truth, draw.spatial.flips[:, LEFT_RIGHT], swaps)
    patches, truth = apply_turns(patches, draw.turns), apply_turns(truth, draw.turns)
    patches = apply_intensity(patches, draw.intensity)
    return patches if draw.channels is None else apply_channels(patches, draw.channels), truth


def moved_mask(
    mask: Bool[Tensor, "b c d h w"], draw: AugmentationDraw, patch_size: Size3, spacing: Float3, padding: Padding
) -> Bool[Tensor, "b c pd ph pw"]:
    """Move a mask of the source regions as `apply_augmentation` moves their images.

    A voxel of a patch is inside where all voxels are that its intensity is interpolated from.

    Args:
        mask: The mask of each channel of the source regions (b, c, d, h, w).
        draw: The random parameters.
        patch_size: Shape of a patch in voxels.
        spacing: Voxel size in mm.
        padding: The plan's padding.
    """
    moved, _ = apply_spatial(mask.float(), mask[:, 0].to(torch.uint8), draw.spatial, patch_size, spacing, padding)
    return apply_turns(moved, draw.turns) > _ALL
