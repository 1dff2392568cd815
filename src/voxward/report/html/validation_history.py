"""What the page says about one cross-validation: which trainings have ended, and the scores of all scans."""

from __future__ import annotations

from voxward.report.html.run_history import History, Titled, best_of, minutes_text
from voxward.report.html.strings import STRINGS, count, say
from voxward.report.metrics import metrics_table
from voxward.report.run_source import RunSource, ValidationSource
from voxward.report.table import Column, Row, Table
from voxward.report.text import UNDEFINED, interval_text, number_text
from voxward.report.training_charts import folds_chart


def validation_history(validation: ValidationSource, number: int) -> History:
    """Return what the page says about a cross-validation.

    Args:
        validation: The cross-validation.
        number: Its number on the page, from 1, which makes the name of its chart unique.
    """
    names = tuple(dict.fromkeys((*validation.planned, *(run.name for run in validation.runs))))
    scored = sum("" in run.evaluations for run in validation.runs)
    chart = folds_chart(validation.runs, f"cross-validation-{number}", validation.name)
    tables = [Titled(say("histories", "validation_runs"), _runs_table(validation, names))]
    if validation.evaluation is not None:
        tables.insert(0, Titled(say("histories", "validation_scores"), metrics_table(validation.evaluation)))
    return History(
        say("histories", "validation", name=validation.name),
        () if validation.evaluation is not None else (say("histories", "validation_unfinished"),),
        (count("histories", "finished_runs", scored, planned=len(names)),),
        () if chart is None else (chart,), tuple(tables),
    )  # fmt: skip


def _runs_table(validation: ValidationSource, names: tuple[str, ...]) -> Table:
    words = STRINGS["histories"]
    runs = {run.name: run for run in validation.runs}
    columns = (
        Column(words["run"], "left"), Column(words["state"], "left"),
        *(Column(words[name]) for name in ("steps", "minutes", "best_dice", "fold_dice", "scans")),
    )  # fmt: skip
    return Table(columns, tuple(_row(name, runs.get(name)) for name in names))


def _row(name: str, run: RunSource | None) -> Row:
    if run is None:
        return Row((name, say("histories", "state_none"), *[UNDEFINED] * 5))
    best, found = best_of(run.log), run.evaluations.get("")
    return Row((
        name, _state(run), f"{run.log[-1]['step']:.0f}" if run.log else UNDEFINED,
        minutes_text(run.seconds) or UNDEFINED, number_text(None if best is None else best[0]),
        interval_text(None if found is None else found.foreground),
        UNDEFINED if found is None else str(len(found.cases)),
    ))  # fmt: skip


def _state(run: RunSource) -> str:
    if run.progress is not None:
        return say("histories", "state_open", progress=run.progress)
    return say("histories", "state_scored" if "" in run.evaluations else "state_trained")
