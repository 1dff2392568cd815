"""Gives a reader as many hostile files as one likes, and counts what becomes of them.

    python -m tests.hostile.campaign --reader nifti --count 100000 --seed 0 --out found.json

Every input follows from its reader, the seed and its number alone. A campaign that was stopped goes on where it was;
several may run at once, each with a file of its own. Inputs are read in child processes, whose memory is bounded: a
child that is killed by a signal is counted, and the next one goes on after the input that killed it.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from random import Random
from typing import Any

from tests.hostile.reader import BAD, Files, Outcome, Reader, judged
from tests.hostile.registry import READERS
from voxward.core.files import write_json

BATCH = 2000
MEMORY = 512 << 20
"""Bytes that a child may ask for beyond what it has when it begins; the inputs are a few kilobytes."""
PATIENCE = 20
"""Seconds after which an input counts as hanging."""
_EXAMPLES, _TEXT = 3, 300


def made(reader: Reader, seed: int, number: int) -> Files:
    """Return an input of a campaign.

    Args:
        reader: The reader.
        seed: The seed of the campaign.
        number: The number of the input.
    """
    random = Random(f"{reader.name} {seed} {number}")
    sound = reader.sound()
    files = random.choice(sound)
    if random.randrange(25) == 0:
        return {**sound[0], reader.target: random.randbytes(random.choice((0, 1, 4, 16, 100, 400, 2000)))}
    return reader.change(random, files)


class Hang(BaseException):
    """An input has taken too long."""


def _hang(*_: object) -> None:
    raise Hang


def _child(reader: Reader, seed: int, numbers: range, place: Path, tell: Callable[[Mapping[str, Any]], None]) -> None:
    """Read some inputs, and tell of each before and after."""
    taken = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (taken + MEMORY, taken + MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    signal.signal(signal.SIGALRM, _hang)
    for n, files in enumerate(reader.sound()):  # what is imported and opened once is no memory of an input
        (place / f"sound-{n}").mkdir()
        judged(reader, files, place / f"sound-{n}")
    import_module("SimpleITK")
    for number in numbers:
        files, folder = made(reader, seed, number), place / str(number)
        folder.mkdir()
        tell({"begun": number})
        signal.alarm(PATIENCE)
        try:
            found = judged(reader, files, folder)
        except Hang:
            found = Outcome("undocumented hang", "", PATIENCE, 0)
        finally:
            signal.alarm(0)
        tell(
            {
                "number": number,
                "outcome": found.kind,
                "text": found.text,
                "seconds": found.seconds,
                "grown": found.grown,
            }
        )
        shutil.rmtree(folder, ignore_errors=True)


def _batch(reader: Reader, seed: int, numbers: range, told: Callable[[Mapping[str, Any]], None]) -> int:
    """Read inputs in a child process, and return the number of the next one."""
    read, write = os.pipe()
    with tempfile.TemporaryDirectory(prefix="voxward-hostile-", dir=_quick()) as place:
        sys.stdout.flush()
        child = os.fork()
        if child == 0:
            _silenced(reader, seed, numbers, Path(place), read, write)
        os.close(write)
        last = None
        with os.fdopen(read, "r", encoding="utf-8") as lines:
            for line in lines:
                event = json.loads(line)
                last = event.get("begun", last)
                if "broken" in event:
                    raise RuntimeError(f"the campaign itself is broken: {event['broken']}")
                if "outcome" in event:
                    told(event)
        _, status = os.waitpid(child, 0)
    code = os.waitstatus_to_exitcode(status)
    if code == 0:
        return numbers.stop
    number = numbers.start if last is None else last
    told(
        {
            "number": number,
            "outcome": f"undocumented end of the process ({code})",
            "text": "",
            "seconds": 0.0,
            "grown": 0,
        }
    )
    return number + 1


def _silenced(reader: Reader, seed: int, numbers: range, place: Path, read: int, write: int) -> None:
    """Be the child: whatever a library prints goes nowhere."""
    code = 1
    try:
        os.close(read)
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, 1)
        os.dup2(nowhere, 2)
        with os.fdopen(write, "wb", buffering=0) as pipe:
            tell = lambda event: pipe.write(json.dumps(event).encode() + b"\n")  # noqa: E731
            try:
                _child(reader, seed, numbers, place, tell)
            except Exception:
                tell({"broken": traceback.format_exc()})
        code = 0
    finally:
        os._exit(code)


def _quick() -> str | None:
    """A file system in memory, where there is one."""
    return "/dev/shm" if os.access("/dev/shm", os.W_OK) else None


class Counts:
    """What became of the inputs of a campaign, kept in a file.

    Args:
        path: The file, which may hold the counts of a campaign that was stopped.
        reader: The name of the reader.
        seed: The seed.
    """

    def __init__(self, path: Path, reader: str, seed: int) -> None:
        self.path = path
        self.found: dict[str, Any] = {
            "reader": reader, "seed": seed, "next": 0, "inputs": 0, "seconds": 0.0, "outcomes": {}, "examples": {},
            "largest growth": 0, "largest growth by": None, "slowest": 0.0, "slowest input": None,
        }  # fmt: skip
        if path.is_file():
            before = json.loads(path.read_text(encoding="utf-8"))
            if (before["reader"], before["seed"]) != (reader, seed):
                raise SystemExit(f"{path} is of reader {before['reader']} and seed {before['seed']}")
            self.found = before

    def add(self, event: Mapping[str, Any]) -> None:
        """Count an input."""
        found, kind, number = self.found, event["outcome"], event["number"]
        found["inputs"] += 1
        found["outcomes"][kind] = found["outcomes"].get(kind, 0) + 1
        examples = found["examples"].setdefault(kind, [])
        if len(examples) < _EXAMPLES:
            examples.append([number, event["text"][:_TEXT]])
        if event["grown"] > found["largest growth"]:
            found["largest growth"], found["largest growth by"] = event["grown"], number
        if event["seconds"] > found["slowest"]:
            found["slowest"], found["slowest input"] = event["seconds"], number

    def save(self, upto: int, seconds: float) -> None:
        """Write the counts, and up to which input they go."""
        self.found["next"], self.found["seconds"] = upto, self.found["seconds"] + seconds
        write_json(self.path, self.found)


def campaign(reader: Reader, count: int, seed: int, out: Path, minutes: float | None = None) -> dict[str, Any]:
    """Give a reader hostile files until there were `count`, or until the time is over.

    Args:
        reader: The reader.
        count: The number of inputs, those of an earlier call included.
        seed: The seed of all inputs.
        out: The file of the counts.
        minutes: The longest time for this call; None: until all are done.

    Returns:
        The counts.
    """
    counts, began = Counts(out, reader.name, seed), time.monotonic()
    judged_before = counts.found["next"]
    reader.sound()
    while judged_before < count and (minutes is None or time.monotonic() - began < 60 * minutes):
        started = time.monotonic()
        numbers = range(judged_before, min(judged_before + BATCH, count))
        judged_before = _batch(reader, seed, numbers, counts.add)
        counts.save(judged_before, time.monotonic() - started)
    return counts.found


def shown(found: Mapping[str, Any]) -> str:
    """Return what a campaign has found, as text."""
    lines = [
        f"{found['reader']}: {found['inputs']} inputs in {found['seconds']:.0f} s, seed {found['seed']}; most memory "
        f"+{found['largest growth'] / 2**20:.1f} MiB (input {found['largest growth by']}); slowest "
        f"{found['slowest']:.2f} s (input {found['slowest input']})"
    ]
    for kind, count in sorted(found["outcomes"].items(), key=lambda pair: -pair[1]):
        number, text = found["examples"][kind][0]
        lines.append(f"  {count:8d}  {kind}   e.g. {number}: {text[:160]!r}")
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a campaign from the command line.

    Returns:
        1 where something undocumented happened, else 0.
    """
    parser = argparse.ArgumentParser(prog="python -m tests.hostile.campaign", description=__doc__)
    parser.add_argument("--reader", required=True, choices=sorted(READERS))
    parser.add_argument("--count", type=int, default=int(os.environ.get("VOXWARD_FUZZ", "1000")))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, required=True, help="the file of the counts, with which a campaign goes on")
    parser.add_argument("--minutes", type=float, help="the longest time")
    parser.add_argument("--only", type=int, help="read this input alone, and show what is raised")
    given = parser.parse_args(arguments)
    reader = READERS[given.reader]
    if given.only is not None:
        with tempfile.TemporaryDirectory() as place:
            from tests.hostile.reader import lay

            lay(made(reader, given.seed, given.only), Path(place))
            print(sorted(str(path.relative_to(place)) for path in Path(place).rglob("*")))
            print(reader.use(Path(place)))
        return 0
    found = campaign(reader, given.count, given.seed, given.out, given.minutes)
    print(shown(found))
    return int(any(kind.startswith(BAD) for kind in found["outcomes"]))


if __name__ == "__main__":
    raise SystemExit(main())
