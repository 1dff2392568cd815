"""Work for tests of the engines: a unit is a name, and its result is a file in a folder."""

from __future__ import annotations

import os
import sys
import threading
import time
import warnings
from dataclasses import dataclass, field
from pathlib import Path

from voxward.core.errors import UserError
from voxward.engine.engine import Unfit


class OddError(UserError):
    """An error that can be pickled, and not be read again."""

    def __init__(self, what, why):
        super().__init__(f"{what} is {why}")


@dataclass
class Shouter:
    """Does a unit: its result is the name in capitals, and it writes a file; some names mean something else.

    Attributes:
        log: A file that gets a line whenever a unit is begun, in whichever process.
        pause: The seconds that a unit takes.
    """

    log: Path
    pause: float = 0.0

    def do(self, unit, folder, progress):
        with self.log.open("a") as file:
            file.write(f"{unit}\n")
        progress("steps", 1, 2, dice=0.5)
        time.sleep(self.pause)
        if "unfit" in unit:
            raise Unfit("no such file here")
        if "bad" in unit:
            raise UserError(f"{unit} is bad")
        if "odd" in unit:
            raise OddError(unit, "odd")
        if "exit" in unit:
            sys.exit(unit)
        if "unsent" in unit:
            return threading.Lock()
        if "bug" in unit:
            raise ZeroDivisionError(unit)
        if "deadly" in unit:
            os.kill(os.getpid(), 9)
        if "warn" in unit:
            warnings.warn("take care", stacklevel=2)
        (folder / "texts").mkdir(exist_ok=True)
        (folder / "texts" / f"{unit}.txt").write_text(unit)
        return unit.upper()


@dataclass
class Names:
    """Units that are names; their results are in a mapping, and their failures are kept.

    Attributes:
        doer: What does them.
        results: What was kept.
        failures: What failed.
    """

    doer: object
    results: dict = field(default_factory=dict)
    failures: dict = field(default_factory=dict)

    def key(self, unit):
        return unit

    def group(self, unit):
        return unit[0]

    def finished(self, unit):
        return unit in self.results or unit in self.failures

    def accept(self, unit, result):
        self.results[unit] = result

    def failed(self, unit, error):
        if not isinstance(error, UserError):
            raise error
        self.failures[unit] = error


class Grouped(Names):
    """Names of which no further one of a group is done once one has failed."""

    def finished(self, unit):
        return super().finished(unit) or any(self.group(unit) == self.group(other) for other in self.failures)


def names(folder, *done, pause=0.0):
    """Names whose units are logged in a file of the folder; some are done already."""
    return Names(Shouter(folder / "log", pause), dict.fromkeys(done, ""))


def begun(folder):
    """Return the units that were begun in any process, in their order."""
    log = folder / "log"
    return log.read_text().split() if log.exists() else []


class Heard:
    """A watch that keeps what it is told; implements engine.Watch."""

    def __init__(self):
        self.events = []

    def begin(self, unit):
        self.events.append(("begin", unit))

    def told(self, unit, stage, done, total, figures):
        self.events.append(("told", unit, stage, done, total, figures))

    def end(self, unit):
        self.events.append(("end", unit))
