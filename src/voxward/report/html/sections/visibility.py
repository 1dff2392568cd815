"""The section that says how visible the changes are, and what noise of their size does."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from voxward.report.chart import Chart
from voxward.report.html.page import Setting
from voxward.report.html.strings import count, say
from voxward.report.measured import NOISES, Measured, Unmeasurable, measured
from voxward.report.sources import AttackSource, Sources
from voxward.report.table import Table
from voxward.report.text import number_text
from voxward.report.visible import Visible, dice_over_rms, visible, visible_table
from voxward.robustness.eps import eps_texts

_TOLD_SYSTEMS = 3
# Noise that does less than this share of the attack's harm shows that the size alone does not do it.
_LITTLE = 0.1
_HALF = 0.5


@dataclass(frozen=True)
class Visibility:
    """What the section shows of one attack folder.

    Attributes:
        name: The name of the folder.
        sentences: What a clinician reads, a paragraph per system.
        table: The figures; None where there are none.
        chart: Dice over the strength of the change; None where that was not measured.
        missing: What was not measured, a sentence each.
    """

    name: str
    sentences: tuple[str, ...]
    table: Table | None
    chart: Chart | None
    missing: tuple[str, ...]


def visibility(sources: Sources, setting: Setting) -> tuple[Visibility, ...] | None:
    """Return how visible the changes are in each attack folder; None where there is none with records."""
    found = sources.attacked
    return tuple(visibility_of(source, number) for number, source in enumerate(found, 1)) or None


def visibility_of(source: AttackSource, number: int) -> Visibility:
    """Return how visible the changes of an attack folder are.

    Args:
        source: The folder and its records.
        number: The number of the folder on the page, from 1, which makes the name of its chart unique.
    """
    found = measured(source)
    rows = visible([one for one in found if isinstance(one, Measured)])
    table = visible_table(rows) if rows else None
    sentences = tuple(_sentences(rows)) if _known(rows) else ()
    chart = dice_over_rms(rows, f"dice-over-rms-{number}")
    return Visibility(source.name, sentences, table, chart, (*_no_rows(found), *_missing(source, rows)))


def _known(rows: Sequence[Visible]) -> list[Visible]:
    return [row for row in rows if row.rms is not None]


def _sentences(rows: Sequence[Visible]) -> Iterator[str]:
    """A paragraph per system on the smallest change that halves its Dice, else on the largest one."""
    models = list(dict.fromkeys(row.measured.model for row in _known(rows)))
    for model in models[:_TOLD_SYSTEMS]:
        mine = [row for row in _known(rows) if row.measured.model == model]
        halved = [row for row in mine if row.size.attack.dice.mean < _HALF * row.size.attack.clean]
        yield " ".join(_said(halved[0] if halved else mine[-1]))
    if len(models) > _TOLD_SYSTEMS:
        yield count("visibility", "more_systems", len(models) - _TOLD_SYSTEMS)
    yield say("visibility", "rule")


def _said(row: Visible) -> Iterator[str]:
    eps = eps_texts(row.measured.view.records)(row.size.eps)
    if row.psnr_db is None:
        yield say("visibility", "unchanged", eps=eps)
        return
    psnr = row.psnr_db.mean
    ssim = "" if row.ssim is None else say("visibility", "alike", ssim=number_text(row.ssim.mean))
    yield say("visibility", "told", eps=eps, psnr=number_text(psnr, 1), ssim=ssim)
    clean, dice = row.size.attack.clean, row.size.attack.dice.mean
    lowered = number_text(dice) != number_text(clean) and dice < clean
    figures = {"clean": number_text(clean), "dice": number_text(dice)}
    yield say("visibility", "harm" if lowered else "no_harm", system=row.measured.model, **figures)
    if lowered:
        yield from _noise_said(row, clean - dice)


def _noise_said(row: Visible, harm: float) -> Iterator[str]:
    """What the noise does that is nearest to the change: of the same strength, else of the same size."""
    name = next((name for name in (*NOISES[1:], NOISES[0]) if name in row.size.noise), None)
    if name is None:
        return
    change = row.size.noise[name]
    harmless = change.clean - change.dice.mean <= _LITTLE * harm
    called = say("visibility", f"{name}_name")
    key = "noise_harmless" if harmless else "noise_dice"
    yield say("visibility", key, noise=called, dice=number_text(change.dice.mean))


def _no_rows(found: Sequence[Measured | Unmeasurable]) -> Iterator[str]:
    for one in found:
        if isinstance(one, Unmeasurable):
            yield say("visibility", "no_figures", system=one.model, why=one.why)
        elif not one.sizes:
            yield say("visibility", "no_attack", system=one.model)


def _missing(source: AttackSource, rows: Sequence[Visible]) -> Iterator[str]:
    if not rows:
        return
    if not _known(rows):
        yield say("visibility", "unmeasured")
    elif missing := sum(row.missing for row in rows):
        yield say("visibility", "partly", count=missing, total=sum(len(row.size.attack.cases) for row in rows))
    if _known(rows) and all(row.ssim is None for row in rows):
        yield say("visibility", "no_ssim")
    for name in NOISES:
        if all(name not in row.size.noise for row in rows):
            reasons = dict.fromkeys(one.reason for one in source.skipped if one.attack == name)
            called = say("visibility", f"{name}_name")
            if reasons:
                yield say("visibility", "no_noise_because", noise=called, reason=next(iter(reasons)))
            else:
                yield say("visibility", "no_noise", noise=called, name=name)
