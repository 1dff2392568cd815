"""What was measured, spelt out: scans, classes, what an attack may change, attacks, and what the Dice is of."""

from __future__ import annotations

from collections.abc import Sequence

from voxward.core.errors import UserError
from voxward.core.wording import eps_text, in_hounsfield
from voxward.report.benchmark import comparable
from voxward.report.html.strings import count, listed, say
from voxward.report.sources import AttackSource
from voxward.robustness.record import Record

_NAMED = 5
_CLASSES = 4


def scans_text(source: AttackSource, n: int) -> str:
    """Return "13 scans" or, where the dataset is known, "13 scans of Task04_Hippocampus"."""
    scans = count("verdict", "scans", n)
    return say("verdict", "of_dataset", scans=scans, dataset=source.dataset) if source.dataset else scans


def named_few(names: Sequence[str]) -> str:
    """Return the first names of a list, with dots where there are more."""
    return ", ".join(names[:_NAMED]) + (", ..." if len(names) > _NAMED else "")


def classes_text(classes: Sequence[str]) -> str:
    """Return the names of the classes as a list, without those beyond the first few."""
    if len(classes) <= _CLASSES + 1:
        return listed(classes)
    return listed([*classes[:_CLASSES], count("verdict", "classes_more", len(classes) - _CLASSES)])


def change_text(records: Sequence[Record], size: str) -> str:
    """Return what an attack may change: "each voxel by at most 8/255 of the intensity range".

    Args:
        records: Records of one threat model.
        size: The size as text.
    """
    threat = next((record for record in records if record.kind == "attack"), records[0]).threat
    unit = "range" if threat.unit == "range" else "native" if size.endswith("HU") else "raw"
    return say("threat", f"{threat.norm}_{unit}", size=size.removesuffix(" raw"))


def size_text(record: Record, eps: float) -> str:
    """Return a size of the change as text, in the unit of a record."""
    return eps_text(eps, record.threat.unit, record.channels)


def shares_text(rows: Sequence[Record]) -> str:
    """Return all sizes of the change, also as shares of the intensity range and in HU, where that says more.

    Args:
        rows: Records of attacks under one threat model.
    """
    return listed([_share(rows, eps) for eps in sorted({record.eps for record in rows})])


def _share(rows: Sequence[Record], eps: float) -> str:
    first, size = rows[0], size_text(rows[0], eps)
    if first.threat.unit != "range" or first.threat.norm != "linf":
        return size
    widths = {high - low for record in rows for low, high in record.threat.bounds or ()}
    share = f"{eps:.1%}".replace("%", " %")
    if len(widths) == 1 and all(in_hounsfield(record.channels) for record in rows):
        return say("verdict", "size_share_hu", size=size, share=share, hu=f"{eps * widths.pop():.3g}")
    return say("verdict", "size_share", size=size, share=share)


def chooser_text(attacks: Sequence[str]) -> str:
    """Return "one attack (pgd)" or "the strongest of 9 attacks"."""
    return count("verdict", "chooser", len(attacks), names=", ".join(attacks))


def measured_lines(source: AttackSource) -> tuple[str, ...]:
    """Return what was measured, one sentence each; none without records."""
    if not source.records:
        return ()
    records, first = source.records, source.records[0]
    key = "measured_scans_of" if source.dataset else "measured_scans"
    scans = {record.case for record in records}
    lines = [say("verdict", key, n=len(scans), dataset=source.dataset), *left_out_lines(source), *_seen(source)]
    classes = "measured_class" if len(first.classes) == 1 else "measured_classes"
    lines.append(say("verdict", classes, classes=listed(first.classes)))
    return (*lines, *_attacks(source), say("verdict", f"measured_{first.mode}"), *_file(source))


def left_out_lines(source: AttackSource) -> tuple[str, ...]:
    """Return which scans no figure is over, because they failed or have no results yet."""
    failed = {one.case for one in source.failed}
    named = [say("verdict", "measured_failed_case", case=one.case, reason=one.reason) for one in source.failed]
    missing = sorted({*source.case_ids} - {record.case for record in source.records} - failed)
    cases = "; ".join(named[:_NAMED]) + ("; ..." if len(named) > _NAMED else "")
    lines = [count("verdict", "measured_failed", len(named), cases=cases)] if named else []
    if missing:
        lines.append(count("verdict", "measured_missing", len(missing), cases=named_few(missing)))
    return tuple(lines)


def _seen(source: AttackSource) -> list[str]:
    seen = source.seen
    return [count("verdict", "measured_seen", len(seen), cases=named_few(seen))] if seen else []


def _attacks(source: AttackSource) -> list[str]:
    rows = [record for record in source.records if record.kind == "attack"]
    if not rows:
        return []
    names = sorted({record.attack for record in rows})
    change = change_text(rows, size_text(rows[0], max(record.eps for record in rows)))
    return [
        say("verdict", "measured_change", change=change, sizes=shares_text(rows)),
        count("verdict", "measured_attacks", len(names), names=listed(names)),
    ]


def _file(source: AttackSource) -> list[str]:
    try:
        deployed = comparable(source.records).deployed
    except UserError:
        return []
    return [say("verdict", "measured_file" if deployed else "measured_array")]
