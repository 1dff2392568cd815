"""The check at eps 1, in a ball as wide as the intensity range: a sound white-box attack leaves nothing.

A system without a gradient is only asked whether its Dice falls at all, which tells whether it looks at the volume that
it is given: an attack without a gradient need not find its way to 0.
"""

from __future__ import annotations

from dataclasses import dataclass

from voxward.attacks.base import Attack
from voxward.attacks.registry import create
from voxward.core.progress import Progress
from voxward.robustness.found import Found
from voxward.robustness.record import Record
from voxward.robustness.stand import Stand
from voxward.robustness.trials.trial import Phase, Target
from voxward.robustness.unit import Unit

REACH = "reach"
# In small steps: APGD's first one of 2 eps would leap over everything that can be reached. It stops as soon as nothing
# is left, so that many steps cost little on a sound model.
REACH_ATTACK = create("ifgsm-dice", steps=50, alpha=8 / 255)
GRADIENTLESS_ATTACK = create("square", queries=10)


@dataclass(frozen=True)
class Reach:
    """An attack at eps 1 on the first case, which no worst case counts.

    Attributes:
        attack: The attack.
    """

    attack: Attack = REACH_ATTACK
    name: str = REACH
    phase: Phase = "main"
    repeated: bool = False

    def sizes(self, number: int) -> tuple[float | None, ...]:
        """Return one unit of eps 1 for the first case; see Trial."""
        return (1.0,) if number == 0 else ()

    def cost(self, classes: int) -> tuple[int, int]:
        """Return the cost of the attack; see Trial."""
        return self.attack.cost(classes)

    def run(self, unit: Unit, stand: Stand, progress: Progress) -> tuple[Record, ...]:
        """Attack the case at eps 1; see Trial."""

        def shown(_: str, done: int, total: int | None, /, **figures: float | str) -> None:
            progress(self.name, done, total, **figures)

        subject, threat = stand.subject, stand.subject.threat.with_eps(1.0)
        result = self.attack(subject.model, subject.volume, subject.target, threat, unit.seed, shown)
        return (stand.record(unit, threat, Found.of(result), self.attack, kind="control"),)


def trials(target: Target) -> list[Reach]:
    """Plan the check where a protocol names it and eps 1 is the whole intensity range."""
    threat = target.protocol.threat
    # How much of a volume a system can take for a class at most is not known, so that it could not be judged.
    whole = threat.unit == "range" and threat.norm == "linf" and target.protocol.invent is None
    attack = GRADIENTLESS_ATTACK if target.gradientless else REACH_ATTACK
    return [Reach(attack)] if REACH in target.protocol.controls and whole else []
