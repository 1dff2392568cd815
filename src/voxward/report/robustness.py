"""A benchmark as tables: for the terminal (rich), for a page (Markdown) and for a program (CSV). Nothing is printed."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median

from rich import box
from rich.console import Group
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from voxward.core.errors import UserError
from voxward.metrics.summary import Summary, summarise
from voxward.robustness.record import CONTROLS, Record
from voxward.robustness.summary import (
    ABSOLUTE,
    Finding,
    area_under_curve,
    clean_dice,
    curve_over_eps,
    eps_values,
    mu,
    paired_difference,
    robust_accuracy,
    robust_dice,
    sanity,
    smallest_breaking_eps,
)

Ensembles = Mapping[str, tuple[str, ...]]

UNDEFINED = "n/a"


@dataclass(frozen=True)
class Row:
    """What the tables show, a cell per column; `strong` rows stand out."""

    cells: tuple[str, ...]
    strong: bool = False


@dataclass(frozen=True)
class RobustnessReport:
    """A table in three forms.

    columns and rows are for reading; fields and data hold the same at full precision, one row per number with its
    interval. notes: what the numbers are. distrust: the checks that failed; where there are any, none of the numbers
    is to be trusted.
    """

    title: str
    columns: tuple[str, ...]
    rows: tuple[Row, ...]
    fields: tuple[str, ...]
    data: tuple[tuple[str | float | int | None, ...], ...]
    notes: tuple[str, ...]
    distrust: tuple[str, ...]


@dataclass(frozen=True)
class _View:
    """Which records are read, and how."""

    records: tuple[Record, ...]
    models: tuple[str, ...]
    eps: tuple[float, ...]
    deployed: bool

    @classmethod
    def of(cls, records: Sequence[Record], deployed: bool | None) -> _View:
        """`deployed` None: where every attack was. Raises ValueError for no records, or ones that do not compare."""
        if not records:
            raise UserError("a report needs at least one record, got none")
        for name, values in _settings(records).items():
            if len(values) > 1:
                raise UserError(f"a report needs records of one {name}, got {', '.join(sorted(values))}")
        if deployed is None:
            deployed = all(r.deployed is not None for r in records if r.kind == "attack" or r.attack in CONTROLS)
        models = tuple(sorted({record.model for record in records}))
        return cls(tuple(records), models, eps_values(records), deployed)

    @property
    def sizes(self) -> tuple[str, ...]:
        """The sizes as text."""
        return tuple(eps_text(eps, self.records[0].threat.unit) for eps in self.eps)

    def single(self, model: str, attack: str, eps: float) -> tuple[Summary | None, float | None]:
        """Dice over cases of one attack or control, the lowest of its seeds, and mean seconds per case."""
        mine = [r for r in self.records if r.model == model and r.attack == attack]
        # Controls that need no eps are the same at every one.
        chosen = [r for r in mine if r.eps == eps] or [r for r in mine if r.kind == "control" and r.eps == 0]
        lowest: dict[str, float] = {}
        for record in chosen:
            lowest[record.case] = min(lowest.get(record.case, math.inf), record.dice(self.deployed))
        seconds = math.fsum(record.seconds for record in chosen) / len(lowest) if lowest else None
        return summarise(list(lowest.values())), seconds

    def attacks(self, model: str) -> list[str]:
        """The model's controls, then its attacks by name."""
        found = {r.attack: r.kind for r in self.records if r.model == model}
        controls = [name for name in CONTROLS if name in found]
        return controls + sorted(name for name, kind in found.items() if kind == "attack")


def robustness_report(
    records: Sequence[Record],
    ensembles: Ensembles,
    findings: Sequence[Finding] | None = None,
    deployed: bool | None = None,
) -> RobustnessReport:
    """A row per model and attack, control and ensemble, a column per eps: mean Dice; for ensembles the worst case with
    its bootstrap interval and robust accuracies.

    ensembles: names of their members. findings: by default `sanity(records)`. deployed: whether Dice is of the written
    file and the ordinary predictor; by default where every record has it. Raises ValueError for no records, records of
    different threat models, modes or policies, a model without a clean control, and an ensemble nobody has run.
    """
    view = _View.of(records, deployed)
    rows, data = [], []
    for model in view.models:
        for attack in view.attacks(model):
            cells, figures = _attack_row(view, model, attack)
            rows.append(Row((model, attack, *cells)))
            data += figures
        for name, members in _run(view, model, ensembles).items():
            cells, figures = _ensemble_row(view, model, name, members)
            rows.append(Row((model, name, *cells), strong=True))
            data += figures
    fields = (
        "model", "attack", "kind", "eps", "cases", "dice", "dice_low", "dice_high", "accuracy_half_mu",
        "accuracy_absolute", "seconds_per_case",
    )  # fmt: skip
    columns = ("model", "attack", *view.sizes, "s / case")
    shown = "; ".join(
        f"{name}: lowest of {', '.join(_members(view, members))} and clean" for name, members in ensembles.items()
    )
    notes = (*_notes(view), *([shown] if shown else []))
    found = sanity(records) if findings is None else findings
    return RobustnessReport(_title(view), columns, tuple(rows), fields, tuple(data), notes, _distrust(found))


def leaderboard_report(
    records: Sequence[Record],
    ensemble: tuple[str, ...] | None = None,
    findings: Sequence[Finding] | None = None,
    deployed: bool | None = None,
) -> RobustnessReport:
    """A row per model, the most robust (area under the worst-case curve from eps 0) first.

    ensemble: the attacks of the worst case, by default all. `vs first` is the mean difference of worst-case Dice over
    common cases at the largest eps, with its bootstrap interval. Raises ValueError as `robustness_report`.
    """
    view = _View.of(records, deployed)
    curves = {model: curve_over_eps(view.records, model, ensemble, view.deployed) for model in view.models}
    areas = {model: _area(curve) for model, curve in curves.items()}
    order = sorted(view.models, key=lambda model: (-areas[model], model))
    last = max(view.eps, default=0.0)
    rows, data = [], []
    for rank, model in enumerate(order, start=1):
        by_eps = dict(curves[model])
        least = _breaking(view, model, ensemble)
        difference = paired_difference(view.records, model, order[0], last, ensemble, view.deployed)
        rows.append(Row((
            str(rank), model, _mean(by_eps[0.0]), *(interval_text(by_eps.get(eps)) for eps in view.eps),
            f"{areas[model]:.3f}", least[0], signed_text(difference) if rank > 1 else "",
        ), strong=rank == 1))  # fmt: skip
        common = (areas[model], least[1], None if difference is None else difference.mean)
        data += [(rank, model, eps, s.n, s.mean, s.low, s.high, *common) for eps, s in curves[model]]
    fields = (
        "rank", "model", "eps", "cases", "dice", "dice_low", "dice_high", "area", "median_breaking_eps", "vs_first",
    )  # fmt: skip
    columns = ("rank", "model", "clean", *view.sizes, "area", "breaking eps", "vs first")
    found = sanity(records) if findings is None else findings
    attacks = ", ".join(ensemble) if ensemble is not None else "all attacks"
    notes = (f"worst case over {attacks} and clean", *_notes(view))
    return RobustnessReport(_title(view), columns, tuple(rows), fields, tuple(data), notes, _distrust(found))


def rich_table(report: RobustnessReport) -> Group:
    """For the terminal: title, table, what is not to be trusted, notes. The text is as wide as the terminal is."""
    table = Table(box=box.SIMPLE_HEAD, padding=0, show_edge=False)
    words = ("model", "attack", "rank")
    for name in report.columns:
        table.add_column(name, justify="left" if name in words else "right", no_wrap=name not in words, overflow="fold")
    for number, row in enumerate(report.rows):
        if number and "rank" not in report.columns and row.cells[0] != report.rows[number - 1].cells[0]:
            table.add_section()
        # As narrow as it gets: an interval and the accuracies go below the mean.
        cells = [escape(cell.replace(" [", "\n[").replace("; ", "\n")) for cell in row.cells]
        table.add_row(*cells, style="bold" if row.strong else None)
    distrust = (Text(line, "bold red") for line in report.distrust)
    return Group(Text(report.title, "italic"), table, *distrust, *map(Text, report.notes))


def markdown_text(report: RobustnessReport) -> str:
    """GitHub Markdown: title, what is not to be trusted, table, notes."""
    left = ("model", "attack")
    lines = [report.columns, tuple("---" if name in left else "---:" for name in report.columns)]
    for row in report.rows:
        cells = (cell.replace("|", "\\|") for cell in row.cells)
        lines.append(tuple(f"**{cell}**" if row.strong and cell else cell for cell in cells))
    table = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    distrust = "".join(f"**{line}**\n\n" for line in report.distrust)
    return f"{report.title}\n\n{distrust}{table}\n\n" + "".join(f"- {note}\n" for note in report.notes)


def csv_text(report: RobustnessReport) -> str:
    """One row per number at full precision, undefined ones empty; `trustworthy` is no where a check failed."""
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow([*report.fields, "trustworthy"])
    table.writerows([*row, "no" if report.distrust else "yes"] for row in report.data)
    return text.getvalue()


_Figures = list[tuple[str | float | int | None, ...]]


def _attack_row(view: _View, model: str, attack: str) -> tuple[tuple[str, ...], _Figures]:
    summaries = [view.single(model, attack, eps) for eps in view.eps]
    kind = "control" if attack in CONTROLS else "attack"
    figures: _Figures = [
        (model, attack, kind, eps, s.n, s.mean, s.low, s.high, None, None, seconds)
        for eps, (s, seconds) in zip(view.eps, summaries, strict=True)
        if s is not None
    ]
    return (*(_mean(summary) for summary, _ in summaries), _seconds([seconds for _, seconds in summaries])), figures


def _ensemble_row(view: _View, model: str, name: str, members: tuple[str, ...]) -> tuple[tuple[str, ...], _Figures]:
    cells: list[str] = []
    figures: _Figures = []
    seconds: list[float | None] = []
    for eps in view.eps:
        dice = robust_dice(view.records, model, eps, members, view.deployed)
        shares = [
            robust_accuracy(view.records, model, eps, members, limit, view.deployed) for limit in (None, ABSOLUTE)
        ]
        known = [view.single(model, member, eps)[1] for member in members]
        spent = math.fsum(value for value in known if value is not None)
        seconds.append(spent)
        half, absolute = (None if share is None else share.mean for share in shares)
        if dice is None or half is None or absolute is None:
            cells.append(UNDEFINED)
            continue
        cells.append(f"{interval_text(dice)}; {half:.0%} / {absolute:.0%}")
        figures.append((model, name, "ensemble", eps, dice.n, dice.mean, dice.low, dice.high, half, absolute, spent))
    return (*cells, _seconds(seconds)), figures


def _run(view: _View, model: str, ensembles: Ensembles) -> Ensembles:
    """The ensembles that the model was attacked with; one is named as it is even where a member is missing."""
    mine = {r.attack for r in view.records if r.model == model and r.kind == "attack"}
    for name, members in ensembles.items():
        if not members or not any(r.attack in members for r in view.records):
            raise UserError(f"ensemble {name!r} needs records of its members, and there are none: {members}")
    return {name: members for name, members in ensembles.items() if mine & set(members)}


def _members(view: _View, members: tuple[str, ...]) -> list[str]:
    known = {record.attack for record in view.records}
    return [name if name in known else f"{name} (not run)" for name in members]


def _settings(records: Sequence[Record]) -> dict[str, set[str]]:
    return {
        "mode": {r.mode for r in records},
        "norm": {r.threat.norm for r in records},
        "unit": {r.threat.unit for r in records},
        # The clip control is the papers' reference by definition.
        "reference": {r.threat.reference for r in records if r.kind == "attack"},
        "empty-class policy": {r.policy for r in records},
        "set of classes": {", ".join(r.classes) for r in records},
    }


def _title(view: _View) -> str:
    first = next((r for r in view.records if r.kind == "attack"), view.records[0])
    threat = first.threat
    unit = "share of the intensity window" if threat.unit == "range" else "intensity (HU or raw)"
    return f"Robustness, {first.mode} mode; {threat.norm}, eps: {unit}, around the {threat.reference} volume"


def _notes(view: _View) -> tuple[str, ...]:
    clean = {model: mu(view.records, model, view.deployed) for model in view.models}
    counts = {model: len(clean_dice(view.records, model, view.deployed)) for model in view.models}
    source = "written files read by the ordinary predictor" if view.deployed else "float arrays, not deployed files"
    return (
        "; ".join(
            f"{model}: mu (mean clean Dice) {value:.3f}, broken below mu / 2 = {value / 2:.3f}, {counts[model]} cases"
            for model, value in clean.items()
        ),
        f"Dice of {source}; [95 % bootstrap interval over cases]; robust accuracy: share of cases "
        f"at mu / 2 or above / at {ABSOLUTE:g} or above",
        f"empty classes: {view.records[0].policy}; a case without any counts 1",
    )


def _distrust(findings: Sequence[Finding]) -> tuple[str, ...]:
    return tuple(f"NOT TRUSTWORTHY ({f.name}): {f.text}" for f in findings if f.passed is False)


def eps_text(eps: float, unit: str) -> str:
    """A short decimal as it is; else, of a share of the range, as a fraction of 255 where that is a whole one."""
    text, steps = f"{eps:.4g}", eps * 255
    whole = steps >= 1 and abs(steps - round(steps)) < 1e-6
    if float(text) != eps and whole and unit == "range":
        return f"{round(steps)}/255"
    return text


def _mean(summary: Summary | None) -> str:
    return UNDEFINED if summary is None else f"{summary.mean:.3f}"


def interval_text(summary: Summary | None) -> str:
    """The mean and its bootstrap interval."""
    return UNDEFINED if summary is None else f"{summary.mean:.3f} [{summary.low:.2f}, {summary.high:.2f}]"


def signed_text(summary: Summary | None) -> str:
    """A difference and its bootstrap interval."""
    return UNDEFINED if summary is None else f"{summary.mean:+.3f} [{summary.low:+.2f}, {summary.high:+.2f}]"


def _seconds(values: Sequence[float | None]) -> str:
    """The mean over eps; a minimum-norm attack spends once for all, on the first."""
    known = [value for value in values if value is not None]
    return f"{math.fsum(known) / len(known):.1f}" if known else UNDEFINED


def _area(curve: Sequence[tuple[float, Summary]]) -> float:
    points = [(eps, summary.mean) for eps, summary in curve]
    return area_under_curve(points) if len(points) > 1 else points[0][1]


def _breaking(view: _View, model: str, attacks: tuple[str, ...] | None) -> tuple[str, float | None]:
    """The median over cases, an unbroken one counting as infinitely far; as text and as a number."""
    found = smallest_breaking_eps(view.records, model, attacks)
    searched = any(r.model == model and r.attack.startswith("fab-") for r in view.records)
    if not searched:
        return UNDEFINED, None
    middle = median(math.inf if value is None else value for value in found.values())
    return (f"{middle:.3g}", middle) if math.isfinite(middle) else ("unbroken", None)
