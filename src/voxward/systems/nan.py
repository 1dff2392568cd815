"""How a deployed system reads the volumes that it is given: NaN, and files that lie apart."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

from voxward.core.choices import AFFINE_TOLERANCE, Nan, Reading
from voxward.core.plan import load_plan
from voxward.runs.folder import RunFolder


def nan_for(runs: Sequence[RunFolder], reading: Reading | None = None) -> Nan:
    """Return what is done about NaN: what the user says, or else what the runs of a system were trained with.

    Where a run was trained with NaN as 0, and the user says nothing, a warning says so.

    Args:
        runs: The runs of the system, or of several.
        reading: What the user says; None says nothing.
    """
    if reading is not None and reading.nan is not None:
        return reading.nan
    trained = [run for run in runs if run.plan.is_file() and load_plan(run.plan).nan == "zero"]
    if not trained:
        return "refuse"
    warnings.warn(
        f"NaN voxels are read as 0, as {trained[0].root} was trained to; --nan refuse refuses them", stacklevel=2
    )
    return "zero"


def tolerance_for(runs: Sequence[RunFolder], reading: Reading | None = None) -> float:
    """Return how far the files of a case may lie apart: what the user says, or else what the runs were trained with.

    Args:
        runs: The runs of the system, or of several.
        reading: What the user says; None says nothing.
    """
    if reading is not None and reading.affine_tolerance is not None:
        return reading.affine_tolerance
    return max((load_plan(run.plan).affine_tolerance for run in runs if run.plan.is_file()), default=AFFINE_TOLERANCE)
