"""What the page says about one training or hardening: its recipe, course and scores, and what the hardening bought."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from voxward.core.errors import UserError
from voxward.core.plan import load_plan
from voxward.core.wording import eps_text
from voxward.report.chart import Chart
from voxward.report.hardening import Hardening, hardening_table
from voxward.report.html.strings import STRINGS, say
from voxward.report.metrics import metrics_table
from voxward.report.recipe_text import recipe_text
from voxward.report.robustness_charts import dice_over_eps
from voxward.report.run_source import Log, RunSource
from voxward.report.source_files import attempt, sentence, told
from voxward.report.sources import AttackSource, Sources
from voxward.report.table import Table
from voxward.report.training_charts import training_charts
from voxward.systems.evaluate import Evaluation
from voxward.systems.open import open_system


@dataclass(frozen=True)
class Titled:
    """A table under a heading.

    Attributes:
        title: The heading.
        table: The table.
        chart: A chart of its figures; None where there is none.
    """

    title: str
    table: Table
    chart: Chart | None = None


@dataclass(frozen=True)
class History:
    """One training, search or cross-validation on the page.

    Attributes:
        title: Its heading.
        problems: What makes it doubtful, a sentence each, which stand out.
        facts: What is known about it, a sentence each.
        charts: Its charts.
        tables: Its tables.
        drawings: Pictures of networks, each with what it shows: a `data:` address, and a text.
    """

    title: str
    problems: tuple[str, ...] = ()
    facts: tuple[str, ...] = ()
    charts: tuple[Chart, ...] = ()
    tables: tuple[Titled, ...] = ()
    drawings: tuple[tuple[str, str], ...] = ()


def run_history(run: RunSource, sources: Sources, number: int) -> History:
    """Return what the page says about a training.

    Args:
        run: The training.
        sources: All that was read: what the run was hardened from may be among it.
        number: The number of the run on the page, from 1, which makes the names of its charts unique.
    """
    problems = [] if run.progress is None else [say("histories", "unfinished", progress=run.progress)]
    facts = [*_recipe(run), *_data(run), *_length(run)]
    facts += [] if run.progress is not None or not run.log else [say("histories", "ended")]
    facts += _best(run.log)
    facts += [] if run.log else [say("histories", "no_log")]
    before, tables = _hardening(run, sources, f"hardening-{number}")
    return History(
        say("histories", "training", name=run.name), tuple(problems), (*facts, *before),
        training_charts(run.log, f"training-{number}", run.name),
        (*tables, *scores(run.evaluations)),
    )  # fmt: skip


def scores(evaluations: Mapping[str, Evaluation]) -> tuple[Titled, ...]:
    """Return the tables of the scores, by the name of the folder that holds them; see `RunSource`."""
    return tuple(
        Titled(say("histories", "scores_of", folder=name) if name else say("histories", "scores"), metrics_table(found))
        for name, found in evaluations.items()
    )


def best_of(log: Log) -> tuple[float, float] | None:
    """Return the highest validation Dice and its step; None where the log holds none."""
    known = [
        (row["validation_dice"], -row["step"]) for row in log if math.isfinite(row.get("validation_dice", math.nan))
    ]
    if not known:
        return None
    dice, step = max(known)
    return dice, -step


def minutes_text(seconds: float | None) -> str | None:
    """Return a time in minutes as text; None where it is not known."""
    return None if seconds is None or not math.isfinite(seconds) else f"{seconds / 60:.1f}"


def _recipe(run: RunSource) -> list[str]:
    if run.recipe is None:
        return []
    # Without a plan the widths are those of all levels that the recipe knows.
    plan = attempt(lambda: load_plan(run.folder.plan), []) if run.folder.plan.is_file() else None
    name, description = run.recipe.name, recipe_text(run.recipe, plan)
    if not description:
        return [say("histories", "recipe_only", recipe=name)]
    return [say("histories", "recipe", recipe=name, description=description)]


def _data(run: RunSource) -> list[str]:
    settings = run.settings
    if settings is None:
        return []
    dataset = Path(settings.dataset).name
    if settings.fold == "all":
        return [say("histories", "data_all", dataset=dataset, seed=settings.seed)]
    return [say("histories", "data", dataset=dataset, fold=settings.fold, folds=settings.folds, seed=settings.seed)]


def _length(run: RunSource) -> list[str]:
    if not run.log:
        return []
    steps, minutes = f"{run.log[-1]['step']:.0f}", minutes_text(run.seconds)
    key = "length_only" if minutes is None else "length"
    budget = None if run.settings is None else run.settings.minutes
    given = [] if budget is None else [say("histories", "budget", minutes=f"{budget:g}")]
    return [say("histories", key, minutes=minutes, steps=steps), *given]


def _best(log: Log) -> list[str]:
    if not log:
        return []
    best = best_of(log)
    found = (
        say("histories", "no_best")
        if best is None
        else say("histories", "best", dice=f"{best[0]:.3f}", step=f"{best[1]:.0f}")
    )
    columns = ("training_loss", "validation_loss", "validation_dice")
    broken = sum(any(not math.isfinite(row.get(name, 0.0)) for name in columns) for row in log)
    return [found, *([say("histories", "not_a_number", n=broken, rows=len(log))] if broken else [])]


def _hardening(run: RunSource, sources: Sources, chart: str) -> tuple[list[str], list[Titled]]:
    """What a run was hardened from and how, and what that bought where both runs were attacked."""
    start = None if run.settings is None else run.settings.start
    defence = None if run.recipe is None else run.recipe.defence
    if start is None:
        return ([] if defence is None else [_defended("defended", run)]), []
    name = Path(start).name
    if defence is None:
        return [say("histories", "started", start=name)], []
    facts = [_defended("hardened", run, start=name)]
    place = os.path.realpath(start.replace("\0", ""))
    before = next((one for one in _runs(sources) if os.path.realpath(one.folder.root) == place), None)
    if before is None:
        return facts, []
    facts.append(say("histories", "hardened_here"))
    found = [_compared(source, before, run, f"{chart}-{n}") for n, source in enumerate(sources.attacks, 1)]
    tables = [one for one in found if isinstance(one, Titled)]
    facts += [one for one in found if isinstance(one, str)]
    return facts + ([] if any(found) else [say("histories", "no_hardening")]), tables


def _runs(sources: Sources) -> Sequence[RunSource]:
    return [*sources.runs, *(run for one in sources.validations for run in one.runs)]


def _defended(key: str, run: RunSource, **words: str) -> str:
    """The sentence that says against what a run was trained, and how large that was."""
    assert run.recipe is not None
    defence = run.recipe.defence
    assert defence is not None
    explained = STRINGS["histories"].get(defence.method)
    method = (
        defence.method if explained is None else say("histories", "method", method=defence.method, explained=explained)
    )
    if defence.unused(["eps"]):
        return say("histories", f"{key}_noise", method=method, sigma=f"{defence.sigma:g}", **words)
    return say("histories", key, method=method, eps=eps_text(defence.eps, "range"), **words)


def _compared(source: AttackSource, before: RunSource, after: RunSource, chart: str) -> Titled | str | None:
    """The table of a folder that measured both runs, or why there is none; None where it did not measure them."""
    try:
        names = [_measured_as(source, run) for run in (before, after)]
    except (UserError, OSError) as error:
        return say("histories", "hardening_unknown", folder=source.name, reason=sentence(told(error)))
    if None in names:
        return None
    first, second = (name or "" for name in names)
    if not first or not second:
        return say("histories", "hardening_other", folder=source.name)
    records = [record for record in source.records if record.model in (first, second)]
    seconds = [run.seconds or 0.0 for run in (before, after)]
    try:
        table = hardening_table(records, Hardening(first, second, *seconds), source.deployed)
        # The table is over all attacks, and so is the chart.
        drawn = dice_over_eps(records, None, source.deployed, chart)
    except UserError as error:
        return say("histories", "scores_failed", reason=sentence(str(error)))
    return Titled(say("histories", "hardening", folder=source.name), table, drawn)


def _measured_as(source: AttackSource, run: RunSource) -> str | None:
    """The name that a run has in the records; empty where another state of it was measured, None where none was.

    Names alone do not tell runs apart, so that the fingerprint of the weights and settings must be the same.
    """
    name = run.folder.root.resolve().name
    known = {record.model: record.system for record in source.records if record.model.split("/")[-1] == name}
    if not known:
        return None
    fingerprint = open_system(run.folder.root).fingerprint()
    return next((model for model, found in known.items() if found == fingerprint), "")
