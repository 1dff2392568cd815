"""A benchmark as a table of its attacks: a row per model and control, attack and ensemble, a column per eps."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from voxward.core.errors import UserError
from voxward.metrics.summary import Summary, summarise
from voxward.report.benchmark import comparable, folded_row, mixed, reading_notes, sizes, threat_title, warnings
from voxward.report.table import Column, Table, Value
from voxward.report.text import UNDEFINED, interval_text, mean_text, number_text
from voxward.robustness.record import CONTROLS, PROBE, Record
from voxward.robustness.sanity import STANDARD, Finding, Thresholds, sanity
from voxward.robustness.summary import View

Ensembles = Mapping[str, tuple[str, ...]]
"""Names of sets of attacks, and the attacks of each."""

_FIELDS = (
    "model", "attack", "kind", "eps", "cases", "dice", "dice_low", "dice_high", "accuracy_half_mu",
    "accuracy_absolute", "seconds_per_case", "trustworthy",
)  # fmt: skip


def robustness_table(
    records: Sequence[Record],
    ensembles: Ensembles,
    findings: Sequence[Finding] | None = None,
    deployed: bool | None = None,
    thresholds: Thresholds = STANDARD,
) -> Table:
    """The Dice under every control, attack and ensemble of attacks.

    A control or an attack has its mean Dice. An ensemble has the mean of the worst case over its attacks with the
    bootstrap interval, and the robust accuracy for two limits: mu / 2 and `thresholds.absolute`.

    Args:
        records: Records of one or several models.
        ensembles: The sets of attacks that get a row.
        findings: What the checks found; by default `sanity(records, thresholds)`.
        deployed: Whether the Dice is that of the written files; by default where every record has it.
        thresholds: Limits of the checks and of the robust accuracy.

    Returns:
        The table; its data has a row per number.

    Raises:
        UserError: There are no records, they do not compare, a model has no clean control, or nobody ran an ensemble.
    """
    view = comparable(records, deployed)
    lines = _lines(view, ensembles, thresholds)
    rows = tuple(
        folded_row((line.model, line.name, *line.cells), line.strong, bool(n) and line.model != lines[n - 1].model)
        for n, line in enumerate(lines)
    )
    distrust = warnings(sanity(records, thresholds) if findings is None else findings)
    trusted = "no" if distrust else "yes"
    return Table(
        (Column("model", "left"), Column("attack", "left"), *map(Column, sizes(view)), Column("s / case")),
        rows, threat_title(view),
        notes=(*reading_notes(view, thresholds), *_ensembles_note(view, ensembles)),
        warnings=(*distrust, *mixed(view.records)), fields=_FIELDS,
        data=tuple((line.model, line.name, *figures, trusted) for line in lines for figures in line.figures),
    )  # fmt: skip


@dataclass(frozen=True)
class _Line:
    """A row before it is laid out. figures: a row of data per eps at which there is a number."""

    model: str
    name: str
    cells: tuple[str, ...]
    figures: tuple[tuple[Value, ...], ...]
    strong: bool = False


def _lines(view: View, ensembles: Ensembles, thresholds: Thresholds) -> list[_Line]:
    lines: list[_Line] = []
    for model in view.models:
        lines += [_attack_line(view, model, attack) for attack in _attacks(view, model)]
        lines += [
            _ensemble_line(view.over(members), model, name, thresholds)
            for name, members in _run(view, model, ensembles).items()
        ]
    return lines


def _attacks(view: View, model: str) -> list[str]:
    """The model's controls, the usual ones first, then its attacks by name."""
    mine = [record for record in view.records if record.model == model]
    # The check at eps 1 and the look at the model itself are no controls of a size.
    sizes = {0.0, *view.eps}
    controls = {r.attack for r in mine if r.kind == "control" and r.eps in sizes and r.attack != PROBE}
    usual = [name for name in CONTROLS if name in controls]
    return usual + sorted(controls - set(usual)) + sorted({r.attack for r in mine if r.kind == "attack"})


def _attack_line(view: View, model: str, attack: str) -> _Line:
    summaries = [_single(view, model, attack, eps) for eps in view.eps]
    kind = next(r.kind for r in view.records if r.model == model and r.attack == attack)
    figures = tuple(
        (kind, eps, s.n, s.mean, s.low, s.high, None, None, seconds)
        for eps, (s, seconds) in zip(view.eps, summaries, strict=True)
        if s is not None
    )
    cells = (*(mean_text(summary) for summary, _ in summaries), _seconds([seconds for _, seconds in summaries]))
    return _Line(model, attack, cells, figures)


def _single(view: View, model: str, attack: str, eps: float) -> tuple[Summary | None, float | None]:
    """Dice over cases of one attack or control, the lowest of its seeds, and mean seconds per case."""
    mine = [r for r in view.records if r.model == model and r.attack == attack]
    # Controls that need no eps are the same at every one.
    chosen = [r for r in mine if r.eps == eps] or [r for r in mine if r.kind == "control" and r.eps == 0]
    lowest: dict[str, float] = {}
    for record in chosen:
        lowest[record.case] = min(lowest.get(record.case, math.inf), record.dice(view.deployed))
    seconds = math.fsum(record.seconds for record in chosen) / len(lowest) if lowest else None
    return summarise(list(lowest.values())), seconds


def _ensemble_line(view: View, model: str, name: str, thresholds: Thresholds) -> _Line:
    """`view` takes the worst case over the ensemble's attacks."""
    cells: list[str] = []
    figures: list[tuple[Value, ...]] = []
    seconds = [_spent(view, model, eps) for eps in view.eps]
    for eps, spent in zip(view.eps, seconds, strict=True):
        dice = view.robust_dice(model, eps)
        shares = [view.robust_accuracy(model, eps, limit) for limit in (None, thresholds.absolute)]
        half, absolute = (None if share is None else share.mean for share in shares)
        if dice is None or half is None or absolute is None:
            cells.append(UNDEFINED)
            continue
        cells.append(f"{interval_text(dice)}; {half:.0%} / {absolute:.0%}")
        figures.append(("ensemble", eps, dice.n, dice.mean, dice.low, dice.high, half, absolute, spent))
    return _Line(model, name, (*cells, _seconds(seconds)), tuple(figures), strong=True)


def _spent(view: View, model: str, eps: float) -> float:
    """Mean seconds per case of all attacks of the view's ensemble together."""
    known = [_single(view, model, attack, eps)[1] for attack in view.attacks or ()]
    return math.fsum(value for value in known if value is not None)


def _seconds(values: Sequence[float | None]) -> str:
    """The mean over eps; a minimum-norm attack spends once for all, on the first."""
    known = [value for value in values if value is not None]
    return number_text(math.fsum(known) / len(known) if known else None, 1)


def _run(view: View, model: str, ensembles: Ensembles) -> Ensembles:
    """The ensembles that the model was attacked with, also where a part of an ensemble is missing."""
    mine = {r.attack for r in view.records if r.model == model and r.kind == "attack"}
    for name, members in ensembles.items():
        if not members or not any(r.attack in members for r in view.records):
            raise UserError(f"ensemble {name!r} needs records of its members, and there are none: {members}")
    return {name: members for name, members in ensembles.items() if mine & set(members)}


def _ensembles_note(view: View, ensembles: Ensembles) -> list[str]:
    """What each ensemble is the worst case of; nothing without ensembles."""
    known = {record.attack for record in view.records}
    shown = {
        name: ", ".join(attack if attack in known else f"{attack} (not run)" for attack in attacks)
        for name, attacks in ensembles.items()
    }
    return ["; ".join(f"{name}: lowest of {attacks} and clean" for name, attacks in shown.items())] if shown else []
