"""The work of a benchmark: which units there are, and what one unit does."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from voxward.attacks.base import Attack, AttackResult
from voxward.attacks.ensemble import ENSEMBLES, Budget
from voxward.attacks.fab import MinimumNorm
from voxward.attacks.objectives import at, create_objective
from voxward.attacks.random_models import SAMPLES, Averaged, is_random
from voxward.attacks.registry import create
from voxward.attacks.threat import ThreatModel
from voxward.attacks.transfer import Transfer
from voxward.core.case import Case, Volume
from voxward.core.errors import UserError
from voxward.core.files import inside
from voxward.core.labels import LabelSet
from voxward.core.outputs import Outputs
from voxward.core.progress import Progress, silent
from voxward.data.io import volume_suffix
from voxward.metrics.score import POLICIES, CaseMetrics, score_case, score_masks
from voxward.pipeline.member import Statistics
from voxward.pipeline.model import Gradient
from voxward.pipeline.precision import resolve_precision
from voxward.robustness.record import CLEAN, CLIP, CONTROLS, NOISE, PROBE, Record, Scores
from voxward.robustness.store import Unit
from voxward.robustness.subject import (
    Mode,
    Subject,
    cascade_subject,
    erasing,
    labels_under_attack,
    patch_subject,
    volume_subject,
)
from voxward.robustness.summary import mu
from voxward.robustness.written import Stored
from voxward.systems.cascade import Cascade
from voxward.systems.cascade_model import Stage
from voxward.systems.ensemble import Deployed

# eps 1 of the range: a sound white-box attack leaves nothing of the segmentation.
REACH = "reach"
# In small steps: APGD's first one of 2 eps would leap over everything that can be reached. It stops as soon as nothing
# is left, so that many steps cost little on a sound model.
REACH_ATTACK = create("ifgsm-dice", steps=50, alpha=8 / 255)
_TRANSFERRED = "apgd-dice"
TRANSFER = "transfer"


@dataclass(frozen=True)
class Setting:
    """What is attacked with what. attacks: names of attacks and ensembles; eps: in the unit of `threat`.

    cases: all are attacked; the check at eps 1 uses the first. policy: what an empty class counts. erase: the one class
    whose Dice counts, None for the mean of all. gradient, statistics: of whole volumes, see PipelineModel. stage: of a
    cascade, see freeze_cascade.
    """

    attacks: tuple[str, ...]
    eps: tuple[float, ...]
    threat: ThreatModel
    mode: Mode = "volume"
    budget: Budget = field(default_factory=Budget)
    policy: str = "ignore"
    seed: int = 0
    erase: str | None = None
    gradient: Gradient = "exact"
    stage: Stage = "both"
    statistics: Statistics = "frozen"


def class_count(labels: LabelSet) -> int:
    """How many classes an attack chooses between: a region is in or out."""
    return 2 if labels.regions else labels.count


def members(attacks: Sequence[str], classes: int, budget: Budget) -> dict[str, Attack]:
    """The single attacks that names of attacks and ensembles stand for. Raises ValueError for an unknown name."""
    found: dict[str, Attack] = {}
    for name in attacks:
        if name in ENSEMBLES:
            found |= ENSEMBLES[name](classes, budget)
        else:
            found[name] = _single(name, budget)
    return found


def ensembles(
    attacks: Sequence[str], classes: int, budget: Budget, surrogate: bool = False
) -> dict[str, tuple[str, ...]]:
    """The ensembles among `attacks` and the names of their members; `strong` has a given surrogate's attack too."""
    found = {name: tuple(ENSEMBLES[name](classes, budget)) for name in attacks if name in ENSEMBLES}
    if surrogate and "strong" in found:
        found["strong"] += (TRANSFER,)
    return found


def _single(name: str, budget: Budget) -> Attack:
    """An attack with the part of the budget that it has options for."""
    offered: dict[str, Any] = {"steps": budget.steps, "restarts": budget.restarts}
    if name == "square":
        offered = {"queries": budget.queries}
    elif name.startswith("fab"):
        offered = {"steps": budget.fab_steps, "threshold": budget.threshold}
    elif name.startswith("fgsm"):
        offered = {}
    elif name.startswith("ifgsm"):
        offered = {"steps": budget.steps}
    return create(name, **offered)


@dataclass(frozen=True, eq=False)
class Bench:
    """The models (by name) and cases of a benchmark, and how a unit of it is worked on.

    volumes: a folder that keeps the first case's adversarial volumes, or with keep_all those of every case. overwrite:
    replace other files in it.
    surrogate: a model whose adversarial volumes are tried on the models `transferred`, too. cascade: makes a model the
    fine stage of a cascade, which is then attacked and deployed in its place.
    """

    predictors: Mapping[str, Deployed]
    cases: Mapping[str, Case]
    setting: Setting
    version: str
    volumes: Path | None = None
    keep_all: bool = False
    surrogate: Deployed | None = None
    transferred: frozenset[str] = frozenset()
    cascade: Callable[[Deployed], Cascade] | None = None
    overwrite: bool = False
    _random: dict[Deployed, bool] = field(default_factory=dict)
    _thresholds: dict[str, float] = field(default_factory=dict)
    _held: dict[tuple[str, str], _Ready] = field(default_factory=dict)

    def clean_units(self) -> Iterator[Unit]:
        """What must be known first."""
        for model in self.predictors:
            for case in self.cases:
                yield self._unit(model, CLEAN, case, None)

    def units(self) -> Iterator[Unit]:
        """All others, case by case, so that a case is prepared once; a minimum-norm attack is one for every eps."""
        for model in self.predictors:
            attacks = self.attacks(model)
            for n, case in enumerate(self.cases):
                yield self._unit(model, CLIP, case, None)
                if n == 0:
                    yield self._unit(model, PROBE, case, None)
                if n == 0 and self.setting.threat.unit == "range" and self.setting.threat.norm == "linf":
                    yield self._unit(model, REACH, case, 1.0)
                for eps in self.setting.eps:
                    yield self._unit(model, NOISE, case, eps)
                    if model in self.transferred:
                        yield self._unit(model, TRANSFER, case, eps)
                for name, attack in attacks.items():
                    alone = isinstance(attack, MinimumNorm)
                    for size in (None,) if alone else self.setting.eps:
                        yield self._unit(model, name, case, size)

    def _unit(self, model: str, attack: str, case: str, eps: float | None) -> Unit:
        return Unit(model, attack, case, eps, self.setting.seed)

    def work(self, unit: Unit, progress: Progress = silent) -> tuple[Record, ...]:
        """The records of one unit. Raises ValueError naming it where the model cannot be run on the case."""
        try:
            return self._work(unit, progress)
        except UserError as error:
            raise UserError(f"{unit.model}, {unit.attack}, {unit.case}: {error}") from error

    def _work(self, unit: Unit, progress: Progress) -> tuple[Record, ...]:
        predictor = self.predictors[unit.model]
        subject = self.subject(unit.model, unit.case)
        if unit.attack in CONTROLS:
            return (self._control(unit, subject, predictor),)
        if unit.attack == PROBE:
            return (self._probe(unit, subject, predictor),)
        if unit.attack == REACH:

            def check(_: str, done: int, total: int | None, /, **figures: float | str) -> None:
                progress("check at eps 1", done, total, **figures)

            return (self._attacked(unit, subject, predictor, REACH_ATTACK, check),)
        if unit.attack == TRANSFER:
            assert self.surrogate is not None
            other = self._bound(self.surrogate, unit.case)
            transfer = Transfer(create(_TRANSFERRED, steps=self.setting.budget.steps), other.model)
            return (self._attacked(unit, subject, predictor, transfer, progress),)
        attack = self.attacks(unit.model)[unit.attack]
        if isinstance(attack, MinimumNorm):
            return self._for_every_eps(unit, subject, predictor, attack, progress)
        return (self._attacked(unit, subject, predictor, attack, progress),)

    def subject(self, model: str, case: str) -> Subject:
        """One model on one case."""
        return self._ready(model, case).subject

    def _ready(self, model: str, case: str) -> _Ready:
        """A subject with its clean Dice; only the last one is kept."""
        if (model, case) not in self._held:
            self._held.clear()
            predictor = self.predictors[model]
            subject = self._bound(predictor, case)
            clean = _dice(self._judge(case, subject, subject.volume))
            deployed, _ = self._deployed(case, subject, subject.volume, None)
            self._held[model, case] = _Ready(subject, clean, deployed)
        return self._held[model, case]

    def _bound(self, predictor: Deployed, case: str) -> Subject:
        subject = self._whole(predictor, self.cases[case])
        if self.setting.erase is not None:
            subject = erasing(subject, self.setting.erase)
        # Asked once per model: whether it is random does not depend on the case.
        if predictor not in self._random:
            self._random[predictor] = is_random(subject.model, subject.volume)
        if self._random[predictor]:  # expectation over transformation
            subject = replace(subject, model=Averaged(subject.model, SAMPLES))
        return subject

    def _whole(self, predictor: Deployed, case: Case) -> Subject:
        """Nothing erased, nothing averaged."""
        setting = self.setting
        if setting.mode == "patch":
            return patch_subject(predictor, case, setting.threat)
        if self.cascade is None:
            return volume_subject(predictor, case, setting.threat, setting.gradient, setting.statistics)
        joined, how = self.cascade(predictor), (setting.stage, setting.gradient, setting.statistics)
        return cascade_subject(joined, case, setting.threat, *how)

    def segmenter(self, model: str) -> Callable[[Volume], np.ndarray]:
        """What is deployed of a model: from a volume to class indices (i, j, k)."""
        predictor = self.predictors[model]
        return predictor.segment if self.cascade is None else partial(_cascaded, self.cascade(predictor))

    def attacks(self, model: str) -> dict[str, Attack]:
        """The single attacks by name. Raises ValueError for unknown names, of attacks or of the class to erase."""
        labels = labels_under_attack(self.predictors[model].model.plan.labels, self.setting.erase)
        budget = self.setting.budget
        if budget.threshold is None:
            budget = replace(budget, threshold=self._thresholds.get(model))
        return members(self.setting.attacks, class_count(labels), budget)

    def settle_thresholds(self, records: Sequence[Record]) -> None:
        """Call a case broken below half of mu, the mean clean Dice over the cases; records: those of `clean_units`."""
        for model in self.predictors:
            half = mu(records, model) / 2
            if half > 0:
                self._thresholds[model] = half

    def _control(self, unit: Unit, subject: Subject, predictor: Deployed) -> Record:
        threat = subject.threat.with_eps(unit.eps or 0.0)
        if unit.attack == CLIP:
            threat = replace(threat, reference="window")
        ball = threat.ball(subject.volume)
        volume = subject.volume if unit.attack == CLEAN else ball.reference
        if unit.attack == NOISE:
            volume = ball.sign_noise(torch.Generator().manual_seed(unit.seed))
        drawn = _Found(volume, float(ball.distance(volume)[0]))
        return self._record(unit, subject, predictor, threat, drawn)

    def _probe(self, unit: Unit, subject: Subject, predictor: Deployed) -> Record:
        """Whether the model is random, and the share of voxels that a gradient arrives at."""
        loss = at(create_objective("ce"), 0.0)
        gradient = subject.model.value_and_grad(subject.volume, subject.target, loss)[2]
        found = _Found(subject.volume, 0.0, gradients=1)
        options = {"random": self._random[predictor], "reached": float((gradient != 0).double().mean())}
        record = self._record(unit, subject, predictor, subject.threat, found)
        return replace(record, options={**record.options, **options})

    def _attacked(
        self, unit: Unit, subject: Subject, predictor: Deployed, attack: Attack, progress: Progress
    ) -> Record:
        assert unit.eps is not None
        threat = subject.threat.with_eps(unit.eps)
        result = attack(subject.model, subject.volume, subject.target, threat, unit.seed, progress)
        return self._record(unit, subject, predictor, threat, _found(result), attack)

    def _for_every_eps(
        self, unit: Unit, subject: Subject, predictor: Deployed, attack: MinimumNorm, progress: Progress
    ) -> tuple[Record, ...]:
        """The smallest breaking perturbation, cut down to each eps where it is larger."""
        records = []
        least = attack.smallest(subject.model, subject.volume, subject.target, subject.threat, unit.seed, progress)
        distance = float(least.distance[0])
        for n, eps in enumerate(self.setting.eps):  # what was spent is booked once
            threat = subject.threat.with_eps(eps)
            ball = threat.ball(subject.volume)
            volume = ball.project(least.adversarial)
            spent = (least.gradients, least.forwards, least.seconds) if n == 0 else (0, 0, 0.0)
            found = _Found(volume, float(ball.distance(volume)[0]), (), *spent)
            record = self._record(replace(unit, eps=eps), subject, predictor, threat, found, attack)
            records.append(replace(record, breaking_eps=distance if np.isfinite(distance) else None))
        return tuple(records)

    def _record(
        self,
        unit: Unit,
        subject: Subject,
        predictor: Deployed,
        threat: ThreatModel,
        found: _Found,
        attack: Attack | None = None,
    ) -> Record:
        ready, kind = self._ready(unit.model, unit.case), resolve_precision(predictor.precision, predictor.device)
        struck = self._judge(unit.case, subject, found.volume)
        kept = self.keep_all or unit.case == next(iter(self.cases))
        path = self.volume_path(unit) if kept and attack is not None else None
        dice, stored = self._deployed(unit.case, subject, found.volume, path)
        options = ({} if attack is None else attack.options()) | (dict(stored.notes) if stored else {})
        return Record(
            model=unit.model, case=unit.case, attack=unit.attack, eps=unit.eps or 0.0, seed=unit.seed,
            mode=self.setting.mode, threat=threat, classes=subject.labels.scored,
            clean=ready.clean, adversarial=_dice(struck), deployed=dice, deployed_clean=ready.deployed,
            hd95_mm=struck.mean("hd95_mm"), distance=found.distance, breaking_eps=None, history=found.history,
            gradients=found.gradients, forwards=found.forwards, seconds=found.seconds,
            kind="control" if attack is None or unit.attack == REACH else "attack",
            white_box=attack is not None and attack.needs_gradient,
            options=options, policy=self.setting.policy,
            device=str(predictor.device), precision=kind if self.setting.mode == "volume" else "fp32",
            version=self.version, torch=torch.__version__, written=self._written(threat, subject, stored),
        )  # fmt: skip

    def _judge(self, case: str, subject: Subject, volume: torch.Tensor) -> CaseMetrics:
        return self._score(case, subject, subject.model.segment(subject.model.logits(volume))[0].cpu().numpy())

    def _score(self, case: str, subject: Subject, mask: np.ndarray) -> CaseMetrics:
        truth = subject.target[0].cpu().numpy()
        labels, policy = subject.labels, POLICIES[self.setting.policy]
        if labels.regions:
            return score_masks(case, truth, mask, subject.spacing, labels.scored, policy)
        return score_case(case, truth, mask, subject.spacing, labels, policy)

    def _deployed(
        self, case: str, subject: Subject, volume: torch.Tensor, path: Path | None
    ) -> tuple[Scores | None, Stored | None]:
        """Dice of the written file, and all else that is known of it."""
        if subject.deploy is None:
            return None, None
        values = volume[0].cpu().numpy()
        if path is None:
            stored = subject.deploy(values, None)
        else:
            with Outputs(path.parent, "an adversarial volume", self.overwrite).write(path.name) as unfinished:
                stored = subject.deploy(values, unfinished)
        return _dice(self._score(case, subject, stored.mask)), stored

    def _written(self, threat: ThreatModel, subject: Subject, stored: Stored | None) -> float | None:
        """How far the file lies from the stored volume; from a clipped one whole numbers cannot be measured."""
        if stored is None or threat.reference == "window":
            return None
        found = torch.from_numpy(stored.written.astype(np.float64))[None].to(subject.volume)
        return float(threat.ball(subject.volume).distance(found)[0])

    def volume_path(self, unit: Unit) -> Path | None:
        """Where an adversarial volume is kept: VOLUMES/MODEL/ATTACK/EPS/CASE.ext, in the source's file type."""
        if self.volumes is None:
            return None
        suffix = volume_suffix(self.cases[unit.case].images[0])
        return inside(self.volumes / unit.model / unit.attack / f"{unit.eps:.5f}", f"{unit.case}{suffix}")


@dataclass(frozen=True, eq=False)
class _Ready:
    """A subject with its clean Dice per class, of the tensor and of the file."""

    subject: Subject
    clean: Scores
    deployed: Scores | None


@dataclass(frozen=True, eq=False)
class _Found:
    volume: torch.Tensor
    distance: float
    history: tuple[float, ...] = ()
    gradients: int = 0
    forwards: int = 0
    seconds: float = 0.0


def _found(result: AttackResult) -> _Found:
    history = tuple(float(value) for value in result.history[0])
    spent = (result.gradients, result.forwards, result.seconds)
    return _Found(result.adversarial, float(result.distance[0]), history, *spent)


def _cascaded(cascade: Cascade, volume: Volume) -> np.ndarray:
    return cascade.segment(volume).label


def _dice(metrics: CaseMetrics) -> Scores:
    return tuple(scores.dice for scores in metrics.classes.values())
