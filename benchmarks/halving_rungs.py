"""Which rungs pay? `python -m benchmarks.halving_rungs RESULTS --out DIR`: successive halving, simulated.

RESULTS is the results.json of `benchmarks.halving_rank`: what each of the registered networks scored at 1/9, at 1/3 and
at the end of one whole training, and its Dice on the validation cases. Nothing is trained here. A search draws
candidates from these courses, keeps the best ones at each rung, and ends with one network, whose validation Dice
counts. Every schedule of rungs has the time of the best of 7 random candidates; each pause of a candidate, with its
set-up and scoring, counts as OVERHEAD of a whole training, also for the random ones.

Candidates of a real search are all different, and a bootstrap of a few networks repeats them. So a draw is a network
and some noise, shrunk to the same means and covariances (Silverman's smoothed bootstrap). The plain bootstrap of all
networks stands beside it.

The best of many schedules looks better than it is. So the networks are halved again and again: one half chooses the
schedule and the score, and what they gain is read on the other half. A regression is fitted on the half that chooses.

Every halving and every resample of the networks is a job with a result of its own in DIR/jobs; interrupted, the same
command goes on.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.kept import keep_settings
from voxward.core.files import write_json, write_text

Array = NDArray[np.float64]
Score = Callable[[Array, int], Array]

SHARES = (1 / 9, 1 / 3, 1.0)
END = len(SHARES) - 1
TRAININGS, OVERHEAD = 7, 0.03
RANDOM = ((TRAININGS, END),)
MOST = 60
# The columns of a table of courses: exponential mean and last weights at each rung, log of multiply-adds, final Dice.
EMA, LAST, MACS, FINAL = slice(0, 3), slice(3, 6), 6, 7
# The cost, and the rung before, count so much beside the present rung; all have the same spread.
_BESIDE = 0.3
_RIDGE = 3.0

Rungs = tuple[tuple[int, int], ...]
"""Of each rung: the number of its candidates, and the place of its share in SHARES."""


@dataclass(frozen=True)
class Way:
    """A schedule of rungs, and what ranks the candidates at its rungs."""

    rungs: Rungs
    score: str

    @property
    def name(self) -> str:
        return f"{named(self.rungs)}; {self.score}"


def main() -> None:
    given = _options()
    table, all_rungs = read(given.results), affordable(given.overhead)
    settings = {"results": str(given.results.resolve()), "overhead": given.overhead, "draws": given.draws}
    keep_settings(given.out, settings)
    halves = [
        _job(given.out, f"half-{n}", partial(halved, table, all_rungs, n, given.draws)) for n in range(given.halves)
    ]
    resamples = [
        _job(given.out, f"resample-{n}", partial(resampled, table, all_rungs, n, given.draws))
        for n in range(given.resamples)
    ]
    whole = {
        name: _job(given.out, name, partial(values, table, table, all_rungs, 0, 10 * given.draws, smooth))
        for name, smooth in (("smooth", True), ("plain", False))
    }
    text = report(halves, resamples, whole, all_rungs, given.overhead)
    write_text(given.out / "results.md", text)
    print(text)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("results", type=Path)
    add("--out", type=Path, required=True)
    add("--halves", type=int, default=100, help="how often the networks are halved (default 100)")
    add("--resamples", type=int, default=200, help="of the networks, for the intervals (default 200)")
    add("--draws", type=int, default=500, help="searches that a figure is the mean of (default 500)")
    add("--overhead", type=float, default=OVERHEAD, help=f"of a pause, in whole trainings (default {OVERHEAD})")
    return parser.parse_args()


def _job(out: Path, name: str, do: Callable[[], dict[str, float]]) -> dict[str, Any]:
    path = out / "jobs" / f"{name}.json"
    if not path.is_file():
        write_json(path, do())
        print(name, flush=True)
    return dict(json.loads(path.read_text()))


def read(path: Path) -> Array:
    """The courses (networks, 8) that `benchmarks.halving_rank` wrote."""
    rows = json.loads(path.read_text())
    found = {tuple(round(rung["share"], 6) for rung in row["rungs"]) for row in rows}
    if found != {tuple(round(share, 6) for share in SHARES)}:
        raise ValueError(f"{path}: the rungs must end at {', '.join(map(_share, SHARES))}")
    scores = [[rung[key] for key in ("ema", "last") for rung in row["rungs"]] for row in rows]
    return np.column_stack([scores, np.log([row["macs"] for row in rows]), [row["dice"] for row in rows]])


def cost(rungs: Rungs, overhead: float) -> float:
    """What all rungs are worth, in whole trainings."""
    begun = (0.0, *(SHARES[place] for _, place in rungs))
    return sum(count * (SHARES[place] - before + overhead)
               for (count, place), before in zip(rungs, begun, strict=False))  # fmt: skip


def affordable(overhead: float) -> list[Rungs]:
    """Return the schedules that take the time of the 7 random ones, each with as many candidates as fit into it."""
    budget = cost(RANDOM, overhead) + 1e-9
    later: list[Rungs] = [((last, END),) for last in range(1, TRAININGS)]
    later += [((middle, 1), *rest) for rest in later for middle in range(rest[0][0] + 1, 19)]
    found: list[Rungs] = [RANDOM]
    for rest in later:
        for place in range(rest[0][1]):
            fit = [n for n in range(rest[0][0] + 1, MOST) if cost(((n, place), *rest), overhead) <= budget]
            if fit:
                found.append(((fit[-1], place), *rest))
    return found


def named(rungs: Rungs) -> str:
    return ", ".join(f"{count} to {_share(SHARES[place])}" for count, place in rungs)


def _share(share: float) -> str:
    return "the end" if share == 1.0 else f"1/{round(1 / share)}"


def scores_of(table: Array) -> dict[str, Score]:
    """Return what may rank candidates at a rung: a function of their courses and of the place of the rung.

    Args:
        table: The courses on which spreads are measured and the regression is fitted.
    """
    spread = table.std(0)

    def dice(courses: Array, place: int) -> Array:
        return courses[..., place] / spread[place]

    def with_cost(courses: Array, place: int) -> Array:
        return dice(courses, place) + _BESIDE * courses[..., MACS] / spread[MACS]

    def with_before(courses: Array, place: int) -> Array:
        return dice(courses, place) + (_BESIDE * dice(courses, place - 1) if place else 0.0)

    lines = [_regression(table, place) for place in range(len(SHARES))]

    def regression(courses: Array, place: int) -> Array:
        columns, weights = lines[place]
        found: Array = courses[..., columns] @ weights
        return found

    return {"Dice": dice, "Dice and cost": with_cost, "Dice and the rung before": with_before, "regression": regression}


def _regression(table: Array, place: int) -> tuple[list[int], Array]:
    """Ridge regression of the final Dice on all that is known at a rung; nothing is paid for the mean."""
    columns = [*range(place + 1), *range(3, 3 + place + 1), MACS]
    known, final = table[:, columns], table[:, FINAL] - table[:, FINAL].mean()
    spread = known.std(0) + 1e-12
    known = (known - known.mean(0)) / spread
    weights = np.linalg.solve(known.T @ known + _RIDGE * np.eye(len(columns)), known.T @ final)
    return columns, weights / spread


def drawn(table: Array, count: int, searches: int, rng: np.random.Generator, smooth: bool) -> Array:
    """Return the courses (searches, count, 8) of candidates."""
    found = table[rng.integers(len(table), size=(searches, count))]
    if not smooth:
        return found
    width = table.shape[1]
    h = (4 / ((width + 2) * len(table))) ** (1 / (width + 4))
    factor = np.linalg.cholesky(np.cov(table.T, bias=True) + 1e-12 * np.eye(width))
    noise = rng.standard_normal(found.shape) @ factor.T
    mean = table.mean(0)
    mixed: Array = mean + (found - mean + h * noise) / np.sqrt(1 + h * h)
    return mixed


def chosen(final: Array, scored: Sequence[Array], rungs: Rungs) -> float:
    """Return the mean final Dice of the winners.

    Args:
        final: The final Dice (searches, candidates) of at least as many candidates as begin.
        scored: Of each place of SHARES: what ranks these candidates there.
        rungs: The schedule.
    """
    left = np.broadcast_to(np.arange(rungs[0][0]), (len(final), rungs[0][0]))
    for n, (_, place) in enumerate(rungs):
        keep = rungs[n + 1][0] if n + 1 < len(rungs) else 1
        found = np.take_along_axis(scored[place], left, 1)
        best = np.argpartition(-found, keep - 1, 1)[:, :keep]
        left = np.take_along_axis(left, best, 1)
    return float(np.take_along_axis(final, left, 1).mean())


def values(
    fitted: Array, table: Array, all_rungs: Sequence[Rungs], seed: int, searches: int, smooth: bool = True
) -> dict[str, float]:
    """The expected final Dice of every way, on the same draws.

    Args:
        fitted: The courses from which the scores take spreads and weights.
        table: The courses that are drawn from.
        all_rungs: The schedules.
        seed: The seed of the draws.
        searches: How many searches are simulated.
        smooth: Whether draws are smoothed.
    """
    rng = np.random.default_rng(seed)
    courses = drawn(table, max(rungs[0][0] for rungs in all_rungs), searches, rng, smooth)
    tie = 1e-9 * rng.standard_normal(courses.shape[:2])  # equal ones are ranked by chance
    found = dict[str, float]()
    for name, score in scores_of(fitted).items():
        scored = [score(courses, place) + tie for place in range(len(SHARES))]
        for rungs in all_rungs:
            found[Way(rungs, name).name] = chosen(courses[..., FINAL], scored, rungs)
    return found


def halved(table: Array, all_rungs: Sequence[Rungs], n: int, searches: int) -> dict[str, Any]:
    """Choose on one half of the networks, and read on the other one."""
    order = np.random.default_rng(1000 + n).permutation(len(table))
    ours, theirs = table[order[: len(table) // 2]], table[order[len(table) // 2 :]]
    here, there = (values(ours, half, all_rungs, n, searches) for half in (ours, theirs))
    return {"here": here, "there": there}


def resampled(table: Array, all_rungs: Sequence[Rungs], n: int, searches: int) -> dict[str, float]:
    """The values of a resample of the networks."""
    rng = np.random.default_rng(2000 + n)
    again = table[rng.integers(len(table), size=len(table))]
    return values(again, again, all_rungs, n, searches)


def report(
    halves: Sequence[Mapping[str, Any]], resamples: Sequence[Mapping[str, float]],
    whole: Mapping[str, Mapping[str, float]], all_rungs: Sequence[Rungs], overhead: float,
) -> str:  # fmt: skip
    """The honest gain of choosing, and the best ways with intervals."""
    base = Way(RANDOM, "Dice").name
    lines = [f"Gains over the best of {TRAININGS} random candidates by Dice, in final Dice, at equal time; a pause "
             f"costs {overhead:g} of a whole training."]  # fmt: skip
    lines += ["", "| chosen among | gain where it was chosen | gain on the other half [95 % of the halvings] | "
              "most often chosen |", "| --- | ---: | ---: | --- |"]  # fmt: skip
    names = list(scores_of(np.eye(8)))
    for among in (names[:1], *([name] for name in names[1:]), names):
        lines.append(_honest(halves, base, [Way(rungs, name).name for rungs in all_rungs for name in among],
                             among[0] if len(among) == 1 else "all scores"))  # fmt: skip
    lines += ["", "| rungs; score | gain [95 %, networks resampled] | mean over the other halves | plain bootstrap |",
              "| --- | ---: | ---: | ---: |"]  # fmt: skip
    means = {way: np.mean([half["there"][way] - half["there"][base] for half in halves]) for way in whole["smooth"]}
    for way in _shown(means, names):
        gains = [one[way] - one[base] for one in resamples]
        low, high = np.percentile(gains, [2.5, 97.5])
        smooth, plain = (whole[name][way] - whole[name][base] for name in ("smooth", "plain"))
        lines.append(f"| {way} | {smooth:+.4f} [{low:+.4f}, {high:+.4f}] | {means[way]:+.4f} | {plain:+.4f} |")
    return "\n".join(lines) + "\n"


def _shown(means: Mapping[str, Any], names: Sequence[str]) -> list[str]:
    """The best five by each score, and what was the default."""
    found = {Way(((27, 0), (9, 1), (3, 2)), "Dice").name} & means.keys()
    for name in names:
        of = [way for way in means if way.endswith(f"; {name}")]
        found |= set(sorted(of, key=lambda way: -means[way])[:5])
    return sorted(found, key=lambda way: -means[way])


def _honest(halves: Sequence[Mapping[str, Any]], base: str, among: Sequence[str], name: str) -> str:
    picked = [max(among, key=lambda way: half["here"][way]) for half in halves]
    here, there = ([half[side][way] - half[side][base] for half, way in zip(halves, picked, strict=True)]
                   for side in ("here", "there"))  # fmt: skip
    low, high = np.percentile(there, [2.5, 97.5])
    often = max(set(picked), key=picked.count)
    return (
        f"| {name} | {np.mean(here):+.4f} | {np.mean(there):+.4f} [{low:+.4f}, {high:+.4f}] "
        f"| {often} ({picked.count(often)} of {len(picked)}) |"
    )


if __name__ == "__main__":
    main()
