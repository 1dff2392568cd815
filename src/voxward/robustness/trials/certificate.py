"""Runs of the whole deployed system under noise, from which `robustness.certified` computes certificates.

What is certified is a function of the noisy volume: the system on that volume in memory, rounded once to the number
type in which volumes are read as floats. No file lies between. The noise belongs to the deployment: who uses the
certificate reads a scan, adds noise to what was read, and segments that. A file between would round to whole numbers
and cut at the limits of its type, which would be another system, and no better one.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from voxward.attacks.base import Attack
from voxward.attacks.registry import create
from voxward.attacks.smoothed import smoothed
from voxward.certificates.changes import changed
from voxward.certificates.counts import Votes
from voxward.certificates.noise import Frame, noisy, per_channel, stream
from voxward.certificates.plan import CertificatePlan
from voxward.core.gradientless import NotDifferentiable
from voxward.core.outputs import Outputs
from voxward.core.progress import Progress
from voxward.robustness.found import Found
from voxward.robustness.noisy_runs import VOXELS, NoisyRuns
from voxward.robustness.parts import parts_of
from voxward.robustness.record import Record
from voxward.robustness.stand import Stand
from voxward.robustness.subject import Subject
from voxward.robustness.trials.trial import Phase, Target
from voxward.robustness.unit import Unit

CERTIFICATE, ATTACKED = "certificate", "smoothed-attack"
COUNTS = "counts of runs under noise"
"""What the files of counts are called in the list of a folder's outputs."""

Draw = Callable[[int], np.ndarray]
"""From the number of a run to its noisy volume (c, i, j, k), float64."""


@dataclass(frozen=True)
class CertificateTrial:
    """Runs on noisy volumes of the clean case.

    Attributes:
        name: `certificate`, or `certificate-gain` and the like for noise in the parameters of a change.
        noise: `voxels`, or the name of the change.
        sigma: The standard deviations of the noise.
        batches: The runs of each unit; see Batched.
    """

    name: str
    noise: str
    sigma: tuple[float, ...]
    batches: tuple[tuple[int, int], ...]
    phase: Phase = "main"
    repeated: bool = False

    def sizes(self, number: int) -> tuple[float | None, ...]:
        """Return one standard deviation after the other; see Trial."""
        return self.sigma

    def cost(self, classes: int) -> tuple[int, int]:
        """Return one pass for each run of a unit; see Trial."""
        first, end = self.batches[0]
        return 0, end - first

    def run(self, unit: Unit, stand: Stand, progress: Progress) -> tuple[Record, ...]:
        """Run the system under noise, and count; see Trial."""
        subject, sigma, began = stand.subject, _sigma(unit), time.perf_counter()
        assert subject.whole is not None
        frame, values = frame_of(subject), subject.whole.source.array

        def draw(number: int) -> np.ndarray:
            source = stream(unit.seed, unit.case, self.noise, number)
            if self.noise == VOXELS:
                return noisy(values, sigma, frame, source)
            return changed(values, self.noise, sigma, frame, source)

        about = NoisyRuns(self.noise, sigma, 0, (), voxels=frame.free, channels=len(values))
        runs = _runs(unit, stand, progress, draw, about)
        found = Found(subject.volume, 0.0, forwards=len(runs.dice), seconds=time.perf_counter() - began)
        return (stand.noisy_record(unit, runs, found, {}),)


@dataclass(frozen=True)
class SmoothedAttack:
    """An attack on the system under noise, which must not get below the certificate: a check of the certificate.

    It maximises the mean of the soft Dice loss over noise, in a Euclidean ball, and the volume that it finds is judged
    by runs under other noise.

    Attributes:
        radius: The radius of the ball in units of sigma.
        sigma: The standard deviations of the noise.
        steps: The number of steps.
        draws: The draws of noise in each step.
        runs: How many noisy runs judge what was found.
    """

    radius: float
    sigma: tuple[float, ...]
    steps: int
    draws: int
    runs: int
    phase: Phase = "main"
    repeated: bool = False

    @property
    def name(self) -> str:
        """The name with the radius, such as `smoothed-attack-1`."""
        return f"{ATTACKED}-{self.radius:g}"

    @property
    def batches(self) -> tuple[tuple[int, int], ...]:
        """All runs in one unit; see Batched."""
        return ((0, self.runs),)

    def sizes(self, number: int) -> tuple[float | None, ...]:
        """Return one standard deviation after the other; see Trial."""
        return self.sigma

    def attack(self) -> Attack:
        """Return the attack."""
        return create("pgd-dice", steps=self.steps)

    def cost(self, classes: int) -> tuple[int, int]:
        """Return the cost of the attack with all draws, and of the runs that judge it; see Trial."""
        gradients, forwards = self.attack().cost(classes)
        return gradients * self.draws, forwards * self.draws + self.runs

    def follows(self, unit: Unit) -> Mapping[str, Any]:
        """Return what of the protocol decides the attack: with another budget it is made again; see Follows."""
        return {"steps": self.steps, "draws": self.draws}

    def run(self, unit: Unit, stand: Stand, progress: Progress) -> tuple[Record, ...]:
        """Attack the system under noise, and run it around what was found; see Trial."""
        subject, sigma, began = stand.subject, _sigma(unit), time.perf_counter()
        frame = frame_of(subject)
        deviation = sigma * per_channel(frame.width) * ~frame.held
        model = smoothed(
            subject.model, torch.from_numpy(deviation)[None].to(subject.volume.device), unit.seed, self.draws
        )
        # Any volume within the ball counts, also one that no file can hold.
        threat = replace(subject.threat, eps=self.radius * sigma, norm="l2", unit="range", limits=None, steps=())
        result = self.attack()(model, subject.volume, subject.target, threat, unit.seed, progress, warn=False)
        volume = result.adversarial[0].cpu().numpy()

        def draw(number: int) -> np.ndarray:
            return noisy(volume, sigma, frame, stream(unit.seed, unit.case, self.name, number))

        about = NoisyRuns(VOXELS, sigma, 0, (), voxels=frame.free, channels=len(volume), radius=self.radius)
        runs = _runs(unit, stand, progress, draw, about)
        spent = result.gradients * self.draws, result.forwards * self.draws + len(runs.dice)
        found = Found(result.adversarial, float(result.distance[0]), (), *spent, time.perf_counter() - began)
        return (stand.noisy_record(unit, runs, found, {**self.follows(unit), "radius": self.radius}),)


def trials(target: Target) -> list[CertificateTrial | SmoothedAttack]:
    """Plan the runs under noise, where a protocol has a certificate.

    Raises:
        UserError: A coarser group names a class that the system does not have.
        NotDifferentiable: The smoothed system is to be attacked, and has no gradient.
    """
    plan = target.protocol.certificate
    if plan is None:
        return []
    parts_of(target.labels, plan.coarser)
    found: list[CertificateTrial | SmoothedAttack] = []
    if plan.sigma:
        found.append(CertificateTrial(CERTIFICATE, VOXELS, _each(plan.sigma), plan.batches))
    for name, sigma in plan.changes.items():
        found.append(CertificateTrial(f"{CERTIFICATE}-{name}", name, (sigma,), plan.batches))
    return [*found, *_attacks(plan, target)]


def frame_of(subject: Subject) -> Frame:
    """Return the intensity windows of a case, and its voxels that no noise touches."""
    threat = subject.threat
    assert subject.whole is not None
    assert threat.bounds is not None
    values = subject.whole.source.array
    bounds = threat.bounds if len(threat.bounds) == len(values) else threat.bounds * len(values)
    keeps = threat.zeros or (False,) * len(values)
    held = (values == 0) & per_channel([float(one) for one in keeps]).astype(bool)
    return Frame(tuple(low for low, _ in bounds), tuple(high - low for low, high in bounds), held)


def _runs(unit: Unit, stand: Stand, progress: Progress, draw: Draw, about: NoisyRuns) -> NoisyRuns:
    """Segment the noisy volumes of a unit, and keep their Dice and counts."""
    whole, dice = stand.subject.whole, []
    assert whole is not None
    assert unit.samples is not None
    first, end = unit.samples
    votes = Votes.none(whole.labels.count, whole.source.shape) if about.noise == VOXELS else None
    kind = stand.subject.volume.cpu().numpy().dtype  # float32 where that holds every intensity of the file
    for number in range(first, end):
        label = whole.segment(draw(number).astype(kind))
        if votes is not None:  # of noise in parameters nobody reads the counts
            votes.add(label)
        dice.append(stand.dice_of(label))
        progress("runs under noise", number - first + 1, end - first)
    counts = "" if votes is None else _kept(votes, stand.counts(unit), stand.overwrite)
    return replace(about, first=first, dice=tuple(dice), counts=counts)


def _kept(votes: Votes, path: Path | None, overwrite: bool) -> str:
    if path is None:
        return ""
    with Outputs(path.parent, COUNTS, overwrite).write(path.name) as unfinished:
        votes.save(unfinished)
    return votes.digest


def _attacks(plan: CertificatePlan, target: Target) -> list[SmoothedAttack]:
    if plan.attacked and plan.sigma and target.gradientless:
        raise NotDifferentiable(
            f"{target.gradientless}; certificate.attack_steps asks for an attack with a gradient on the system under "
            "noise: leave it out (--set certificate.attack_steps=0), the certificate itself needs none"
        )
    sigma, each = _each(plan.sigma), (plan.attack_steps, plan.attack_draws, plan.attack_runs)
    return [SmoothedAttack(radius, sigma, *each) for radius in plan.attacked if sigma]


def _each(sigma: tuple[float, ...]) -> tuple[float, ...]:
    return tuple(sorted(set(sigma)))


def _sigma(unit: Unit) -> float:
    assert unit.eps is not None
    return unit.eps
