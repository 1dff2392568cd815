"""Numbers as tables show them."""

from __future__ import annotations

from collections.abc import Sequence

from voxward.core.errors import Failure
from voxward.metrics.summary import Summary

UNDEFINED = "n/a"
"""A cell without a value."""
_LISTED = 20
"""How many failed cases a table names."""


def number_text(value: float | None, digits: int = 3) -> str:
    """A number with so many decimals, or UNDEFINED."""
    return UNDEFINED if value is None else f"{value:.{digits}f}"


def mean_text(summary: Summary | None, digits: int = 3) -> str:
    """The mean of a summary with so many decimals, or UNDEFINED."""
    return number_text(None if summary is None else summary.mean, digits)


def interval_text(summary: Summary | None, digits: int = 2) -> str:
    """The mean and, with `digits` decimals, its bootstrap interval: "0.853 [0.82, 0.88]"; one case has no interval."""
    if summary is None or summary.n == 1:
        return mean_text(summary)
    return f"{summary.mean:.3f} [{summary.low:.{digits}f}, {summary.high:.{digits}f}]"


def signed_text(summary: Summary | None) -> str:
    """A mean difference and its interval, all with their signs: "+0.012 [-0.01, +0.03]"; one case has no interval."""
    if summary is None:
        return UNDEFINED
    ends = f" [{summary.low:+.2f}, {summary.high:+.2f}]" if summary.n > 1 else ""
    return f"{summary.mean:+.3f}{ends}"


def failed_note(failed: Sequence[Failure], total: int) -> tuple[str, ...]:
    """A sentence that says which cases no figure is over; none where no case failed.

    Args:
        failed: The cases that failed.
        total: The number of cases in all.
    """
    if not failed:
        return ()
    more = len(failed) - _LISTED
    names = ", ".join(failure.case for failure in failed[:_LISTED]) + (f" and {more} more" if more > 0 else "")
    return (f"{len(failed)} of {total} cases failed, and no figure is over them: {names}",)
