"""BLADE: for each of three objectives a ladder of ascending eps (Apostolidis et al., nnU-Nets of the prostate)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from voxward.attacks.base import learnt
from voxward.attacks.curve import CurveAttack, Rungs
from voxward.attacks.ladder import climb
from voxward.attacks.objectives import check_objective, create_objective
from voxward.attacks.state import JUDGED, AttackState
from voxward.core.model import Head

OBJECTIVES = ("dice-ce", "boundary", "frontier")


@dataclass(frozen=True)
class Blade(CurveAttack):
    """One chain of Auto-PGD searches per objective, each in the next larger ball from where the last one was highest.

    The first search begins at a random point of the smallest ball. Of all points that were evaluated, that of the
    lowest Dice counts. Published figures are those of a bare network on a padded volume in z-score units; here, as for
    every attack, the whole pipeline is attacked.

    Attributes:
        steps: Gradient steps of each objective in each ball; with five sizes 20 steps are 300 gradients.
    """

    steps: int = 20
    name = "blade-300"
    norms = ("linf", "l2")
    summary = (
        "BLADE-300: Auto-PGD on Dice plus cross-entropy, boundary and frontier, each over a ladder of ascending eps, "
        "60 gradients for each size"
    )

    def price(self, sizes: int) -> tuple[int, int]:
        """Return the greatest numbers of gradients and of forward passes; see `CurveAttack.price`."""
        return len(OBJECTIVES) * self.steps * sizes, JUDGED + sizes

    def check(self, head: Head, classes: int) -> None:
        """Check that the objectives work on a model; see `Attack.check`."""
        for name in OBJECTIVES:
            check_objective(create_objective(name), head, classes)

    def doubts(self, state: AttackState) -> Iterator[str]:
        """Yield what makes it doubtful that the attack learnt from its gradients; see `Attack.doubts`."""
        yield from learnt(self.name, state, climbs=False, saturates=True)

    def search(self, rungs: Rungs) -> None:
        """Follow each objective's chain; see `CurveAttack.search`."""
        total, done = self.price(len(rungs))[0], 0
        for name in OBJECTIVES:
            x = rungs[0].ball.random(rungs[0].generator)
            for rung in rungs:
                if rung.finished:
                    x = rung.best
                    continue
                x = climb(rung, name, self.steps, rung.ball.project(x), 2.0).best
                done += self.steps
                rung.report(done, total)
