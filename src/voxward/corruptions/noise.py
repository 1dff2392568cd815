"""Noise of magnitude images (MR) and of reconstructed slices (CT)."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from voxward.corruptions.corruption import Levels, Parameters, new_seed
from voxward.corruptions.scan import Scan
from voxward.corruptions.sharpness import in_slices

# The full width of a Gaussian at half of its height, in standard deviations.
_WIDTH = 2 * np.sqrt(2 * np.log(2))


def draw_rician(levels: Levels, scan: Scan, random: np.random.RandomState) -> Parameters:
    """Return the standard deviation, a share of the foreground's own, and draw the seed of the noise."""
    return {"sd": float(levels["share"]) * foreground_deviation(scan.image), "seed": new_seed(random)}


def rician(scan: Scan, parameters: Parameters) -> Scan:
    """Add Gaussian noise to the real and the imaginary part of a signal and take its magnitude."""
    source, sd = np.random.RandomState(parameters["seed"]), parameters["sd"]
    base = min(0.0, float(scan.image.min()))
    real = scan.image - base + sd * source.standard_normal(scan.image.shape)
    imaginary = sd * source.standard_normal(scan.image.shape)
    return replace(scan, image=(np.hypot(real, imaginary) + base).astype(scan.image.dtype))


def draw_ct_noise(levels: Levels, scan: Scan, random: np.random.RandomState) -> Parameters:
    """Return the standard deviation in HU and the kernel's width in mm, and draw the seed of the noise."""
    kernel = {"kernel_mm": float(levels["kernel_mm"]), "axial": scan.axial}
    return {"sd_hu": float(levels["sd_hu"]), **kernel, "seed": new_seed(random)}


def ct_noise(scan: Scan, parameters: Parameters) -> Scan:
    """Add Gaussian noise with the texture of a reconstruction kernel and a given standard deviation."""
    source = np.random.RandomState(parameters["seed"])
    white = replace(scan, image=source.standard_normal(scan.image.shape))
    textured = in_slices(white, parameters["kernel_mm"] / _WIDTH, parameters["axial"])
    spread = float(textured.std()) or 1.0
    return replace(scan, image=(scan.image + parameters["sd_hu"] / spread * textured).astype(scan.image.dtype))


def foreground_deviation(image: np.ndarray) -> float:
    """Return the standard deviation of the voxels above the mean, where air and background are not.

    Args:
        image: The intensities of one channel.
    """
    values = image.astype(np.float64)
    bright = values[values > values.mean()]
    return float(bright.std()) if bright.size else 0.0
