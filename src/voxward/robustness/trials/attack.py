"""Attacks, each on every case; of an ensemble every member is a trial of its own."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from voxward.attacks.base import Attack
from voxward.attacks.budget import Budget
from voxward.attacks.curve import CurveAttack
from voxward.attacks.ensemble import ENSEMBLES, WITH_OTHERS, members_of
from voxward.attacks.fab import MinimumNorm
from voxward.attacks.registry import OWN_BUDGET, create_with
from voxward.core.errors import UserError
from voxward.core.gradientless import NotDifferentiable
from voxward.core.progress import Progress
from voxward.robustness.found import Found
from voxward.robustness.protocol import AttackEntry, Protocol
from voxward.robustness.record import Record
from voxward.robustness.stand import Stand
from voxward.robustness.trials.breaking import MOST, smallest_broken_file
from voxward.robustness.trials.trial import Phase, Target
from voxward.robustness.unit import Unit


@dataclass(frozen=True)
class AttackTrial:
    """One attack of a protocol.

    Attributes:
        name: The name in records and tables.
        member: The name of the attack among those that its entry stands for.
        entry: The protocol's entry.
        budget: What the attack may spend.
        classes: How many classes the attack chooses between.
        eps: The sizes of the perturbation.
        alone: Whether one unit serves every size: it finds the smallest perturbation, or searches along the curve.
        twice: Whether it has twice the budget; see `trials.doubled`.
    """

    name: str
    member: str
    entry: AttackEntry
    budget: Budget
    classes: int
    eps: tuple[float, ...]
    alone: bool
    phase: Phase = "main"
    repeated: bool = True
    twice: bool = False

    def attack(self, threshold: float | None = None) -> Attack:
        """Return the attack.

        Args:
            threshold: The Dice below which a case counts as broken, where the budget names none.
        """
        budget = self.budget if self.budget.threshold is not None else replace(self.budget, threshold=threshold)
        found = members(self.entry, self.classes, budget)[self.member]
        return found.doubled() if self.twice else found

    def follows(self, unit: Unit) -> Mapping[str, Any]:
        """Return the threshold, where the attack has one; see Follows."""
        free, now = self.attack().options(), self.attack(unit.threshold).options()
        return {name: value for name, value in now.items() if name == "threshold" or value != free.get(name)}

    def doubled(self) -> AttackTrial:
        """Return the same attack with twice its budget; see `trials.doubled`."""
        return replace(self, twice=True)

    def sizes(self, number: int) -> tuple[float | None, ...]:
        """Return one unit per size, or one for all; see Trial."""
        return (None,) if self.alone else self.eps

    def cost(self, classes: int) -> tuple[int, int]:
        """Return the cost of the attack and, where it looks for the smallest file, of judging files; see Trial."""
        attack = self.attack()
        if isinstance(attack, CurveAttack):
            return attack.price(len(self.eps))
        gradients, forwards = attack.cost(classes)
        return gradients, forwards + (MOST if self.alone else 0)

    def run(self, unit: Unit, stand: Stand, progress: Progress) -> tuple[Record, ...]:
        """Attack the case; see Trial."""
        attack, subject = self.attack(unit.threshold), stand.subject
        if isinstance(attack, MinimumNorm):
            return self._for_every_eps(unit, stand, attack, progress)
        if isinstance(attack, CurveAttack):
            return self._along(unit, stand, attack, progress)
        assert unit.eps is not None
        threat = subject.threat.with_eps(unit.eps)
        result = attack(subject.model, subject.volume, subject.target, threat, unit.seed, progress, warn=False)
        return (stand.record(unit, threat, Found.of(result), attack),)

    def _along(self, unit: Unit, stand: Stand, attack: CurveAttack, progress: Progress) -> tuple[Record, ...]:
        """All sizes in one search, in which each helps the others: these records are chained.

        Where a written file is worse than that of the size below, which a larger size allows, too, that one is taken.
        """
        subject, records = stand.subject, list[Record]()
        asked = subject.model, subject.volume, subject.target, subject.threat
        below: Found | None = None
        for result in attack.along(*asked, self.eps, unit.seed, progress, warn=False):
            found, own = Found.of(result), replace(unit, eps=result.threat.eps)
            record = stand.record(own, result.threat, found, attack)
            if below is not None and _dice(record) > _dice(records[-1]):
                found = replace(found, volume=below.volume, distance=below.distance)
                record = stand.record(own, result.threat, found, attack)
            records.append(replace(record, chained=True))
            below = found
        return tuple(records)

    def _for_every_eps(self, unit: Unit, stand: Stand, attack: MinimumNorm, progress: Progress) -> tuple[Record, ...]:
        """The smallest perturbation whose file breaks the case, cut down to each eps where it is larger."""
        records, subject, began = [], stand.subject, time.perf_counter()
        asked = subject.model, subject.volume, subject.target, subject.threat
        least = attack.smallest(*asked, unit.seed, progress, warn=False)
        judge = None if subject.deploy is None else stand.of_file
        broken = smallest_broken_file(judge, subject.threat.ball(subject.volume), least)
        spent: tuple[int, int, float] = least.gradients, least.forwards + broken.files, time.perf_counter() - began
        for eps in self.eps:
            threat = subject.threat.with_eps(eps)
            ball = threat.ball(subject.volume)
            volume = ball.stored(ball.project(broken.volume))
            found = Found(volume, float(ball.distance(volume)[0]), (), *spent, least.warnings)
            record = stand.record(replace(unit, eps=eps), threat, found, attack)
            # Where a class is invented, no case breaks.
            distance = broken.distance if record.phantom is None else None
            records.append(replace(record, breaking_eps=distance, breaking_file=broken.files > 0))
            spent = 0, 0, 0.0  # counted once
        return tuple(records)


def _dice(record: Record) -> float:
    """The mean Dice of the written file where there is one."""
    return record.dice(record.deployed is not None)


def members(entry: AttackEntry, classes: int, budget: Budget) -> Mapping[str, Attack]:
    """Return the single attacks that a protocol's entry stands for, by name.

    Raises:
        UserError: The attack is unknown, or an option does not fit it.
    """
    if entry.attack in ENSEMBLES:
        if entry.options or entry.name:
            raise UserError(f"{entry.attack} is an ensemble: name and options belong to single attacks")
        return members_of(entry.attack, classes, budget)
    return {entry.attack: create_with(entry.attack, budget, **entry.options)}


def within_budget(protocol: Protocol, budget: Budget) -> Protocol:
    """Return a protocol whose attacks all spend a budget, for short trials of them.

    Args:
        protocol: The protocol. Those of its attacks whose names say what they spend are replaced by the same attacks
            without a budget of their own, under the same names.
        budget: The budget.
    """
    attacks = [
        AttackEntry(attack, entry.name or member, {"start": "random"} | dict(entry.options))
        for entry in protocol.entries
        for member, attack in OWN_BUDGET.get(entry.attack, {}).items()
    ]
    # Ladders of a fixed budget are short, and nothing else does the same.
    kept = [entry for entry in protocol.entries if not OWN_BUDGET.get(entry.attack)]
    plan = protocol.certificate
    short = None if plan is None else replace(plan, attack_steps=min(plan.attack_steps, budget.steps))
    return replace(protocol, attacks=(*kept, *attacks), budget=budget, certificate=short)


def trials(target: Target) -> list[AttackTrial]:
    """Plan the attacks of a protocol, each once.

    Raises:
        UserError: An attack does not know the norm, or cannot work on the system's classes.
        NotDifferentiable: An attack needs a gradient, which the system does not have.
    """
    protocol, found = target.protocol, dict[str, AttackTrial]()
    _refuse_gradients(target)
    for entry in protocol.entries:
        for member, attack in members(entry, target.classes, protocol.budget).items():
            _check(member, attack, target)
            name, eps = entry.name or member, tuple(sorted(set(protocol.threat.eps)))
            alone = isinstance(attack, MinimumNorm | CurveAttack)
            trial = AttackTrial(name, member, entry, protocol.budget, target.classes, eps, alone)
            known = found.setdefault(name, trial)
            if known.attack() != trial.attack():
                raise UserError(
                    f"attacks: {entry.attack} and {known.entry.attack} both have an attack {name!r}, with other "
                    "options: give one of them a name of its own"
                )
    return list(found.values())


def ensembles(protocol: Protocol, classes: int, transferred: bool) -> dict[str, tuple[str, ...]]:
    """Return the ensembles of a protocol and the names of their members.

    Where `strong` or `fast` is run beside others, also under a name of its own, all attacks together are the group
    `worst`, that on a surrogate among them.
    """
    from voxward.robustness.trials.transfer import TRANSFER

    found = {
        entry.attack: tuple(members_of(entry.attack, classes, protocol.budget))
        for entry in protocol.entries
        if entry.attack in ENSEMBLES
    }
    single = [(entry.name or entry.attack,) for entry in protocol.entries if entry.attack not in ENSEMBLES]
    every = tuple(name for names in (*found.values(), *single, (TRANSFER,) * transferred) for name in names)
    whole = {"worst": every} if WITH_OTHERS & {e.attack for e in protocol.entries} and len(every) > 1 else {}
    return {**found, **whole, **protocol.ensembles}


def _refuse_gradients(target: Target) -> None:
    """Refuse a protocol whole, rather than leave attacks out: its name says how strong it is."""
    protocol = target.protocol
    needed = [
        name
        for entry in (protocol.entries if target.gradientless else ())
        for name, attack in members(entry, target.classes, protocol.budget).items()
        if attack.needs_gradient
    ]
    if needed:
        listed = ", ".join(dict.fromkeys(needed))
        raise NotDifferentiable(
            f"{target.gradientless}; a gradient is needed by {listed} (of protocol {protocol.name!r}): use --protocol "
            "blackbox, or attacks that need none (--set attacks=[square]); with --set surrogate=SYSTEM a similar "
            "system that has a gradient is attacked in its place"
        )


def _check(name: str, attack: Attack, target: Target) -> None:
    norm = target.protocol.threat.norm
    if norm not in attack.norms:
        able = [f"{family}-..." for family in ("pgd", "apgd")] + ["fab-t", "fab-dice"]
        among = ", ".join(entry.attack for entry in target.protocol.entries)
        raise UserError(
            f"{name} (among the attacks {among}) knows the norms {', '.join(attack.norms)}, got {norm!r}, which these "
            f"know: {', '.join(able)}"
        )
    attack.check(target.labels.head, target.labels.outputs)
