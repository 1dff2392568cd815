"""A benchmark as a table of its attacks: a row per model and control, attack and ensemble, a column per eps."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from voxward.core.errors import UserError
from voxward.report.benchmark import (
    comparable,
    folded_row,
    members_text,
    mixed,
    reading_notes,
    sizes,
    threat_title,
    warnings,
    with_size_texts,
)
from voxward.report.phantom import phantom_table
from voxward.report.spent import COST, Spent, cost_text, found_and_spent, seconds_text
from voxward.report.table import Column, Row, Table, Value
from voxward.report.text import UNDEFINED, interval_text, mean_text
from voxward.robustness.converged import Convergence, convergence
from voxward.robustness.finding import Finding
from voxward.robustness.phantom import invented
from voxward.robustness.record import CONTROLS, DOUBLED, PROBE, Record
from voxward.robustness.sanity import STANDARD, Thresholds, sanity
from voxward.robustness.summary import View

Ensembles = Mapping[str, tuple[str, ...]]
"""Names of sets of attacks, and the attacks of each."""

_COST_NOTE = (
    "gradients and forward passes are those of the whole volume for all eps together, of an ensemble the sum over its "
    "attacks; s / case is the mean over eps"
)
_FIELDS = (
    "model", "attack", "kind", "eps", "cases", "dice", "dice_low", "dice_high", "accuracy_half_mu",
    "accuracy_absolute", "seconds_per_case", "gradients_per_case", "forwards_per_case", "converged", "trustworthy",
)  # fmt: skip


ALL_ATTACKS = "all attacks"


def with_all_attacks(records: Sequence[Record], ensembles: Ensembles) -> dict[str, tuple[str, ...]]:
    """Return the sets of attacks, and last all attacks together, unless a set holds them all.

    Args:
        records: Records of one or several models.
        ensembles: The sets of attacks.
    """
    run = tuple(sorted({record.attack for record in records if record.kind == "attack"}))
    whole = not run or any({*run} <= {*members} for members in ensembles.values())
    return dict(ensembles) if whole else {**ensembles, ALL_ATTACKS: run}


def robustness_table(
    records: Sequence[Record],
    ensembles: Ensembles,
    findings: Sequence[Finding] | None = None,
    deployed: bool | None = None,
    thresholds: Thresholds = STANDARD,
) -> Table:
    """The Dice under every control, attack and ensemble of attacks.

    A control or an attack has its mean Dice. An ensemble has the mean of the worst case over its attacks with the
    bootstrap interval, and the robust accuracy for two limits: mu / 2 and `thresholds.absolute`. Where a class is
    invented, the table is `phantom_table`. A figure that twice the budget lowered is marked as not converged.

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
    findings = sanity(records, thresholds) if findings is None else findings
    if invented(records) is not None:
        return phantom_table(records, ensembles, findings, deployed)
    lines = _lines(view, ensembles, thresholds)
    rows = tuple(_row(line, bool(n) and line.model != lines[n - 1].model) for n, line in enumerate(lines))
    distrust = warnings(findings)
    trusted = "no" if distrust else "yes"
    table = Table(
        (Column("model", "left"), Column("attack", "left"), *map(Column, sizes(view)), COST, Column("s / case")),
        rows, threat_title(view),
        notes=(*reading_notes(view, thresholds), *_ensembles_note(view, ensembles), _COST_NOTE, *_settled(findings)),
        warnings=(*distrust, *mixed(view.records)), fields=_FIELDS,
        data=tuple((line.model, line.name, *figures, trusted) for line in lines for figures in line.figures),
    )  # fmt: skip
    return with_size_texts(table, records)


@dataclass(frozen=True)
class _Line:
    """A row before it is laid out.

    figures: a row of data per eps at which there is a number. narrow: the cells for terminals; empty: the same cells.
    """

    model: str
    name: str
    cells: tuple[str, ...]
    figures: tuple[tuple[Value, ...], ...]
    strong: bool = False
    narrow: tuple[str, ...] = ()


def _row(line: _Line, section: bool) -> Row:
    row = folded_row((line.model, line.name, *line.cells), line.strong, section)
    return replace(row, narrow=folded_row((line.model, line.name, *line.narrow)).narrow) if line.narrow else row


def _lines(view: View, ensembles: Ensembles, thresholds: Thresholds) -> list[_Line]:
    lines: list[_Line] = []
    for model in view.models:
        rest = _Rest(convergence(model, view.records), thresholds, view)
        lines += [
            _attack_line(view, model, attack, replace(rest, attacks=(attack,))) for attack in _attacks(view, model)
        ]
        lines += [
            _ensemble_line(view.over(members), model, name, thresholds, replace(rest, attacks=members))
            for name, members in _run(view, model, ensembles).items()
        ]
    return lines


@dataclass(frozen=True)
class _Rest:
    """Whether the lowest Dice of some attacks would fall further with twice the budget."""

    tested: Convergence | None
    thresholds: Thresholds
    view: View
    attacks: tuple[str, ...] = ()

    def said(self, eps: float) -> str:
        """Return `yes`, `no`, or `not tested`, also where another of the attacks is the strongest at this size."""
        if self.tested is None or self.tested.outdated or self.tested.attack not in self.attacks:
            return "not tested"
        if eps in self.tested.unsettled(self.thresholds.tolerance):
            return "no"
        return "not tested" if len(self.attacks) > 1 and self._beaten(self.tested, eps) else "yes"

    def _beaten(self, tested: Convergence, eps: float) -> bool:
        found = [found_and_spent(self.view, tested.model, attack, eps)[0] for attack in (tested.attack, *self.attacks)]
        own, *others = [math.inf if one is None else one.mean for one in found]
        return own - min(others) >= self.thresholds.tolerance

    def cell(self, text: str, eps: float) -> str:
        """Return a cell that says it where the figure is not converged."""
        return f"{text}; not converged" if self.said(eps) == "no" else text


def _attacks(view: View, model: str) -> list[str]:
    """The model's controls, the usual ones first, then its attacks by name."""
    mine = [record for record in view.records if record.model == model]
    # The check at eps 1 and the look at the model itself are no controls of a size. What is run again on a few cases
    # only has another mean.
    sizes, others = {0.0, *view.eps}, (PROBE, DOUBLED)
    controls = {r.attack for r in mine if r.kind == "control" and r.eps in sizes and r.attack not in others}
    usual = [name for name in CONTROLS if name in controls]
    return usual + sorted(controls - set(usual)) + sorted({r.attack for r in mine if r.kind == "attack"})


def _attack_line(view: View, model: str, attack: str, rest: _Rest) -> _Line:
    found = [found_and_spent(view, model, attack, eps) for eps in view.eps]
    kind = next(r.kind for r in view.records if r.model == model and r.attack == attack)
    figures = tuple(
        (kind, eps, s.n, s.mean, s.low, s.high, None, None, *spent.values, rest.said(eps) if kind == "attack" else None)
        for eps, (s, spent) in zip(view.eps, found, strict=True)
        if s is not None
    )
    spent = [spent for _, spent in found]
    dice = (rest.cell(mean_text(summary), eps) for eps, (summary, _) in zip(view.eps, found, strict=True))
    return _Line(
        model, attack, (*dice, cost_text(spent) if kind == "attack" else UNDEFINED, seconds_text(spent)), figures
    )


def _ensemble_line(view: View, model: str, name: str, thresholds: Thresholds, rest: _Rest) -> _Line:
    """`view` takes the worst case over the ensemble's attacks."""
    cells: list[str] = []
    narrow: list[str] = []
    figures: list[tuple[Value, ...]] = []
    spent = [
        sum((found_and_spent(view, model, one, eps)[1] for one in view.attacks or ()), Spent()) for eps in view.eps
    ]
    for eps, each in zip(view.eps, spent, strict=True):
        dice = view.robust_dice(model, eps)
        shares = [view.robust_accuracy(model, eps, limit) for limit in (None, thresholds.absolute)]
        half, absolute = (None if share is None else share.mean for share in shares)
        if dice is None or half is None or absolute is None:
            cells.append(UNDEFINED)
            narrow.append(UNDEFINED)
            continue
        limit = f"{thresholds.absolute:g}"
        kept = f"{half:.0%} of cases keep mu / 2, {absolute:.0%} keep {limit}"
        cells.append(rest.cell(f"{interval_text(dice)}; {kept}", eps))
        narrow.append(rest.cell(f"{interval_text(dice)}; >=mu/2: {half:.0%}; >={limit}: {absolute:.0%}", eps))
        whole = dice.n, dice.mean, dice.low, dice.high, half, absolute
        figures.append(("ensemble", eps, *whole, *each.values, rest.said(eps)))
    rest_cells = (cost_text(spent), seconds_text(spent))
    return _Line(model, name, (*cells, *rest_cells), tuple(figures), strong=True, narrow=(*narrow, *rest_cells))


def _settled(findings: Sequence[Finding]) -> list[str]:
    """What is known of the convergence of each model's figures, where that is no failed check."""
    return [f"convergence: {one.text}" for one in findings if one.name == "converged" and one.passed is not False]


def _run(view: View, model: str, ensembles: Ensembles) -> Ensembles:
    """The ensembles that the model was attacked with, also where a part of an ensemble is missing."""
    mine = {r.attack for r in view.records if r.model == model and r.kind == "attack"}
    for name, members in ensembles.items():
        if not members or not any(r.attack in members for r in view.records):
            raise UserError(f"ensemble {name!r} needs records of its members, and there are none: {members}")
    return {name: members for name, members in ensembles.items() if mine & set(members)}


def _ensembles_note(view: View, ensembles: Ensembles) -> list[str]:
    """What each ensemble is the worst case of; nothing without ensembles."""
    shown = [f"{name}: lowest of {members_text(view, attacks)} and clean" for name, attacks in ensembles.items()]
    return ["; ".join(shown)] if shown else []
