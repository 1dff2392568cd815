"""Signs that an attack learnt nothing from a model's gradient, so that the Dice it left says nothing about robustness.

An attack that follows a gradient of 0 (rounded outputs, an argmax inside, a saturated softmax), or one that is not the
model's own, returns the clean volume, and looks as if the model withstood it (Athalye et al. 2018, arXiv 1802.00420;
Carlini et al. 2019, arXiv 1902.06705).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from voxward.attacks.objectives import margin
from voxward.core.devices import wide
from voxward.core.model import Head, Inputs, Scores, Truth, Values, annotated_part

MOSTLY = 0.5
"""A gradient that is 0 in more than this share of the steps is reported."""
UNREACHED = 0.25
"""A gradient that never arrives at this share of the foreground voxels, or at more, is reported."""
CERTAIN = 100.0
"""Where the true logit leads by more, exp(-lead) and with it the gradient of the softmax is 0 in float32."""
ENOUGH = 5
"""Gradients from which on an objective that never rose is reported."""
RISE = 1e-4
"""A rise of the objective by less than this share of its first value is rounding."""

ADVICE = "use square, an attack that needs no gradient, or one on another objective such as margin"


def reached(gradient: Inputs) -> Float[Tensor, " b"]:
    """Return the share of the intensities (b) at which a gradient arrives that is neither 0 nor NaN nor infinite.

    Args:
        gradient: The gradient of an objective (b, c, *spatial).
    """
    return wide(_arrives(gradient).flatten(1)).mean(1)


def usable(gradient: Inputs) -> Inputs:
    """Return a gradient in which NaN is 0 and infinity the greatest number whose square can still be summed.

    Args:
        gradient: The gradient of an objective (b, c, *spatial).
    """
    greatest = (torch.finfo(gradient.dtype).max / max(gradient.numel(), 1)) ** 0.5
    return gradient.nan_to_num(nan=0.0, posinf=greatest, neginf=-greatest)


@dataclass(eq=False)
class Slopes:
    """What the gradients of one attack looked like, over all its evaluations.

    Only evaluations of cases that have any Dice left count, because an attack has nothing to learn from the others.

    Attributes:
        steps: Evaluations with a gradient, per case (b).
        zeros: How many of them had a gradient of 0 everywhere (b).
        broken: How many of them held NaN or infinity (b).
        first: The objective at the first evaluation (b).
        highest: The highest objective at a later evaluation (b).
        touched: Where a gradient arrived in any of them (b, c, *spatial).
    """

    steps: Tensor = field(init=False)
    zeros: Tensor = field(init=False)
    broken: Tensor = field(init=False)
    first: Tensor = field(init=False)
    highest: Tensor = field(init=False)
    touched: Tensor | None = field(default=None, init=False)

    def note(self, values: Values, gradient: Inputs, active: Bool[Tensor, " b"]) -> None:
        """Take in one evaluation.

        Args:
            values: The objective per case (b).
            gradient: Its gradient as the model returned it (b, c, *spatial).
            active: The cases (b) that have any Dice left.
        """
        arrives = _arrives(gradient)
        if self.touched is None:
            self.steps, self.zeros, self.broken = (torch.zeros_like(active, dtype=torch.long) for _ in range(3))
            self.first, self.highest = values, torch.full_like(values, -torch.inf)
            self.touched = arrives
        else:
            self.highest = torch.maximum(self.highest, values.nan_to_num(nan=-torch.inf))
            self.touched = self.touched | arrives
        finite = torch.isfinite(gradient).flatten(1).all(1)
        self.steps += active
        self.zeros += active & ~arrives.flatten(1).any(1)
        self.broken += active & ~finite

    @classmethod
    def of(cls, cases: Sequence[Slopes]) -> Slopes:
        """Return what the gradients of all cases of a batch looked like; a case of no Dice had none in no step.

        Args:
            cases: The slopes of the single cases, in order.
        """
        found, asked = cls(), [case for case in cases if case.touched is not None]
        for name in ("steps", "zeros", "broken", "first", "highest", "touched") if asked else ():
            none = torch.zeros_like(getattr(asked[0], name))
            setattr(found, name, torch.cat([getattr(case, name) if case in asked else none for case in cases]))
        return found


def doubts(name: str, slopes: Slopes, target: Truth, fell: Bool[Tensor, " b"], climbs: bool) -> Iterator[str]:
    """Yield what makes it doubtful that an attack learnt from the model's gradients, one sentence each.

    Args:
        name: The attack's name.
        slopes: What its gradients looked like.
        target: The ground truth.
        fell: The cases (b) whose Dice fell.
        climbs: Whether the attack climbs one objective that stays the same in all steps.
    """
    if slopes.touched is None:
        return
    asked = slopes.steps > 0
    nothing = asked & (slopes.zeros == slopes.steps)
    rarely = asked & ~nothing & (slopes.zeros > MOSTLY * slopes.steps)
    some = asked & ~nothing
    yield from _said(
        name, nothing, "the gradient was 0 in every step{}: nothing was learnt from this attack; " + ADVICE
    )
    yield from _said(name, rarely, "the gradient was 0 in most steps{}: gradients may be masked; " + ADVICE)
    yield from _said(
        name, slopes.broken > 0, "the gradient held NaN or infinity{}, which the attack could not use; " + ADVICE
    )
    rose = slopes.highest > slopes.first + RISE * slopes.first.abs()
    flat = some & ~fell & (slopes.steps >= ENOUGH) & ~rose
    if climbs:
        yield from _said(
            name, flat, "neither did the objective rise nor the Dice fall{}: the gradient may not be the model's own, "
            "or eps is too small; " + ADVICE
        )  # fmt: skip
    yield from _unreached(name, slopes.touched, target, some)


def saturated(name: str, logits: Scores, target: Truth, head: Head) -> Iterator[str]:
    """Yield a sentence if the logits are so large that the gradient of the softmax (or sigmoid) vanishes in float32.

    Args:
        name: The attack's name.
        logits: The logits of the clean volume (b, k, *spatial).
        target: The ground truth.
        head: How the logits are read.
    """
    lead = -margin(logits.float(), annotated_part(target)[0])
    right = (lead > 0) & (target > 0)
    certain = (right & (lead > CERTAIN)).flatten(1).sum(1)
    whole = (certain > 0) & (2 * certain > right.flatten(1).sum(1))
    function = "softmax" if head == "softmax" else "sigmoid"
    yield from _said(
        name, whole, f"the {function} is saturated{{}}: the true logit leads by more than {CERTAIN:g} in most "
        "foreground voxels, where its gradient is 0 in float32; use an attack on the logits themselves, such as "
        "apgd-margin or apgd-dlr, or divide the logits by a constant"
    )  # fmt: skip


def _unreached(name: str, touched: Tensor, target: Truth, some: Tensor) -> Iterator[str]:
    """Say which channels, and how much of the foreground, no gradient ever arrived at."""
    channels = touched.flatten(2).any(2)
    missing = [c for c in range(channels.shape[1]) if bool((some & ~channels[:, c]).any())]
    if missing:
        cases = some & ~channels.all(1)
        which = ", ".join(map(str, missing))
        yield from _said(name, cases, f"no gradient arrived at channel {which}{{}}, which the attack left as it was")
    inside = (target > 0).flatten(1) if target.ndim < touched.ndim else (target > 0).any(1).flatten(1)
    lost = (inside & ~touched.any(1).flatten(1)).sum(1) >= UNREACHED * inside.sum(1).clamp_min(1)
    # Where all is foreground, as when a class is invented, a system may well leave a part of it out, such as air.
    lost &= (target == 0).flatten(1).any(1)
    yield from _said(
        name, some & lost, f"no gradient ever arrived at {100 * UNREACHED:g} % of the foreground voxels or more{{}}: "
        "gradients may be masked there; " + ADVICE
    )  # fmt: skip


def _said(name: str, cases: Tensor, text: str) -> Iterator[str]:
    """Yield a sentence with the number of cases that it holds for; nothing where it holds for none."""
    if count := int(cases.sum()):
        yield f"{name}: " + text.format(f" for {count} of {len(cases)} cases")


def _arrives(gradient: Tensor) -> Tensor:
    return (gradient != 0) & torch.isfinite(gradient)
