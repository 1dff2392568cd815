"""A perturbation found on one model, tried on another: what an attacker without the model itself can do."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch

from voxward.attacks.base import Attack, check_logits
from voxward.attacks.state import JUDGED, AttackState, Counted
from voxward.core.errors import UserError
from voxward.core.model import Inputs, VolumeModel


@dataclass(frozen=True, eq=False)
class Transfer(Attack):
    """`attack` runs on `surrogate`, from the same reference in the same ball; the attacked model only judges.

    The books count the attacked model's evaluations: two forwards at most, whatever the surrogate was asked. Both what
    the attack returned and the point of lowest Dice on the surrogate are judged: the latter may be the one that owes
    most to the surrogate's own weaknesses.
    """

    attack: Attack
    surrogate: VolumeModel
    needs_gradient = False
    summary = "Runs an attack on a surrogate model and judges the attacked model on what it finds"

    @property
    def name(self) -> str:  # type: ignore[override]
        """`transfer-` and the attack's name."""
        return f"transfer-{self.attack.name}"

    @property
    def norms(self) -> tuple[str, ...]:  # type: ignore[override]
        """Those of the attack."""
        return self.attack.norms

    def cost(self, classes: int) -> tuple[int, int]:
        """See Attack; of the attacked model alone."""
        return 0, 1 + JUDGED

    def run(self, state: AttackState) -> Inputs:
        """See Attack. Raises ValueError where the target does not fit the surrogate's logits."""
        counted = Counted(self.surrogate)
        start = counted.sweep(state.ball.reference)
        if self.surrogate.head != state.model.head:
            raise UserError(f"surrogate has a {self.surrogate.head} head, the attacked model {state.model.head}")
        check_logits(start.logits, state.target, self.surrogate.head)
        self.attack.check(self.surrogate.head, start.logits.shape[1])
        inner = replace(state, model=counted, start=start, name=self.name)
        returned = state.ball.project(self.attack.run(inner).detach())
        if not torch.equal(inner.best, returned):
            state.look(inner.best)
        return returned

    def options(self) -> dict[str, Any]:
        """See Attack; the surrogate is the caller's to name."""
        return {"attack": self.attack.name, **self.attack.options()}
