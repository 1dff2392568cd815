"""Where results come from: which call, data, versions and machines made what lies in a folder."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from voxward.core.document import with_checksum
from voxward.core.errors import UserError
from voxward.core.files import write_json
from voxward.core.invocation import Invocation
from voxward.core.machine import Machine, Software, this_machine, this_software
from voxward.core.plan import load_json
from voxward.core.structure import to_data

FILE = "provenance.json"
FINISHED, STOPPED = "finished", "stopped"
STEPS, UNITS, CASES = "steps", "units", "cases"
"""What sittings count."""


@dataclass(frozen=True)
class Sitting:
    """One call that worked on a folder.

    Attributes:
        began: The date and time (UTC) at which it began.
        machine: What it computed on. Workers of a cluster may be other machines; the records of an attack name theirs.
        software: What it computed with.
        command: The command line, or the call from Python; empty where it is not known.
        python: Whether it is a call from Python.
        started_in: The folder that relative paths in it start from.
        first: How many steps or units were done before it.
        last: How many were done after it; None while it runs. Where a process was killed, the next sitting fills it in.
        ended: The date and time at which it ended; empty while it runs, and where the process was killed.
        how: `finished`, or `stopped` by a signal or an error; empty while it runs, and where the process was killed.
    """

    began: str
    machine: Machine
    software: Software
    command: str = ""
    python: bool = False
    started_in: str = ""
    first: int = 0
    last: int | None = None
    ended: str = ""
    how: str = ""


@dataclass(frozen=True)
class Work:
    """A piece of work that one or several sittings did.

    Attributes:
        counted: What `first` and `last` of its sittings count: steps, units or cases.
        dataset: The folder of the data.
        contents: For every case that it works on, by its id, a digest of the contents of its files; see
            `data.content`.
        systems: The fingerprints of the systems that are measured or that predict, by their names.
        seeds: The seeds of what it draws.
        command: The command, or function of voxward, that was called first; empty where it is not known.
        arguments: The arguments of that call that are not its defaults, as plain data; relative paths start from
            `started_in`.
        sittings: The sittings, in their order.
        asked_in: The folder in which that call was given; empty where it is that of the first sitting.
    """

    counted: str
    dataset: str = ""
    contents: Mapping[str, str] = field(default_factory=dict)
    systems: Mapping[str, str] = field(default_factory=dict)
    seeds: tuple[int, ...] = ()
    command: str = ""
    arguments: Mapping[str, Any] = field(default_factory=dict)
    sittings: tuple[Sitting, ...] = ()
    asked_in: str = ""

    @property
    def started_in(self) -> str:
        """Return the folder that relative paths in the arguments start from; empty where it is not known."""
        return self.asked_in or (self.sittings[0].started_in if self.sittings else "")

    @property
    def data(self) -> str:
        """Return a digest of all cases: of their ids and of the contents of their files."""
        return hashlib.sha256(json.dumps(sorted(self.contents.items())).encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Provenance:
    """The file provenance.json of a folder.

    Attributes:
        works: What was done in the folder, by the kind of work, such as `train` and `evaluate`.
    """

    works: Mapping[str, Work] = field(default_factory=dict)


def read_provenance(folder: Path | str) -> Provenance:
    """Read where the results in a folder come from; folders of older versions do not say, and hold no work.

    Raises:
        UserError: The file is damaged, or is not voxward's.
    """
    path = Path(folder) / FILE
    if not path.is_file():
        return Provenance()
    try:
        return load_json(Provenance, path)
    except UserError as error:
        raise UserError(f"{error}. If it is no file of voxward's, or damaged, move it away") from error


@contextmanager
def sitting(
    folder: Path | str,
    kind: str,
    call: Invocation,
    begin: Callable[[], Work],
    *,
    device: torch.device | str = "cpu",
    done: Callable[[], int],
    fresh: bool = False,
    last: bool = False,
) -> Iterator[None]:
    """Note in a folder what works on it inside the block: when, called how, on which machine, from where to where.

    A sitting that finds nothing left to do is not noted, unless it is the first one.

    Args:
        folder: The folder.
        kind: The kind of work, such as `train`.
        call: How the command was called.
        begin: Returns what is to be known of a work that begins, without its call and its sittings; it may take long.
        device: What is computed on.
        done: Returns how many steps, units or cases are done.
        fresh: Whether this call makes everything again, so that nothing is left of what earlier sittings did.
        last: Whether the folder then holds what this call asks for, and not the first one, which may have asked for
            fewer cases.

    Raises:
        UserError: The folder's provenance.json is damaged, or is not voxward's; before the block.
    """
    work = read_provenance(folder).works.get(kind)
    if work is None or fresh or last:
        known = () if work is None or fresh else work.sittings
        asked_in = call.folder if last else ""
        work = replace(begin(), command=call.function, arguments=call.arguments, sittings=known, asked_in=asked_in)
    earlier = _closed(work, done())
    opened = Sitting(
        began=_now(), machine=this_machine(device), software=this_software(), command=call.text, python=call.python,
        started_in=call.folder, first=0 if fresh else done(),
    )  # fmt: skip

    def note(*sittings: Sitting) -> None:
        found = {**read_provenance(folder).works, kind: replace(work, sittings=(*earlier, *sittings))}
        write_json(Path(folder) / FILE, with_checksum(to_data(Provenance(found))))

    note(opened)
    try:
        yield
    except BaseException:
        with suppress(OSError):  # what went wrong first is what is told
            note(replace(opened, last=done(), ended=_now(), how=STOPPED))
        raise
    idle = bool(earlier) and done() == opened.first
    note(*(() if idle else (replace(opened, last=done(), ended=_now(), how=FINISHED),)))


def same_call(work: Work | None, call: Invocation, apart_from: Collection[str]) -> bool:
    """Return whether a work was called as a call is that may go on with it.

    Args:
        work: The work; None where there is none.
        call: The call.
        apart_from: The names of arguments that may differ.
    """
    if work is None or work.command != call.function:
        return False
    before, now = (
        {name: value for name, value in held.items() if name not in apart_from}
        for held in (work.arguments, to_data(call.arguments))
    )
    return before == now


def _closed(work: Work, done: int) -> tuple[Sitting, ...]:
    """The sittings, with the end of one that was killed: nobody has done anything since.

    Files of cases may be older than the sitting, so that how many cases it did is not known.
    """
    if work.counted == CASES:
        return work.sittings
    return tuple(replace(one, last=done) if one.last is None else one for one in work.sittings)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
