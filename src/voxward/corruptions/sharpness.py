"""Corruptions of the resolution: smoothing, sharpening, thick slices."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from scipy.ndimage import gaussian_filter

from voxward.corruptions.corruption import InapplicableError, Levels, Parameters, numbers
from voxward.corruptions.packages import torchio
from voxward.corruptions.scan import Scan
from voxward.corruptions.through_torchio import transformed

FEWEST_SAMPLES = 2
"""A volume must keep so many samples along the axis of which it loses resolution."""


def draw_smoothing(levels: Levels, scan: Scan, random: np.random.RandomState) -> Parameters:
    """Return the standard deviation in mm along each axis; nothing is drawn."""
    lengths = np.array(scan.length_scale(levels.get("full_extent_mm")))
    return {"sd_mm": numbers(levels["sd_mm"] * lengths)}


def smoothing(scan: Scan, parameters: Parameters) -> Scan:
    """Convolve with a Gaussian."""
    return transformed(scan, torchio().Blur(std=tuple(parameters["sd_mm"])))


def draw_downsampling(levels: Levels, scan: Scan, random: np.random.RandomState) -> Parameters:
    """Draw the axis; a short one keeps two samples."""
    axes = [axis for axis in scan.wide_axes if scan.shape[axis] > FEWEST_SAMPLES]
    if not axes:
        raise InapplicableError(f"a volume of {scan.shape} voxels has no axis along which it could be coarser")
    axis = int(axes[random.randint(len(axes))])
    return {"axis": axis, "factor": float(min(levels["factor"], scan.shape[axis] / FEWEST_SAMPLES))}


def downsampling(scan: Scan, parameters: Parameters) -> Scan:
    """Take fewer samples along an axis, and go back by linear interpolation.

    TorchIO's `Resample` leaves the margin black that lies beyond the last sample, where the value of that one is taken.
    """
    axis, count = 1 + parameters["axis"], scan.shape[parameters["axis"]]
    taken = (np.arange(int(count / parameters["factor"])) + 0.5) * parameters["factor"] - 0.5
    extra = (count - 1 - taken[-1] - taken[0]) / 2  # as much is left on either side
    taken = np.rint(taken + extra).astype(int)
    values = np.moveaxis(scan.image, axis, -1).astype(np.float64)
    found = _between(values[..., taken], np.interp(np.arange(count), taken, np.arange(len(taken))))
    return replace(scan, image=np.moveaxis(found, -1, axis).astype(scan.image.dtype))


def draw_thickness(levels: Levels, scan: Scan, random: np.random.RandomState) -> Parameters:
    """Return by what the slices are thicker; nothing is drawn."""
    slices = scan.shape[scan.axial]
    if slices < FEWEST_SAMPLES:
        raise InapplicableError("a single slice cannot be made thicker")
    return {"axis": scan.axial, "factor": float(min(levels["factor"], slices / FEWEST_SAMPLES))}


def thickness(scan: Scan, parameters: Parameters) -> Scan:
    """Average over thicker slices, and go back by linear interpolation."""
    factor = parameters["factor"]
    values = np.moveaxis(scan.image.astype(np.float64), 1 + parameters["axis"], -1)
    count = values.shape[-1]
    ends = np.minimum(np.arange(0.0, count + factor, factor), count)
    ends = ends[: int(np.searchsorted(ends, count)) + 1]
    # The integral up to each end, of a volume that is constant in every slice.
    whole = np.concatenate([np.zeros_like(values[..., :1]), values.cumsum(-1)], -1)
    low = np.minimum(ends.astype(int), count - 1)
    integral = whole[..., low] + (ends - low) * values[..., low]
    thick = np.diff(integral, axis=-1) / np.diff(ends)
    place = np.interp(np.arange(count) + 0.5, (ends[:-1] + ends[1:]) / 2, np.arange(len(ends) - 1))
    found = _between(thick, place)
    return replace(scan, image=np.moveaxis(found, -1, 1 + parameters["axis"]).astype(scan.image.dtype))


def _between(values: np.ndarray, places: np.ndarray) -> np.ndarray:
    """The values at places along the last axis, by linear interpolation."""
    before = places.astype(int)
    after, share = np.minimum(before + 1, values.shape[-1] - 1), places - before
    found: np.ndarray = values[..., before] * (1 - share) + values[..., after] * share
    return found


def draw_kernel(levels: Levels, scan: Scan, random: np.random.RandomState) -> Parameters:
    """Return the standard deviation in mm within the slices; nothing is drawn."""
    return {"sd_mm": float(levels["sd_mm"]), "axial": scan.axial}


def kernel(scan: Scan, parameters: Parameters) -> Scan:
    """Convolve each slice with a Gaussian: a smoother kernel of the reconstruction."""
    return replace(scan, image=in_slices(scan, parameters["sd_mm"], parameters["axial"]).astype(scan.image.dtype))


def draw_sharpening(levels: Levels, scan: Scan, random: np.random.RandomState) -> Parameters:
    """Return the amount and the standard deviation in mm within the slices; nothing is drawn."""
    return {"amount": float(levels["amount"]), "sd_mm": float(levels["sd_mm"]), "axial": scan.axial}


def sharpening(scan: Scan, parameters: Parameters) -> Scan:
    """Add what a Gaussian takes away (unsharp masking): a sharper kernel of the reconstruction."""
    lost = scan.image - in_slices(scan, parameters["sd_mm"], parameters["axial"])
    return replace(scan, image=(scan.image + parameters["amount"] * lost).astype(scan.image.dtype))


def in_slices(scan: Scan, sd_mm: float, axial: int) -> np.ndarray:
    """Return the image after a Gaussian within each slice.

    Args:
        scan: The scan.
        sd_mm: The standard deviation in mm.
        axial: The axis across the slices.
    """
    sigma = [0.0, *(0.0 if axis == axial else sd_mm / float(mm) for axis, mm in enumerate(scan.spacing))]
    found: np.ndarray = gaussian_filter(scan.image.astype(np.float64), sigma)
    return found
