"""Errors that a user can cause, told apart from bugs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_LISTED = 20
"""How many failed cases a message lists; it counts the others."""


class UserError(ValueError):
    """An argument, a file or a setting is wrong in a way that the user can mend.

    The message says what was wrong, in which file, and what is legal. The command line prints it in one line; every
    other exception is a bug, or the machine's, and keeps its traceback.

    Example:
        >>> raise UserError("overlap must be in [0, 1), got 1.5")
    """


class MissingPackageError(ImportError):
    """An optional package is not installed. The message says what needs it, and how to install it.

    Example:
        >>> raise MissingPackageError("scan.nrrd needs SimpleITK: pip install voxward[sitk]")
    """


class ProcessLost(RuntimeError):  # noqa: N818 - it says what happened
    """Another process of a training died, hangs, or failed; the state of the last validation is kept.

    The message is empty where that process, or another one, says what has happened.
    """


@dataclass(frozen=True)
class Failure:
    """A case that could not be worked on, while the others could.

    Attributes:
        case: The id of the case.
        reason: What is wrong with it.
        files: The files of the case, which a message names where the reason names none of them.
    """

    case: str
    reason: str
    files: tuple[Path, ...] = ()

    def __str__(self) -> str:
        reason = " ".join(self.reason.split())
        named = not self.files or any(str(file) in reason for file in self.files)
        return f"{self.case}: {reason}" + ("" if named else f" ({', '.join(map(str, self.files))})")


class CasesFailed(UserError):  # noqa: N818 - it says what happened
    r"""Some cases of many failed; all others are finished, and what they gave is written.

    Attributes:
        failures: The cases that failed, in the order of the cases.
        result: What the call would have returned for the other cases; None where no case is left.
        total: The number of cases in all.

    Example:
        >>> try:
        ...     evaluation = voxward.evaluate("run")
        ... except voxward.CasesFailed as error:
        ...     print(*error.failures, sep="\n")
        ...     evaluation = error.result  # of the other cases
    """

    def __init__(self, failures: Sequence[Failure], total: int, result: Any = None) -> None:
        self.failures, self.total, self.result = tuple(failures), total, result
        super().__init__(f"{len(self.failures)} of {total} cases failed:\n" + "\n".join(listed_failures(self.failures)))


def listed_failures(failures: Sequence[Failure]) -> list[str]:
    """Return a line for each failed case, and at most one line that counts the rest of a long list.

    Args:
        failures: The cases that failed.
    """
    more = len(failures) - _LISTED
    return [f"  {failure}" for failure in failures[:_LISTED]] + ([f"  and {more} more"] if more > 0 else [])
