"""Attacks that search for several sizes of the perturbation in one go, so that one search gives a curve over eps."""

from __future__ import annotations

import time
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

from voxward.attacks.base import NOT_WRITABLE, Attack, AttackResult, give, judged
from voxward.attacks.ensemble import expected
from voxward.attacks.random_models import SAMPLES
from voxward.attacks.state import AttackState, Counted
from voxward.attacks.threat import ThreatModel
from voxward.core.errors import UserError
from voxward.core.model import Inputs, Truth, VolumeModel
from voxward.core.progress import Progress, silent
from voxward.core.wording import eps_text

Rungs = Sequence[AttackState]
"""The search in the ball of every eps, ascending, around one reference of one case."""


class CurveAttack(Attack):
    """The base class of attacks that find the worst perturbations of several sizes in one search.

    Every point of a smaller ball lies in the larger ones, so that the Dice found never rises with eps.

    Called like any attack, it searches for one size. Cases of a batch run one after the other.
    """

    @abstractmethod
    def search(self, rungs: Rungs) -> None:
        """Search in all balls of one case; the best point of each is noted in its state.

        Args:
            rungs: The states of the balls, eps ascending.
        """

    @abstractmethod
    def price(self, sizes: int) -> tuple[int, int]:
        """Return the greatest numbers of gradients and of forward passes for a curve.

        Args:
            sizes: How many sizes the curve has.
        """

    def cost(self, classes: int) -> tuple[int, int]:
        """Return the greatest cost for one size; see `Attack.cost`."""
        return self.price(1)

    def run(self, state: AttackState) -> Inputs:
        """Search in one ball, case by case; see `Attack.run`."""
        base = expected(state)
        cases = [base.row(number) for number in range(len(state.target))]
        for case in cases:
            self.search([case])
        asked = state.model.gradients, state.model.forwards
        state.gather(cases)
        if base is not state:  # the mean of a random model's answers was attacked, and each of these is counted already
            state.model.gradients, state.model.forwards = asked
        return state.best

    def along(
        self,
        model: VolumeModel,
        volume: Inputs,
        target: Truth,
        threat: ThreatModel,
        sizes: Sequence[float],
        seed: int = 0,
        progress: Progress = silent,
        *,
        warn: bool = True,
    ) -> tuple[AttackResult, ...]:
        """Attack one case with perturbations of several sizes.

        Args:
            model: The attacked model.
            volume: Intensities (1, c, *spatial), finite, in the unit of the threat model's bounds.
            target: The ground truth of the case.
            threat: What the attack may do; its eps plays no part.
            sizes: The sizes of the perturbation, each above 0.
            seed: The seed of every random number.
            progress: What reports of progress go to.
            warn: Whether the results' warnings are given as Python warnings, too.

        Returns:
            One result for each size, ascending. The gradients and forward passes of each are those that were spent in
            its own ball, so that their sum is the cost of the curve; the seconds are all in the first.

        Raises:
            UserError: As for a call of the attack, or the batch holds several cases, or there is no size, or one of 0.

        Warns:
            UserWarning: The attack may have learnt nothing (see `AttackResult.warnings`).
        """
        _check(volume, sizes)
        began = time.perf_counter()
        threats = [threat.with_eps(eps) for eps in sorted(set(sizes))]
        balls = [one.ball(volume) for one in threats]
        begun = self.begin(model, volume, target, threats[0], balls[0], seed, progress)
        first = expected(begun)
        # Each ball counts what is spent in it.
        rungs = [first, *(replace(first, model=Counted(first.model.inner), ball=ball) for ball in balls[1:])]
        for one, rung in zip(threats, rungs, strict=True):
            rung.progress = _at(progress, eps_text(one.eps, one.unit))
        able = [rung for rung in rungs if rung.ball.movable]
        if able:
            self.search(able)
        for lower, upper in pairwise(rungs):
            upper.adopt(lower)
        for rung in rungs:
            rung.warnings += self.doubts(rung) if rung in able else [f"{self.name}: {NOT_WRITABLE}"]
        results = [judged(self.name, one, rung, began) for one, rung in zip(threats, rungs, strict=True)]
        if first is not begun:
            results = _of_all_answers(results, begun.model.forwards)
        seconds = time.perf_counter() - began
        found = tuple(replace(one, seconds=seconds if n == 0 else 0.0) for n, one in enumerate(results))
        if warn:
            give(tuple(dict.fromkeys(text for one in found for text in one.warnings)), stacklevel=3)
        return found


def _check(volume: Inputs, sizes: Sequence[float]) -> None:
    if len(volume) != 1 or not sizes:
        raise UserError(f"a curve needs one case and at least one size, got {len(volume)} and {len(sizes)}")
    if min(sizes) <= 0:
        raise UserError(f"every size of a curve must be above 0, got {min(sizes)}")


def _of_all_answers(results: Sequence[AttackResult], forwards: int) -> list[AttackResult]:
    """Count every answer of a random model, of whose means the results count each as one; the first has all others."""
    found = [replace(one, gradients=SAMPLES * one.gradients, forwards=SAMPLES * one.forwards) for one in results]
    return [replace(found[0], forwards=forwards - sum(one.forwards for one in found[1:])), *found[1:]]


def _at(progress: Progress, eps: str) -> Progress:
    """Reports that say in which ball the attack searches: one search goes through all of them."""

    def told(stage: str, done: int, total: int | None, /, **figures: float | str) -> None:
        progress(stage, done, total, eps=eps, **figures)

    return told
