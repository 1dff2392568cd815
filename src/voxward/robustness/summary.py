"""Figures from records: the worst case over attacks, robust Dice and accuracy, curves over eps, differences.

All functions are pure: the same records give the same figures. A case in which no class is defined counts 1 (see
`record.mean_dice`). So every mean is over the same cases, and the Dice under a set of attacks is never above the Dice
under one attack of the set.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise
from typing import NamedTuple

from voxward.core.errors import UserError
from voxward.metrics.summary import Summary, summarise
from voxward.robustness.record import CLEAN, Record, Scores

Curve = tuple[tuple[float, Summary], ...]
"""Pairs of eps and the summary of the Dice over cases, eps ascending."""


class Key(NamedTuple):
    """One model attacked on one case with perturbations of one size.

    Attributes:
        model: The name of the model.
        case: The id of the case.
        eps: The size of the perturbations, in the unit of the records' threat model.
    """

    model: str
    case: str
    eps: float


class Worst(NamedTuple):
    """The lowest mean Dice that was found for a `Key`.

    Attributes:
        dice: The mean Dice over the classes, in [0, 1].
        scores: The Dice of each class under the attack that found it.
    """

    dice: float
    scores: Scores


@dataclass(frozen=True)
class View:
    """Records, and how they are read.

    Attributes:
        records: The records of one or several models.
        deployed: Whether the Dice is that of the written files, predicted by the ordinary predictor. Otherwise it is
            that of the arrays that the attack computed.
        policy: What an undefined class counts in means, one of `metrics.policies.POLICIES`. None: what each record
            says.
        attacks: The attacks over which a worst case is taken. None: all. Controls never belong to it.

    Methods that read Dice of written files raise a UserError for records that have none.

    Example:
        >>> View(records, deployed=True).robust_dice("run-a", 8 / 255).mean
        0.412
    """

    records: Sequence[Record]
    deployed: bool = False
    policy: str | None = None
    attacks: Collection[str] | None = None

    @cached_property
    def models(self) -> tuple[str, ...]:
        """Return the names of the models, sorted."""
        return tuple(sorted({record.model for record in self.records}))

    @cached_property
    def eps(self) -> tuple[float, ...]:
        """Return the sizes at which there are attacks, in ascending order.

        They are in the unit of the records' threat model.
        """
        return tuple(sorted({record.eps for record in self.records if record.kind == "attack"}))

    def over(self, attacks: Collection[str] | None) -> View:
        """Return a view of the same records whose worst case is taken over other attacks.

        Args:
            attacks: The names of the attacks; None for all.
        """
        return replace(self, attacks=attacks)

    def clean_dice(self, model: str) -> dict[str, float]:
        """Return the mean Dice of each case without an attack, from the clean control of a model.

        Args:
            model: Name of the model.

        Raises:
            UserError: The model has no clean control.
        """
        found = {record.case: record.clean_dice(self.deployed, self.policy) for record in self._clean_controls(model)}
        if not found:
            raise UserError(f"there is no clean control of model {model!r}: run the control {CLEAN!r} first")
        return found

    def mu(self, model: str) -> float:
        """Return the mean clean Dice of a model over its cases, in [0, 1].

        Args:
            model: Name of the model.

        Raises:
            UserError: The model has no clean control.
        """
        values = self.clean_dice(model)
        return math.fsum(values.values()) / len(values)

    def worst(self) -> dict[Key, Worst]:
        """Return the lowest mean Dice that any attack reached, for each model, case and eps.

        The clean case is always one of the candidates, because leaving a volume unchanged is a legal perturbation, too.
        """
        found: dict[Key, Worst] = {}
        for model, eps in self._attacked:
            found |= self._worst_at(model, eps)
        return found

    def _worst_at(self, model: str, eps: float) -> dict[Key, Worst]:
        clean = {record.case: self._clean(record) for record in self._clean_controls(model)}
        found: dict[Key, Worst] = {}
        for record in self._attacked.get((model, eps), ()):
            key = Key(record.model, record.case, record.eps)
            candidates = [Worst(record.dice(self.deployed, self.policy), record.scores(self.deployed))]
            if not self.deployed or record.deployed_clean is not None:
                candidates.append(self._clean(record))
            candidates += [known for known in (found.get(key), clean.get(record.case)) if known is not None]
            found[key] = min(candidates, key=lambda candidate: candidate.dice)
        return found

    def case_dice(self, model: str, eps: float) -> dict[str, float]:
        """Return the worst-case Dice of each case of a model at one eps.

        Args:
            model: Name of the model.
            eps: Size of the perturbations.
        """
        return {key.case: worst.dice for key, worst in self._worst_at(model, eps).items()}

    def robust_dice(self, model: str, eps: float) -> Summary | None:
        """Return the summary of the worst-case Dice over the cases of a model.

        Args:
            model: Name of the model.
            eps: Size of the perturbations.

        Returns:
            The summary; None where nothing was run at this eps.
        """
        return summarise(list(self.case_dice(model, eps).values()))

    def robust_accuracy(self, model: str, eps: float, threshold: float | None = None) -> Summary | None:
        """Return the share of a model's cases that are not broken, in [0, 1].

        Args:
            model: Name of the model.
            eps: Size of the perturbations.
            threshold: The worst-case Dice from which on a case is not broken; by default mu / 2.

        Returns:
            The share as the mean of a summary; None where nothing was run at this eps.

        Raises:
            UserError: The threshold is not given, and the model has no clean control.
        """
        limit = self.mu(model) / 2 if threshold is None else threshold
        return summarise([float(dice >= limit) for dice in self.case_dice(model, eps).values()])

    def curve(self, model: str) -> Curve:
        """Return the worst-case Dice of a model over eps, from the clean Dice at eps 0 upwards.

        Args:
            model: Name of the model.

        Raises:
            UserError: The model has no clean control.
        """
        clean = summarise(list(self.clean_dice(model).values()))
        assert clean is not None
        values = ((eps, self.robust_dice(model, eps)) for eps in self.eps if eps)
        return ((0.0, clean), *((eps, summary) for eps, summary in values if summary is not None))

    def class_curve(self, model: str, place: int) -> Curve:
        """Return the Dice of one class of a model over eps, each case under the attack with its lowest mean Dice.

        Args:
            model: Name of the model.
            place: The class's place in `Record.classes`.

        Returns:
            (eps, Dice over the cases that define the class), from the clean Dice at eps 0 upwards.
        """
        values: dict[float, list[float | None]] = {}
        for record in self._clean_controls(model):
            values.setdefault(0.0, []).append(record.clean_scores(self.deployed)[place])
        for eps in (size for name, size in self._attacked if name == model and size):
            values[eps] = [worst.scores[place] for worst in self._worst_at(model, eps).values()]
        summaries = ((eps, summarise(found)) for eps, found in sorted(values.items()))
        return tuple((eps, summary) for eps, summary in summaries if summary is not None)

    def history(self, model: str, attack: str, eps: float) -> tuple[float, ...]:
        """Return the lowest Dice of an attack after each evaluation, as the mean over the cases.

        An attack that ended early on a case keeps its last value.

        Args:
            model: Name of the model.
            attack: Name of the attack.
            eps: Size of the perturbations.

        Returns:
            One Dice per evaluation; empty where the attack keeps no history.
        """
        chosen = self._courses.get((model, attack, eps), ())
        length = max((len(record.history) for record in chosen), default=0)
        rows = [(*r.history, *(r.history[-1],) * (length - len(r.history))) for r in chosen]
        return tuple(math.fsum(values) / len(values) for values in zip(*rows, strict=True))

    def breaking_eps(self, model: str) -> Mapping[str, float | None]:
        """Return the smallest size with which a minimum-norm attack broke each attacked case.

        It is that of a written file, or of an array where no files were written: see `breaking_in_files`.

        Args:
            model: Name of the model.

        Returns:
            One size per case, in the unit of eps; None where no attack broke the case.
        """
        found: dict[str, float | None] = {}
        for record in self.records:
            if record.model == model and self._counts(record):
                known = [value for value in (found.get(record.case), record.breaking_eps) if value is not None]
                found[record.case] = min(known, default=None)
        return found

    def difference(self, first: str, second: str, eps: float) -> Summary | None:
        """Return the worst-case Dice of one model minus that of another, over the cases that both have.

        Args:
            first: Name of the model that is subtracted from.
            second: Name of the model that is subtracted.
            eps: Size of the perturbations.

        Returns:
            The mean difference with its bootstrap interval; None where the models have no common case.
        """
        a, b = (self.case_dice(model, eps) for model in (first, second))
        return summarise([a[case] - b[case] for case in sorted({*a} & {*b})])

    def clean_difference(self, first: str, second: str, eps: float) -> Summary | None:
        """Return the Dice of one model minus that of another without an attack, over the cases of `difference`.

        Args:
            first: Name of the model that is subtracted from.
            second: Name of the model that is subtracted.
            eps: Size of the perturbations with which both were attacked on a case.

        Returns:
            The mean difference with its bootstrap interval; None where the models have no common case.

        Raises:
            UserError: A model has no clean control.
        """
        a, b = (self.clean_dice(model) for model in (first, second))
        attacked = {*self.case_dice(first, eps)} & {*self.case_dice(second, eps)}
        return summarise([a[case] - b[case] for case in sorted(attacked & {*a} & {*b})])

    @cached_property
    def _attacked(self) -> Mapping[tuple[str, float], Sequence[Record]]:
        """The records that worst cases are taken over, by model and eps: a folder may hold very many."""
        found: dict[tuple[str, float], list[Record]] = {}
        for record in self.records:
            if self._counts(record):
                found.setdefault((record.model, record.eps), []).append(record)
        return found

    @cached_property
    def _courses(self) -> Mapping[tuple[str, str, float], Sequence[Record]]:
        """The records that keep a history, by model, attack and eps."""
        found: dict[tuple[str, str, float], list[Record]] = {}
        for record in self.records:
            if record.history:
                found.setdefault((record.model, record.attack, record.eps), []).append(record)
        return found

    @cached_property
    def _controls(self) -> Mapping[str, Sequence[Record]]:
        """The clean control of each model."""
        found: dict[str, list[Record]] = {}
        for record in self.records:
            if record.attack == CLEAN:
                found.setdefault(record.model, []).append(record)
        return found

    def _clean_controls(self, model: str) -> Sequence[Record]:
        return self._controls.get(model, ())

    def _counts(self, record: Record) -> bool:
        """Return whether the worst case is taken over this record, too."""
        return record.kind == "attack" and (self.attacks is None or record.attack in self.attacks)

    def _clean(self, record: Record) -> Worst:
        return Worst(record.clean_dice(self.deployed, self.policy), record.clean_scores(self.deployed))


def area_over_evaluations(history: Sequence[float]) -> float | None:
    """Return the mean Dice over an attack's evaluations: the area under its course, divided by its length.

    Args:
        history: The lowest Dice after each evaluation; see `View.history`.

    Returns:
        A Dice in [0, 1]; None where there are fewer than two evaluations.
    """
    return area_under_curve([(float(n), dice) for n, dice in enumerate(history)]) if len(history) > 1 else None


def area_under_curve(points: Sequence[tuple[float, float]]) -> float:
    """Return the mean Dice over a span of eps: the area under (eps, Dice) by trapezoids, divided by the span.

    Args:
        points: (eps, Dice), eps ascending.

    Returns:
        A Dice in [0, 1].

    Raises:
        UserError: There are fewer than two points, or eps does not increase.
    """
    if len(points) < 2:
        raise UserError(f"an area needs at least two points (eps, Dice), got {len(points)}")
    pairs = list(pairwise(points))
    if not all(a[0] < b[0] for a, b in pairs):
        raise UserError(f"eps must increase, got {[eps for eps, _ in points]}")
    area = math.fsum((b[0] - a[0]) * (a[1] + b[1]) / 2 for a, b in pairs)
    return area / (points[-1][0] - points[0][0])


def breaking_in_files(records: Sequence[Record]) -> bool | None:
    """Return whether every breaking eps is that of a written file; None where there is no breaking eps.

    Args:
        records: The records, of which older ones, and those of mode `patch`, hold that of the computed array.
    """
    found = [record.breaking_file for record in records if record.breaking_eps is not None]
    return all(found) if found else None
