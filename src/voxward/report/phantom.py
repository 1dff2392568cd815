"""A benchmark whose attacks invent a class, as a table: the volume that a system finds where there is nothing."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from voxward.metrics.summary import Summary, summarise
from voxward.report.benchmark import (
    comparable,
    folded_row,
    members_text,
    mixed,
    sizes,
    threat_title,
    warnings,
    with_size_texts,
)
from voxward.report.table import Column, Row, Table, Value
from voxward.report.text import UNDEFINED, number_text
from voxward.robustness.finding import Finding
from voxward.robustness.phantom import invented, phantoms, worst_phantoms
from voxward.robustness.record import CONTROLS, PROBE, Record
from voxward.robustness.summary import View

_FIELDS = (
    "model", "attack", "kind", "eps", "cases", "false_positive_mm3", "false_positive_low_mm3",
    "false_positive_high_mm3", "seconds_per_case", "gradients_per_case", "forwards_per_case", "trustworthy",
)  # fmt: skip


def volume_text(mm3: float) -> str:
    """Return a volume as tables show it, such as "1234 mm3"."""
    return f"{mm3:.0f} mm3"


def phantom_text(summary: Summary | None) -> str:
    """Return the mean of volumes with its bootstrap interval, "1234 [900, 1500] mm3"; one case has no interval."""
    if summary is None:
        return UNDEFINED
    if summary.n == 1:
        return volume_text(summary.mean)
    return f"{summary.mean:.0f} [{summary.low:.0f}, {summary.high:.0f}] mm3"


def meaning(name: str) -> tuple[str, ...]:
    """Return what the figures mean, and what is not shown, a sentence each.

    Args:
        name: The class that is invented.
    """
    return (
        f"every figure is the volume that a system marks as {name} where the truth has none: the mean over the cases "
        f"[95 % bootstrap interval], at each eps; the more, the worse",
        "the Dice, mu / 2 and broken cases mean nothing where a class is invented, and are not shown",
    )


def phantom_table(
    records: Sequence[Record],
    ensembles: Mapping[str, tuple[str, ...]],
    findings: Sequence[Finding],
    deployed: bool | None = None,
) -> Table:
    """Return the volume that systems find where there is nothing, under every control, attack and ensemble of attacks.

    Args:
        records: Records of one or several models, whose attacks invent a class.
        ensembles: The sets of attacks that get a row.
        findings: What the checks found.
        deployed: Whether the figures are of the written files; by default where every record has one.

    Returns:
        The table; its data has a row per number.
    """
    view, name = comparable(records, deployed), invented(records)
    assert name is not None
    rows, data = list[Row](), list[tuple[Value, ...]]()
    trusted = "no" if warnings(findings) else "yes"
    for number, model in enumerate(view.models):
        for n, (line, members) in enumerate(_lines(view, model, ensembles).items()):
            found = {eps: _summary(view, model, line, members, eps) for eps in view.eps}
            spent = {eps: _spent(view, model, members or (line,), eps) for eps in view.eps}
            kind = "ensemble" if members else _kind(view, model, line)
            total = [sum(values) for values in list(zip(*spent.values(), strict=True))[1:]] or [0.0, 0.0]
            seconds = math.fsum(one[0] for one in spent.values()) / max(len(spent), 1)
            cost = UNDEFINED if kind == "control" else f"{total[0]:.0f} + {total[1]:.0f}"
            cells = (model, line, *(phantom_text(found[eps]) for eps in view.eps), cost, number_text(seconds, 1))
            rows.append(folded_row(cells, bool(members), bool(number) and n == 0))
            data += [
                (model, line, kind, eps, one.n, one.mean, one.low, one.high, *spent[eps], trusted)
                for eps, one in found.items()
                if one is not None
            ]
    columns = (*map(Column, (*sizes(view), "gradients + forward passes / case", "s / case")),)
    table = Table(
        (Column("model", "left"), Column("attack", "left"), *columns), tuple(rows), threat_title(view),
        notes=(*meaning(name), *_members(view, ensembles)), warnings=(*warnings(findings), *mixed(view.records)),
        fields=_FIELDS, data=tuple(data),
    )  # fmt: skip
    return with_size_texts(table, records)


def _lines(view: View, model: str, ensembles: Mapping[str, tuple[str, ...]]) -> dict[str, tuple[str, ...]]:
    """The rows of a model, with the attacks of each ensemble; none for what is one attack or control."""
    mine = [record for record in view.records if record.model == model and record.attack != PROBE]
    sizes_known = {0.0, *view.eps}
    controls = {r.attack for r in mine if r.kind == "control" and r.eps in sizes_known}
    attacks = {r.attack for r in mine if r.kind == "attack"}
    usual = [name for name in CONTROLS if name in controls]
    names = [*usual, *sorted(controls - {*usual}), *sorted(attacks)]
    groups = {name: members for name, members in ensembles.items() if attacks & {*members}}
    return dict.fromkeys(names, ()) | groups


def _summary(view: View, model: str, line: str, members: tuple[str, ...], eps: float) -> Summary | None:
    if members:
        return summarise([*worst_phantoms(view.records, model, eps, members).values()])
    return summarise([*phantoms(view.records, model, line, eps).values()])


def _kind(view: View, model: str, line: str) -> str:
    return next(record.kind for record in view.records if (record.model, record.attack) == (model, line))


def _spent(view: View, model: str, attacks: Sequence[str], eps: float) -> tuple[float, float, float]:
    """The seconds, gradients and forward passes per case at one eps."""
    rows = [r for r in view.records if r.model == model and r.attack in attacks and r.eps == eps]
    cases = max(len({record.case for record in rows}), 1)
    totals = [math.fsum(getattr(r, name) for r in rows) for name in ("seconds", "gradients", "forwards")]
    return totals[0] / cases, totals[1] / cases, totals[2] / cases


def _members(view: View, ensembles: Mapping[str, tuple[str, ...]]) -> tuple[str, ...]:
    return tuple(f"{name}: most of {members_text(view, attacks)} and clean" for name, attacks in ensembles.items())
