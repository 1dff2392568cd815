"""The transfer attack: what breaks another system is tried on this one."""

from __future__ import annotations

from dataclasses import dataclass, replace

from voxward.attacks.registry import create
from voxward.attacks.state import Counted
from voxward.attacks.transfer import Transfer
from voxward.core.progress import Progress
from voxward.robustness.found import Found
from voxward.robustness.record import Record
from voxward.robustness.stand import Stand
from voxward.robustness.trials.trial import Phase, Target
from voxward.robustness.unit import Unit

TRANSFER = "transfer"
_ATTACK = "coarse-to-fine"


@dataclass(frozen=True)
class TransferTrial:
    """An attack on the surrogate, whose results the system is judged on.

    It begins with smooth perturbations, which carry over to other systems best. The system is judged on what these came
    to, and on what the rest of the steps came to.

    Attributes:
        steps: Gradients of the attack on the surrogate, at least 2.
        eps: The sizes of the perturbation.
    """

    steps: int
    eps: tuple[float, ...]
    name: str = TRANSFER
    phase: Phase = "main"
    repeated: bool = True

    def sizes(self, number: int) -> tuple[float | None, ...]:
        """Return one unit per size; see Trial."""
        return self.eps

    def cost(self, classes: int) -> tuple[int, int]:
        """Return the gradients on the surrogate; see Trial."""
        return max(2, self.steps), 0

    def doubled(self) -> TransferTrial:
        """Return the same attack with twice its budget; see `trials.doubled`."""
        return replace(self, steps=2 * self.steps)

    def run(self, unit: Unit, stand: Stand, progress: Progress) -> tuple[Record, ...]:
        """Attack the surrogate and judge the system; see Trial."""
        assert unit.eps is not None
        subject, threat = stand.subject, stand.subject.threat.with_eps(unit.eps)
        surrogate = Counted(stand.surrogate().model)
        attack = Transfer(create(_ATTACK, steps=max(2, self.steps)), surrogate)
        result = attack(subject.model, subject.volume, subject.target, threat, unit.seed, progress, warn=False)
        record = stand.record(unit, threat, Found.of(result), attack)
        spent = {"surrogate_gradients": surrogate.gradients, "surrogate_forwards": surrogate.forwards}
        return (replace(record, options={**record.options, **spent}),)


def trials(target: Target) -> list[TransferTrial]:
    """Plan the attack where the protocol has a surrogate that is not the system itself."""
    if not target.transferred:
        return []
    return [TransferTrial(target.protocol.budget.steps, tuple(sorted(set(target.protocol.threat.eps))))]
