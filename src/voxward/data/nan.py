"""Cases whose NaN voxels are read as 0, as some programs write them outside the field of view."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from voxward.core.case import Case, Dataset
from voxward.core.choices import Nan


def reading_nan(cases: Sequence[Case], nan: Nan) -> tuple[Case, ...]:
    """Return the same cases, which say what is done about NaN when they are read.

    Args:
        cases: The cases.
        nan: `zero` reads NaN as 0, `refuse` makes it an error.
    """
    return tuple(replace(case, nan_as_zero=nan == "zero") for case in cases)


def dataset_reading_nan(dataset: Dataset, nan: Nan) -> Dataset:
    """Return the same dataset, whose cases say what is done about NaN when they are read.

    Args:
        dataset: The dataset.
        nan: `zero` reads NaN as 0, `refuse` makes it an error.
    """
    return dataset.with_cases(lambda case: replace(case, nan_as_zero=nan == "zero"))
