"""What is noted of each unit of a suite that has ended: how long it took, or why it failed."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from voxward.core.document import with_checksum
from voxward.core.files import write_json
from voxward.core.plan import load_json
from voxward.core.structure import to_data
from voxward.suites.plan import SuitePlan, Unit

DONE, FAILED = "done", "failed"


@dataclass(frozen=True)
class Note:
    """How a unit ended.

    Attributes:
        state: `done` or `failed`; one that failed is tried again by the next call.
        seconds: How long it took.
        reason: Why it failed.
        remark: What must be known of its figures, such as that some cases failed; empty: nothing.
    """

    state: str
    seconds: float = 0.0
    reason: str = ""
    remark: str = ""


@dataclass(frozen=True)
class Notes:
    """The notes in the folder of a suite.

    Attributes:
        root: The folder of the suite.
    """

    root: Path

    def path(self, unit: Unit) -> Path:
        """Return the file of a unit's note."""
        return self.root / "cells" / unit.task / unit.system / f"{unit.stage}.json"

    def read(self, unit: Unit) -> Note | None:
        """Return how a unit ended; None where it has not.

        Raises:
            UserError: The file is damaged; the message names it.
        """
        path = self.path(unit)
        return load_json(Note, path) if path.is_file() else None

    def done(self, unit: Unit) -> bool:
        """Return whether a unit is finished."""
        found = self.read(unit)
        return found is not None and found.state == DONE

    def write(self, unit: Unit, note: Note) -> None:
        """Write how a unit ended."""
        write_json(self.path(unit), with_checksum(to_data(note)))

    def forget(self, unit: Unit) -> None:
        """Take a unit for one that has not ended, because what it was made from has been made again."""
        self.path(unit).unlink(missing_ok=True)


def finished(plan: SuitePlan, unit: Unit) -> bool:
    """Return whether a unit and all that it needs are done, and their results are still there.

    A user who wants a result made again deletes it, and does not know of the notes.

    Args:
        plan: The suite.
        unit: The unit.
    """
    return Notes(plan.root).done(unit) and plan.there(unit) and all(finished(plan, one) for one in plan.needs(unit))
