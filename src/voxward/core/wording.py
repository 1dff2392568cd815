"""Small pieces of the sentences that people read."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

from voxward.core.errors import UserError

_STEPS = 255


def counted(count: int, word: str, several: str | None = None) -> str:
    """Return a number and a noun that agree.

    Args:
        count: The number.
        word: The noun in the singular.
        several: The noun in the plural; None puts an s behind the singular.

    Example:
        >>> counted(1, "case"), counted(2, "case"), counted(0, "volume of data", "volumes of data")
        ('1 case', '2 cases', '0 volumes of data')
    """
    return f"{count} {word if count == 1 else several or word + 's'}"


def eps_text(eps: float, unit: str, channels: Sequence[str] = (), alone: bool = False) -> str:
    """Return the size of a perturbation as text: "8/255", "0.5/255", "20 HU", "20".

    Args:
        eps: The size in `unit`.
        unit: "range" for a share of the intensity range, or "native" for HU and raw intensities.
        channels: The names of the image's channels: where all are CT, native intensities are HU.
        alone: Whether no text beside it says what the unit is; raw intensities are then called so.

    Returns:
        A share of the range in 255ths, with at most three decimals; a native intensity with its unit. A norm over all
        voxels that is larger than the range is a plain number.
    """
    if eps == 0:
        return "0"
    if unit == "range" and eps <= 1:
        return f"{_short(eps * _STEPS)}/{_STEPS}"
    if unit == "native" and in_hounsfield(channels):
        return f"{eps:.4g} HU"
    return f"{eps:.4g} raw" if alone and unit == "native" else f"{eps:.4g}"


def in_hounsfield(channels: Sequence[str]) -> bool:
    """Return whether all channels are CT, so that their intensities are in HU."""
    return bool(channels) and all(name.strip().lower() == "ct" for name in channels)


def eps_number(text: str | float) -> float:
    """Return the size of a perturbation that a user wrote, such as `8/255`, `0.03` or `20 HU`.

    Args:
        text: The size, as `eps_text` writes it, or a number.

    Raises:
        UserError: It is no number above 0.
    """
    above, _, below = str(text).removesuffix("HU").removesuffix("raw").strip().partition("/")
    try:
        size = float(Fraction(above) / Fraction(below or 1))  # also 25.5/255
    except (ValueError, ZeroDivisionError) as error:
        raise UserError(f"eps must be a number or a fraction such as 8/255, got {text!r}") from error
    if size <= 0:
        raise UserError(f"eps must be above 0, got {text!r}")
    return size


def _short(steps: float) -> str:
    return f"{steps:.3f}".rstrip("0").rstrip(".") if steps >= 1 else f"{steps:.3g}"
