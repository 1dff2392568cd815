"""How visible a perturbation is: its size over the whole volume, beside the norm that bounds it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

# SSIM as Wang et al. (2004) and scikit-image define it: the means of a sliding window of so many voxels along an axis.
_WINDOW = 7
# A thinner window has no variance to compare.
_THINNEST = 3
# So many voxels are compared at once; the sliding window overlaps, so that the result is that of the whole volume.
_AT_ONCE = 4_000_000


@dataclass(frozen=True)
class Visibility:
    """How far a changed volume lies from the unchanged one, as a whole.

    Attributes:
        rms: The root mean square of the change over all voxels and channels, in the unit of eps.
        psnr_db: The peak signal-to-noise ratio in dB, with the intensity range as the peak: 20 log10(range / RMS).
            None where nothing is changed.
        ssim: The structural similarity of both volumes inside the intensity range, the mean over the channels; 1 where
            nothing is changed. None where scikit-image is missing, or where a channel is too small for its window.
    """

    rms: float
    psnr_db: float | None
    ssim: float | None


def visibility(
    unchanged: np.ndarray, changed: np.ndarray, bounds: tuple[tuple[float, float], ...], in_range: bool
) -> Visibility:
    """Measure how far a volume was changed.

    Args:
        unchanged: The intensities (c, *spatial).
        changed: The changed intensities, of the same shape.
        bounds: The intensity range (low, high) of each channel, or one pair for all channels.
        in_range: Whether eps is a share of the intensity range, and not an intensity.

    Returns:
        RMS, PSNR and SSIM.
    """
    pairs = [*bounds] * (len(unchanged) if len(bounds) == 1 else 1)
    ends = [(channel, low, high) for channel, (low, high) in enumerate(pairs)]
    squares = [_square(unchanged[channel], changed[channel]) for channel, _, _ in ends]
    share = math.sqrt(
        math.fsum(square / (high - low) ** 2 for square, (_, low, high) in zip(squares, ends, strict=True)) / len(ends)
    )
    size = share if in_range else math.sqrt(math.fsum(squares) / len(ends))
    if share == 0:
        return Visibility(0.0, None, 1.0)
    likeness = [_ssim(unchanged[channel], changed[channel], low, high) for channel, low, high in ends]
    known = [value for value in likeness if value is not None]
    return Visibility(
        size,
        -20 * math.log10(share),
        math.fsum(known) / len(known) if len(known) == len(ends) else None,
    )


def root_mean_square(unchanged: np.ndarray, changed: np.ndarray, unit: np.ndarray) -> float:
    """Return the root mean square of a change over all voxels and channels, in units.

    Args:
        unchanged: The intensities (c, *spatial).
        changed: The changed intensities, of the same shape.
        unit: What a change of each channel is measured in (c).
    """
    squares = [_square(a, b) / float(one) ** 2 for a, b, one in zip(unchanged, changed, unit, strict=True)]
    return math.sqrt(math.fsum(squares) / len(squares))


def _square(unchanged: np.ndarray, changed: np.ndarray) -> float:
    """The mean square of the change of one channel, plane by plane: a copy in 64 bits may not fit into memory."""
    planes = zip(unchanged, changed, strict=True)
    return math.fsum(float(np.square(b.astype(np.float64) - a).sum()) for a, b in planes) / unchanged.size


def _ssim(unchanged: np.ndarray, changed: np.ndarray, low: float, high: float) -> float | None:
    if _similarity() is None:
        return None
    pair = [array.reshape([length for length in array.shape if length > 1] or [1]) for array in (unchanged, changed)]
    thin = [axis for axis, length in enumerate(pair[0].shape) if length < _THINNEST]
    if len(thin) > 1 or pair[0].ndim - len(thin) < 2:
        return None
    planes = [np.moveaxis(array, thin[0], 0) for array in pair] if thin else [array[None] for array in pair]
    found = [_of_parts((a, b), low, high) for a, b in zip(*planes, strict=True)]
    return math.fsum(found) / len(found)


def _of_parts(pair: tuple[np.ndarray, np.ndarray], low: float, high: float) -> float:
    """The SSIM of two or three axes: the mean of those of parts, each as heavy as the places that its window takes."""
    similarity = _similarity()
    shape: tuple[int, ...] = pair[0].shape
    assert similarity is not None
    window = min(_WINDOW, (min(shape) - 1) // 2 * 2 + 1)
    total = 0.0
    for part, places in _parts(shape, window):
        shares = ((np.clip(array[part].astype(np.float64), low, high) - low) / (high - low) for array in pair)
        total += places * float(similarity(*shares, win_size=window, data_range=1.0))
    return total / (shape[0] - window + 1)


def _parts(shape: tuple[int, ...], window: int) -> Iterator[tuple[slice, int]]:
    """Slices along the first axis that overlap by the window, and how many places along it the window takes in each."""
    rows = max(1, _AT_ONCE // math.prod(shape[1:]))
    for start in range(0, shape[0] - window + 1, rows):
        places = min(rows, shape[0] - window + 1 - start)
        yield slice(start, start + places + window - 1), places


def _similarity() -> Callable[..., Any] | None:
    try:
        from skimage.metrics import structural_similarity
    except ModuleNotFoundError:  # the extra `report` is not installed
        return None
    found: Callable[..., Any] = structural_similarity
    return found
