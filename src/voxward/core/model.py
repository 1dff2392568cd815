"""A model as an attack sees it, whether that is a network on a patch or a whole deployed pipeline."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal, Protocol, runtime_checkable

import torch
from jaxtyping import Float, Integer
from torch import Tensor, nn

from voxward.core.labels import UNANNOTATED

Head = Literal["softmax", "regions"]
"""How logits are read.

`softmax`: the classes exclude each other, and the first one is the background. `regions`: every output has its own
sigmoid, and regions may overlap.
"""

Inputs = Float[Tensor, "b c *spatial"]
"""Intensities (b, c, *spatial), before any normalisation that belongs to the model; two or three spatial axes."""

Scores = Float[Tensor, "b k *spatial"]
"""Logits (b, k, *spatial) of k classes or k regions."""

Truth = Integer[Tensor, "b ..."]
"""Class indices (b, *spatial) for a softmax head, or 0 and 1 per region (b, k, *spatial) for a region head.

A ground truth holds `core.labels.UNANNOTATED` where nobody has annotated a voxel, for all regions alike. Such a voxel
counts in no objective and no Dice. A mask that a model returns has no such voxel.
"""

Values = Float[Tensor, " b"]
"""One number per case of the batch (b)."""

Objective = Callable[[Scores, Truth], Values]
"""A function that attacks maximise: one differentiable value per case, independent of the other cases in the batch."""

Box = tuple[slice, ...]
"""A box of voxels: one slice per spatial axis."""


@dataclass(frozen=True, eq=False)
class Swept:
    """A volume with its logits, and what a model needs to update them after a local change.

    Attributes:
        volume: Intensities (b, c, *spatial).
        logits: Logits of that volume (b, k, *spatial).
        memo: The model's own intermediate results, which only its `logits_after` reads; None if it keeps none.
    """

    volume: Inputs
    logits: Scores
    memo: Any = None


@runtime_checkable
class VolumeModel(Protocol):
    """A model over volumes, as attacks use it.

    The cases of a batch never influence each other, and no method changes the model's parameters.
    """

    @property
    def head(self) -> Head:
        """Return how the logits are read, `softmax` or `regions`."""
        ...

    def value_and_grad(self, volume: Inputs, target: Truth, objective: Objective) -> tuple[Scores, Values, Inputs]:
        """Compute the logits, the objective and its gradient with respect to the volume.

        Args:
            volume: Intensities (b, c, *spatial).
            target: The ground truth, as `Truth` describes.
            objective: The function of logits and ground truth to differentiate.

        Returns:
            The logits (b, k, *spatial), the objective's value per case (b), and its gradient (b, c, *spatial).

        Raises:
            core.gradientless.NotDifferentiable: The model has logits, but no gradient.
        """
        ...

    def logits(self, volume: Inputs) -> Scores:
        """Compute the logits (b, k, *spatial) of a volume (b, c, *spatial), without a gradient."""
        ...

    def sweep(self, volume: Inputs) -> Swept:
        """Compute the logits of a volume, and keep what `logits_after` needs to update them.

        Args:
            volume: Intensities (b, c, *spatial).

        Returns:
            The volume, its logits and the model's memo.
        """
        ...

    def logits_after(self, before: Swept, volume: Inputs, box: Box) -> Swept:
        """Compute the logits of a volume that differs from an earlier one only inside a box.

        Args:
            before: The earlier volume with its logits, from `sweep` or `logits_after`.
            volume: The changed volume (b, c, *spatial), equal to `before.volume` outside `box`.
            box: Where it may differ: one slice per spatial axis.

        Returns:
            The changed volume, its logits and the updated memo.
        """
        ...

    def segment(self, logits: Scores) -> Truth:
        """Turn logits into the final mask: argmax or threshold, then the model's post-processing.

        Args:
            logits: Logits (b, k, *spatial).

        Returns:
            The mask in the form of the ground truth (see `Truth`).
        """
        ...


class Wrapped:
    """The base class of models that change a part of another VolumeModel and leave the rest as it is.

    Every method is forwarded to `inner`. A subclass overrides the ones that it changes. One that changes the logits
    must change them in `value_and_grad`, `logits`, `sweep` and `logits_after` alike, because these do not call each
    other.

    Attributes:
        inner: The model that does the work.
    """

    inner: VolumeModel

    @property
    def head(self) -> Head:
        """Return how the inner model's logits are read."""
        return self.inner.head

    @property
    def spacing(self) -> tuple[float, ...] | None:
        """Return the inner model's voxel size in mm along each spatial axis; None where it is not known."""
        return getattr(self.inner, "spacing", None)

    def value_and_grad(self, volume: Inputs, target: Truth, objective: Objective) -> tuple[Scores, Values, Inputs]:
        """Return the inner model's logits, objective values and gradient.

        Args:
            volume: Intensities (b, c, *spatial).
            target: The ground truth, as `Truth` describes.
            objective: The function of logits and ground truth to differentiate.

        Returns:
            What `VolumeModel.value_and_grad` describes.
        """
        return self.inner.value_and_grad(volume, target, objective)

    def logits(self, volume: Inputs) -> Scores:
        """Return the inner model's logits (b, k, *spatial) of a volume (b, c, *spatial), without a gradient."""
        return self.inner.logits(volume)

    def sweep(self, volume: Inputs) -> Swept:
        """Return the inner model's logits of a volume (b, c, *spatial), and its memo for `logits_after`."""
        return self.inner.sweep(volume)

    def logits_after(self, before: Swept, volume: Inputs, box: Box) -> Swept:
        """Return the inner model's logits of a volume that differs from an earlier one only inside a box.

        Args:
            before: The earlier volume with its logits, from `sweep` or `logits_after`.
            volume: The changed volume (b, c, *spatial), equal to `before.volume` outside `box`.
            box: Where it may differ: one slice per spatial axis.

        Returns:
            The changed volume, its logits and the updated memo.
        """
        return self.inner.logits_after(before, volume, box)

    def segment(self, logits: Scores) -> Truth:
        """Return the inner model's final mask for logits (b, k, *spatial), in the form of the ground truth."""
        return self.inner.segment(logits)


@dataclass(frozen=True, eq=False)
class Spaced(Wrapped):
    """A model whose voxel size is known, so that an attack can choose shapes that are equal in mm along all axes.

    Attributes:
        inner: The model.
        voxel: The voxel size in mm, in the order of the volume's spatial axes.
    """

    inner: VolumeModel
    voxel: tuple[float, ...]

    @property
    def spacing(self) -> tuple[float, ...]:
        """Return the voxel size in mm along each spatial axis."""
        return self.voxel


def spacing_of(model: VolumeModel, axes: int) -> tuple[float, ...]:
    """Return the voxel size of the volumes that a model is asked about.

    Args:
        model: The model, which may have an attribute `spacing`.
        axes: The number of spatial axes.

    Returns:
        The voxel size along each axis in mm; 1 for all axes where the model knows none, or one of other axes.
    """
    known = getattr(model, "spacing", None)
    return tuple(map(float, known)) if known is not None and len(known) == axes else (1.0,) * axes


@dataclass(frozen=True, eq=False)
class PatchModel:
    """A network on a patch, as a VolumeModel.

    The network maps (b, c, *spatial) to logits (b, k, *spatial). It is in evaluation mode while it is used; its mode,
    its parameters and their `.grad` are left as they were found.

    Attributes:
        network: The network; it must return logits, not probabilities.
        head: How its logits are read, `softmax` or `regions`.
        normalise: A function of the intensities that the network sees instead of them. It is a part of what is
            differentiated, so an attack works on the intensities before it. None passes the intensities on unchanged.
        spacing: The voxel size in mm along each spatial axis, from which attacks choose shapes that are equal in mm
            along all axes; None: all axes are equal.

    Example:
        >>> model = voxward.PatchModel(network, normalise=lambda volume: (volume - mean) / std)
        >>> threat = voxward.ThreatModel(eps=8 / 255, bounds=((-100.0, 240.0),))
        >>> result = voxward.attacks.create("apgd-dice", steps=20)(model, volume, target, threat)
        >>> result.clean_dice, result.dice
    """

    network: nn.Module
    head: Head = "softmax"
    normalise: Callable[[Tensor], Tensor] | None = None
    spacing: tuple[float, ...] | None = None

    def value_and_grad(self, volume: Inputs, target: Truth, objective: Objective) -> tuple[Scores, Values, Inputs]:
        """Compute the logits, the objective and its gradient with one forward and one backward pass.

        Args:
            volume: Intensities (b, c, *spatial).
            target: The ground truth, as `Truth` describes.
            objective: The function of logits and ground truth to differentiate.

        Returns:
            The logits (b, k, *spatial), the objective's value per case (b), and its gradient (b, c, *spatial), which is
            0 where the network does not depend on its input.
        """
        with frozen(self.network), torch.enable_grad():
            leaf = volume.detach().requires_grad_()
            logits = self._forward(leaf)
            values = objective(logits, target)
            # A network that does not depend on its input has no gradient.
            reached = torch.autograd.grad(values.sum(), leaf, allow_unused=True) if values.requires_grad else (None,)
            gradient = torch.zeros_like(leaf) if reached[0] is None else reached[0]
        return logits.detach(), values.detach(), gradient

    def logits(self, volume: Inputs) -> Scores:
        """Compute the logits with one forward pass, without a gradient."""
        with frozen(self.network), torch.no_grad():
            return self._forward(volume)

    def sweep(self, volume: Inputs) -> Swept:
        """Compute the logits with one forward pass; there is no memo."""
        return Swept(volume, self.logits(volume))

    def logits_after(self, before: Swept, volume: Inputs, box: Box) -> Swept:
        """Compute the logits of the whole changed patch; `before` and `box` save no work here."""
        return self.sweep(volume)

    def segment(self, logits: Scores) -> Truth:
        """Return the argmax over the classes, or the regions whose logit is above 0.

        Args:
            logits: Logits (b, k, *spatial).

        Returns:
            The mask in the form of the ground truth (see `Truth`).
        """
        return read_mask(logits, self.head)

    def _forward(self, volume: Tensor) -> Tensor:
        scores: Tensor = self.network(volume if self.normalise is None else self.normalise(volume))
        return scores


def annotated_part(target: Truth) -> tuple[Truth, Tensor | None]:
    """Return the ground truth with background where nobody has annotated, and which voxels are annotated.

    Args:
        target: The ground truth.

    Returns:
        The ground truth, int64, and booleans of its shape; None instead of these where every voxel is annotated.
    """
    known = target.long()
    unknown = known == UNANNOTATED
    if not bool(unknown.any()):
        return known, None
    return known.masked_fill(unknown, 0), ~unknown


def read_mask(logits: Scores, head: Head) -> Truth:
    """Turn logits into a mask without post-processing.

    Args:
        logits: Logits (b, k, *spatial).
        head: How they are read.

    Returns:
        For `softmax` the class of the largest logit (b, *spatial), for `regions` 1 where a region's logit is above 0
        and 0 elsewhere (b, k, *spatial); int64.
    """
    # Equal to argmax(1), also in taking the first of a tie, but four to ten times as fast on a CPU.
    return logits.max(1).indices if head == "softmax" else (logits > 0).long()


@contextmanager
def frozen(network: nn.Module) -> Iterator[None]:
    """Put a network into evaluation mode and its parameters out of autograd, and restore both afterwards.

    Args:
        network: The network; the `requires_grad` of its parameters and the mode of each of its modules are restored.
    """
    modes = [(module, module.training) for module in network.modules() if module.training]
    wanted = [parameter for parameter in network.parameters() if parameter.requires_grad]
    for module, _ in modes:
        module.training = False
    for parameter in wanted:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training
        for parameter in wanted:
            parameter.requires_grad_(True)
