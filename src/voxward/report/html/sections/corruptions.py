"""The section that says what scanners and patients do to a system."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from voxward.core.errors import UserError
from voxward.metrics.summary import summarise
from voxward.report.chart import Chart
from voxward.report.corruption_chart import dice_over_severity
from voxward.report.corruptions import corruption_summary, corruption_table, distance_table
from voxward.report.html.page import Setting
from voxward.report.html.scope import scans_text
from voxward.report.html.strings import count, say
from voxward.report.html.unmeasured import FEW
from voxward.report.sources import AttackSource, Sources
from voxward.report.table import Table
from voxward.report.text import number_text
from voxward.robustness.corruption_figures import CorruptionView

_WEAK = 0.9
"""A mild corruption that leaves less than this share of the Dice is told by name."""


@dataclass(frozen=True)
class Corrupted:
    """What the section shows of one folder.

    Attributes:
        name: The name of the folder.
        sentences: What was found, a paragraph per system.
        chart: Dice over the severity; None where there are no figures.
        tables: A row per system; Dice and HD95 by corruption and severity.
        missing: What was not measured, a sentence each.
    """

    name: str
    sentences: tuple[str, ...]
    chart: Chart | None
    tables: tuple[Table, ...]
    missing: tuple[str, ...]


def corruptions(sources: Sources, setting: Setting) -> tuple[Corrupted, ...] | None:
    """Return what corruptions did in each folder; None where none were measured."""
    found = [source for source in sources.attacks if CorruptionView(source.records).corruptions]
    return tuple(corruptions_of(source, number) for number, source in enumerate(found, 1)) or None


def corruptions_of(source: AttackSource, number: int = 1) -> Corrupted:
    """Return what the section shows of one folder.

    Args:
        source: The folder and its records.
        number: The number of the folder on the page, from 1, which makes the name of its chart unique.
    """
    view = CorruptionView(source.records)
    section = None if source.protocol is None else source.protocol.corruptions
    missing = [say("corruptions", "unfinished")] if source.plan is not None and source.plan.lacking else []
    names = {*view.corruptions}
    reasons = [one.reason for one in source.skipped if one.attack in names]
    missing += [count("corruptions", "left_out", len(reasons), reason=reasons[0])] if reasons else []
    try:
        summary = corruption_summary(source.records, source.findings, None if section is None else section.reference)
        tables = summary, corruption_table(source.records), distance_table(source.records)
    except UserError as error:
        return Corrupted(source.name, (), None, (), (str(error), *missing))
    chart = dice_over_severity(source.records, f"dice-over-severity-{number}")
    sentences = [say("corruptions", "about"), *(" ".join(_told(source, view, model)) for model in view.models)]
    return Corrupted(source.name, tuple(sentences), chart, tables, tuple(missing))


def _told(source: AttackSource, view: CorruptionView, model: str) -> Iterator[str]:
    corrupted, clean = summarise([*view.corrupted(model).values()]), summarise([*view.clean(model).values()])
    worst, gap = view.worst(model), summarise([*view.gap(model).values()])
    if corrupted is None or clean is None or gap is None or worst is None:
        return
    ends = {"low": number_text(corrupted.low), "high": number_text(corrupted.high)}
    yield say(
        "corruptions", "told" if gap.mean > 0 else "kept", scans=scans_text(source, clean.n), system=model,
        clean=number_text(clean.mean), corrupted=number_text(corrupted.mean), gap=number_text(gap.mean),
        interval=say("corruptions", "interval", **ends) if corrupted.n > 1 else "", n=len(view.corruptions),
        severities=count("corruptions", "severities", len(view.severities)),
    )  # fmt: skip
    yield say("corruptions", "worst", name=worst[0], dice=number_text(worst[1].mean))
    yield from _weak(view, model, clean.mean)
    if clean.n < FEW:
        yield count("corruptions", "few", clean.n)


def _weak(view: CorruptionView, model: str, clean: float) -> Iterator[str]:
    """The corruption of the lowest severity that harms most, where it harms much."""
    least = view.severities[0]
    found = {name: summarise([*view.dice(model, name, least).values()]) for name in view.corruptions}
    known = {name: one.mean for name, one in found.items() if one is not None}
    name = min(known, key=lambda one: (known[one], one), default=None)
    if name is not None and known[name] < _WEAK * clean:
        yield say("corruptions", "weak", severity=least, name=name, dice=number_text(known[name]))
