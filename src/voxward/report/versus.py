"""One system against another one on the same cases: under the worst attack, and without an attack."""

from __future__ import annotations

from dataclasses import dataclass

from voxward.metrics.summary import Summary
from voxward.report.text import UNDEFINED, signed_text
from voxward.robustness.summary import View

NOT_DISTINGUISHABLE = "not distinguishable"
"""What is said of a difference whose interval holds 0."""


@dataclass(frozen=True)
class Versus:
    """The Dice of one system minus that of another, over the cases that both were attacked on.

    Attributes:
        attacked: The mean difference in worst-case Dice at the largest size, with its bootstrap interval.
        clean: The same without an attack.
    """

    attacked: Summary
    clean: Summary


def versus(view: View, system: str, other: str) -> Versus | None:
    """Compare two systems at the largest size of the perturbation.

    Args:
        view: The records of both.
        system: The system that is compared.
        other: The system that it is compared with.

    Returns:
        The differences; None where no case was attacked on both.

    Raises:
        UserError: One of them has no clean control.
    """
    last = max(view.eps, default=None)
    if last is None:
        return None
    attacked, clean = view.difference(system, other, last), view.clean_difference(system, other, last)
    return None if attacked is None or clean is None else Versus(attacked, clean)


def holds_zero(difference: Summary) -> bool:
    """Return whether the interval of a mean difference holds 0; a single case has no interval, which holds nothing."""
    return difference.n > 1 and difference.low <= 0 <= difference.high


def difference_text(difference: Summary | None) -> str:
    """Return a difference with its interval: "+0.012 [-0.01, +0.03]; not distinguishable".

    Args:
        difference: The mean difference; None where there is none.
    """
    mark = "" if difference is None or not holds_zero(difference) else f"; {NOT_DISTINGUISHABLE}"
    return UNDEFINED if difference is None else f"{signed_text(difference)}{mark}"
