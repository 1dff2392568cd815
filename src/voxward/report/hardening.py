"""What hardening a run has bought, and at what price."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from voxward.metrics.summary import Summary, summarise
from voxward.report.robustness import eps_text, interval_text, signed_text
from voxward.robustness.record import Record
from voxward.robustness.summary import case_dice, clean_dice, eps_values


@dataclass(frozen=True)
class Hardening:
    """A run and the hardened one that began with its weights. seconds: of each one's training."""

    before: str
    after: str
    seconds_before: float
    seconds_after: float


def hardening_text(records: Sequence[Record], hardening: Hardening, deployed: bool) -> str:
    """Markdown: Dice before and after, clean and in the worst case over all attacks per eps, and their difference.

    The difference is the mean over common cases, with its bootstrap interval. deployed: of the written files. Raises
    ValueError where one of the runs has no clean control.
    """
    models = (hardening.before, hardening.after)
    unit = records[0].threat.unit
    rows = [_row("clean", [clean_dice(records, model, deployed) for model in models])]
    for eps in eps_values(records):
        worst = [case_dice(records, model, eps, deployed=deployed) for model in models]
        rows.append(_row(eps_text(eps, unit), worst))
    first, second = hardening.seconds_before, hardening.seconds_after
    lines = [
        f"| eps | {models[0]} | {models[1]} | difference |",
        "| --- | ---: | ---: | ---: |",
        *rows,
        "",
        "- worst case over all attacks and clean; [95 % bootstrap interval over cases]",
        f"- training: {first / 60:.1f} min, then {second / 60:.1f} min of hardening: {second / max(first, 1e-9):.2f} of"
        " the first training",
    ]
    return "\n".join(lines) + "\n"


def _row(name: str, dice: Sequence[Mapping[str, float]]) -> str:
    before, after = dice
    common = sorted({*before} & {*after})
    difference = summarise([after[case] - before[case] for case in common])
    cells = [interval_text(_summary(values)) for values in dice]
    return f"| {name} | {' | '.join(cells)} | {signed_text(difference)} |"


def _summary(values: Mapping[str, float]) -> Summary | None:
    return summarise(list(values.values()))
