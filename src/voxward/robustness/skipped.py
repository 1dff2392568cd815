"""A trial that cannot be made on a case: it leaves no record, and the reason is kept in its place."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass

from voxward.core.wording import counted

_LISTED = 3


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


def skipped_notes(skipped: Iterable[Skipped], cases: Collection[str]) -> tuple[str, ...]:
    """Return a sentence for each trial that was left out on some cases, with the reason of the first one.

    Args:
        skipped: What was left out.
        cases: The ids of the cases that figures are over; others are not counted.
    """
    found: dict[tuple[str, str], dict[str, str]] = {}
    for one in skipped:
        if one.case in cases:
            found.setdefault((one.model, one.attack), {}).setdefault(one.case, one.reason)
    return tuple(
        f"{attack} of {model} is not over {counted(len(reasons), 'case')} of {len(cases)} ({_few(list(reasons))}): "
        f"{next(iter(reasons.values()))}"
        for (model, attack), reasons in found.items()
    )


def _few(names: list[str]) -> str:
    return ", ".join(names[:_LISTED]) + (", ..." if len(names) > _LISTED else "")
