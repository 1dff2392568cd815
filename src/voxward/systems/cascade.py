"""Coarse to fine: one model finds the region, a second one segments it; either may be an ensemble.

Zhu et al., A 3D Coarse-to-Fine Framework for Volumetric Medical Image Segmentation, section 3.1: the coarse prediction
in the file's geometry -> small parts dropped -> their bounding box with a margin -> the fine model on the cropped
volume -> the box of the coarse prediction replaced. The two may be any trained models; each prepares its own input.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from voxward.core.case import Volume
from voxward.core.errors import UserError
from voxward.core.labels import LabelSet
from voxward.core.model import Box
from voxward.core.registry import unknown_name
from voxward.core.types import Float3, Size3
from voxward.runs.postprocess import drop_small_parts
from voxward.systems.ensemble import Deployed

MarginUnit = Literal["voxels", "mm"]
Done = Callable[[int, int], None]


@dataclass(frozen=True, eq=False)
class CascadeResult:
    """A cascade's segmentation, in the file's shape and voxel order.

    label: (i, j, k) class indices, of the cascade's `labels`. coarse: (i, j, k) what the coarse model said, nothing
    dropped, in its own classes. box: what the fine model saw; None when the coarse model found nothing to look at, so
    that `label` is the coarse result (background alone, where the coarse model only localises).
    """

    label: np.ndarray
    coarse: np.ndarray
    box: Box | None

    @property
    def refined(self) -> bool:
        """Whether the fine model was run."""
        return self.box is not None


@dataclass(frozen=True, eq=False)
class Cascade:
    """Two trained models, and how the region that the first finds is handed to the second.

    margin: how far the box reaches beyond what was found, on every side, in voxels of the file or in mm; rounded up to
    whole voxels and clipped to the volume. fraction: components below this share of all that was found are dropped
    before the box is drawn; 0 keeps all. classes: names of the coarse classes that are looked for; () means all
    foreground. mask_outside: set the cropped image to 0 (in the file's unit) where nothing was found, as equation 4
    of the paper literally says; the margin then shows the fine model nothing. localise_only: the coarse model only
    says where to look; its classes need not be the fine model's, and all outside the box is background.

    The fine model prepares the cropped volume on its own, but normalises it by the whole volume's figures, as it was
    trained: where its plan normalises by the case, those of a crop without air would be quite different ones.
    The paper does not say how large the margin is: 20 voxels is that of OrganSegC2F, its authors' earlier system.

    Raises ValueError when the two models' channels differ, or their labels (unless `localise_only`), for an unknown
    class, and for a margin, unit or fraction out of range.
    """

    coarse: Deployed
    fine: Deployed
    margin: float = 20.0
    margin_unit: MarginUnit = "voxels"
    fraction: float = 0.2
    classes: tuple[str, ...] = ()
    mask_outside: bool = False
    localise_only: bool = False

    def __post_init__(self) -> None:
        found = [*self._setting_problems(), *self._model_problems()]
        if found:
            raise UserError("; ".join(found))

    @property
    def labels(self) -> LabelSet:
        """The classes of the result: the fine model's."""
        return self.fine.model.plan.labels

    def segment(self, volume: Volume, done: Done | None = None) -> CascadeResult:
        """Segment a volume (c, i, j, k).

        Raises ValueError when it does not fit either model, before any of them runs. `done(windows, of)` reports the
        progress of the coarse and then of the fine model.
        """
        for predictor in (self.coarse, self.fine):
            predictor.check(volume.array.shape[0], volume.affine)
        coarse = self.coarse.segment(volume, done)
        kept = drop_small_parts(coarse, self.fraction, self._wanted)
        found = np.isin(kept, self._wanted)
        box = bounding_box(found, _margin_voxels(self.margin, self.margin_unit, volume.spacing))
        if self.localise_only:
            kept = np.zeros_like(kept)
        if box is None:
            return CascadeResult(kept, coarse, None)
        part = crop(volume, box, found if self.mask_outside else None)
        fine = self.fine.segment(part, done, volume)
        return CascadeResult(_replaced(kept, box, fine), coarse, box)

    @property
    def _wanted(self) -> tuple[int, ...]:
        """The class indices that are looked for."""
        names = self.coarse.model.plan.labels.names
        return tuple(map(names.index, self.classes)) if self.classes else tuple(range(1, len(names)))

    def _setting_problems(self) -> list[str]:
        found = []
        if not 0 <= self.margin < math.inf:
            found.append(f"margin must be a finite number >= 0, got {self.margin}")
        if self.margin_unit not in get_args(MarginUnit):
            found.append(f"margin_unit must be one of {', '.join(get_args(MarginUnit))}, got {self.margin_unit!r}")
        if not 0 <= self.fraction <= 1:
            found.append(f"fraction must be in [0, 1], got {self.fraction}")
        return found

    def _model_problems(self) -> list[str]:
        coarse, fine = (predictor.model.plan.labels for predictor in (self.coarse, self.fine))
        known = dict.fromkeys(coarse.foreground)
        found = [unknown_name("class of the coarse model", name, known) for name in self.classes if name not in known]
        first, second = ([c.name for c in stage.model.plan.channels] for stage in (self.coarse, self.fine))
        if first != second:
            found.append(f"the coarse model's channels {', '.join(first)} are not the fine one's {', '.join(second)}")
        if coarse != fine and not self.localise_only:
            found.append(
                f"the coarse model's labels {_listed(coarse)} are not the fine one's {_listed(fine)}: "
                "set localise_only if the coarse model is only to say where to look"
            )
        return found


def bounding_box(mask: np.ndarray, margin: Size3 = (0, 0, 0)) -> Box | None:
    """The smallest box with every voxel of `mask` (i, j, k) and `margin` voxels on both sides, as far as it goes.

    None when the mask is empty.
    """
    sides = []
    for axis, (length, wider) in enumerate(zip(mask.shape, margin, strict=True)):
        places = np.flatnonzero(mask.any(axis=tuple(other for other in range(3) if other != axis)))
        if not len(places):
            return None
        sides.append(slice(max(int(places[0]) - wider, 0), min(int(places[-1]) + 1 + wider, length)))
    return tuple(sides)


def crop(volume: Volume, box: Box, mask: np.ndarray | None = None) -> Volume:
    """The part of a volume (c, i, j, k) in `box`, lying in space where it lay; with a `mask` (i, j, k), 0 outside it.

    Without a mask the array is a view.
    """
    array, affine = volume.array[(slice(None), *box)], volume.affine.astype(np.float64)
    affine[:3, 3] += affine[:3, :3] @ [side.start for side in box]
    return Volume(array if mask is None else np.where(mask[box], array, array.dtype.type(0)), affine)


def _replaced(label: np.ndarray, box: Box, part: np.ndarray) -> np.ndarray:
    """A class map with `box` replaced by `part`: DeCrop, equation 5."""
    whole = label.astype(np.result_type(label, part))
    whole[box] = part
    return whole


def _margin_voxels(margin: float, unit: MarginUnit, spacing: Float3) -> Size3:
    """The margin along i, j, k in whole voxels; spacing in mm."""
    # A margin of 7.5 mm is three voxels of 2.5 mm, also where the affine's columns give 2.4999999.
    i, j, k = (math.ceil(margin / (1.0 if unit == "voxels" else length) - 1e-6) for length in spacing)
    return i, j, k


def _listed(labels: LabelSet) -> str:
    classes = ", ".join(f"{value} {name}" for name, value in zip(labels.names, labels.values, strict=True))
    return classes + (f" (regions {', '.join(labels.scored)})" if labels.regions else "")
