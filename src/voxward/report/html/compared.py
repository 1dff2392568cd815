"""Which systems may be compared, and the sentences that compare them: what a hardening bought, and what it cost."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from voxward.core.errors import UserError
from voxward.core.structure import to_data
from voxward.metrics.summary import Summary
from voxward.report.benchmark import comparable, sizes
from voxward.report.html.strings import count, say
from voxward.report.sources import AttackSource, Sources
from voxward.report.versus import holds_zero, versus
from voxward.robustness.phantom import invented
from voxward.robustness.record import CLEAN, Record

# What may differ between the protocols of folders that are compared: no figure depends on it.
_FREE = ("name", "description", "require", "keep", "cases", "ensembles", "sanity")


def alike(sources: Sequence[AttackSource]) -> list[list[AttackSource]]:
    """Return the folders in groups that were measured alike: on the same scans and classes, by the same attacks.

    Args:
        sources: The folders; one that does not say how it was measured is alone.
    """
    groups: list[tuple[Any, list[AttackSource]]] = []
    for source in sources:
        key = _measured_by(source)
        for known, group in groups:
            if source.protocol is not None and known == key:
                group.append(source)
                break
        else:
            groups.append((key, [source]))
    return [group for _, group in groups]


def names_in(group: Sequence[AttackSource]) -> dict[tuple[str, str], str]:
    """Return what each system is called, by its folder and its own name; the folder stands in front where it must.

    Args:
        group: Folders that were measured alike.

    Returns:
        The names, in the order in which the systems were given.
    """
    keys = [(one.name, model) for one in group for model in _given(one)]
    own = [model for _, model in keys]
    return {(folder, model): model if own.count(model) == 1 else f"{folder}/{model}" for folder, model in keys}


def records_in(group: Sequence[AttackSource]) -> list[Record]:
    """Return the records by which systems can be compared, each under the name of `names_in`.

    They are those of the cases on which nothing is left to do for any system: an attack that has not ended for one of
    two systems would make it look more robust than the other.

    Args:
        group: Folders that were measured alike.
    """
    names, unfinished = names_in(group), unfinished_in(group)
    return [
        replace(r, model=names[one.name, r.model]) for one in group for r in one.records if r.case not in unfinished
    ]


def unfinished_in(group: Sequence[AttackSource]) -> set[str]:
    """Return the ids of the cases on which some work for some system has not ended, as far as the folders say.

    Args:
        group: Folders that were measured alike.
    """
    return {unit.case for one in group if one.plan is not None for unit in one.plan.lacking}


def compared_lines(sources: Sources) -> tuple[tuple[str, ...], ...]:
    """Return for each attack folder the sentences that compare its systems, and those of folders measured alike.

    The first system that was given is the one that the others are compared with. The sentences of several folders stand
    with the first one.

    Args:
        sources: All that was read.
    """
    found = {id(group[0]): tuple(_lines(group)) for group in alike(sources.attacked)}
    return tuple(found.get(id(one), ()) for one in sources.attacks)


def _measured_by(source: AttackSource) -> Any:
    protocol = {name: value for name, value in to_data(source.protocol).items() if name not in _FREE} if (
        source.protocol is not None) else {}  # fmt: skip
    records = source.records
    return (
        protocol,
        {record.case for record in records if record.attack == CLEAN},
        {record.classes for record in records},
        {record.attack for record in records if record.kind == "attack"},
        dict(source.digests),
        source.deployed,
    )


def _given(source: AttackSource) -> tuple[str, ...]:
    """The systems in the order in which the attack was given them, as far as the folder says."""
    named = [name for name in source.systems if name in source.models]
    return (*named, *(name for name in source.models if name not in named))


def _lines(group: Sequence[AttackSource]) -> Iterator[str]:
    first, *others = names_in(group).values()
    records = records_in(group)
    if not others or invented(records) is not None:
        return
    try:
        view = comparable(records)
        found = {other: versus(view, other, first) for other in others}
    except UserError:  # the ranking says why
        return
    known = {other: one for other, one in found.items() if one is not None}
    for other, one in known.items():
        attacked = _part(one.attacked, say("verdict", "compared_attacked", size=sizes(view)[-1]))
        clean = _part(one.clean, say("verdict", "compared_clean"))
        names = {"first": first, "system": other}
        yield count("verdict", "compared", one.attacked.n, attacked=attacked, clean=clean, **names)
    if any(part.n > 1 and not _equal(part) for one in known.values() for part in (one.attacked, one.clean)):
        yield say("verdict", "compared_how")


def _equal(difference: Summary) -> bool:
    return difference.mean == 0 and difference.low == difference.high


def _part(difference: Summary, where: str) -> str:
    """What a system gained or lost, as a part of a sentence."""
    if _equal(difference):
        return say("verdict", "compared_equal", where=where)
    if holds_zero(difference):
        ends = {"value": f"{difference.mean:+.3f}", "low": f"{difference.low:+.3f}", "high": f"{difference.high:+.3f}"}
        return say("verdict", "compared_unsure", where=where, **ends)
    gained = difference.mean > 0
    low, high = (difference.low, difference.high) if gained else (-difference.high, -difference.low)
    interval = say("verdict", "compared_interval", low=f"{low:.3f}", high=f"{high:.3f}") if difference.n > 1 else ""
    key = "compared_gained" if gained else "compared_lost"
    return say("verdict", key, value=f"{abs(difference.mean):.3f}", interval=interval, where=where)
