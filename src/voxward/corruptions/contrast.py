"""Corruptions of single intensities: contrast, bias field, and errors of the Hounsfield scale."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from voxward.corruptions.corruption import Levels, Parameters, numbers, signed
from voxward.corruptions.packages import torchio
from voxward.corruptions.scan import Scan
from voxward.corruptions.through_torchio import transformed

BIAS_ORDER = 3
"""The order of the polynomial of a bias field."""
_COEFFICIENTS = 20
"""The number of terms of a polynomial of order 3 in three variables."""


def draw_gamma(levels: Levels, scan: Scan, random: np.random.RandomState) -> Parameters:
    """Take the exponent of the level; nothing is drawn."""
    return {"gamma": float(levels["gamma"])}


def gamma(scan: Scan, parameters: Parameters) -> Scan:
    """Raise intensities to a power, of which the lowest one counts 0 and the highest one 1, and both stay."""
    low, high = float(scan.image.min()), float(scan.image.max())
    if high <= low:
        return scan
    unit = replace(scan, image=((scan.image.astype(np.float64) - low) / (high - low)))
    powered = transformed(unit, torchio().Gamma(gamma=parameters["gamma"])).image
    return replace(scan, image=(low + powered * (high - low)).astype(scan.image.dtype))


def draw_bias_field(levels: Levels, scan: Scan, random: np.random.RandomState) -> Parameters:
    """Draw the coefficients of the polynomial, each uniform up to the level in both directions."""
    return {"coefficients": numbers(signed(random, _COEFFICIENTS) * levels["coefficient"])}


def bias_field(scan: Scan, parameters: Parameters) -> Scan:
    """Multiply by the exponential of a polynomial of order 3, and keep the mean; of values below 0 the lowest stays."""
    base = min(0.0, float(scan.image.min()))
    raised = replace(scan, image=scan.image.astype(np.float64) - base)
    field = torchio().BiasField(coefficients=list(parameters["coefficients"]), order=BIAS_ORDER)
    found = transformed(raised, field).image
    # A scanner measures how bright the patient is before it takes the image, so that no field is a mere scale.
    mean = float(found.mean())
    found = found * (float(raised.image.mean()) / mean) if mean > 0 else found
    return replace(scan, image=(found + base).astype(scan.image.dtype))


def draw_offset(levels: Levels, scan: Scan, random: np.random.RandomState) -> Parameters:
    """Draw the sign of the offset in HU."""
    return {"offset_hu": float(levels["offset_hu"]) * _sign(random)}


def offset(scan: Scan, parameters: Parameters) -> Scan:
    """Add an offset to all intensities."""
    return replace(scan, image=scan.image + scan.image.dtype.type(parameters["offset_hu"]))


def draw_scale(levels: Levels, scan: Scan, random: np.random.RandomState) -> Parameters:
    """Draw whether the scale is too large or too small."""
    return {"factor": float(np.round(1 + levels["percent"] / 100 * _sign(random), 6))}


def scale(scan: Scan, parameters: Parameters) -> Scan:
    """Multiply all intensities: 0 HU, water, stays."""
    return replace(scan, image=scan.image * scan.image.dtype.type(parameters["factor"]))


def draw_phase(levels: Levels, scan: Scan, random: np.random.RandomState) -> Parameters:
    """Draw whether soft tissue takes up more contrast medium or less."""
    exponent = levels["gamma_low"] if _sign(random) < 0 else levels["gamma_high"]
    return {"gamma": float(exponent), "low_hu": float(levels["low_hu"]), "high_hu": float(levels["high_hu"])}


def phase(scan: Scan, parameters: Parameters) -> Scan:
    """Raise intensities of soft tissue to a power; its ends stay, and so does all outside."""
    low, high = parameters["low_hu"], parameters["high_hu"]
    share = (scan.image.astype(np.float64) - low) / (high - low)
    inside = (share > 0) & (share < 1)
    powered = low + np.clip(share, 0, 1) ** parameters["gamma"] * (high - low)
    return replace(scan, image=np.where(inside, powered, scan.image).astype(scan.image.dtype))


def _sign(random: np.random.RandomState) -> float:
    return 1.0 if random.randint(2) else -1.0
