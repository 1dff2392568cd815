"""The base class of all normalisations: what is measured on a channel, and how the numbers change its intensities."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import torch
from jaxtyping import Float, Real, Shaped
from torch import Tensor

from voxward.core.plan import ChannelFingerprint, ChannelPlan, Intensities
from voxward.core.recipe import Preparation

Numbers = tuple[float, float, float, float]
"""What one channel is normalised with: low, high, mean and standard deviation, in the file's intensity unit.

Low and high are the ends of the intensity range that is told apart. The standard deviation is never 0.
"""

LiveNumbers = tuple[float | Tensor, float | Tensor, float | Tensor, float | Tensor]
"""The same four numbers of a tensor; those that depend on its voxels are scalar tensors that autograd follows."""


MOMENTS = "(lambda u: (u.mean(), u.std(correction=0)))"
"""Python text: the mean and the standard deviation of a tensor, for `Normalization.expression`."""


class Normalization(ABC):
    """How the intensities of one channel are normalised.

    The defaults take the four numbers of the plan, clip to [low, high], subtract the mean and divide by the standard
    deviation. A new normalisation overrides what differs, in a file of its own, and gets a line in NORMALIZATIONS.

    Attributes:
        keeps_zero: Whether voxels that are exactly 0 count as air, which is left out of the statistics, so that no
            attack should change them.
        reads_plan: Whether the four numbers of a channel's plan change the prepared intensities. If not, plans that
            differ in these numbers only prepare alike.
        keeps_values: Whether intensities that differ stay different, also where a channel has only a few of them.
            If not, a planner takes `scale` for such a channel.
        for_maps: Whether this is what a planner takes for masks and other maps of few values.
        hounsfield: Whether intensities are taken to be in HU; None: the recipe knows.
        per_case: Whether mean and standard deviation are measured on each case, so that a change of a whole scan, such
            as a gain, changes how the scan is normalised.
        clips: Whether intensities are cut off at [low, high], beside what resampling overshoots.
        nnunet: The name of what nnU-Net has for it, and whether that looks at the voxels inside nnU-Net's mask of
            non-zero ones alone; None where nnU-Net has nothing like it.
    """

    keeps_zero: ClassVar[bool] = False
    reads_plan: ClassVar[bool] = False
    keeps_values: ClassVar[bool] = False
    for_maps: ClassVar[bool] = False
    hounsfield: ClassVar[bool | None] = False
    per_case: ClassVar[bool] = True
    clips: ClassVar[bool] = False
    nnunet: ClassVar[tuple[str, bool] | None] = None

    def problems(self, preparation: Preparation) -> list[str]:
        """Return what a recipe must change before it can use this normalisation.

        Args:
            preparation: The recipe's part on preparation.

        Returns:
            One sentence per problem.
        """
        return []

    def planned(
        self, channel: ChannelFingerprint, preparation: Preparation, whole: Intensities | None = None
    ) -> Numbers:
        """Return the four numbers that the plan records for a channel.

        Args:
            channel: The intensities of the dataset's foreground.
            preparation: The recipe's part on preparation.
            whole: The intensities of all voxels of the training cases; None where they are not known.
        """
        return channel.low, channel.high, channel.mean, channel.std

    @abstractmethod
    def measure(self, channel: Shaped[np.ndarray, "d h w"], plan: ChannelPlan) -> Numbers:
        """Return what a channel is normalised with.

        Args:
            channel: The crop box of a channel (d, h, w), in the file's intensities.
            plan: The channel's plan.
        """

    @abstractmethod
    def measure_live(self, channel: Float[Tensor, "d h w"], plan: ChannelPlan) -> LiveNumbers:
        """Return what `measure` returns for a tensor, up to rounding, so that autograd can follow it.

        Args:
            channel: The crop box of a channel (d, h, w), in the file's intensities.
            plan: The channel's plan.
        """

    def monai(self, plan: ChannelPlan) -> tuple[str, Mapping[str, Any]] | None:
        """Return the transform of MONAI that does the same to every channel, with its options; None where none does.

        Args:
            plan: The plan of each of the channels.
        """
        return None

    @abstractmethod
    def expression(self, plan: ChannelPlan) -> str:
        """Return Python text that computes a normalised channel from `c`, a tensor (d, h, w), by `torch` and `np`.

        It is for other programs, and may fail where a channel has less than two different intensities.

        Args:
            plan: The channel's plan.
        """

    def zero(self, numbers: Numbers) -> float | None:
        """Return what a voxel that is 0 in the file becomes where such voxels count as air, and None elsewhere.

        Args:
            numbers: What `measure` returned.
        """
        low, high, mean, std = numbers
        return (min(max(0.0, low), high) - mean) / std if self.keeps_zero else None

    def before_resampling(self, x: Real[Tensor, "*b d h w"], numbers: LiveNumbers) -> Real[Tensor, "*b d h w"]:
        """Change intensities before they are resampled. By default nothing is changed.

        Args:
            x: A channel's crop box (..., d, h, w), in the file's intensities.
            numbers: What `measure` or `measure_live` returned.
        """
        return x

    def after_resampling(self, x: Float[Tensor, "*b d h w"], numbers: LiveNumbers) -> Float[Tensor, "*b d h w"]:
        """Change intensities after they were resampled, each voxel by itself.

        Clipping here also cuts off what cubic splines overshoot. A voxel at an end of [low, high] lets the gradient
        pass.

        Args:
            x: A channel's resampled crop box, or any part of it (..., d, h, w).
            numbers: What `measure` or `measure_live` returned.

        Returns:
            The normalised intensities, of the shape of `x`.
        """
        low, high, mean, std = numbers
        if isinstance(low, Tensor) or isinstance(high, Tensor):  # clamp takes two numbers or two tensors
            clipped = x.clamp(torch.as_tensor(low).to(x), torch.as_tensor(high).to(x))
        else:
            clipped = x.clamp(low, high)
        return clipped.sub(mean).div(std)
