"""What was measured, spelt out: scans, classes, what an attack may change, attacks, and what the Dice is of."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

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


def change_text(records: Sequence[Record], eps: float) -> str:
    """Return what an attack may change: "each voxel by at most 8/255 of the intensity range (3.1 %)".

    Args:
        records: Records of one threat model.
        eps: The size.
    """
    first = next((record for record in records if record.kind == "attack"), records[0])
    threat, size = first.threat, size_text(first, eps)
    unit = "range" if threat.unit == "range" else "native" if size.endswith("HU") else "raw"
    share, hounsfield = _share(records, eps)
    more = "" if share is None else f" ({share})" if hounsfield is None else f" ({share}, {hounsfield} HU)"
    return say("threat", f"{threat.norm}_{unit}", size=size) + more


def size_text(record: Record, eps: float) -> str:
    """Return a size of the change as text, in the unit of a record."""
    return eps_text(eps, record.threat.unit, record.channels)


def share_text(records: Sequence[Record], eps: float) -> str:
    """Return a size with what it means: "16/255 (6.3 % of the intensity range)", and in HU where that is known.

    Args:
        records: Records of one threat model.
        eps: The size.
    """
    size, (share, hounsfield) = size_text(records[0], eps), _share(records, eps)
    if share is None:
        return size
    key = "size_share" if hounsfield is None else "size_share_hu"
    return say("verdict", key, size=size, share=share, hu=hounsfield)


def shares_text(rows: Sequence[Record]) -> str:
    """Return all sizes of the change with what they mean; see `share_text`.

    Args:
        rows: Records of attacks under one threat model.
    """
    return listed([share_text(rows, eps) for eps in sorted({record.eps for record in rows})])


def _share(records: Sequence[Record], eps: float) -> tuple[str | None, str | None]:
    """A size as a share of the intensity range, and in HU; None where it is no such share, or the HU are not known."""
    threat = records[0].threat
    if threat.unit != "range" or threat.norm != "linf":
        return None, None
    share = f"{eps:.1%}".replace("%", " %")
    widths = {high - low for record in records for low, high in record.threat.bounds or ()}
    known = len(widths) == 1 and all(in_hounsfield(record.channels) for record in records)
    return share, f"{eps * widths.pop():.3g}" if known else None


def chooser_text(attacks: Sequence[str], planned: int = 0) -> str:
    """Return "one attack (pgd)" or "the strongest of 9 attacks", and how many were planned where that is more.

    Args:
        attacks: The attacks that there are results of.
        planned: The number of attacks that were to be run; 0 where that is not known.
    """
    chooser = count("verdict", "chooser", len(attacks), names=", ".join(attacks))
    return say("verdict", "chooser_planned", chooser=chooser, n=planned) if planned > len(attacks) else chooser


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
    return (*lines, *_aside(source))


def _aside(source: AttackSource) -> Iterator[str]:
    """What earlier calls attacked that the last one did not ask for."""
    if others := source.aside.cases:
        yield count("verdict", "measured_aside", len(others), cases=named_few(others))
    if source.aside.sizes:
        yield say("verdict", "measured_aside_sizes", sizes=listed(source.aside.sizes))


def _seen(source: AttackSource) -> list[str]:
    seen = source.seen
    return [count("verdict", "measured_seen", len(seen), cases=named_few(seen))] if seen else []


def _attacks(source: AttackSource) -> list[str]:
    rows = [record for record in source.records if record.kind == "attack"]
    if not rows:
        return []
    names = sorted({record.attack for record in rows})
    change = change_text(rows, max(record.eps for record in rows))
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
