"""Controls: volumes without an attack, on which the Dice must stay what it is on the clean case."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch

from voxward.attacks.threat import ThreatModel
from voxward.core.progress import Progress
from voxward.robustness.found import Found
from voxward.robustness.record import CLEAN, CLIP, NOISE, Record
from voxward.robustness.stand import Stand
from voxward.robustness.subject import Subject
from voxward.robustness.trials.trial import Phase, Target
from voxward.robustness.unit import Unit

Draw = Callable[[Subject, ThreatModel, int], tuple[ThreatModel, torch.Tensor]]
"""From a case, the threat model and a seed to the threat model and the volume of the control."""


@dataclass(frozen=True)
class Control:
    """A volume that no attack has made.

    Attributes:
        name: The name of the control.
        draw: What makes its volume.
        eps: The sizes it is made at; none: once, without a size.
        phase: When it is run; see Trial.
    """

    name: str
    draw: Draw
    eps: tuple[float, ...] = ()
    phase: Phase = "main"
    repeated: bool = False

    def sizes(self, number: int) -> tuple[float | None, ...]:
        """Return the sizes of the control; see Trial."""
        return self.eps or (None,)

    def cost(self, classes: int) -> tuple[int, int]:
        """Return nothing: judging it is counted for every trial."""
        return 0, 0

    def run(self, unit: Unit, stand: Stand, progress: Progress) -> tuple[Record, ...]:
        """Make the volume and judge it; see Trial."""
        subject = stand.subject
        threat, volume = self.draw(subject, subject.threat.with_eps(unit.eps or 0.0), unit.seed)
        found = Found(volume, float(threat.ball(subject.volume).distance(volume)[0]))
        return (stand.record(unit, threat, found),)


def _clean(subject: Subject, threat: ThreatModel, seed: int) -> tuple[ThreatModel, torch.Tensor]:
    return threat, subject.volume


def _clip(subject: Subject, threat: ThreatModel, seed: int) -> tuple[ThreatModel, torch.Tensor]:
    clipped = replace(threat, reference="window")
    return clipped, clipped.ball(subject.volume).reference


def _noise(subject: Subject, threat: ThreatModel, seed: int) -> tuple[ThreatModel, torch.Tensor]:
    return threat, threat.ball(subject.volume).sign_noise(torch.Generator().manual_seed(seed))


def trials(target: Target) -> list[Control]:
    """Plan the controls that a protocol names; the clean one is always among them."""
    wanted, eps = target.protocol.controls, target.protocol.threat.eps
    found = [Control(CLEAN, _clean, phase="first")]
    found += [Control(CLIP, _clip)] if CLIP in wanted else []
    return found + ([Control(NOISE, _noise, eps)] if NOISE in wanted else [])
