"""The size of a perturbation as a person reads it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from voxward.robustness.record import Record

_STEPS = 255


def eps_text(eps: float, unit: str, channels: Sequence[str] = (), alone: bool = False) -> str:
    """Return the size of a perturbation as text: "8/255", "0.5/255", "20 HU", "20".

    Args:
        eps: The size in `unit`.
        unit: "range" for a share of the intensity range, or "native" for HU and raw intensities.
        channels: The names of the image's channels: where all are CT, native intensities are HU.
        alone: Whether no text beside it says what the unit is; raw intensities are then called so.

    Returns:
        A share of the range in 255ths, with at most three decimals; a native intensity with its unit.
    """
    if eps == 0:
        return "0"
    if unit == "range":
        return f"{_short(eps * _STEPS)}/{_STEPS}"
    if in_hounsfield(channels):
        return f"{eps:.4g} HU"
    return f"{eps:.4g} raw" if alone else f"{eps:.4g}"


def in_hounsfield(channels: Sequence[str]) -> bool:
    """Return whether all channels are CT, so that their intensities are in HU."""
    return bool(channels) and all(name.strip().lower() == "ct" for name in channels)


def record_eps_text(record: Record, alone: bool = False) -> str:
    """Return the size of a record's perturbation as text; see `eps_text`."""
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


def _short(steps: float) -> str:
    return f"{steps:.3f}".rstrip("0").rstrip(".") if steps >= 1 else f"{steps:.3g}"
