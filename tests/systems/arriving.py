"""A dataset whose images come one by one, as those that are made of DICOM files do."""

from __future__ import annotations

from collections.abc import Sequence

from voxward.core.case import Dataset
from voxward.core.choices import Cases
from voxward.runs.unseen import Scope
from voxward.systems.system import System
from voxward.systems.unseen import needed_for, scope_for


def chosen_as_they_come(
    systems: Sequence[System], dataset: Dataset, cases: Cases, count: int | None = None
) -> tuple[Scope, list[str]]:
    """Choose cases of a dataset whose images are hidden until they are needed, and come back then.

    Returns:
        The choice, and the cases whose images were needed for it.
    """
    hidden = {case.id: [path.rename(f"{path}.hidden") for path in case.images] for case in dataset.every}
    came = list[str]()
    try:
        while missing := [id for id in needed_for(systems, dataset, cases, count, hidden) if id in hidden]:
            for id in missing:
                _show(hidden.pop(id))
            came += missing
        return scope_for(systems, dataset, cases, count), came
    finally:
        for paths in hidden.values():
            _show(paths)


def _show(paths):
    for path in paths:
        path.rename(str(path).removesuffix(".hidden"))
