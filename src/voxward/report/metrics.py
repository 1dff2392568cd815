"""An evaluation as a table and as files."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from voxward.core.document import with_checksum
from voxward.core.outputs import Outputs
from voxward.metrics.nsd import NSD_DEFINITIONS
from voxward.metrics.policies import Scoring
from voxward.metrics.registry import METRICS, PRIMARY
from voxward.metrics.score import ClassMetrics
from voxward.metrics.summary import Summary
from voxward.report.seen import seen_notes
from voxward.report.table import Column, Row, Table, Value
from voxward.report.text import UNDEFINED, failed_note, interval_text, mean_text, number_text
from voxward.systems.evaluate import Evaluation

METRICS_FILES = ("metrics.md", "metrics.csv", "metrics.json")
"""The files that `save_metrics` writes, in this order."""

Summaries = Mapping[str, Summary | None]


def save_metrics(evaluation: Evaluation, outputs: Outputs) -> Evaluation:
    """Write an evaluation as METRICS_FILES, and return it.

    metrics.md is the table over the cases, metrics.csv has a row per case and class, and metrics.json has everything.

    Raises:
        UserError: A file of one of these names is not replaced, see `Outputs`.
    """
    table = metrics_table(evaluation)
    outputs.text("metrics.md", table.markdown())
    outputs.text("metrics.csv", table.csv())
    outputs.json("metrics.json", with_checksum(evaluation.to_data()))
    return evaluation


def metrics_table(evaluation: Evaluation) -> Table:
    """The metrics over the cases: a row per class or region, and one for the cases' means over their classes.

    `n` counts the cases that define the Dice; a metric that fewer or more cases define says so in its cell. The data
    for a program has a row per case and class, and for cases that failed rows without figures.
    """
    rows = [_row(name, summaries) for name, summaries in evaluation.classes.items()]
    rows.append(_row("mean", evaluation.means, last=True))
    fields, data = _data(evaluation)
    origin, cases = evaluation.origin, [case.id for case in evaluation.cases]
    notes = () if origin is None else tuple(seen_notes(cases, origin.seen, origin.left_out))
    notes = (*notes, *_unannotated(evaluation))
    warnings = failed_note(evaluation.failed, len(cases) + len(evaluation.failed))
    return Table(
        _columns(evaluation.scoring), tuple(rows), caption=_caption(evaluation), notes=notes, warnings=warnings,
        fields=fields, data=data,
    )  # fmt: skip


def _unannotated(evaluation: Evaluation) -> Iterator[str]:
    """Say how much of the volumes counts in no score."""
    shares = [case.unannotated for case in evaluation.cases]
    if any(shares):
        some = sum(share > 0 for share in shares)
        share = f"{100 * sum(shares) / len(shares):.3g} % of the voxels"
        yield f"{share} (mean over cases; {some} of {len(shares)} have some) are not annotated and count in no score"


def _columns(scoring: Scoring) -> tuple[Column, ...]:
    primary, others = METRICS[PRIMARY], [metric for name, metric in METRICS.items() if name != PRIMARY]
    title = primary.title(scoring)
    return (
        Column("class", "left"),
        Column(title, short=f"{title} [95 %]"),
        *(Column(name) for name in ("std", "min", "max")),
        *(Column(metric.title(scoring), short=metric.title(scoring, short=True)) for metric in others),
        Column("n"),
    )


def _row(name: str, summaries: Summaries, last: bool = False) -> Row:
    primary = summaries[PRIMARY]
    count = 0 if primary is None else primary.n
    others = [_cell(metric, summary, count) for metric, summary in summaries.items() if metric != PRIMARY]
    # How many cases there are goes below the number, or the names would lose their place.
    folded = [cell.replace(" (n", "\n(n") for cell in others]
    wide, narrow = (
        (name, interval_text(primary, digits), *_spread(primary), *cells, str(count))
        for digits, cells in ((3, others), (2, folded))
    )
    return Row(wide, section=last, narrow=narrow, style="bold" if last else "")


def _spread(summary: Summary | None) -> list[str]:
    if summary is None:
        return [UNDEFINED] * 3
    return [number_text(value) for value in (summary.std, summary.minimum, summary.maximum)]


def _cell(metric: str, summary: Summary | None, count: int) -> str:
    """The mean, and how many cases define the metric where these are not the `count` that define the primary one."""
    fewer = "" if summary is None or summary.n == count else f" (n {summary.n})"
    return mean_text(summary, METRICS[metric].digits) + fewer


def _caption(evaluation: Evaluation) -> str:
    count, primary = len(evaluation.cases), METRICS[PRIMARY].title(evaluation.scoring)
    legend = NSD_DEFINITIONS[evaluation.scoring.nsd].legend
    cases = f"{count} case{'s' if count != 1 else ''}"
    cases = f"{count} of {count + len(evaluation.failed)} cases" if evaluation.failed else cases
    policy = evaluation.scoring.policy
    return f"{cases}; {primary}: mean over cases [95 % bootstrap interval]; empty masks: {policy}; {legend}"


def _data(evaluation: Evaluation) -> tuple[tuple[str, ...], tuple[tuple[Value, ...], ...]]:
    scored: list[tuple[str, str, ClassMetrics]] = [
        (case.id, name, scores) for case in evaluation.cases for name, scores in case.classes.items()
    ]
    data = [(id, name, *scores.figures().values()) for id, name, scores in scored]
    figures = tuple(scored[0][2].figures())
    nothing: tuple[Value, ...] = (None,) * len(figures)
    data += [(failure.case, name, *nothing) for failure in evaluation.failed for name in evaluation.classes]
    return ("case", "class", *figures), tuple(data)
