"""What the engines cost: units of two seconds on `local:2` against two plain processes, and in one process.

A unit sleeps, so that the engine's own time is measured and not how two processes share the cores, the caches and the
memory. The start of the workers is reported apart.

usage: python -m benchmarks.engine_overhead [--units 40] [--seconds 2]
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from voxward.engine.choose import engine_for
from voxward.engine.course import Course


@dataclass
class Sleeper:
    """Does a unit: it sleeps."""

    seconds: float

    def do(self, unit: int, folder: Path, progress: Any) -> int:
        progress("sleep", 1, 1)
        time.sleep(self.seconds)
        return unit


@dataclass
class Sleeps:
    """Units that are numbers; two groups, as of two cases."""

    doer: Sleeper
    results: dict[int, int] = field(default_factory=dict)

    def key(self, unit: int) -> str:
        return str(unit)

    def group(self, unit: int) -> int:
        return unit % 2

    def finished(self, unit: int) -> bool:
        return unit in self.results

    def accept(self, unit: int, result: int) -> None:
        self.results[unit] = result

    def failed(self, unit: int, error: Exception) -> None:
        raise error


def silent(*_: Any, **__: Any) -> None:
    """Say nothing."""


def through_engine(units: range, seconds: float, cluster: str | None) -> float:
    """The seconds that an engine takes for the units, after it has started."""
    work = Sleeps(Sleeper(seconds))
    course = Course[int]("units", silent, str, lambda _: seconds)
    with tempfile.TemporaryDirectory() as folder, engine_for(Path(folder), cluster) as engine:
        if cluster is not None:
            engine.run(range(-2, 0), Sleeps(Sleeper(0.1)), course_of(-2))  # each worker imports what it needs
        began = time.perf_counter()
        course.run(list(units), work, engine)
        took = time.perf_counter() - began
    assert len(work.results) == len(units)
    return took


def course_of(first: int) -> Course[int]:
    """A course for the units that only start the workers."""
    course = Course[int]("start", silent, str, lambda _: 1.0)
    course.plan(range(first, 0), Sleeps(Sleeper(0.0)))
    return course


def plain(units: int, seconds: float) -> float:
    """The seconds that two plain processes take for half of the units each."""
    loop = f"import time\nfor _ in range({units // 2}): time.sleep({seconds})"
    began = time.perf_counter()
    for process in [subprocess.Popen([sys.executable, "-S", "-c", loop]) for _ in range(2)]:
        process.wait()
    return time.perf_counter() - began


def main() -> None:
    """Print the costs."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--units", type=int, default=40)
    parser.add_argument("--seconds", type=float, default=2.0)
    chosen = parser.parse_args()
    two = plain(chosen.units, chosen.seconds)
    local = through_engine(range(chosen.units), chosen.seconds, "local:2")
    print(f"{chosen.units} units of {chosen.seconds:g} s (sleep)")
    print(f"two plain processes {two:.2f} s; --cluster local:2 {local:.2f} s: {100 * (local / two - 1):+.1f} %")
    each = [1000 * through_engine(range(1000), 0.0, None) / 1000 for _ in range(5)]
    share = statistics.median(each) / chosen.seconds / 10
    print(f"in this process: {statistics.median(each):.3f} ms for each unit, {share:.3f} % of a unit")


if __name__ == "__main__":
    main()
