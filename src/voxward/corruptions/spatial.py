"""Corruptions that move voxels: another position of the patient, and another shape."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from scipy.interpolate import BSpline

from voxward.corruptions.corruption import Levels, Parameters, numbers, signed
from voxward.corruptions.packages import torchio
from voxward.corruptions.scan import Scan
from voxward.corruptions.through_torchio import transformed

# TorchIO's splines are cubic: the grid of control points reaches one spacing beyond the scan on either side.
_ORDER = 3
# No part may be pressed to less than this share of its volume, which is looked at in so many places of each cell.
_THINNEST, _TESTED = 0.2, 4
_STEP = 0.05
# TorchIO only warns by this number, of folds that there are none of.
_DISPLACED = (1e-6, 1e-6, 1e-6)


def draw_affine(levels: Levels, scan: Scan, random: np.random.RandomState) -> Parameters:
    """Draw a translation in mm and a rotation in degrees, for each axis uniform up to the level in both directions."""
    lengths = np.array(scan.length_scale(levels.get("full_extent_mm")))
    turns = np.array(scan.turn_scale())
    return {
        "translation_mm": numbers(signed(random, 3) * levels["translation_mm"] * lengths),
        "rotation_deg": numbers(signed(random, 3) * levels["rotation_deg"] * turns),
    }


def affine(scan: Scan, parameters: Parameters) -> Scan:
    """Rotate about the centre and move; what comes from outside has the lowest intensity and no class."""
    moved = torchio().Affine(
        scales=(1.0, 1.0, 1.0),
        degrees=tuple(parameters["rotation_deg"]),
        translation=tuple(parameters["translation_mm"]),
    )
    return _moved(scan, moved)


def draw_elastic(levels: Levels, scan: Scan, random: np.random.RandomState) -> Parameters:
    """Draw the displacements in mm of a grid of control points; all are made smaller where the scan would fold.

    The border of the scan stays where it is, so that nothing comes from outside.
    """
    points = int(levels["points"])
    most = levels["displacement_mm"] * np.array(scan.length_scale(levels.get("full_extent_mm")))
    # There is nothing to displace across a single slice.
    found = signed(random, (points, points, points, 3)) * np.where(np.array(scan.shape) > 1, most, 0.0)
    for axis in range(3):
        layers = np.moveaxis(found, axis, 0)
        # At the border the spline is (outermost + 4 * next + third) / 6.
        layers[[1, -2]] = 0.0
        layers[0], layers[-1] = -layers[2], -layers[-3]
    share = _unfolded(found, scan)
    return {"unfolded": share, "control_points_mm": numbers(share * found, 3)}


def _unfolded(points: np.ndarray, scan: Scan) -> float:
    """By what displacements must be multiplied so that no part of the scan is pressed to less than a share of it."""
    cells = points.shape[0] - _ORDER
    places = np.linspace(0, cells, _TESTED * cells + 1)
    offsets = places[:, None] + 1 - np.arange(points.shape[0])
    value, slope = BSpline.basis_element(np.arange(-2.0, 3.0)), BSpline.basis_element(np.arange(-2.0, 3.0)).derivative()
    inside = np.abs(offsets) < 2
    weights, slopes = (np.where(inside, one(np.clip(offsets, -2, 2)), 0.0) for one in (value, slope))
    rows = []
    for axis in range(3):
        x, y, z = (slopes if n == axis else weights for n in range(3))
        per_mm = cells / scan.extent[axis]
        rows.append(np.einsum("xa,yb,zc,abcd->xyzd", x, y, z, points, optimize=True) * per_mm)
    bent = np.stack(rows, -1)
    share = 1.0
    while np.linalg.det(np.eye(3) + share * bent).min() < _THINNEST:
        share = round(share - _STEP, 2)
    return share


def elastic(scan: Scan, parameters: Parameters) -> Scan:
    """Displace by a cubic spline through control points."""
    points = np.array(parameters["control_points_mm"], np.float64)
    bent = torchio().ElasticDeformation(control_points=points, max_displacement=_DISPLACED)
    return _moved(scan, bent)


def _moved(scan: Scan, transform: Any) -> Scan:
    """The scan after a transform, in which what comes from outside has class 0, and never the lowest one of a map."""
    if scan.label is None:
        return transformed(scan, transform)
    values, numbered = np.unique(np.append(scan.label, np.zeros(1, scan.label.dtype)), return_inverse=True)
    order = np.argsort(values != 0, kind="stable")  # 0 first
    rank = np.empty(len(values), np.int32)
    rank[order] = np.arange(len(values))
    ranked = rank[numbered[:-1]].reshape(scan.label.shape)
    found = transformed(replace(scan, label=ranked), transform)
    assert found.label is not None
    return replace(found, label=values[order][found.label].astype(scan.label.dtype))
