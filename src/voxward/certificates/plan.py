"""What a protocol says about certificates."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from voxward.certificates.binomial import CORRECTIONS
from voxward.certificates.changes import CHANGES
from voxward.certificates.counts import MOST
from voxward.core.registry import unknown_name

ATTACK_RUNS = 100
"""The most noisy runs that judge an attack on the smoothed system."""


@dataclass(frozen=True)
class CertificatePlan:
    """How a system is run under noise, and what is certified from these runs.

    Only `sigma`, `changes` and `batch` say what is run. All else is computed from the runs, and may change from one
    call to the next in the same folder; with more `samples`, only the missing ones are run.

    Attributes:
        samples: The number n of noisy runs of a case for each noise; a multiple of `batch`.
        sigma: The standard deviations of the noise in every voxel, as shares of each channel's intensity window; each
            is a certificate of its own. Empty: no noise in voxels.
        changes: The standard deviation of the noise in the parameters of changes, by their names, such as
            `{gain: 0.1}`; see `certificates.changes`.
        radii: The radii of the certified median, in units of sigma.
        tau: The thresholds of the certified mask; its radius is sigma * Phi^-1(tau).
        alpha: The probability that a certificate of a case is wrong.
        correction: How the tests of all voxels are corrected, `holm` or `bonferroni`.
        coarser: Groups of classes that are certified, too, by a name of their own: where the class is not certain, the
            group may be. Regions need none.
        batch: How many runs are one unit of work, which is done as a whole by one process and leaves two files.
        attack_steps: The steps of an attack on the smoothed system at each radius, which must not get below the
            certificate; 0: none. It needs a gradient, and its time is beside that of the certificate.
        attack_draws: How many draws of the noise each of its steps averages over.
    """

    samples: int = 200
    sigma: tuple[float, ...] = (0.25,)
    changes: Mapping[str, float] = field(default_factory=dict)
    radii: tuple[float, ...] = (0.5, 1.0, 1.5, 2.0)
    tau: tuple[float, ...] = (0.75,)
    alpha: float = 0.001
    correction: str = "holm"
    coarser: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    batch: int = 25
    attack_steps: int = 0
    attack_draws: int = 1

    @property
    def batches(self) -> tuple[tuple[int, int], ...]:
        """The numbers of the first run of each unit, and of the first one after it."""
        return tuple((first, first + self.batch) for first in range(0, self.samples, self.batch))

    @property
    def attack_runs(self) -> int:
        """How many noisy runs judge an attack on the smoothed system."""
        return min(self.samples, ATTACK_RUNS)

    @property
    def attacked(self) -> tuple[float, ...]:
        """The radii above 0 of attacks on the smoothed system, in units of sigma."""
        return tuple(sorted({radius for radius in self.radii if radius > 0})) if self.attack_steps else ()

    def problems(self) -> list[str]:
        """Return what is wrong, one sentence each."""
        return [*self._counts(), *self._numbers(), *self._names()]

    def _counts(self) -> Iterator[str]:
        if self.batch < 1 or self.samples < 1:
            yield f"samples and batch must be at least 1, got {self.samples} and {self.batch}"
        elif self.samples % self.batch:
            yield f"samples must be a multiple of batch ({self.batch}), got {self.samples}"
        if self.samples > MOST:
            yield f"samples must be at most {MOST}, got {self.samples}"
        if self.attack_steps < 0 or self.attack_draws < 1:
            yield (
                f"attack_steps must be at least 0 and attack_draws at least 1, got {self.attack_steps} and "
                f"{self.attack_draws}"
            )

    def _numbers(self) -> Iterator[str]:
        if not self.sigma and not self.changes:
            yield "sigma or changes must hold at least one noise"
        for name, value in (*(("sigma", one) for one in self.sigma), *self.changes.items()):
            if not (math.isfinite(value) and value > 0):
                yield f"the standard deviation of {name} must be above 0, got {value:g}"
        yield from (f"radii must be at least 0, got {one:g}" for one in self.radii if not 0 <= one < math.inf)
        yield from (f"tau must be at least 0.5 and below 1, got {one:g}" for one in self.tau if not 0.5 <= one < 1)
        if not 0 < self.alpha < 1:
            yield f"alpha must be above 0 and below 1, got {self.alpha:g}"

    def _names(self) -> Iterator[str]:
        if self.correction not in CORRECTIONS:
            yield unknown_name("correction", self.correction, CORRECTIONS)
        yield from (unknown_name("change", name, CHANGES) for name in self.changes if name not in CHANGES)
        yield from (
            f"coarser.{name} must name at least two classes" for name, of in self.coarser.items() if len(of) < 2
        )
