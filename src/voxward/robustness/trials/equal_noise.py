"""Noise as strong as the worst attack: what a perturbation of that size does when nobody has chosen it.

Random signs at eps (the control `noise`) change every voxel as far as an attack may. An attack need not do that, and a
scanner's noise does something else. So here the root mean square of the change is that of the attack which hurt the
case most, and the noise is that of scanners: Gaussian, or in magnitude images Rician (Gudbjartsson and Patz 1995).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from scipy.optimize import brentq

from voxward.attacks.threat import Ball
from voxward.core.progress import Progress
from voxward.robustness.found import Found
from voxward.robustness.record import EQUAL_NOISE, Record
from voxward.robustness.skipped import NotApplicable
from voxward.robustness.stand import Stand
from voxward.robustness.trials.trial import Phase, Target
from voxward.robustness.unit import Unit
from voxward.robustness.visibility import root_mean_square

Noisy = Callable[[float], torch.Tensor]
"""From a standard deviation in the unit of eps to the noisy volume."""
Draw = Callable[[Ball, torch.Generator], Noisy]
"""From a ball and the source of random numbers to noise of every strength."""
Excess = Callable[[float], float]

GAUSSIAN, RICIAN = EQUAL_NOISE
# So near the asked size the search ends: 1e-4 of the standard deviation, after at most so many doublings.
_NEAR, _DOUBLINGS = 1e-4, 24


@dataclass(frozen=True)
class EqualNoise:
    """Noise with the root mean square of the worst attack of the same case and eps.

    It respects what the threat model does (the limits of the file, air that stays 0), but not eps.

    Attributes:
        name: The name of the control.
        draw: What makes the noisy volumes.
        eps: The sizes of the attacks.
    """

    name: str
    draw: Draw
    eps: tuple[float, ...]
    phase: Phase = "last"
    repeated: bool = False

    def follows(self, unit: Unit) -> Mapping[str, Any]:
        """Return how strong the noise is, which the attacks say; see Follows."""
        return {"rms": unit.rms or 0.0}

    def sizes(self, number: int) -> tuple[float | None, ...]:
        """Return one unit per size; see Trial."""
        return self.eps

    def cost(self, classes: int) -> tuple[int, int]:
        """Return nothing: judging it is counted for every trial."""
        return 0, 0

    def run(self, unit: Unit, stand: Stand, progress: Progress) -> tuple[Record, ...]:
        """Make the noise and judge the system; see Trial.

        Raises:
            NotApplicable: The noise means nothing on this case.
        """
        subject, asked = stand.subject, unit.rms or 0.0
        threat = subject.threat.with_eps(unit.eps or 0.0)
        ball = threat.ball(subject.volume)
        noisy = self.draw(ball, torch.Generator().manual_seed(unit.seed))
        volume = as_strong_as(asked, noisy, ball, subject.as_written)
        record = stand.record(unit, threat, Found(volume, float(ball.distance(volume)[0])))
        return (replace(record, options={**record.options, "rms": asked}),)


def gaussian(ball: Ball, generator: torch.Generator) -> Noisy:
    """Draw Gaussian noise with a standard deviation that is the same share of every channel's unit.

    Args:
        ball: What is perturbed, its unit, and the legal intensities.
        generator: The source of the random numbers, on the CPU.
    """
    drawn = _normal(ball, generator)
    return lambda deviation: _legal(ball, ball.reference + deviation * ball.unit * drawn)


def rician(ball: Ball, generator: torch.Generator) -> Noisy:
    """Draw Rician noise, the magnitude of a signal with Gaussian noise in both of its parts.

    Args:
        ball: What is perturbed, its unit, and the legal intensities.
        generator: The source of the random numbers, on the CPU.

    Raises:
        NotApplicable: There are intensities below 0, which no magnitude is.
    """
    lowest = float(ball.reference.min())
    if lowest < 0:
        raise NotApplicable(
            f"Rician noise is that of magnitude images, which have no intensities below 0; the lowest is {lowest:.4g}"
        )
    real, imaginary = _normal(ball, generator), _normal(ball, generator)

    def noisy(deviation: float) -> torch.Tensor:
        size = deviation * ball.unit
        return _legal(ball, torch.hypot(ball.reference + size * real, size * imaginary))

    return noisy


def as_strong_as(
    asked: float, noisy: Noisy, ball: Ball, as_written: Callable[[np.ndarray], np.ndarray]
) -> torch.Tensor:
    """Return the noisy volume whose change, as a file holds it, has a root mean square.

    Clipping at the ends of the legal intensities, and rounding to whole numbers, make the change smaller than the
    standard deviation. Where they allow no larger change, the largest one is made.

    Args:
        asked: The root mean square, in the unit of eps.
        noisy: Returns the noisy volume of each standard deviation, always of the same draws.
        ball: What is perturbed, and its unit.
        as_written: Turns a volume (c, *spatial) into the intensities that its file would hold.
    """
    if not asked:
        return ball.reference
    excess, high = _excess(asked, noisy, ball, as_written), asked
    for _ in range(_DOUBLINGS):
        if excess(high) >= 0:
            return noisy(float(brentq(excess, 0.0, high, xtol=_NEAR * high, rtol=_NEAR)))
        high *= 2
    return noisy(high)


_DRAWS: dict[str, Draw] = {GAUSSIAN: gaussian, RICIAN: rician}


def trials(target: Target) -> list[EqualNoise]:
    """Plan the kinds of noise that a protocol names."""
    if not target.protocol.entries and not target.transferred:
        return []
    eps = tuple(sorted(set(target.protocol.threat.eps)))
    return [EqualNoise(name, draw, eps) for name, draw in _DRAWS.items() if name in target.protocol.controls]


def _normal(ball: Ball, generator: torch.Generator) -> torch.Tensor:
    return torch.randn(ball.reference.shape, generator=generator).to(ball.reference)


def _legal(ball: Ball, volume: torch.Tensor) -> torch.Tensor:
    return torch.minimum(torch.maximum(volume, ball.low), ball.high)


def _excess(asked: float, noisy: Noisy, ball: Ball, written: Callable[[np.ndarray], np.ndarray]) -> Excess:
    reference, unit = ball.reference[0].cpu().numpy(), ball.unit.flatten(1)[0].cpu().numpy()
    units = np.broadcast_to(unit, (len(reference),))
    return lambda size: root_mean_square(reference, written(noisy(size)[0].cpu().numpy()), units) - asked
