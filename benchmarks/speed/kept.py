"""The ratios of the last run, with which the next one is compared."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.speed.harness import Duel, Outcome, settle
from voxward.core.document import with_format, without_format
from voxward.core.files import write_json
from voxward.core.reading import read_json

TOLERATED = 0.85
"""The share of its last ratio to which a ratio may fall."""


@dataclass(frozen=True)
class Kept:
    """Ratios by the names of their duels, measured under `conditions`, and the file that they are kept in.

    The file has those of every machine that it was written on. A ratio stays until another one is accepted, so that
    many small falls are one large one.
    """

    path: Path | None
    conditions: str
    ratios: Mapping[str, float] = field(default_factory=dict)
    others: Mapping[str, Mapping[str, float]] = field(default_factory=dict)

    @classmethod
    def read(cls, path: Path | None, conditions: str) -> Kept:
        """Read a file; without one, or without these conditions in it, there is nothing to compare with."""
        if path is None or not path.is_file():
            return cls(path, conditions)
        found = without_format(read_json(path), str(path))["machines"]
        if conditions not in found:
            print(f"{path} was measured on {'; '.join(found)}, and not on {conditions}: nothing is compared")
        others = {name: ratios for name, ratios in found.items() if name != conditions}
        return cls(path, conditions, found.get(conditions, {}), others)

    def settled(self, duel: Duel, rounds: int) -> Outcome:
        """Settle a duel; where its ratio fell, again, and what counts is the median of all rounds."""
        outcome = settle(duel, rounds)
        return outcome.joined(settle(duel, rounds)) if self.fell(outcome) else outcome

    def fell(self, outcome: Outcome) -> bool:
        earlier = self.ratios.get(outcome.name)
        return earlier is not None and outcome.ratio < TOLERATED * earlier

    def sentence(self, outcome: Outcome) -> str:
        return (
            f"{outcome.name}: the ratio fell from {self.ratios[outcome.name]:.2f} to {outcome.ratio:.2f}, by more than "
            f"{1 - TOLERATED:.0%}, in {len(outcome.ratios)} rounds"
        )

    def save(self, outcomes: Iterable[Outcome], accept: bool = False) -> None:
        """Write the ratios of duels that are new; with `accept`, of all of them."""
        if self.path is not None:
            measured = {outcome.name: round(outcome.ratio, 3) for outcome in outcomes}
            ratios = {**self.ratios, **measured} if accept else {**measured, **self.ratios}
            write_json(self.path, with_format({"machines": {**self.others, self.conditions: ratios}}))
