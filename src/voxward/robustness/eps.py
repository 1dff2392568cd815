"""The size of a perturbation as a person reads it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from voxward.core.wording import eps_text
from voxward.robustness.record import Record

SAME_EPS = 1e-9
"""Two sizes that differ by less are one."""


def record_eps_text(record: Record, alone: bool = False) -> str:
    """Return the size of a record's perturbation as text, see `eps_text`, or the severity of its corruption."""
    if record.corruption is not None:
        return f"severity {record.corruption.severity}"
    return eps_text(record.eps, record.threat.unit, record.channels, alone)


def eps_texts(records: Sequence[Record], alone: bool = False) -> Callable[[float], str]:
    """Return a function from a size to its text, in the unit of some records; see `eps_text`.

    Args:
        records: Records of one threat model.
        alone: See `eps_text`.
    """
    unit = records[0].threat.unit if records else "range"
    channels = tuple(dict.fromkeys(name for record in records for name in record.channels))
    return lambda eps: eps_text(eps, unit, channels, alone)
