"""The section on how the networks came about: trainings, hardenings, architecture searches, cross-validations."""

from __future__ import annotations

from voxward.report.html.page import Setting
from voxward.report.html.run_history import History, run_history
from voxward.report.html.search_history import search_history
from voxward.report.html.validation_history import validation_history
from voxward.report.sources import Sources


def histories(sources: Sources, setting: Setting) -> tuple[History, ...] | None:
    """Return what there is to say about each training, search and cross-validation; None where there is none."""
    return (
        *(run_history(run, sources, number) for number, run in enumerate(sources.runs, 1)),
        *(search_history(search, number) for number, search in enumerate(sources.searches, 1)),
        *(validation_history(one, number) for number, one in enumerate(sources.validations, 1)),
    ) or None
