"""The probe: does the system answer the same each time, and does a gradient arrive at the volume."""

from __future__ import annotations

from dataclasses import dataclass, replace

from voxward.attacks.masking import reached
from voxward.attacks.objectives import at, create_objective
from voxward.core.progress import Progress
from voxward.robustness.found import Found
from voxward.robustness.record import PROBE, Record
from voxward.robustness.stand import Stand
from voxward.robustness.trials.trial import Phase, Target
from voxward.robustness.unit import Unit


@dataclass(frozen=True)
class Probe:
    """Looks at the model itself, on the first case.

    Attributes:
        gradient: Whether the system has a gradient, which then must arrive.
    """

    gradient: bool = True
    name: str = PROBE
    phase: Phase = "main"
    repeated: bool = False

    def sizes(self, number: int) -> tuple[float | None, ...]:
        """Return one unit for the first case; see Trial."""
        return (None,) if number == 0 else ()

    def cost(self, classes: int) -> tuple[int, int]:
        """Return one gradient, where there is one; see Trial."""
        return int(self.gradient), 0

    def run(self, unit: Unit, stand: Stand, progress: Progress) -> tuple[Record, ...]:
        """Note whether the model is random, and the share of voxels that a gradient arrives at; see Trial."""
        if not self.gradient:
            record = stand.record(unit, stand.subject.threat, Found(stand.subject.volume, 0.0))
            return (replace(record, options={**record.options, "random": stand.random, "gradient": False}),)
        subject = stand.subject
        loss = at(create_objective("ce"), 0.0)
        gradient = subject.model.value_and_grad(subject.volume, subject.target, loss)[2]
        record = stand.record(unit, subject.threat, Found(subject.volume, 0.0, gradients=1))
        options = {"random": stand.random, "reached": float(reached(gradient).mean())}
        return (replace(record, options={**record.options, **options}),)


def trials(target: Target) -> list[Probe]:
    """Plan the probe where a protocol names it."""
    return [Probe(gradient=not target.gradientless)] if PROBE in target.protocol.controls else []
