"""Corruptions as tables: a row per system, and a row per system and corruption with a column per severity."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from voxward.core.wording import counted
from voxward.metrics.summary import Summary, summarise
from voxward.report.benchmark import folded_row, warnings
from voxward.report.table import Column, Table, Value
from voxward.report.text import UNDEFINED, interval_text, mean_text, number_text, signed_text
from voxward.robustness.corruption_figures import CorruptionView
from voxward.robustness.finding import Finding
from voxward.robustness.record import Record

_CLIPPED = 0.01
"""A share of voxels beyond the file's number type that is worth a note."""
_SUMMARY_FIELDS = (
    "model", "cases", "clean", "corrupted", "corrupted_low", "corrupted_high", "gap", "gap_low", "gap_high", "wm_dsc",
    "degradation", "worst", "worst_dice", "error_ratio", "reference",
)  # fmt: skip
_FIELDS = (
    "model", "corruption", "severity", "cases", "dice", "dice_low", "dice_high", "relative", "hd95_mm", "hd95_low",
    "hd95_high", "hd95_undefined",
)  # fmt: skip


def corruption_summary(
    records: Sequence[Record], findings: Sequence[Finding] = (), reference: str | None = None
) -> Table:
    """What corruptions do to each system, in one row.

    Args:
        records: All records, of which some are of corruptions.
        findings: What the checks found.
        reference: The system whose errors the others' are compared with; None: none.
    """
    view = CorruptionView(records)
    compared = reference is not None and len(view.models) > 1
    heads = ("clean", "corrupted", "gap", "wm-DSC", "degradation", "worst corruption")
    columns = (Column("model", "left"), *map(Column, heads), *([Column("error ratio")] if compared else []))
    data = tuple(_summary_data(view, model, reference if compared else None) for model in view.models)
    rows = tuple(folded_row(_summary_cells(view, model, reference if compared else None)) for model in view.models)
    notes = (
        "corrupted: the mean Dice over all corruptions and severities; gap: clean - corrupted; "
        "[95 % bootstrap interval over cases]",
        "wm-DSC: the mean over severities with the weights (2/3)^severity, in which clean is severity 0; degradation: "
        "the same weights over clean - corrupted (both as in ROOD-MRI)",
        *([f"error ratio: the sum of 1 - Dice, as a share of that of {reference}; the mean over the corruptions"]
          if compared else []),
    )  # fmt: skip
    return Table(
        columns, rows, f"Corruptions: {_sets(records)}", notes=(*notes, *_told(view)),
        warnings=warnings(findings), fields=_SUMMARY_FIELDS, data=data,
    )  # fmt: skip


def corruption_table(records: Sequence[Record], findings: Sequence[Finding] = ()) -> Table:
    """The Dice of each system under each corruption, by severity; the data hold HD95, too.

    Args:
        records: All records, of which some are of corruptions.
        findings: What the checks found.
    """
    view = CorruptionView(records)
    heads = [f"severity {severity}" for severity in view.severities]
    columns = (
        Column("model", "left"), Column("corruption", "left"), *map(Column, heads), Column("mean"), Column("relative"),
    )  # fmt: skip
    rows = tuple(
        folded_row(
            (
                model, name,
                *(interval_text(_dice(view, model, name, severity)) for severity in view.severities),
                mean_text(summarise([*view.of_corruption(model, name).values()])),
                number_text(view.relative(model, name), 2),
            ),
            section=bool(n) and not place,
        )
        for n, model in enumerate(view.models)
        for place, name in enumerate(view.corruptions)
    )  # fmt: skip
    data = tuple(
        _data(view, model, name, severity)
        for model in view.models
        for name in view.corruptions
        for severity in view.severities
    )
    notes = (
        *(f"{model}: mean clean Dice {mean_text(_clean(view, model))}" for model in view.models),
        "Dice of written files read by the ordinary predictor; [95 % bootstrap interval over cases]; relative: mean "
        "corrupted Dice as a share of the clean one",
    )
    title = f"Dice under corruptions: {_sets(records)}"
    return Table(columns, rows, title, notes=notes, warnings=warnings(findings), fields=_FIELDS, data=data)


def distance_table(records: Sequence[Record]) -> Table:
    """HD95 of each system under each corruption, by severity."""
    view = CorruptionView(records)
    heads = [f"severity {severity}" for severity in view.severities]
    rows = tuple(
        folded_row(
            (model, name, *(_distance_text(view.hd95(model, name, severity)) for severity in view.severities)),
            section=bool(n) and not place,
        )
        for n, model in enumerate(view.models)
        for place, name in enumerate(view.corruptions)
    )
    columns = (Column("model", "left"), Column("corruption", "left"), *map(Column, heads))
    notes = ("means over the cases in which HD95 is defined; [95 % bootstrap interval]; behind a semicolon: in how "
             "many cases it is not, as a class is missing",)  # fmt: skip
    return Table(columns, rows, f"HD95 in mm under corruptions: {_sets(records)}", notes=notes)


def _summary_cells(view: CorruptionView, model: str, reference: str | None) -> tuple[str, ...]:
    worst = view.worst(model)
    return (
        model,
        mean_text(_clean(view, model)),
        interval_text(summarise([*view.corrupted(model).values()])),
        signed_text(summarise([*view.gap(model).values()])),
        number_text(view.weighted(model)),
        number_text(view.degradation(model)),
        UNDEFINED if worst is None else f"{worst[0]} {worst[1].mean:.3f}",
        *([number_text(view.error_ratio(model, reference), 2)] if reference is not None else []),
    )


def _summary_data(view: CorruptionView, model: str, reference: str | None) -> tuple[Value, ...]:
    corrupted, gap = (summarise([*one.values()]) for one in (view.corrupted(model), view.gap(model)))
    clean, worst = _clean(view, model), view.worst(model)
    assert clean is not None
    return (
        model, clean.n, clean.mean, *_ends(corrupted), *_ends(gap), view.weighted(model), view.degradation(model),
        None if worst is None else worst[0], None if worst is None else worst[1].mean,
        None if reference is None else view.error_ratio(model, reference), reference,
    )  # fmt: skip


def _data(view: CorruptionView, model: str, name: str, severity: int) -> tuple[Value, ...]:
    dice, distance = _dice(view, model, name, severity), view.hd95(model, name, severity)
    count = 0 if dice is None else dice.n
    missing = count if distance is None else distance.left_out
    relative = view.relative(model, name, severity)
    return (model, name, severity, count, *_ends(dice), relative, *_ends(distance), missing)


def _ends(summary: Summary | None) -> tuple[Value, ...]:
    return (None, None, None) if summary is None else (summary.mean, summary.low, summary.high)


def _dice(view: CorruptionView, model: str, name: str, severity: int) -> Summary | None:
    return summarise([*view.dice(model, name, severity).values()])


def _clean(view: CorruptionView, model: str) -> Summary | None:
    return summarise([*view.clean(model).values()])


def _distance_text(summary: Summary | None) -> str:
    if summary is None:
        return UNDEFINED
    missing = f"; {summary.left_out}" if summary.left_out else ""
    return f"{interval_text(summary)}{missing}"


def _sets(records: Sequence[Record]) -> str:
    found = sorted({(r.corruption.set, r.corruption.version) for r in records if r.corruption is not None})
    return ", ".join(f"{name} (version {version})" for name, version in found)


def _told(view: CorruptionView) -> Iterator[str]:
    """What readers must know: lengths that were scaled, truth that was moved away, intensities that were cut off."""
    rows = [(r, r.corruption) for r in view.records if r.corruption is not None and r.eps]
    small = {record.case for record, about in rows if min(about.length_scale) < 1}
    if small:
        least = min(min(about.length_scale) for _, about in rows)
        yield (
            f"lengths such as translations were made smaller on {counted(len(small), 'small scan')}, by min(1, extent "
            f"of the scan / that of the set) along each axis: down to {least:.2f} of what the set says"
        )
    for model in view.models:
        gone = [record for record, _ in rows if record.model == model and record.warnings]
        if gone:
            names = sorted({f"{record.attack} of {record.case}" for record in gone})
            told = ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
            yield f"{model}: a class was moved out of the scan in {counted(len(gone), 'result')} ({told})"
        part = [r for r, about in rows if r.model == model and any(s is not None and s < 0.5 for s in about.left)]
        if part:
            told = counted(len(part), "result")
            yield f"{model}: less than half of a class was left in the scan after a move in {told}"
    clipped: dict[str, list[float]] = {}
    for record, about in rows:
        clipped.setdefault(record.attack, []).append(about.clipped)
    means = {name: sum(shares) / len(shares) for name, shares in clipped.items()}
    named = [f"{name} {share:.1%}" for name, share in sorted(means.items()) if share > _CLIPPED]
    if named:
        yield f"beyond the number type of the files, and cut off, of all voxels in the mean: {', '.join(named)}"
