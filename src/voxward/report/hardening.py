"""What the hardening of a run bought, and what it cost, as a table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from voxward.metrics.summary import Summary, summarise
from voxward.report.benchmark import with_size_texts
from voxward.report.table import Column, Row, Table, Value
from voxward.report.text import interval_text, signed_text
from voxward.robustness.eps import eps_texts
from voxward.robustness.record import Record
from voxward.robustness.summary import View


@dataclass(frozen=True)
class Hardening:
    """A run and the hardened run that began with its weights.

    Attributes:
        before: Name of the first run.
        after: Name of the hardened run.
        seconds_before: Seconds that the first run was trained.
        seconds_after: Seconds that the hardened run was trained.
    """

    before: str
    after: str
    seconds_before: float
    seconds_after: float


def hardening_table(records: Sequence[Record], hardening: Hardening, deployed: bool) -> Table:
    """Dice before and after hardening: a row for clean cases, and one per eps for the worst case over all attacks.

    Args:
        records: Records of both runs.
        hardening: The runs.
        deployed: Whether the Dice is that of the written files.

    Returns:
        The table. The difference is the mean over the cases that both runs have, with its bootstrap interval.

    Raises:
        UserError: One of the runs has no clean control.
    """
    view, models, text = View(records, deployed), (hardening.before, hardening.after), eps_texts(records)
    found = [("clean", 0.0, *_compared(*(view.clean_dice(model) for model in models)))]
    for eps in view.eps:
        found.append((text(eps), eps, *_compared(*(view.case_dice(model, eps) for model in models))))
    first, second = hardening.seconds_before, hardening.seconds_after
    rows = tuple(
        Row((name, interval_text(before), interval_text(after), signed_text(change)))
        for name, _, before, after, change in found
    )
    table = Table(
        (Column("eps", "left"), *map(Column, models), Column("difference")), rows,
        notes=(
            "worst case over all attacks and clean; [95 % bootstrap interval over cases]",
            f"training: {first / 60:.1f} min, then {second / 60:.1f} min of hardening: "
            f"{second / max(first, 1e-9):.2f} of the first training",
        ),
        fields=("eps", "dice_before", "dice_after", "difference", "difference_low", "difference_high"),
        data=tuple(
            (eps, _mean(before), _mean(after), *_figures(change)) for _, eps, before, after, change in found
        ),
    )  # fmt: skip
    return with_size_texts(table, records)


_Compared = tuple[Summary | None, Summary | None, Summary | None]


def _compared(before: Mapping[str, float], after: Mapping[str, float]) -> _Compared:
    """Dice per case summarised: before, after, and the difference over common cases."""
    common = sorted({*before} & {*after})
    difference = summarise([after[case] - before[case] for case in common])
    return summarise(list(before.values())), summarise(list(after.values())), difference


def _mean(summary: Summary | None) -> float | None:
    return None if summary is None else summary.mean


def _figures(summary: Summary | None) -> tuple[Value, ...]:
    return (None, None, None) if summary is None else (summary.mean, summary.low, summary.high)
