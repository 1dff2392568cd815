"""A trial that cannot be made on a case: it leaves no record, and the reason is kept in its place."""

from __future__ import annotations

from dataclasses import dataclass


class NotApplicable(Exception):  # noqa: N818
    """A trial says that it means nothing on a case; the message is the reason, as half a sentence."""


@dataclass(frozen=True)
class Skipped:
    """A trial that was left out on a case.

    Attributes:
        model: The name of the system.
        case: The id of the case.
        attack: The name of the trial.
        eps: The size of the perturbation; None for a trial that needs none.
        reason: Why it means nothing there, as half a sentence.
    """

    model: str
    case: str
    attack: str
    eps: float | None
    reason: str
