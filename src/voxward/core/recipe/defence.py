"""The part of a recipe that says how a network is trained on perturbed patches."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from voxward.core.recipe.checks import below, not_positive, outside

_METHODS = {
    "eps": ("free", "pgd", "trades", "mixed"),
    "step": ("free", "pgd", "trades", "mixed"),
    "sigma": ("noise",),
    "replays": ("free",),
    "steps": ("pgd", "trades", "mixed"),
    "objective": ("pgd", "mixed"),
    "start": ("pgd", "mixed"),
    "clean": ("free", "pgd", "noise"),
    "beta": ("trades",),
    "consistency": ("mixed",),
    "corruptions": ("mixed",),
}
"""The methods that use a setting; every method uses the others."""
_KNOWN = {method for methods in _METHODS.values() for method in methods}


@dataclass(frozen=True)
class Defence:
    """Training on patches that are attacked in an l_inf ball, noisy or corrupted.

    Args:
        method: `free` (Shafahi et al. 2019) uses every batch `replays` times, and each backward pass moves both the
            weights and the perturbation. `pgd` (Madry et al. 2018) trains the weights on the patch that `steps` steps
            have found. `trades` (Zhang et al. 2019) minimises the loss on the clean patch plus
            `beta` times the divergence of the prediction on the perturbed patch from that on the clean one. `noise`
            (Cohen et al. 2019) trains the weights on patches with Gaussian noise, for a certificate. `mixed` leaves
            half of the patches clean, perturbs a quarter as `pgd` does, corrupts a quarter as scanners do, and adds
            the divergence of the prediction on each changed patch from that on the clean one.
        eps: The radius of the ball, as a share (0 to 1) of the intensity range of each channel. `noise` has no ball.
        replays: The number of times that `free` uses a batch.
        steps: The number of steps of the perturbation in `pgd`, `trades` and `mixed`.
        step: The length of such a step in units of eps, or None for 1 in `free` and 2.5 / steps in the others. `noise`
            does not use it.
        objective: What the steps of `pgd` and `mixed` maximise, see `attacks.objectives`. `free` maximises the training
            loss, and `trades` the divergence.
        start: Where the steps of `pgd` and `mixed` begin: `random`, at a random point of the ball, or `reference`, at
            the patch itself. `trades` begins at a random point, because its divergence is flat at the patch itself,
            and `free` at the perturbation that the last batch left.
        clean: The share (0 to 1) of the samples that stay unperturbed. `trades` and `mixed` do not use it.
        warmup: The share (0 to 1) of the run in which eps (or sigma) grows from 0, in proportion to the steps that are
            done; with 1 it grows until the end.
        beta: The weight of the divergence in `trades`, at least 0.
        robust: The weight (0 to 1) of the robust Dice (or loss, see `training.best`), against the clean one, in
            choosing the best checkpoint. It is that of attacked patches, and with `noise` of noisy ones.
        sigma: The standard deviation of the noise in `noise`, as a share (0 to 1) of the intensity range of each
            channel.
        consistency: The weight of the divergence in `mixed`, at least 0.
        corruptions: The names of the corruptions of `mixed`, from the set `rood-mri`; empty for all that can be applied
            to a patch.
    """

    method: str = "free"
    eps: float = 8 / 255
    replays: int = 5
    steps: int = 3
    step: float | None = None
    objective: str = "dice"
    start: Literal["random", "reference"] = "random"
    clean: float = 0.0
    warmup: float = 0.0
    beta: float = 6.0
    robust: float = 0.5
    sigma: float = 0.25
    consistency: float = 1.0
    corruptions: tuple[str, ...] = ()

    @property
    def length(self) -> float:
        """Return the length of a step of the perturbation, in units of eps."""
        if self.step is not None:
            return self.step
        return 1.0 if self.method == "free" else 2.5 / self.steps

    def unused(self, names: Iterable[str]) -> list[str]:
        """Return which settings the method does not use, so that setting them would change nothing.

        Args:
            names: The names of the settings to look at.

        Returns:
            Their names; none for a method that is not known here, which its registry refuses or takes.
        """
        if self.method not in _KNOWN:
            return []
        return [name for name in names if self.method not in _METHODS.get(name, (self.method,))]

    def problems(self) -> list[str]:
        """Return one sentence for each value that is out of range."""
        found = outside("eps", self.eps, 0.0, 1.0) + outside("clean", self.clean, 0.0, 1.0)
        found += outside("warmup", self.warmup, 0.0, 1.0) + outside("robust", self.robust, 0.0, 1.0)
        found += outside("sigma", self.sigma, 0.0, 1.0)
        found += below(1, replays=self.replays, steps=self.steps)
        if (self.method, self.start) == ("trades", "reference"):
            found.append("start must be random in trades, whose divergence has no gradient at the clean patch")
        return found + not_positive(step=self.step) + below(0, beta=self.beta, consistency=self.consistency)
