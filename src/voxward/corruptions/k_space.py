"""Corruptions while an MR image is read out in k-space: ghosts and motion."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from voxward.corruptions.corruption import Levels, Parameters, numbers, signed
from voxward.corruptions.packages import torchio
from voxward.corruptions.scan import Scan
from voxward.corruptions.through_torchio import transformed

# By so large a share of the time between two movements each may come earlier or later, as in TorchIO.
_JITTER = 0.3


def draw_ghosting(levels: Levels, scan: Scan, random: np.random.RandomState) -> Parameters:
    """Draw the axis of the phase, which is not across a slab."""
    axis = int(scan.wide_axes[random.randint(len(scan.wide_axes))])
    return {"axis": axis, "ghosts": int(levels["ghosts"]), "intensity": float(levels["intensity"])}


def ghosting(scan: Scan, parameters: Parameters) -> Scan:
    """Weaken every n-th plane of k-space, but not the central one."""
    ghosts = torchio().Ghosting(
        num_ghosts=parameters["ghosts"], axis=parameters["axis"], intensity=parameters["intensity"], restore=None
    )
    return transformed(scan, ghosts)


def draw_motion(levels: Levels, scan: Scan, random: np.random.RandomState) -> Parameters:
    """Draw the axis of the phase, and for each movement its time, rotation and translation."""
    count = int(levels["movements"])
    lengths, turns = np.array(scan.length_scale(levels.get("full_extent_mm"))), np.array(scan.turn_scale())
    step = 1 / (count + 1)
    times = step * (np.arange(1, count + 1) + _JITTER * signed(random, count))
    return {
        "axis": int(scan.wide_axes[random.randint(len(scan.wide_axes))]),
        "times": numbers(times),
        "rotation_deg": numbers(signed(random, (count, 3)) * levels["rotation_deg"] * turns),
        "translation_mm": numbers(signed(random, (count, 3)) * levels["translation_mm"] * lengths),
    }


def motion(scan: Scan, parameters: Parameters) -> Scan:
    """Put parts of k-space together that were read out before and after movements; its centre stays in place."""
    last = [axis for axis in range(3) if axis != parameters["axis"]] + [parameters["axis"]]
    image = scan.image.transpose(0, *(1 + axis for axis in last))  # TorchIO reads out along the last axis
    i, j, k = (scan.spacing[axis] for axis in last)
    moves = torchio().Motion(
        degrees=np.array(parameters["rotation_deg"])[:, last],
        translation=np.array(parameters["translation_mm"])[:, last],
        times=np.array(parameters["times"]),
        image_interpolation="linear",
    )
    # The truth is that of the position in which the centre of k-space was read out.
    found = transformed(Scan(image, (i, j, k), scan.channels), moves).image
    back = [1 + last.index(axis) for axis in range(3)]
    return replace(scan, image=found.transpose(0, *back))
