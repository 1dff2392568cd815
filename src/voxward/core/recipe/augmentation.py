"""The part of a recipe that says how training patches are transformed at random."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Literal

from voxward.core.recipe.checks import below, outside, wrong_axes


@dataclass(frozen=True)
class Augmentation:
    """Random transforms of a training patch.

    Each transform has a probability (0 to 1) of its own; 0 switches the transform off. All axes are in RAS order: 0 is
    left-right, 1 is back-front, 2 is foot-head. Intensities are those of the prepared image.

    Args:
        rotation_degrees: The largest angle r in degrees (0 to 180). Each axis turns by an angle drawn from U(-r, r).
        rotation_probability: The probability of the rotation.
        scale: The range (low, high) of the zoom factor.
        scale_probability: The probability of the zoom.
        mirror_axes: The axes along which a patch may be flipped. Axis 0 is left out by itself where classes differ in
            left and right, see `sides`.
        mirror_probability: The probability of a flip, for each of these axes.
        sides: The classes or regions that differ in left and right: `auto` finds them by their names (kidney_left,
            Left-Hippocampus, lkid, ...), `none` says that there are none, and a list names them. Where there are any,
            nothing exchanges left and right: axis 0 is not mirrored, in training and in test-time augmentation, there
            are no quarter turns about the axes 1 and 2, and no rotation by more than 45 degrees.
        mirror_pairs: The classes that are exchanged where axis 0 is mirrored, so that it can be: pairs of names, or
            `auto` for the pairs that `sides` finds; `none` exchanges nothing. Only organs that mirror each other fit;
            the two ventricles of the heart do not. Axis 0 is left out all the same where a class of one side has no
            partner.
        gamma: The range (low, high) of the exponent, which is applied to intensities rescaled to [0, 1].
        gamma_probability: The probability of the exponent.
        quarter_turns: The axes about which a patch is turned by 0, 90, 180 or 270 degrees. Where the patch is not as
            long as it is wide, it is turned by 0 or 180 degrees.
        intensity_scale: The range (low, high) of a factor on all intensities.
        intensity_scale_probability: The probability of the factor.
        intensity_shift: The largest shift s. A number drawn from U(-s, s) is added to all intensities.
        intensity_shift_probability: The probability of the shift.
        noise_std: The standard deviation of Gaussian noise.
        noise_probability: The probability of the noise.
        drop_channel_probability: The probability that one channel is set to 0.
    """

    rotation_degrees: float = 15.0
    rotation_probability: float = 0.5
    scale: tuple[float, float] = (0.85, 1.15)
    scale_probability: float = 0.5
    mirror_axes: tuple[int, ...] = (0, 1, 2)
    mirror_probability: float = 0.5
    sides: Literal["auto", "none"] | tuple[str, ...] = "auto"
    mirror_pairs: Literal["auto", "none"] | tuple[tuple[str, str], ...] = "none"
    gamma: tuple[float, float] = (0.7, 1.5)
    gamma_probability: float = 0.2
    quarter_turns: tuple[int, ...] = ()
    intensity_scale: tuple[float, float] = (0.9, 1.1)
    intensity_scale_probability: float = 0.0
    intensity_shift: float = 0.1
    intensity_shift_probability: float = 0.0
    noise_std: float = 0.1
    noise_probability: float = 0.0
    drop_channel_probability: float = 0.0

    def problems(self) -> list[str]:
        """Return one sentence for each value that is out of range."""
        found = [
            message
            for field in fields(self)
            if field.name.endswith("_probability")
            for message in outside(field.name, getattr(self, field.name), 0.0, 1.0)
        ]
        found += outside("rotation_degrees", self.rotation_degrees, 0.0, 180.0)
        found += [
            f"{name} must be 0 < low <= high, got {pair}"
            for name, pair in (("scale", self.scale), ("gamma", self.gamma), ("intensity_scale", self.intensity_scale))
            if not 0 < pair[0] <= pair[1]
        ]
        found += below(0, intensity_shift=self.intensity_shift, noise_std=self.noise_std)
        found += wrong_axes("quarter_turns", self.quarter_turns)
        return found + wrong_axes("mirror_axes", self.mirror_axes)
