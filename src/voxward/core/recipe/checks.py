"""Checks that several parts of a recipe share; each returns its problems as sentences."""

from __future__ import annotations

Number = int | float


def outside(name: str, value: Number, low: float, high: float) -> list[str]:
    """Return the problem of a value outside [low, high], or nothing.

    Args:
        name: The key in the recipe, for the message.
        value: The value; NaN lies outside.
        low: The least legal value.
        high: The greatest legal value.
    """
    return [] if low <= value <= high else [f"{name} must be in [{low:g}, {high:g}], got {value}"]


def below(least: int, **values: Number | None) -> list[str]:
    """Return a problem for each value that is smaller than the least legal one.

    Args:
        least: The least legal value.
        **values: The values by their keys in the recipe; None, where a key may be left out, is no problem.
    """
    return [
        f"{name} must be at least {least}, got {value}"
        for name, value in values.items()
        if value is not None and not value >= least
    ]


def not_positive(**values: Number | None) -> list[str]:
    """Return a problem for each value that is not greater than 0.

    Args:
        **values: The values by their keys in the recipe; None, where a key may be left out, is no problem.
    """
    return [
        f"{name} must be positive, got {value}" for name, value in values.items() if value is not None and not value > 0
    ]


def wrong_axes(name: str, axes: tuple[int, ...]) -> list[str]:
    """Return the problem of axes that are not 0, 1 or 2, or are there twice, or nothing.

    Args:
        name: The key in the recipe, for the message.
        axes: The axes of a volume, in RAS order.
    """
    fits = set(axes) <= {0, 1, 2} and len(set(axes)) == len(axes)
    return [] if fits else [f"{name} may only hold 0, 1, 2, each once, got {axes}"]
