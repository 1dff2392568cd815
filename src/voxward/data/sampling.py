"""Training patches: where a patch lies is drawn first, then reading it is a deterministic function of the draw."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float, Integer
from torch import Tensor

from voxward.core.errors import UserError
from voxward.core.plan import Padding
from voxward.core.recipe import Sampling
from voxward.core.types import CaseLabels, Image, Size3
from voxward.data.padding import OUTSIDE, pad_amounts, pad_index, take


@runtime_checkable
class PatchSource(Protocol):
    """A prepared case of which parts can be read; `voxward.data.store.StoredCase` is one."""

    @property
    def id(self) -> str:
        """Return the case's id."""
        ...

    @property
    def shape(self) -> Size3:
        """Return the spatial shape (d, h, w)."""
        ...

    @property
    def classes(self) -> tuple[int, ...]:
        """Return the class indices that occur; the background (0) is ignored if it is listed."""
        ...

    def locations(self, k: int) -> np.ndarray:
        """Return voxels of a foreground class that occurs, or a choice of them.

        Args:
            k: The class's index.

        Returns:
            Coordinates (n, 3), n >= 1.
        """
        ...

    @property
    def annotated(self) -> np.ndarray | None:
        """Return annotated voxels, or a choice of them, as coordinates (n, 3); None where every voxel is annotated."""
        ...

    def image_region(self, start: Size3, stop: Size3) -> Tensor:
        """Return the image (c, ...) between two voxels, float32.

        Args:
            start: The first voxel.
            stop: The voxel after the last one.
        """
        ...

    def label_region(self, start: Size3, stop: Size3) -> Tensor:
        """Return the class indices between two voxels.

        Args:
            start: The first voxel.
            stop: The voxel after the last one.
        """
        ...


@dataclass(frozen=True)
class PatchDraw:
    """Where a patch lies.

    Attributes:
        case: The id of the case.
        start: The first voxel of the patch, in voxels of the case. It is negative if the case is smaller than the
            patch, which then begins in the padding.
    """

    case: str
    start: Size3


def draw_training_patch(source: PatchSource, size: Size3, sampling: Sampling, generator: torch.Generator) -> PatchDraw:
    """Draw a patch as a recipe says: around foreground, on the truth, or anywhere.

    Args:
        source: The case.
        size: The patch in voxels.
        sampling: The recipe's part on where patches lie.
        generator: The source of the random numbers, on the CPU.
    """
    if sampling.region == "truth" and torch.rand((), generator=generator).item() >= sampling.foreground:
        return draw_patch_on_truth(source, size, generator)
    share = 1.0 if sampling.region == "truth" else sampling.foreground
    return draw_patch(source, size, share, generator, sampling.place == "centre")


def draw_patch(
    source: PatchSource, size: Size3, foreground: float, generator: torch.Generator, centred: bool = True
) -> PatchDraw:
    """Draw a patch that holds a foreground voxel with some probability, and lies anywhere otherwise.

    A class is drawn uniformly among those present, then a voxel of it, so that rare classes are seen as often as large
    ones (ROG, section 3). The patch is centred on that voxel as far as the volume's edge allows, or it lies uniformly
    among all places where it holds the voxel. Otherwise, and in a case without foreground, it lies uniformly anywhere
    in the case, padded symmetrically to at least `size`; a case no larger than the patch has only its one centred
    patch. In a partly annotated case it is then centred on an annotated voxel instead, because a patch without any
    would teach nothing.

    Args:
        source: The case.
        size: The patch in voxels.
        foreground: The probability, in [0, 1], that it is drawn around a foreground voxel.
        generator: The source of the random numbers, on the CPU.
        centred: Whether the foreground voxel lies in the centre of the patch; False: anywhere in it.

    Raises:
        UserError: `foreground` is no probability.
    """
    if not 0 <= foreground <= 1:
        raise UserError(f"foreground must be a probability in [0, 1], got {foreground}")
    wanted = torch.rand((), generator=generator).item() < foreground
    voxel = draw_foreground_voxel(source, generator) if wanted else None
    if voxel is not None and not centred:
        return patch_holding(source, size, voxel, generator)
    voxel = voxel or draw_annotated_voxel(source, generator)
    if voxel is not None:
        return patch_around(source, size, voxel)
    low, high = _start_range(source.shape, size)
    i, j, k = (first + _below(last - first + 1, generator) for first, last in zip(low, high, strict=True))
    return PatchDraw(source.id, (i, j, k))


def draw_patch_on_truth(source: PatchSource, size: Size3, generator: torch.Generator) -> PatchDraw:
    """Draw a patch that holds a foreground voxel and does not leave the bounding box of the foreground.

    Along an axis on which the box is shorter than the patch, the patch covers the box. Both hold as far as the volume's
    edge allows. The box is that of the voxels that `locations` returns. In a case without foreground the patch lies
    anywhere.

    Args:
        source: The case.
        size: The patch in voxels.
        generator: The source of the random numbers, on the CPU.
    """
    voxel = draw_foreground_voxel(source, generator)
    if voxel is None:
        return draw_patch(source, size, 0.0, generator)
    known = np.concatenate([source.locations(k) for k in source.classes if k > 0])
    first, last = known.min(0).tolist(), known.max(0).tolist()
    low, high = _start_range(source.shape, size)
    start = []
    for n, edge in enumerate(size):
        ends = sorted((first[n], last[n] + 1 - edge))
        least, most = max(ends[0], voxel[n] + 1 - edge), min(ends[1], voxel[n])
        start.append(min(max(least + _below(most - least + 1, generator), low[n]), high[n]))
    i, j, k = start
    return PatchDraw(source.id, (i, j, k))


def draw_foreground_voxel(source: PatchSource, generator: torch.Generator) -> Size3 | None:
    """Draw a class uniformly among the foreground classes present, then a voxel of it.

    Args:
        source: The case.
        generator: The source of the random numbers, on the CPU.

    Returns:
        The voxel, or None for a case without foreground.
    """
    present = [k for k in source.classes if k > 0]
    if not present:
        return None
    locations = source.locations(present[_below(len(present), generator)])
    i, j, k = locations[_below(len(locations), generator)]
    return int(i), int(j), int(k)


def draw_annotated_voxel(source: PatchSource, generator: torch.Generator) -> Size3 | None:
    """Draw a voxel uniformly among the annotated ones of a partly annotated case.

    Args:
        source: The case.
        generator: The source of the random numbers, on the CPU.

    Returns:
        The voxel, or None for a case in which every voxel is annotated, or none.
    """
    known = source.annotated
    if known is None or not len(known):
        return None
    i, j, k = known[_below(len(known), generator)]
    return int(i), int(j), int(k)


def patch_around(source: PatchSource, size: Size3, voxel: Size3) -> PatchDraw:
    """Return the patch centred on a voxel, moved inwards where it would leave the symmetrically padded volume.

    Args:
        source: The case.
        size: The patch in voxels.
        voxel: The voxel in the centre.
    """
    low, high = _start_range(source.shape, size)
    i, j, k = (
        min(max(centre - length // 2, first), last)
        for centre, length, first, last in zip(voxel, size, low, high, strict=True)
    )
    return PatchDraw(source.id, (i, j, k))


def patch_holding(source: PatchSource, size: Size3, voxel: Size3, generator: torch.Generator) -> PatchDraw:
    """Draw a patch uniformly among those that hold a voxel and do not leave the symmetrically padded volume.

    Args:
        source: The case.
        size: The patch in voxels.
        voxel: The voxel.
        generator: The source of the random numbers, on the CPU.
    """
    low, high = _start_range(source.shape, size)
    start = []
    for place, length, first, last in zip(voxel, size, low, high, strict=True):
        least, most = max(place + 1 - length, first), min(place, last)
        start.append(least + _below(most - least + 1, generator))
    i, j, k = start
    return PatchDraw(source.id, (i, j, k))


def read_patch(
    source: PatchSource, draw: PatchDraw, size: Size3, source_size: Size3, padding: Padding
) -> tuple[Float[Tensor, "c d h w"], Integer[Tensor, "d h w"]]:
    """Read a patch and what lies around it.

    The patch begins (source_size - size) // 2 voxels inside the region that is read; the rest is what a rotation turns
    into view. Beyond the volume, image and label continue by the same padding rule, as `pad_to` continues the whole
    volume. Only the voxels needed are read.

    Args:
        source: The case.
        draw: Where the patch lies.
        size: The patch in voxels.
        source_size: The region in voxels, concentric with the patch.
        padding: The padding rule, see `padding.pad_index`.

    Returns:
        The image (c, d, h, w), float32, and the label (d, h, w) in the number type that the source stores.

    Raises:
        UserError: `source_size` is smaller than `size`, or the patch was drawn for another case.
    """
    if any(outer < inner for outer, inner in zip(source_size, size, strict=True)):
        raise UserError(f"source_size {source_size} must not be smaller than the patch {size}")
    if draw.case != source.id:
        raise UserError(f"the patch was drawn for case {draw.case!r}, but the case to read is {source.id!r}")
    index = [_region_index(*axis, padding) for axis in zip(source.shape, draw.start, size, source_size, strict=True)]
    i, j, k = (int(positions[positions != OUTSIDE].min()) for positions in index)
    start, stop = (i, j, k), _stop(index)
    local = [np.where(x == OUTSIDE, OUTSIDE, x - first) for x, first in zip(index, start, strict=True)]
    image: Image = take(source.image_region(start, stop), local)
    label: CaseLabels = take(source.label_region(start, stop), local)
    return image, label


def _region_index(length: int, start: int, size: int, source_size: int, padding: Padding) -> np.ndarray:
    first = start - (source_size - size) // 2
    return pad_index(length, -first, first + source_size - length, padding)


def _stop(index: list[np.ndarray]) -> Size3:
    i, j, k = (int(positions.max()) + 1 for positions in index)
    return i, j, k


def _start_range(shape: Size3, size: Size3) -> tuple[Size3, Size3]:
    before, _ = pad_amounts(shape, size)
    i, j, k = (max(length - patch, 0) for length, patch in zip(shape, size, strict=True))
    return (-before[0], -before[1], -before[2]), (i - before[0], j - before[1], k - before[2])


def _below(count: int, generator: torch.Generator) -> int:
    return int(torch.randint(count, (), generator=generator).item())
