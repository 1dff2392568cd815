"""One system on one case, ready for trials: what they attack, and how what they find is judged and recorded."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import median_low
from typing import Any

import numpy as np
import torch

from voxward.attacks.base import Attack
from voxward.attacks.threat import ThreatModel
from voxward.core.labels import IGNORED, UNANNOTATED
from voxward.core.machine import computes_on
from voxward.core.outputs import Outputs
from voxward.metrics.policies import Scoring
from voxward.metrics.score import CaseMetrics, dice_scores, score_case, score_masks
from voxward.robustness.corrupted import Corrupted
from voxward.robustness.found import Found
from voxward.robustness.noisy_runs import NoisyRuns, Scores
from voxward.robustness.protocol import Protocol
from voxward.robustness.record import CLEAN, Kind, Phantom, Record, Surface, mean_dice
from voxward.robustness.subject import Subject
from voxward.robustness.unit import Unit
from voxward.robustness.visibility import Visibility, visibility
from voxward.robustness.written import Stored
from voxward.systems.system import System

VOLUME, SEGMENTATION = "an adversarial volume", "a segmentation of an attack"
"""What the kept files are called in the list of a folder's outputs."""


def _nowhere(unit: Unit) -> Path | None:
    return None


@dataclass(eq=False)
class Stand:
    """A system on a case.

    Attributes:
        system: The system.
        subject: What trials attack.
        protocol: How robustness is measured.
        version: The version of voxward, for the records.
        random: Whether the model answers differently each time; its answers are then averaged.
        surrogate: Returns the surrogate on the same case.
        kept: Returns where the adversarial volume of a unit is kept; None where it is not.
        segmentation: Returns where the segmentation of a unit is kept; None where it is not.
        overwrite: Whether other files there may be replaced.
        statistics: What normalises an attacked volume; empty: as the protocol says.
        counts: Returns where a unit of runs under noise counts; None where it does not.
    """

    system: System
    subject: Subject
    protocol: Protocol
    version: str
    random: bool
    surrogate: Callable[[], Subject]
    kept: Callable[[Unit], Path | None]
    segmentation: Callable[[Unit], Path | None] = _nowhere
    overwrite: bool = False
    statistics: str = ""
    counts: Callable[[Unit], Path | None] = _nowhere
    _clean: CaseMetrics = field(init=False)
    _deployed: CaseMetrics | None = field(init=False)

    def __post_init__(self) -> None:
        self._clean = self._judge(self.subject.volume)
        self._deployed = self._deploy(self.subject.volume, None)[0]

    def record(
        self, unit: Unit, threat: ThreatModel, found: Found, attack: Attack | None = None, kind: Kind | None = None
    ) -> Record:
        """Judge what a trial found, as an array and as a written file, and return its record.

        Args:
            unit: The unit.
            threat: The threat model, with its eps.
            found: What was found.
            attack: The attack that found it; None for a control.
            kind: `control` for what no worst case counts; None: `attack` where there is an attack that is not run
                again as a control.
        """
        kind = kind or ("control" if attack is None or unit.doubles is not None else "attack")
        struck = self._judge(found.volume)
        written, stored = self._deploy(found.volume, self.kept(unit) if kind == "attack" else None)
        if stored is not None and (kind == "attack" or unit.attack == CLEAN):
            self._keep_segmentation(unit, stored)
        options = ({} if attack is None else attack.options()) | (dict(stored.notes) if stored else {})
        return Record(
            **self._common(unit), threat=threat, options=options, kind=kind,
            adversarial=_dice(struck), deployed=None if written is None else _dice(written),
            hd95_mm=None if self._invents else struck.mean("hd95_mm"), distance=found.distance,
            history=found.history, gradients=found.gradients, forwards=found.forwards, seconds=found.seconds,
            white_box=attack is not None and attack.needs_gradient, written=self._written(threat, stored),
            warnings=found.warnings,
            visibility=self._visibility(threat, found.volume, stored), surface=self._surface(written or struck),
            phantom=self._phantom(written or struck),
        )  # fmt: skip

    def corrupted(self, unit: Unit, found: Found, truth: torch.Tensor, about: Corrupted) -> tuple[Record, np.ndarray]:
        """Judge a corrupted volume as a written file, which is all that matters of it, and return its record.

        Args:
            unit: The unit.
            found: The volume.
            truth: The ground truth of the volume, which a corruption may have moved, in the form of the subject's.
            about: What was done to the volume.

        Returns:
            The record, and the intensities (c, i, j, k) of the file.
        """
        keep = self.protocol.keep in ("first", "all") and unit.eps
        scores, stored = self._deploy(found.volume, self.kept(unit) if keep else None, truth)
        assert scores is not None, "there is no pipeline to deploy"
        assert stored is not None
        if keep:
            self._keep_segmentation(unit, stored)
        common = self._common(unit) | {"truth_mm3": self._truth_mm3(scores)}
        record = Record(
            **common, threat=self.subject.threat, options=dict(stored.notes), kind="corruption", corruption=about,
            adversarial=_dice(scores), deployed=_dice(scores), hd95_mm=scores.mean("hd95_mm"), distance=0.0, history=(),
            gradients=0, forwards=0, seconds=found.seconds, white_box=False, warnings=found.warnings,
            surface=self._surface(scores),
        )  # fmt: skip
        return record, stored.written

    def noisy_record(self, unit: Unit, noisy: NoisyRuns, found: Found, options: Mapping[str, Any]) -> Record:
        """Return the record of a unit of runs under noise.

        Args:
            unit: The unit.
            noisy: The runs, each judged with `dice_of`.
            found: The volume that the noise was added to, and what all of it took.
            options: What else decides the runs.
        """
        threat = replace(self.subject.threat, norm="l2", unit="range", reference="raw", eps=noisy.sigma)
        return Record(
            **self._common(unit), threat=threat, options=options, kind="certificate", noisy=noisy,
            adversarial=tuple(_middle(values) for values in zip(*noisy.dice, strict=True)), deployed=None, hd95_mm=None,
            distance=found.distance, history=(), gradients=found.gradients, forwards=found.forwards,
            seconds=found.seconds, white_box=found.gradients > 0,
        )  # fmt: skip

    def dice_of(self, label: np.ndarray) -> Scores:
        """Return the Dice of every class of a segmentation of the whole system, class indices (i, j, k)."""
        whole = self.subject.whole
        assert whole is not None
        scoring = Scoring(self.protocol.policy)
        return dice_scores(whole.truth, label, self.subject.spacing, whole.labels, scoring)

    def _common(self, unit: Unit) -> dict[str, Any]:
        """What records of a unit hold, whatever was done."""
        whole = self.protocol.mode == "volume"
        return {
            "model": unit.model, "case": unit.case, "attack": unit.attack, "eps": unit.eps or 0.0, "seed": unit.seed,
            "mode": self.protocol.mode, "classes": self.subject.labels.scored, "clean": _dice(self._clean),
            "deployed_clean": None if self._deployed is None else _dice(self._deployed),
            "breaking_eps": None, "policy": self.protocol.policy,
            "device": str(self.system.device), "precision": self.system.precision if whole else "fp32",
            "version": self.version, "torch": torch.__version__, "system": self.system.fingerprint(),
            "clean_surface": self._surface(self._deployed or self._clean), "truth_mm3": self._truth_mm3(self._clean),
            "channels": self.system.channels, "processor": computes_on(self.system.device),
            "statistics": self.statistics or self.protocol.statistics,
        }  # fmt: skip

    def of_file(self, volume: torch.Tensor) -> tuple[float, float]:
        """Write a volume as a file, segment it, and return its mean Dice and the norm of its perturbation.

        Args:
            volume: A perturbed volume (1, c, *spatial).

        Returns:
            Both, the norm in the unit of eps; it is that of the array where the reference is clipped.
        """
        scores, stored = self._deploy(volume, None)
        assert scores is not None, "there is no pipeline to deploy"
        threat = self.subject.threat
        written = self._written(threat, stored)
        distance = float(threat.ball(self.subject.volume).distance(volume)[0]) if written is None else written
        return mean_dice(_dice(scores), self.protocol.policy), distance

    def _judge(self, volume: torch.Tensor) -> CaseMetrics:
        model = self.subject.model
        return self._score(model.segment(model.logits(volume))[0].cpu().numpy())

    def _score(self, mask: np.ndarray, target: torch.Tensor | None = None) -> CaseMetrics:
        subject, scoring = self.subject, Scoring(self.protocol.policy)
        truth = (subject.target if target is None else target)[0].cpu().numpy()
        labels, unknown = subject.labels, None
        if (truth == UNANNOTATED).any():
            unknown = truth == UNANNOTATED
            truth = np.where(unknown, 0 if labels.regions else IGNORED, truth)
        if labels.regions:
            unannotated = None if unknown is None else unknown[0]
            return score_masks("", truth, mask, subject.spacing, labels.scored, scoring, unannotated)
        return score_case("", truth, mask, subject.spacing, labels, scoring)

    def _deploy(
        self, volume: torch.Tensor, path: Path | None, truth: torch.Tensor | None = None
    ) -> tuple[CaseMetrics | None, Stored | None]:
        """The scores of the written file, and all else that is known of it."""
        if self.subject.deploy is None:
            return None, None
        values = volume[0].cpu().numpy()
        if path is None:
            stored = self.subject.deploy(values, None)
        else:
            with Outputs(path.parent, VOLUME, self.overwrite).write(path.name) as unfinished:
                stored = self.subject.deploy(values, unfinished)
        return self._score(stored.mask, truth), stored

    def _keep_segmentation(self, unit: Unit, stored: Stored) -> None:
        path, place = self.segmentation(unit), self.subject.place
        if path is not None and place is not None:
            with Outputs(path.parent, SEGMENTATION, self.overwrite).write(path.name) as unfinished:
                place.write(unfinished, stored.label)

    def _written(self, threat: ThreatModel, stored: Stored | None) -> float | None:
        """How far the file lies from the stored volume; from a clipped one whole numbers cannot be measured."""
        if stored is None or threat.reference == "window":
            return None
        volume = self.subject.volume
        found = torch.from_numpy(stored.written.astype(np.float64))[None].to(volume)
        return float(threat.ball(volume).distance(found)[0])

    def _visibility(self, threat: ThreatModel, volume: torch.Tensor, stored: Stored | None) -> Visibility:
        """Of the file, unless whole numbers stand beside a clipped reference that is none."""
        reference = threat.ball(self.subject.volume).reference[0].cpu().numpy()
        of_file = stored is not None and threat.reference == "raw"
        changed = stored.written if stored is not None and of_file else volume[0].cpu().numpy()
        assert threat.bounds is not None
        return visibility(reference, changed, threat.bounds, threat.unit == "range")

    @property
    def _invents(self) -> bool:
        return self.protocol.invent is not None

    def _surface(self, metrics: CaseMetrics) -> Surface | None:
        """How well surfaces fit; those of everything but a class mean nothing."""
        return None if self._invents else Surface.of(metrics)

    def _phantom(self, struck: CaseMetrics) -> Phantom | None:
        """The volume that is found outside the truth: what the mask of "not the class" lacks of the truth's."""
        name = self.protocol.invent
        if name is None:
            return None
        before, after = (
            sum(one.truth_voxels - one.predicted_voxels for one in metrics.classes.values())
            * math.prod(self.subject.spacing)
            for metrics in (self._deployed or self._clean, struck)
        )
        return Phantom(name, before, after)

    def _truth_mm3(self, metrics: CaseMetrics) -> tuple[float, ...]:
        if self._invents:
            return ()
        voxel = math.prod(self.subject.spacing)
        return tuple(scores.truth_voxels * voxel for scores in metrics.classes.values())


def _dice(metrics: CaseMetrics) -> Scores:
    return tuple(scores.dice for scores in metrics.classes.values())


def _middle(values: tuple[float | None, ...]) -> float | None:
    """The median of the runs in which a class has a Dice; None where it has none in any."""
    found = [value for value in values if value is not None]
    return median_low(found) if found else None
