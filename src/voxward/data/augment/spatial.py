"""Rotation, zoom and mirroring of a batch: parameters are drawn first, then one resampling and exact flips."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Integer
from torch import Tensor

from voxward.core.errors import UserError
from voxward.core.plan import Padding
from voxward.core.recipe import Augmentation
from voxward.core.types import Float3, Images, Labels, Size3
from voxward.data.padding import crop_back

# Slices more than this many times thicker than the finest axis are never mixed by a rotation or a zoom (nnU-Net's
# threshold for anisotropy).
THIN_RATIO = 3.0

Active = tuple[bool, bool, bool]
PatchImages = Float[Tensor, "b c pd ph pw"]
PatchLabels = Integer[Tensor, "b pd ph pw"]


@dataclass(frozen=True, eq=False)
class SpatialDraw:
    """The spatial transforms of a batch, in host memory.

    Attributes:
        rotations: Rotation matrices (b, 3, 3) about the patch centre, in millimetres, axis order (d, h, w): what lay at
            p comes to lie at R p.
        scales: Zoom per axis (b, 3); above 1 magnifies.
        flips: Which axes are mirrored after rotation and zoom (b, 3).
    """

    rotations: Float[Tensor, "b 3 3"]
    scales: Float[Tensor, "b 3"]
    flips: Bool[Tensor, "b 3"]

    @property
    def resampled(self) -> Bool[Tensor, " b"]:
        """Return which samples (b) are rotated or zoomed; the others are only cropped and flipped, bit for bit."""
        turned = (self.rotations != torch.eye(3, dtype=self.rotations.dtype)).flatten(1).any(1)
        return turned | (self.scales != 1).any(1)


def active_axes(patch_size: Size3, spacing: Float3) -> Active:
    """Return which axes a rotation may turn and a zoom may stretch.

    These are the axes that are longer than one voxel and not much coarser than the rest. An axis whose spacing is more
    than three times the finest one stays in place, so that its slices are never mixed.

    Args:
        patch_size: Shape of a patch in voxels.
        spacing: Voxel size in mm.
    """
    i, j, k = (size > 1 and step <= THIN_RATIO * min(spacing) for size, step in zip(patch_size, spacing, strict=True))
    return i, j, k


def draw_spatial(recipe: Augmentation, batch: int, active: Active, generator: torch.Generator) -> SpatialDraw:
    """Draw the spatial transforms of a batch.

    Angles are U(-r, r) about each axis whose plane is made of active axes, for all of these axes or for none per
    sample. The zoom is one factor U(scale) per sample, on the active axes. Each axis of `recipe.mirror_axes` is flipped
    by itself.

    Args:
        recipe: Ranges and probabilities.
        batch: Number of samples.
        active: The axes that rotation and zoom may use.
        generator: The source of the random numbers, on the CPU.
    """
    chance = torch.rand(batch, 2, generator=generator, dtype=torch.float64)
    angles = (2 * torch.rand(batch, 3, generator=generator, dtype=torch.float64) - 1) * recipe.rotation_degrees
    zoom = torch.empty(batch, 1, dtype=torch.float64).uniform_(*recipe.scale, generator=generator)
    mirror = torch.rand(batch, 3, generator=generator) < recipe.mirror_probability
    allowed = torch.tensor(active)
    turnable = torch.tensor([all(active[other] for other in range(3) if other != axis) for axis in range(3)])
    turned = (chance[:, :1] < recipe.rotation_probability) & turnable
    zoomed = (chance[:, 1:] < recipe.scale_probability) & allowed
    return SpatialDraw(
        rotation_matrices(torch.where(turned, angles, 0.0)),
        torch.where(zoomed, zoom, 1.0),
        mirror & torch.tensor([axis in recipe.mirror_axes for axis in range(3)]),
    )


def rotation_matrices(degrees: Float[Tensor, "b 3"]) -> Float[Tensor, "b 3 3"]:
    """Return the matrices R0 R1 R2, where each factor turns about one axis.

    A positive angle about an axis turns the next axis towards the one after it.

    Args:
        degrees: The angle about each axis, in degrees (b, 3).

    Returns:
        Rotation matrices (b, 3, 3).
    """
    first, second, third = (_about(axis, degrees[:, axis]) for axis in range(3))
    return first @ second @ third


def apply_spatial(
    images: Images, labels: Labels, draw: SpatialDraw, patch_size: Size3, spacing: Float3, padding: Padding
) -> tuple[PatchImages, PatchLabels]:
    """Rotate and zoom about the centre of the patch, crop the patch, and flip it.

    Images are interpolated linearly, and labels take the value of their nearest voxel. Where a patch reaches beyond the
    source region, its border continues, or zeros if that is the plan's padding.

    Args:
        images: Normalised intensities of the source regions (b, c, d, h, w).
        labels: Class indices of the source regions (b, d, h, w).
        draw: The transforms.
        patch_size: Shape of a patch in voxels, at most that of the source region.
        spacing: Voxel size in mm.
        padding: The plan's padding.

    Returns:
        Patches (b, c, *patch_size), and their class indices (b, *patch_size) as int64.

    Raises:
        UserError: The patch exceeds the source region.
    """
    offset, size = _patch_offset(images, patch_size), patch_size
    patch = images.new_empty((*images.shape[:2], *size))
    truth = labels.new_empty((len(labels), *size), dtype=torch.int64)
    resampled = draw.resampled
    for n in (~resampled).nonzero().flatten().tolist():
        mirrored = [axis - 3 for axis in range(3) if draw.flips[n, axis]]
        patch[n] = crop_back(images[n], offset, size).flip(mirrored)
        truth[n] = crop_back(labels[n], offset, size).flip(mirrored)
    for n in resampled.nonzero().flatten().tolist():
        source: Size3 = (images.shape[2], images.shape[3], images.shape[4])
        # A flip of the patch only changes signs in the matrix, so it costs nothing.
        matrix = _matrices(draw, spacing)[n : n + 1] * (1 - 2 * draw.flips[n : n + 1, None].to(draw.rotations))
        theta = _normalised(matrix, source, size, offset)
        grid = F.affine_grid(theta.to(images), [1, 1, *size], align_corners=False)
        beyond = "zeros" if padding == "zero" else "border"
        patch[n] = _sample(images[n : n + 1], grid, "bilinear", beyond)[0]
        truth[n] = _sample(labels[n : n + 1, None].to(images.dtype), grid, "nearest", beyond)[0, 0]
    return patch, truth


def _about(axis: int, degrees: Float[Tensor, " b"]) -> Float[Tensor, "b 3 3"]:
    angle = degrees * (math.pi / 180)
    matrix = torch.eye(3, dtype=degrees.dtype).repeat(len(degrees), 1, 1)
    a, b = (axis + 1) % 3, (axis + 2) % 3
    matrix[:, a, a] = matrix[:, b, b] = angle.cos()
    matrix[:, b, a] = angle.sin()
    matrix[:, a, b] = -angle.sin()
    return matrix


def _patch_offset(images: Images, patch_size: Size3) -> Size3:
    source = tuple(images.shape[2:])
    if any(outer < inner for outer, inner in zip(source, patch_size, strict=True)):
        raise UserError(f"patch_size {patch_size} must not exceed the source region {source}")
    i, j, k = ((outer - inner) // 2 for outer, inner in zip(source, patch_size, strict=True))
    return i, j, k


def _matrices(draw: SpatialDraw, spacing: Float3) -> Float[Tensor, "b 3 3"]:
    """Voxel offset in the patch -> voxel offset in the source: the inverse transform, between voxels and mm."""
    mm = torch.tensor(spacing, dtype=draw.rotations.dtype)
    return draw.rotations.transpose(1, 2) / mm[:, None] * (mm / draw.scales)[:, None, :]


def _normalised(matrices: Float[Tensor, "b 3 3"], source: Size3, patch: Size3, offset: Size3) -> Float[Tensor, "b 3 4"]:
    """The matrices for F.affine_grid: coordinates in [-1, 1] between the outer voxel faces, axes in order (w, h, d)."""
    outer, inner, begin = (torch.tensor(size, dtype=matrices.dtype) for size in (source, patch, offset))
    linear = matrices * inner / outer[:, None]
    shift = (2 * begin + inner) / outer - 1
    theta = torch.cat([linear, shift.repeat(len(matrices), 1)[:, :, None]], 2)
    return theta[:, [2, 1, 0]][:, :, [2, 1, 0, 3]]


def _sample(
    x: Float[Tensor, "n c d h w"], grid: Float[Tensor, "n pd ph pw 3"], mode: str, beyond: str
) -> Float[Tensor, "n c pd ph pw"]:
    return F.grid_sample(x, grid, mode=mode, padding_mode=beyond, align_corners=False)
