"""What every kind of trial is to the bench, and what it is planned from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, runtime_checkable
from typing import Protocol as Interface

from voxward.core.labels import LabelSet
from voxward.core.progress import Progress
from voxward.robustness.protocol import Protocol
from voxward.robustness.record import Record
from voxward.robustness.stand import Stand
from voxward.robustness.unit import Unit

Phase = Literal["first", "main", "last"]


@dataclass(frozen=True)
class Target:
    """What trials are planned for.

    Attributes:
        protocol: How robustness is measured.
        labels: The system's classes or regions under attack.
        transferred: Whether the surrogate's adversarial volumes are tried on the system.
        gradientless: Why the system has no gradient, as one sentence; empty where it has one.
        channels: The names of the system's channels; empty where they are not known.
    """

    protocol: Protocol
    labels: LabelSet
    transferred: bool = False
    gradientless: str = ""
    channels: tuple[str, ...] = ()

    @property
    def classes(self) -> int:
        """How many classes an attack chooses between: a region is in or out."""
        return 2 if self.labels.regions else self.labels.count


@runtime_checkable
class Trial(Interface):
    """One thing that is done to a system on a case."""

    @property
    def name(self) -> str:
        """The name that its records carry."""
        ...

    @property
    def phase(self) -> Phase:
        """When it is run: `first`, on all cases before any other trial, as the clean control; `last`, after attacks."""
        ...

    @property
    def repeated(self) -> bool:
        """Whether it is run once for each of the protocol's seeds."""
        ...

    def sizes(self, number: int) -> tuple[float | None, ...]:
        """Return the sizes of the perturbation, one unit each; None for a unit that has no single size.

        Args:
            number: The number of the case, from 0: some checks are made on the first one, or first ones, only.
        """
        ...

    def cost(self, classes: int) -> tuple[int, int]:
        """Return how many gradients and forward passes one unit takes at most."""
        ...

    def run(self, unit: Unit, stand: Stand, progress: Progress) -> tuple[Record, ...]:
        """Do the trial on a prepared case and return its records."""
        ...


@runtime_checkable
class Batched(Interface):
    """A trial that runs a system under noise, many times on each case; some runs together are one unit."""

    @property
    def batches(self) -> tuple[tuple[int, int], ...]:
        """The numbers of the first run of each unit, and of the first one after it."""
        ...


def batches_of(trial: Trial) -> tuple[tuple[int, int] | None, ...]:
    """Return the batches of a trial; one None for a trial that has none."""
    return trial.batches if isinstance(trial, Batched) else (None,)


@runtime_checkable
class Follows(Interface):
    """A trial that needs to know what other units have found; where they find something else, it is done again."""

    def follows(self, unit: Unit) -> Mapping[str, Any]:
        """Return which options of the unit's records follow from other units, by name, as they must be now."""
        ...
