"""What attacks that invent a class found, in the words of the page."""

from __future__ import annotations

from collections.abc import Callable

from voxward.metrics.summary import Summary, summarise
from voxward.report.html.strings import say
from voxward.report.measured import Measured
from voxward.report.phantom import phantom_text, volume_text
from voxward.report.table import Column, Row, Table
from voxward.robustness.phantom import clean_phantoms, invented, worst_phantoms


def phantom_tiles(one: Measured, name: str) -> tuple[tuple[str, str], ...]:
    """Return the volumes that are seen first, each with what it is of.

    Args:
        one: What was measured on a system.
        name: The class that is invented.
    """
    found = [(volume_text(_clean(one).mean), say("verdict", "tile_phantom", name=name))]
    if one.sizes:
        last = one.sizes[-1]
        label = say("verdict", "tile_phantom_attack", name=name, size=last.text)
        found.append((volume_text(_worst(one, last.eps).mean), label))
    return tuple(found)


def phantom_sentences(
    one: Measured, name: str, scans: str, change: Callable[[float], str], chooser: str
) -> tuple[str, ...]:
    """Return what was found, a sentence each.

    Args:
        one: What was measured on a system.
        name: The class that is invented.
        scans: On which scans.
        change: What an attack may change, by its size.
        chooser: Which attacks were run.
    """
    clean = _clean(one).mean
    first = say("verdict", "phantom", scans=scans, system=one.model, name=name, volume=volume_text(clean))
    if not one.sizes:
        return first, say("verdict", "no_attack")
    eps = one.sizes[-1].eps
    worst = _worst(one, eps)
    key = "phantom_attacked" if worst.mean > clean else "phantom_unharmed"
    return first, say("verdict", key, change=change(eps), chooser=chooser, volume=phantom_text(worst))


def phantom_sizes(one: Measured, name: str) -> Table:
    """Return the volume at each size of the change.

    Args:
        one: What was measured on a system.
        name: The class that is invented.
    """
    columns = Column(say("verdict", "column_size"), "left"), Column(say("verdict", "column_phantom", name=name))
    clean = Row((say("verdict", "unchanged"), phantom_text(_clean(one))))
    return Table(columns, (clean, *(Row((size.text, phantom_text(_worst(one, size.eps)))) for size in one.sizes)))


def phantom_notes(name: str) -> tuple[str, ...]:
    """Return what a reader must know of these figures.

    Args:
        name: The class that is invented.
    """
    return (say("verdict", "invent", name=name), say("verdict", "invent_dice", name=name))


def phantom_name(one: Measured) -> str | None:
    """Return the class that is invented; None where none is."""
    return invented(one.view.records)


def _clean(one: Measured) -> Summary:
    return _known(clean_phantoms(one.view.records, one.model))


def _worst(one: Measured, eps: float) -> Summary:
    return _known(worst_phantoms(one.view.records, one.model, eps))


def _known(volumes: dict[str, float]) -> Summary:
    found = summarise([*volumes.values()])
    assert found is not None  # there is a clean control, and an attack of each size that is listed
    return found
