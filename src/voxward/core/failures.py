"""Cases that fail while the others go on: which errors are a case's own, and what is kept of them."""

from __future__ import annotations

import errno
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from voxward.core.case import Case
from voxward.core.errors import CasesFailed, Failure, UserError
from voxward.core.memory import lacks_memory

# The machine's, not a file's: every other case would fail as well.
_OF_THE_MACHINE = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EMFILE, errno.ENFILE)


@dataclass(eq=False)
class Failures:
    """The cases that failed so far; threads may share it.

    Attributes:
        fail_fast: Whether the first failure is raised instead of kept.
        found: What is kept, in the order in which it happened.
    """

    fail_fast: bool = False
    found: list[Failure] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock, init=False, repr=False)

    @contextmanager
    def of(self, case: Case) -> Iterator[None]:
        """Keep an error of a case's own that is raised inside the block, and go on after it.

        Every other error passes: a bug, a full disk, an interruption.

        Args:
            case: The case that the block works on.

        Raises:
            UserError: `fail_fast` is set, and the case failed; the message names it.
        """
        try:
            yield
        except Exception as error:
            files = files_of(case)
            if not is_own_fault(error, files):
                raise
            failure = Failure(case.id, str(error) or type(error).__name__, files)
            if self.fail_fast:
                raise UserError(str(failure)) from error
            self.add(failure)

    def add(self, failure: Failure) -> None:
        """Keep a failure; of one case, the first is enough.

        Raises:
            UserError: `fail_fast` is set.
        """
        if self.fail_fast:
            raise UserError(str(failure))
        with self._lock:
            if failure.case not in self.cases:
                self.found.append(failure)

    @property
    def cases(self) -> frozenset[str]:
        """Return the ids of the cases that failed."""
        return frozenset(failure.case for failure in self.found)

    def left(self, cases: Sequence[Case]) -> list[Case]:
        """Return those of some cases that have not failed."""
        return [case for case in cases if case.id not in self.cases]

    def ordered(self, cases: Sequence[Case]) -> tuple[Failure, ...]:
        """Return the failures in the order of the cases, and then those of other cases."""
        places = {case.id: place for place, case in enumerate(cases)}
        return tuple(sorted(self.found, key=lambda failure: places.get(failure.case, len(places))))

    def raise_any(self, total: int, result: Any = None) -> None:
        """Raise what failed, if anything did.

        Args:
            total: The number of cases in all.
            result: What the other cases gave.

        Raises:
            CasesFailed: A case failed.
        """
        if self.found:
            raise CasesFailed(self.found, total, result)


def files_of(case: Case) -> tuple[Path, ...]:
    """Return the files of a case, the label last."""
    return (*case.images, *([] if case.label is None else [case.label]))


def is_own_fault(error: BaseException, files: Sequence[Path] = ()) -> bool:
    """Return whether an error is of the case that was worked on, so that the other cases may still do well.

    That is so of what the user can mend in its files, of a file that cannot be read, and of too little memory for it.
    It is not so of a bug, and not of a folder that cannot be written to.

    Args:
        error: The error.
        files: The files of the case.
    """
    if isinstance(error, OSError):
        of_a_file = error.filename is None or Path(str(error.filename)) in files
        return of_a_file and error.errno not in _OF_THE_MACHINE
    return isinstance(error, UserError) or lacks_memory(error)
