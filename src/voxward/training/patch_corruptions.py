"""What scanners do to a scan, on a patch and on its device: those corruptions of a set that act locally.

Each is the same change as that of its kind in `corruptions`, for a patch that is a part of a scan. The numbers are
those of the packaged set, and stand nowhere else. Parameters are drawn first, on the CPU, and then applied.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import torch
from jaxtyping import Float
from scipy.ndimage import gaussian_filter1d
from torch import Tensor

from voxward.core.errors import UserError
from voxward.core.registry import Registry, unknown_name
from voxward.core.types import Float3, Images
from voxward.corruptions.contrast import BIAS_ORDER
from voxward.corruptions.corruption_set import CorruptionSet, load_corruption_set
from voxward.corruptions.scan import WIDE
from voxward.corruptions.sharpness import FEWEST_SAMPLES
from voxward.training.origin import Origin

T = TypeVar("T")

SET = "rood-mri"
SEVERITIES = (1, 2, 3)
"""The severities that are trained on: 4 and 5 are kept for measuring."""

Patch = Float[Tensor, "d h w"]
Levels = Mapping[str, Any]
Parameters = Mapping[str, Any]


@dataclass(frozen=True)
class Place:
    """What a corruption must know of a patch.

    Attributes:
        shape: The number of voxels of the patch along each axis.
        spacing: The voxel size in mm.
        covered: The share (0 to 1) of its scan that the patch covers along each axis.
        extent: The size of the scan in mm along each axis.
        high: The upper end of the scan's intensity range, above its zero.
    """

    shape: tuple[int, int, int]
    spacing: Float3
    covered: Float3
    extent: Float3
    high: float

    @property
    def wide_axes(self) -> tuple[int, ...]:
        """Return the axes along which a scanner might have encoded the scan: not those across a slab."""
        lengths = {
            axis: n / share for axis, (n, share) in enumerate(zip(self.shape, self.covered, strict=True)) if n > 1
        }
        return tuple(axis for axis, n in lengths.items() if n >= WIDE * max(lengths.values()))


Draw = Callable[[Levels, Place, torch.Generator], Parameters]
Apply = Callable[[Patch, Parameters], Patch]


@dataclass(frozen=True)
class PatchCorruption:
    """A corruption of a patch of one channel.

    Attributes:
        draw: Draws the parameters from the levels of a severity, the place of the patch, and random numbers.
        apply: Applies them to the intensities (d, h, w) above the scan's zero.
    """

    draw: Draw
    apply: Apply


def draw_gamma(levels: Levels, place: Place, generator: torch.Generator) -> Parameters:
    """Take the exponent; nothing is drawn."""
    return {"gamma": float(levels["gamma"]), "high": place.high}


def gamma(x: Patch, parameters: Parameters) -> Patch:
    """Raise intensities to a power; 0 and the upper end of the range stay.

    Args:
        x: The intensities (d, h, w), at least 0.
        parameters: `gamma`, and `high`, the upper end of the range.
    """
    high = torch.clamp_min(x.amax(), parameters["high"]).clamp_min(torch.finfo(x.dtype).tiny)
    powered: Tensor = (x.clamp_min(0) / high) ** parameters["gamma"] * high
    return powered


def draw_bias_field(levels: Levels, place: Place, generator: torch.Generator) -> Parameters:
    """Draw the coefficients of the field's logarithm, and where in its scan the patch lies.

    The mean of the logarithm over the scan is 0, so that the field is no mere scale.
    """
    size = BIAS_ORDER + 1
    powers = torch.arange(size)
    order = powers[:, None, None] + powers[:, None] + powers
    drawn = _signed(generator, size, size, size) * float(levels["coefficient"]) * (order <= BIAS_ORDER)
    # The mean of an even power x^n over [-1, 1] is 1 / (n + 1); that of an odd one is 0.
    means = torch.where(powers % 2 == 0, 1.0 / (powers + 1), 0.0).double()
    drawn[0, 0, 0] = 0.0
    drawn[0, 0, 0] = -torch.einsum("abc,a,b,c->", drawn, means, means, means)
    covered = torch.tensor(place.covered, dtype=torch.float64)
    return {"coefficients": drawn, "centre": (1 - covered) * _signed(generator, 3), "half": covered}


def bias_field(x: Patch, parameters: Parameters) -> Patch:
    """Multiply by the exponential of a polynomial.

    Args:
        x: The intensities (d, h, w) above the scan's zero.
        parameters: `coefficients` (4, 4, 4) of the powers of each axis, and the `centre` and `half` the length (3) of
            the patch along each axis, where the scan reaches from -1 to 1.
    """
    powers = []
    for n, centre, half in zip(x.shape, parameters["centre"], parameters["half"], strict=True):
        places = torch.linspace(-1, 1, n, dtype=torch.float64) if n > 1 else torch.zeros(1, dtype=torch.float64)
        powers.append((centre + half * places) ** torch.arange(BIAS_ORDER + 1)[:, None])
    inputs = [each.to(x) for each in (parameters["coefficients"], *powers)]
    return x * torch.einsum("abc,ai,bj,ck->ijk", *inputs).exp()


def draw_rician(levels: Levels, place: Place, generator: torch.Generator) -> Parameters:
    """Take the share of the standard deviation, and draw the seed of the noise."""
    return {"share": float(levels["share"]), "seed": int(torch.randint(2**62, (1,), generator=generator))}


def rician(x: Patch, parameters: Parameters) -> Patch:
    """Add Gaussian noise to the real and the imaginary part of a signal and take its magnitude.

    Args:
        x: The intensities (d, h, w) above the scan's zero.
        parameters: `share`, the standard deviation as a share of that of the voxels above the mean, and `seed`.
    """
    source = torch.Generator().manual_seed(parameters["seed"])
    real, imaginary = torch.randn(2, *x.shape, generator=source).to(x)
    sd = parameters["share"] * foreground_deviation(x)
    return torch.hypot(x + sd * real, sd * imaginary)


def foreground_deviation(x: Patch) -> Tensor:
    """Return the standard deviation of the voxels above the mean, where air and background are not.

    Args:
        x: The intensities (d, h, w).
    """
    bright = (x > x.mean()).to(x)
    count = bright.sum().clamp_min(1)
    mean = (x * bright).sum() / count
    return (((x - mean) * bright).square().sum() / count).sqrt()


def draw_smoothing(levels: Levels, place: Place, generator: torch.Generator) -> Parameters:
    """Return the standard deviation in voxels along each axis; nothing is drawn."""
    full = levels["full_extent_mm"]
    scales = [1.0 if full is None else min(1.0, length / full) for length in place.extent]
    sizes = [float(levels["sd_mm"]) * scale / mm for scale, mm in zip(scales, place.spacing, strict=True)]
    return {"sd": tuple(sizes)}


def smoothing(x: Patch, parameters: Parameters) -> Patch:
    """Convolve with a Gaussian.

    Args:
        x: The intensities (d, h, w).
        parameters: `sd`, the standard deviation in voxels along each axis.
    """
    for axis, sd in enumerate(parameters["sd"]):
        x = along(gaussian_filter1d(np.eye(x.shape[axis]), sd, axis=0), x, axis)
    return x


def draw_downsampling(levels: Levels, place: Place, generator: torch.Generator) -> Parameters:
    """Draw the axis, and where the first sample lies; a short axis keeps two samples."""
    axis = _one_of(place.wide_axes, generator)
    longest = place.shape[axis] / place.covered[axis] / FEWEST_SAMPLES
    factor = max(1.0, min(float(levels["factor"]), longest))
    return {"axis": axis, "factor": factor, "phase": float(torch.rand(1, generator=generator))}


def downsampling(x: Patch, parameters: Parameters) -> Patch:
    """Take fewer samples along an axis, each from its nearest voxel, and go back by linear interpolation.

    Args:
        x: The intensities (d, h, w).
        parameters: `axis`, `factor` (at least 1), and `phase`, the place of the first sample in units of the factor.
    """
    return along(downsampling_matrix(x.shape[parameters["axis"]], **_but_axis(parameters)), x, parameters["axis"])


def downsampling_matrix(n: int, factor: float, phase: float) -> np.ndarray:
    """Return the matrix (n, n) that takes fewer samples and interpolates between them.

    Args:
        n: The number of voxels.
        factor: The distance between two samples in voxels.
        phase: Where the first sample lies, as a share (0 to 1) of this distance; there is one before it, too.
    """
    places = (phase - 1) * factor + factor * np.arange(int(np.ceil(n / factor)) + 2)
    nearest = np.clip(np.floor(places + 0.5), 0, n - 1).astype(int)
    positions = np.arange(n)
    before = np.clip(np.floor((positions - places[0]) / factor).astype(int), 0, len(places) - 2)
    share = np.clip((positions - places[before]) / factor, 0, 1)
    found = np.zeros((n, n))
    np.add.at(found, (positions, nearest[before]), 1 - share)
    np.add.at(found, (positions, nearest[before + 1]), share)
    return found


def draw_ghosting(levels: Levels, place: Place, generator: torch.Generator) -> Parameters:
    """Draw the axis of the phase, which is not across a slab."""
    axis = _one_of(place.wide_axes, generator)
    return {"axis": axis, "ghosts": int(levels["ghosts"]), "intensity": float(levels["intensity"])}


def ghosting(x: Patch, parameters: Parameters) -> Patch:
    """Weaken every n-th plane of k-space, but not the central one.

    Args:
        x: The intensities (d, h, w).
        parameters: `axis`, `ghosts` (n), and `intensity`, by which a plane is weakened: 1 takes it away.
    """
    return along(ghosting_matrix(x.shape[parameters["axis"]], **_but_axis(parameters)), x, parameters["axis"])


def ghosting_matrix(n: int, ghosts: int, intensity: float) -> np.ndarray:
    """Return the matrix (n, n) of the change of k-space along one axis: only its real part reaches the image.

    Args:
        n: The number of voxels.
        ghosts: Every so many planes one is weakened, from the first on.
        intensity: By what share; above 1 it changes the sign.
    """
    factors = np.ones(n)
    factors[::ghosts] -= intensity
    factors[n // 2] = 1.0
    spectrum = np.fft.fftshift(np.fft.fft(np.eye(n), axis=0), axes=0)
    changed: np.ndarray = np.fft.ifft(np.fft.ifftshift(factors[:, None] * spectrum, axes=0), axis=0).real
    return changed


def along(matrix: np.ndarray, x: Patch, axis: int) -> Patch:
    """Apply a linear map to every line of voxels along an axis.

    Args:
        matrix: The map (n, n).
        x: The intensities (d, h, w), with n voxels along the axis.
        axis: The axis.
    """
    found: Tensor = torch.tensordot(torch.from_numpy(matrix).to(x), x, dims=([1], [axis]))
    return found.movedim(0, axis)


PATCH_CORRUPTIONS: Registry[PatchCorruption] = Registry(
    "corruption of a patch",
    {
        "gamma": PatchCorruption(draw_gamma, gamma),
        "bias-field": PatchCorruption(draw_bias_field, bias_field),
        "rician-noise": PatchCorruption(draw_rician, rician),
        "smoothing": PatchCorruption(draw_smoothing, smoothing),
        "downsampling": PatchCorruption(draw_downsampling, downsampling),
        "ghosting": PatchCorruption(draw_ghosting, ghosting),
    },
)
"""By the kind of the corruption, as `corruptions` names it."""


@dataclass(frozen=True)
class PatchCorruptions:
    """The corruptions that are trained on.

    Attributes:
        whole: The packaged set, which holds the numbers.
        names: The names of those that are trained on.
    """

    whole: CorruptionSet
    names: tuple[str, ...]

    @classmethod
    def chosen(cls, names: Sequence[str] = ()) -> PatchCorruptions:
        """Read the set and choose from it.

        Args:
            names: The names of the corruptions; empty for all that act locally.

        Raises:
            UserError: The set has no such corruption, or it moves voxels of the whole scan.
        """
        whole = load_corruption_set(SET)
        local = [name for name, entry in whole.corruptions.items() if (entry.kind or name) in PATCH_CORRUPTIONS]
        for name in names:
            if name in whole.corruptions and name not in local:
                raise UserError(
                    f"defence.corruptions: {name} moves voxels of the whole scan and cannot be applied to a patch; "
                    f"those that can: {', '.join(local)}"
                )
            if name not in local:
                raise UserError("defence.corruptions: " + unknown_name("corruption", name, dict.fromkeys(local)))
        return cls(whole, tuple(names) or tuple(local))

    def corrupted(
        self, images: Images, ranges: Float[Tensor, "1 c 2"], origin: Origin | None, generator: torch.Generator
    ) -> Images:
        """Draw a corruption and a severity for a patch, and apply it to each channel with parameters of its own.

        A channel that is not of a kind that the set is made for, such as the CT beside an MR, stays as it is.

        Args:
            images: The patch (1, c, d, h, w), normalised.
            ranges: The intensity range of each channel.
            origin: How the intensities came about; None for a patch that has no file.
            generator: The source of the random numbers, on the CPU.

        Returns:
            The patch as the preparation would make it of the corrupted file.
        """
        name = _one_of(self.names, generator)
        levels = self.whole.levels(name, _one_of(SEVERITIES, generator))
        kind = PATCH_CORRUPTIONS[self.whole.corruptions[name].kind or name]
        found, names = list(images[0]), () if origin is None else origin.channels
        for channel in self.whole.changes(names) if names else range(len(found)):
            x, base, place = above_zero(images, ranges, origin, channel)
            found[channel] = base + kind.apply(x, kind.draw(levels, place, generator))
        changed = torch.stack(found)[None]
        return changed if origin is None else origin.prepared(changed, images, ranges)


def above_zero(
    images: Images, ranges: Float[Tensor, "1 c 2"], origin: Origin | None, channel: int
) -> tuple[Patch, Tensor, Place]:
    """Return the intensities of a channel above the zero of its file, and what is known of the patch.

    Where a scan has intensities below 0, as a CT has, its least one counts as the zero.

    Args:
        images: The patch (1, c, d, h, w), normalised.
        ranges: The intensity range of each channel.
        origin: How the intensities came about; None for a patch that has no file.
        channel: The channel.

    Returns:
        The intensities (d, h, w), of air 0; what was subtracted; and the place of the patch.
    """
    x = images[0, channel]
    d, h, w = x.shape
    base = x.amin()
    if origin is not None:
        base = torch.minimum(base, origin.zero[0, channel].to(x))
    above = x - base
    high = float(ranges[0, channel, 1].to(x) - base)
    if origin is None:
        return above, base, Place((d, h, w), (1.0,) * 3, (1.0,) * 3, (math.inf,) * 3, high)
    if origin.air is not None:
        above = above.masked_fill(origin.air[0, channel], 0.0)
    covered, extent = (_three(each[0]) for each in (origin.covered, origin.extent))
    return above, base, Place((d, h, w), origin.spacing, covered, extent, high)


def _three(values: Tensor) -> Float3:
    i, j, k = values.tolist()
    return i, j, k


def _signed(generator: torch.Generator, *shape: int) -> Tensor:
    """Numbers that are uniform in [-1, 1]."""
    return 2 * torch.rand(*shape, generator=generator, dtype=torch.float64) - 1


def _one_of(values: Sequence[T], generator: torch.Generator) -> T:
    return values[int(torch.randint(len(values), (1,), generator=generator))]


def _but_axis(parameters: Parameters) -> dict[str, Any]:
    return {name: value for name, value in parameters.items() if name != "axis"}
