"""Short names for what a case is prepared from: the decisions of a plan, and the state of the files."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from typing import Any

from voxward.core.case import Case
from voxward.core.failures import files_of
from voxward.core.plan import ChannelPlan, Plan
from voxward.core.structure import to_data
from voxward.data.normalization import normalization_of

# The decisions of a plan that change prepared voxels; the others (batch size, window size, ...) may change freely.
_PREPARING = ("labels", "channels", "spacing", "spline_order", "crop_nonzero", "resample", "nan", "label_resampling")


def preparation_digest(plan: Plan) -> str:
    """Return a short name for the decisions of a plan that change prepared voxels.

    Args:
        plan: The plan.

    Raises:
        UserError: The plan names a normalisation that does not exist.
    """
    # Numbers that a normalisation does not read may differ: other folds of an MR dataset may share a folder.
    channels = tuple(
        channel if normalization_of(channel).reads_plan else ChannelPlan(channel.name, channel.normalization)
        for channel in plan.channels
    )
    data = to_data(replace(plan, channels=channels))
    del data["labels"]["regions"]  # prepared labels hold classes
    if plan.nan == "refuse":
        del data["nan"]  # as in plans that had no such entry
    if plan.labels.ignore is None:  # as before there was an ignore label
        del data["labels"]["ignore"]
    if plan.label_resampling == "linear" or not plan.resample:
        del data["label_resampling"]  # what older versions did, whose cases stay current
    return _digest({name: value for name, value in data.items() if name in _PREPARING})


def case_digest(case: Case, preparation: str) -> str:
    """Return a short name for a preparation and the state of a case's files.

    Args:
        case: The case.
        preparation: What `preparation_digest` returned.

    Raises:
        FileNotFoundError: A file is gone.
    """
    states = [(file.name, file.stat().st_size, file.stat().st_mtime_ns) for file in files_of(case)]
    order = [] if case.order is None else [list(case.order)]  # cases that are read as stored keep their former digest
    return _digest([preparation, len(case.images), states, *order])


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]
