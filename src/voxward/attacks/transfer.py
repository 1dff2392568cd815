"""Transfer attacks: what an attacker who does not have the model itself can do with another one."""

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
    """Runs an attack on a surrogate model, from the same reference in the same ball; the attacked model only judges.

    The counts are the attacked model's evaluations, two forward passes and one for each noted point, whatever the
    surrogate was asked. Both what the attack returned and the point of lowest Dice on the surrogate are judged, because
    the latter may be the one that owes most to the surrogate's own weaknesses. So are the points that the attack noted.

    Attributes:
        attack: The attack that runs on the surrogate.
        surrogate: The model that it runs on.
    """

    attack: Attack
    surrogate: VolumeModel
    needs_gradient = False
    summary = "Transfer: an attack on a surrogate model, judged on the attacked model"

    @property
    def name(self) -> str:  # type: ignore[override]
        """Return `transfer-` with the attack's name."""
        return f"transfer-{self.attack.name}"

    @property
    def norms(self) -> tuple[str, ...]:  # type: ignore[override]
        """Return the norms that the attack knows."""
        return self.attack.norms

    def cost(self, classes: int) -> tuple[int, int]:
        """Return the greatest cost on the attacked model alone; see `Attack.cost`."""
        return 0, 1 + self.attack.noted + JUDGED

    def run(self, state: AttackState) -> Inputs:
        """Attack the surrogate, and judge what was found on the attacked model; see `Attack.run`.

        Args:
            state: The state of the attack on the attacked model.

        Raises:
            UserError: The surrogate has another head than the attacked model, or its logits do not fit the ground
                truth.
        """
        counted = Counted(self.surrogate)
        start = counted.sweep(state.start.volume)
        if self.surrogate.head != state.model.head:
            raise UserError(
                f"the surrogate's head must be {state.model.head}, as the attacked model's, got {self.surrogate.head}"
            )
        check_logits(start.logits, state.target, self.surrogate.head)
        self.attack.check(self.surrogate.head, start.logits.shape[1])
        inner = replace(state, model=counted, start=start, name=self.name)
        returned = state.ball.project(self.attack.run(inner).detach())
        state.warnings += [f"on the surrogate, {doubt}" for doubt in self.attack.doubts(inner)]
        for volume in [*inner.noted, inner.best]:
            if not torch.equal(volume, returned):
                state.look(volume)
        return returned

    def doubled(self) -> Transfer:
        """Return the attack with twice the budget on the surrogate; see `Attack.doubled`."""
        return replace(self, attack=self.attack.doubled())

    def options(self) -> dict[str, Any]:
        """Return the attack's name and options; the caller records which surrogate it was."""
        return {"attack": self.attack.name, **self.attack.options()}
