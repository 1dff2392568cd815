"""What is left of each class, or region, under the attacks that hurt a case most, as a Markdown table."""

from __future__ import annotations

from collections.abc import Sequence

from voxward.core.errors import UserError
from voxward.metrics.summary import Summary, summarise
from voxward.robustness.record import CLEAN, Record, Scores
from voxward.robustness.summary import eps_values, worst_scores


def classes_text(records: Sequence[Record], deployed: bool) -> str:
    """A row per model and eps, 0 the clean cases: mean Dice of each class [95 % interval] over the cases that have it.

    Under attack a case's perturbation is the one with the lowest mean Dice over its classes, so that a class may be
    hurt more by another one. deployed: of the written files. Raises ValueError without records.
    """
    if not records:
        raise UserError("there are no records to make a table of")
    classes = records[0].classes
    lines = ["| " + " | ".join(["model", "eps", *classes]) + " |", "|" + "---|" * (2 + len(classes))]
    for model in sorted({record.model for record in records}):
        own = [record for record in records if record.model == model]
        clean = [record.clean_scores(deployed) for record in own if record.attack == CLEAN]
        lines.append(_line(model, 0.0, clean, len(classes)))
        worst = worst_scores(own, None, deployed)
        for eps in eps_values(own):
            found = [value.scores for key, value in worst.items() if key.eps == eps]
            lines.append(_line(model, eps, found, len(classes)))
    return "\n".join(lines) + "\n\nDice per class, each case under the attack with its lowest mean Dice\n"


def _line(model: str, eps: float, scores: Sequence[Scores], classes: int) -> str:
    cells = [_cell(summarise([case[n] for case in scores])) for n in range(classes)]
    return "| " + " | ".join([model, f"{eps:.5f}", *cells]) + " |"


def _cell(summary: Summary | None) -> str:
    return "n/a" if summary is None else f"{summary.mean:.3f} [{summary.low:.3f}, {summary.high:.3f}]"
