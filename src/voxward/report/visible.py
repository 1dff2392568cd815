"""How visible the attacks are, what they do, and what noise of their size does: a row per system and size."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from voxward.core.wording import in_hounsfield
from voxward.metrics.summary import Summary, summarise
from voxward.report.benchmark import with_size_texts
from voxward.report.chart import Axis, Chart, Line, Panel, Point
from voxward.report.html.strings import STRINGS, count, say
from voxward.report.measured import NOISES, AtSize, Measured
from voxward.report.palette import LINES, NEUTRAL
from voxward.report.table import Column, Row, Table, Value
from voxward.report.text import UNDEFINED, interval_text
from voxward.robustness.eps import eps_texts
from voxward.robustness.record import Record
from voxward.robustness.worst import worst_attacks

_FIELDS = (
    "system", "eps", "cases", *(f"{name}{end}" for name in ("psnr_db", "ssim", "rms") for end in ("", "_low", "_high")),
    *(f"{name}{end}" for name in ("dice", *NOISES) for end in ("", "_low", "_high", "_cases")),
)  # fmt: skip
_STEPS = 255
# So many systems are drawn before a reader chooses, and the noise with so many.
_MOST_SYSTEMS, _MOST_NOISY = 8, 2


@dataclass(frozen=True)
class Visible:
    """How visible the worst attacks of one size on one system are.

    Attributes:
        measured: The system.
        size: The size, and what changes of that size do.
        rms: The root mean square of the change over all voxels, in the unit of eps; None where it was not measured.
        psnr_db: The peak signal-to-noise ratio in dB, over the scans that were changed; None without any.
        ssim: The structural similarity; None where it was not measured.
        missing: The number of scans whose worst attack has no such figures.
    """

    measured: Measured
    size: AtSize
    rms: Summary | None
    psnr_db: Summary | None
    ssim: Summary | None
    missing: int


def visible(found: Sequence[Measured]) -> tuple[Visible, ...]:
    """Return how visible the worst attack on each scan is, for each system and size.

    Args:
        found: The systems of one folder.
    """
    return tuple(_row(one, size) for one in found for size in one.sizes)


def visible_table(rows: Sequence[Visible]) -> Table:
    """Return a table of how visible attacks are, what they do, and what noise of their size does.

    Args:
        rows: What `visible` returned for the systems of one folder.
    """
    words = STRINGS["visibility"]
    records = [record for row in rows for record in row.measured.view.records]
    text, norm = eps_texts(records), records[0].threat.norm
    headings = ("psnr", "ssim", "rms", "dice", *NOISES)
    several = len({row.measured.model for row in rows}) > 1
    lines = []
    for place, row in enumerate(rows):
        cells = (
            text(row.size.eps), summary_text(row.psnr_db, 1), summary_text(row.ssim, 3), _rms_text(row.rms, text),
            interval_text(row.size.attack.dice), *(_noise_text(row.size, name) for name in NOISES),
        )  # fmt: skip
        first = bool(place) and rows[place - 1].measured.model != row.measured.model
        lines.append(Row((row.measured.model, *cells) if several else cells, section=several and first))
    columns = (*([Column(words["system"], "left")] if several else []), Column(words["eps"]),
               *(Column(words[name]) for name in headings))  # fmt: skip
    table = Table(
        columns, tuple(lines), words["title"],
        notes=tuple(words[key] for key in ("reading", f"terms_{norm}", "terms", f"noises_{norm}", "noises")),
        fields=_FIELDS, data=tuple(map(_figures, rows)),
    )  # fmt: skip
    return with_size_texts(table, records)


def dice_over_rms(rows: Sequence[Visible], name: str = "visibility") -> Chart | None:
    """Return the Dice over the strength of the change, for the worst attack and for noise as strong in all.

    Args:
        rows: What `visible` returned for the systems of one folder.
        name: The name of the chart.

    Returns:
        The chart; None where the strength was not measured.
    """
    words = STRINGS["visibility"]
    known = [row for row in rows if row.rms is not None]
    if not known:
        return None
    first = known[0].measured.view.records[0]
    scale = _STEPS if first.threat.unit == "range" else 1
    unit = "range" if scale == _STEPS else "hounsfield" if in_hounsfield(first.channels) else "raw"
    models = list(dict.fromkeys(row.measured.model for row in known))
    lines = []
    for number, model in enumerate(models):
        mine = [row for row in known if row.measured.model == model]
        shown = number < _MOST_SYSTEMS
        lines.append(replace(_line(model, number, 0, [(r, r.size.attack.dice) for r in mine], scale), shown=shown))
        # Random signs at eps are stronger than the attack, and have no place at its strength.
        for dash, noise in enumerate(NOISES[1:], 2):
            points = [(row, row.size.noise[noise].dice) for row in mine if noise in row.size.noise]
            if points:
                alone, called = len(models) == 1, STRINGS["charts"][noise]
                label = (called, NEUTRAL) if alone else (model, number)
                line = _line(*label, dash, points, scale, "" if alone else called)
                lines.append(replace(line, shown=shown and len(models) <= _MOST_NOISY))
    more = (
        [say("charts", "first_systems", shown=_MOST_SYSTEMS, count=len(models))] if len(models) > _MOST_SYSTEMS else []
    )
    return Chart(
        name, words["chart"], Axis(words[f"axis_{unit}"]), Axis(STRINGS["charts"]["dice"], limits=(0.0, 1.0)),
        (Panel(STRINGS["charts"]["mean"], tuple(lines)),), notes=(STRINGS["charts"]["bands"], *more),
    )  # fmt: skip


def summary_text(summary: Summary | None, digits: int) -> str:
    """Return a mean and its interval with so many decimals; a mean over one scan has none.

    Args:
        summary: The summary; None where there is nothing.
        digits: The number of decimals.
    """
    if summary is None:
        return UNDEFINED
    ends = "" if summary.n == 1 else f" [{summary.low:.{digits}f}, {summary.high:.{digits}f}]"
    return f"{summary.mean:.{digits}f}{ends}"


def _row(measured: Measured, size: AtSize) -> Visible:
    records: list[Record] = [
        record for key, record in worst_attacks(measured.view.records).items() if key.eps == size.eps
    ]
    found = [record.visibility for record in records if record.visibility is not None]
    return Visible(
        measured, size, summarise([one.rms for one in found]), summarise([one.psnr_db for one in found]),
        summarise([one.ssim for one in found]), len(records) - len(found),
    )  # fmt: skip


def _noise_text(size: AtSize, name: str) -> str:
    """The Dice under noise, and over how many scans it is where it is not over all."""
    change = size.noise.get(name)
    if change is None:
        return UNDEFINED
    some = len(change.cases) < len(size.attack.cases)
    counted = f" ({count('verdict', 'scans', len(change.cases))})" if some else ""
    return interval_text(change.dice) + counted


def _rms_text(rms: Summary | None, text: Callable[[float], str]) -> str:
    return UNDEFINED if rms is None else text(rms.mean)


def _figures(row: Visible) -> tuple[Value, ...]:
    dice: Mapping[str, Summary | None] = {name: change.dice for name, change in row.size.noise.items()}
    summaries = (row.size.attack.dice, *(dice.get(name) for name in NOISES))
    return (
        row.measured.model, row.size.eps, row.size.attack.dice.n,
        *(value for one in (row.psnr_db, row.ssim, row.rms) for value in _ends(one)),
        *(value for one in summaries for value in (*_ends(one), None if one is None else one.n)),
    )  # fmt: skip


def _ends(summary: Summary | None) -> tuple[Value, Value, Value]:
    return (None, None, None) if summary is None else (summary.mean, summary.low, summary.high)


def _line(
    name: str, colour: int, dash: int, found: Sequence[tuple[Visible, Summary]], scale: int, kind: str = ""
) -> Line:
    """A line that begins with the Dice of unchanged scans, at a strength of 0."""
    summaries = {0.0: found[0][0].measured.clean}
    summaries |= {row.rms.mean * scale: summary for row, summary in found if row.rms is not None}
    points = [Point.of(x, one) for x, one in sorted(summaries.items())]
    return Line(name, tuple(points), colour % len(LINES), dash, kind=kind)
