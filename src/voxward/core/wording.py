"""Small pieces of the sentences that people read."""

from __future__ import annotations


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


def eps_text(eps: float, unit: str) -> str:
    """The size of a perturbation, as short as it is exact.

    Args:
        eps: The size in `unit`.
        unit: "range" for a share of the intensity range, or "native" for HU and raw intensities.

    Returns:
        A decimal of at most four digits if that is exact. If not, a share of the range that is a whole number of
        255ths is a fraction such as "8/255", and anything else is rounded to four digits.
    """
    text, steps = f"{eps:.4g}", eps * 255
    whole = steps >= 1 and abs(steps - round(steps)) < 1e-6
    if float(text) != eps and whole and unit == "range":
        return f"{round(steps)}/255"
    return text
