"""One system on one case, ready for trials: what they attack, and how what they find is judged and recorded."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch

from voxward.attacks.base import Attack
from voxward.attacks.threat import ThreatModel
from voxward.core.labels import IGNORED, UNANNOTATED
from voxward.core.outputs import Outputs
from voxward.metrics.policies import Scoring
from voxward.metrics.score import CaseMetrics, score_case, score_masks
from voxward.robustness.found import Found
from voxward.robustness.protocol import Protocol
from voxward.robustness.record import Kind, Record, Scores
from voxward.robustness.subject import Subject
from voxward.robustness.unit import Unit
from voxward.robustness.written import Stored
from voxward.systems.system import System


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
        overwrite: Whether other files there may be replaced.
    """

    system: System
    subject: Subject
    protocol: Protocol
    version: str
    random: bool
    surrogate: Callable[[], Subject]
    kept: Callable[[Unit], Path | None]
    overwrite: bool = False
    clean: Scores = field(init=False)
    deployed: Scores | None = field(init=False)

    def __post_init__(self) -> None:
        self.clean = _dice(self._judge(self.subject.volume))
        self.deployed = self._deploy(self.subject.volume, None)[0]

    def record(
        self, unit: Unit, threat: ThreatModel, found: Found, attack: Attack | None = None, kind: Kind | None = None
    ) -> Record:
        """Judge what a trial found, as an array and as a written file, and return its record.

        Args:
            unit: The unit.
            threat: The threat model, with its eps.
            found: What was found.
            attack: The attack that found it; None for a control.
            kind: `control` for what no worst case counts; None: `attack` where there is an attack.
        """
        struck = self._judge(found.volume)
        dice, stored = self._deploy(found.volume, None if attack is None else self.kept(unit))
        options = ({} if attack is None else attack.options()) | (dict(stored.notes) if stored else {})
        whole = self.protocol.mode == "volume"
        return Record(
            model=unit.model, case=unit.case, attack=unit.attack, eps=unit.eps or 0.0, seed=unit.seed,
            mode=self.protocol.mode, threat=threat, classes=self.subject.labels.scored,
            clean=self.clean, adversarial=_dice(struck), deployed=dice, deployed_clean=self.deployed,
            hd95_mm=struck.mean("hd95_mm"), distance=found.distance, breaking_eps=None, history=found.history,
            gradients=found.gradients, forwards=found.forwards, seconds=found.seconds,
            kind=kind or ("control" if attack is None else "attack"),
            white_box=attack is not None and attack.needs_gradient,
            options=options, policy=self.protocol.policy,
            device=str(self.system.device), precision=self.system.precision if whole else "fp32",
            version=self.version, torch=torch.__version__, written=self._written(threat, stored),
            system=self.system.fingerprint(), warnings=found.warnings,
        )  # fmt: skip

    def _judge(self, volume: torch.Tensor) -> CaseMetrics:
        model = self.subject.model
        return self._score(model.segment(model.logits(volume))[0].cpu().numpy())

    def _score(self, mask: np.ndarray) -> CaseMetrics:
        subject, scoring = self.subject, Scoring(self.protocol.policy)
        truth, labels, unknown = subject.target[0].cpu().numpy(), subject.labels, None
        if (truth == UNANNOTATED).any():
            unknown = truth == UNANNOTATED
            truth = np.where(unknown, 0 if labels.regions else IGNORED, truth)
        if labels.regions:
            unannotated = None if unknown is None else unknown[0]
            return score_masks("", truth, mask, subject.spacing, labels.scored, scoring, unannotated)
        return score_case("", truth, mask, subject.spacing, labels, scoring)

    def _deploy(self, volume: torch.Tensor, path: Path | None) -> tuple[Scores | None, Stored | None]:
        """Dice of the written file, and all else that is known of it."""
        if self.subject.deploy is None:
            return None, None
        values = volume[0].cpu().numpy()
        if path is None:
            stored = self.subject.deploy(values, None)
        else:
            with Outputs(path.parent, "an adversarial volume", self.overwrite).write(path.name) as unfinished:
                stored = self.subject.deploy(values, unfinished)
        return _dice(self._score(stored.mask)), stored

    def _written(self, threat: ThreatModel, stored: Stored | None) -> float | None:
        """How far the file lies from the stored volume; from a clipped one whole numbers cannot be measured."""
        if stored is None or threat.reference == "window":
            return None
        volume = self.subject.volume
        found = torch.from_numpy(stored.written.astype(np.float64))[None].to(volume)
        return float(threat.ball(volume).distance(found)[0])


def _dice(metrics: CaseMetrics) -> Scores:
    return tuple(scores.dice for scores in metrics.classes.values())
