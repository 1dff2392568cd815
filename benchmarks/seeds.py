"""How many seeds would show a difference of 0.02? `python -m benchmarks.seeds OUT/table-5 [OUT/table-7 ...]`

Reads the rows of tables 5 and 7 of benchmarks/resdsn.py (one Dice per type, seed and case) and prints for each pair of
types: the mean difference over the seeds, its standard deviation from seed to seed, the smallest difference that so
many seeds would show, and how many seeds would show 0.02. "Show" is: with a probability of 0.8, a paired t-test of the
seeds' means, two-sided, is below 0.05. It takes the differences as normal, and their deviation as what these seeds
have; from three seeds that deviation itself is known within a factor of about 0.5 to 6 only, so the number is a size,
no promise. A difference of a seed is over the cases that both types have; where one has more, that is said.
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations
from pathlib import Path

import numpy as np
from scipy import stats

from voxward.core.errors import UserError

ALPHA, POWER, MOST = 0.05, 0.8, 100_000
Rows = dict[str, dict[int, dict[str, float]]]
"""The Dice by type, seed and case; a case without any has none."""


def read_rows(folder: Path) -> Rows:
    """Read the rows of a table.

    Raises:
        UserError: There are none, or their names are not those of types and seeds.
    """
    found: Rows = defaultdict(lambda: defaultdict(dict))
    for path in sorted(folder.glob("*/*.json")):
        row = json.loads(path.read_text())
        name, between, seed = str(row["row"]).rpartition(" seed ")
        if not between or not seed.isdecimal():
            raise UserError(
                f"{path}: the row {row['row']!r} does not end in 'seed' and a number: it is of no such table"
            )
        if row["dice"] is not None:
            found[name][int(seed)][str(row["case"])] = float(row["dice"])
    if not found:
        raise UserError(f"{folder} holds no rows of table 5 or 7 of benchmarks/resdsn.py")
    return found


def power(difference: float, deviation: float, seeds: int) -> float:
    """Return the probability that a paired t-test over so many seeds shows a true difference.

    Args:
        difference: The true difference of the means.
        deviation: The standard deviation of the difference from seed to seed, above 0.
        seeds: How many, at least 2.
    """
    shift, free = difference / deviation * seeds**0.5, seeds - 1
    limit = stats.t.ppf(1 - ALPHA / 2, free)
    return float(stats.nct.sf(limit, free, shift) + stats.nct.cdf(-limit, free, shift))


def seeds_for(difference: float, deviation: float) -> int | None:
    """Return how many seeds show a difference; None where it is more than MOST."""
    low, high = 1, 2  # power grows with the seeds: double, then halve
    while power(difference, deviation, high) < POWER:
        low, high = high, 2 * high
        if high > MOST:
            return None
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if power(difference, deviation, middle) >= POWER else (middle, high)
    return high


def shown_by(deviation: float, seeds: int) -> float:
    """Return the smallest difference that so many seeds show, at least 2."""
    low, high = 0.0, deviation
    while power(high, deviation, seeds) < POWER:
        low, high = high, 2 * high
    while high - low > 1e-6 * high:
        middle = (low + high) / 2
        low, high = (low, middle) if power(middle, deviation, seeds) >= POWER else (middle, high)
    return high


def table(rows: Rows, difference: float) -> Iterator[str]:
    """Yield a line per pair of types, over the seeds that both have, and a sentence where cases are left out."""
    yield f"| pair | seeds | difference | from seed to seed | these seeds show | seeds for {difference:g} |"
    yield "|---" + "|---:" * 5 + "|"
    left_out = list[str]()
    for first, second in combinations(rows, 2):
        gaps, lacking = _gaps(rows[first], rows[second])
        left_out += [f"{first} - {second}, seed {seed}: {count}" for seed, count in lacking.items() if count]
        head = (
            f"| {first} - {second} | {len(gaps)} | {np.mean(gaps):+.4f} |"
            if gaps
            else f"| {first} - {second} | 0 | - |"
        )
        deviation = float(np.std(gaps, ddof=1)) if len(gaps) > 1 else 0.0
        if deviation == 0:  # one seed, or none: nothing is known about their spread
            yield f"{head} - | - | - |"
            continue
        needed = seeds_for(difference, deviation)
        many = f"more than {MOST}" if needed is None else str(needed)
        yield f"{head} {deviation:.4f} | {shown_by(deviation, len(gaps)):.4f} | {many} |"
    if left_out:
        yield f"\nCases that only one of the two has, and that are left out: {'; '.join(left_out)}"


def _gaps(
    first: Mapping[int, Mapping[str, float]], second: Mapping[int, Mapping[str, float]]
) -> tuple[Sequence[float], Mapping[int, int]]:
    """The mean difference of each seed over the cases that both have, and how many cases only one of them has."""
    gaps, lacking = list[float](), dict[int, int]()
    for seed in sorted({*first} & {*second}):
        both = {*first[seed]} & {*second[seed]}
        lacking[seed] = len({*first[seed]} ^ {*second[seed]})
        if both:
            gaps.append(float(np.mean([first[seed][case] - second[seed][case] for case in sorted(both)])))
    return gaps, lacking


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tables", nargs="+", type=Path, help="folders table-5 and table-7 of benchmarks/resdsn.py")
    parser.add_argument("--difference", type=float, default=0.02)
    given = parser.parse_args()
    if given.difference <= 0:
        parser.error(f"--difference must be above 0, got {given.difference:g}")
    for folder in given.tables:
        print(folder, *table(read_rows(folder), given.difference), sep="\n")


if __name__ == "__main__":
    main()
