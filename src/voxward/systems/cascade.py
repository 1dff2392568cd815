"""Coarse to fine: one system finds the region, a second one segments it.

Zhu et al., A 3D Coarse-to-Fine Framework for Volumetric Medical Image Segmentation, section 3.1: the coarse prediction
in the file's voxels -> small parts dropped -> their bounding box with a margin -> the fine system on the cropped
volume -> the box of the coarse prediction replaced. The two may be any systems; each prepares its own input.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from voxward.core.case import Volume
from voxward.core.channels import same_channels
from voxward.core.errors import UserError
from voxward.core.labels import LabelSet
from voxward.core.model import Box, VolumeModel
from voxward.core.registry import unknown_name
from voxward.core.types import Float3, Size3
from voxward.pipeline.predictor import Done
from voxward.pipeline.probabilities import agree, certain
from voxward.runs.components import drop_small_parts
from voxward.runs.folder import RunFolder, TrainedModel
from voxward.systems.cascade_model import CascadeModel, HeldBox
from voxward.systems.crop import bounding_box, crop, overlap, sides
from voxward.systems.deployment import Deployment, deployment_of
from voxward.systems.digest import digest
from voxward.systems.masks import masks_of
from voxward.systems.opening import Opening
from voxward.systems.region import WHERE, MarginUnit, Region
from voxward.systems.system import Freeze, IntensityRange, NotDifferentiable, Segmentation, System


@dataclass(frozen=True, kw_only=True)
class CascadeEntry(Region, Deployment):
    """A cascade in a `system.yaml`; the other entries are those of Region.

    Attributes:
        coarse: The run folder, `system.yaml` or written-out entry of the system that finds the region.
        fine: The same of the system that segments it.
        name: The name in tables; None takes the file's.
    """

    coarse: str | Mapping[str, Any]
    fine: str | Mapping[str, Any]
    name: str | None = None


@dataclass(frozen=True, eq=False)
class CascadeResult:
    """A cascade's segmentation, in the file's shape and voxel order.

    Attributes:
        label: Class indices (i, j, k) of the cascade's `labels`.
        coarse: Class indices (i, j, k) of the coarse system, nothing dropped, in its own classes.
        box: What the fine system saw; None when the coarse system found nothing to look at, so that `label` is the
            coarse result (background alone, where the coarse system only localises).
        probabilities: The probabilities (k, i, j, k), where they were asked for.
    """

    label: np.ndarray
    coarse: np.ndarray
    box: Box | None
    probabilities: np.ndarray | None = None

    @property
    def refined(self) -> bool:
        """Whether the fine system was run."""
        return self.box is not None


@dataclass(frozen=True, eq=False)
class CascadeSystem:
    """Two systems, and how the region that the first finds is handed to the second; implements System.

    The fine system prepares the cropped volume on its own, but normalises it by the whole volume's statistics, as it
    was trained: where its plan normalises by the case, those of a crop without air would be quite different ones.

    Attributes:
        coarse: The system that finds the region.
        fine: The system that segments it; its labels are the cascade's.
        region: How the region is found and handed over.
        title: The name in tables.

    Raises:
        UserError: The channels of the two differ, or their labels (unless the coarse one only localises), a class is
            unknown, or a number is out of range.
    """

    coarse: System
    fine: System
    region: Region = WHERE
    title: str = "cascade"

    def __post_init__(self) -> None:
        if found := [*self.region.problems(), *self._problems()]:
            raise UserError("; ".join(found))

    @property
    def name(self) -> str:
        """The title."""
        return self.title

    @property
    def channels(self) -> tuple[str, ...]:
        """The names of the channels, which mean the same for both systems."""
        return self.fine.channels

    @property
    def labels(self) -> LabelSet:
        """The fine system's classes or regions."""
        return self.fine.labels

    @property
    def device(self) -> torch.device:
        """The device of the fine system."""
        return self.fine.device

    @property
    def precision(self) -> str:
        """The number types of both systems, joined by + where they differ."""
        return "+".join(dict.fromkeys((self.fine.precision, self.coarse.precision)))

    @property
    def parts(self) -> tuple[System, System]:
        """The two stages."""
        return self.fine, self.coarse

    @property
    def runs(self) -> tuple[RunFolder, ...]:
        """The run folders of the fine system, then those of the coarse one."""
        return (*self.fine.runs, *self.coarse.runs)

    def fingerprint(self) -> str:
        """Return a digest of both fingerprints and of how the region is handed over."""
        options = {name: value for name, value in self.options().items() if name not in ("coarse", "fine", "stage")}
        return digest("cascade", options, self.coarse.fingerprint(), self.fine.fingerprint())

    def options(self) -> Mapping[str, Any]:
        """Return the settings of the cascade and of both systems."""
        region = {name: getattr(self.region, name) for name in Region.__dataclass_fields__}
        region["classes"] = list(self.region.classes)
        if self.region.fraction_of == WHERE.fraction_of:  # a newer entry: the digests of earlier cascades stay
            del region["fraction_of"]
        return {"kind": "cascade", **region, "coarse": dict(self.coarse.options()), "fine": dict(self.fine.options())}

    def check(self, channels: int, affine: np.ndarray) -> None:
        """Refuse a volume by its header; see System."""
        for system in (self.coarse, self.fine):
            system.check(channels, affine)

    def segment(
        self, volume: Volume, done: Done | None = None, whole: Volume | None = None, probabilities: bool = False
    ) -> Segmentation:
        """Segment a volume; see System. The notes hold the box as [start, stop] per axis, None where there is none."""
        result = self.refine(volume, done, whole, probabilities)
        warning = "" if result.refined else "the coarse model found nothing: the prediction is empty"
        return Segmentation(result.label, {"box": sides(result.box)}, warning, result.probabilities)

    def check_probabilities(self) -> None:
        """Refuse systems without probabilities; see System. A system that only localises needs none."""
        for system in (self.fine,) if self.region.localise_only else (self.coarse, self.fine):
            system.check_probabilities()

    def refine(
        self, volume: Volume, done: Done | None = None, whole: Volume | None = None, probabilities: bool = False
    ) -> CascadeResult:
        """Segment a volume and keep what the coarse system said; the arguments are those of `segment`.

        Probabilities are those of the fine system inside the box and those of the coarse one outside of it. Where the
        coarse result was changed there (a small part was dropped), they are certain of what the class map says.
        """
        self.check(volume.array.shape[0], volume.affine)
        localising = self.region.localise_only
        coarse, kept, found, box = self._located(volume, done, whole, probabilities and not localising)
        if localising:
            kept = np.zeros_like(kept)
        scores = self._outside(coarse, kept) if probabilities else None
        if box is None:
            return CascadeResult(kept, coarse.label, None, scores)
        part = crop(volume, box, found if self.region.mask_outside else None)
        fine = self.fine.segment(part, done, whole or volume, probabilities)
        if scores is not None:
            scores[(slice(None), *box)] = fine.probabilities
        return CascadeResult(_replaced(kept, box, fine.label), coarse.label, box, scores)

    def _outside(self, coarse: Segmentation, kept: np.ndarray) -> np.ndarray:
        """The probabilities of the coarse system, as far as they say what it kept."""
        i, j, k = kept.shape
        found = certain(self.labels, (i, j, k)) if coarse.probabilities is None else coarse.probabilities
        agree(found, kept, self.labels)
        return found

    def freeze(
        self, volume: Volume, how: Freeze = Freeze(), whole: Volume | None = None, inside: Box | None = None
    ) -> VolumeModel:
        """Bind both systems to a clean volume, whose box is held from then on; see System.

        With the stage `coarse` the model is the coarse system on the whole volume, so that the fine one is misled; with
        `fine` the fine system in the box, background around it. Without a box it is the coarse system, whose result
        is then the cascade's. A cascade without a gradient is bound through its masks, and holds no box.
        """
        self.check(volume.array.shape[0], volume.affine)
        try:
            self.check_gradient()
        except NotDifferentiable as error:
            return masks_of(self, volume, str(error))
        return self.frozen(volume, self._located(volume, None, whole)[3], how, whole, inside)

    def frozen(
        self,
        volume: Volume,
        box: Box | None,
        how: Freeze = Freeze(),
        whole: Volume | None = None,
        inside: Box | None = None,
    ) -> HeldBox:
        """Bind both systems to a clean volume with a box that is given; see `freeze`.

        Raises:
            NotDifferentiable: The cascade has no gradient.
        """
        self.check_gradient()
        stage = self.region.stage
        if box is None or stage == "coarse":
            return HeldBox(self.coarse.freeze(volume, how, whole, inside), box, stage)
        place = box if inside is None else tuple(
            slice(outer.start + own.start, outer.start + own.stop) for outer, own in zip(inside, box, strict=True)
        )  # fmt: skip
        fine = self.fine.freeze(crop(volume, box), how, whole or volume, place)
        if stage == "fine":
            return HeldBox(fine, box, stage)
        coarse = self.coarse.freeze(volume, how, whole, inside)
        return HeldBox(CascadeModel(coarse, fine, place, how.gradient), box, stage)

    def check_gradient(self) -> None:
        """Refuse a cascade that looks for single classes, only localises, or masks the volume; see System.

        Raises:
            NotDifferentiable: It is such a cascade, or one of its systems has no gradient.
            UserError: Such a cascade is to be attacked in one of its stages alone.
        """
        try:
            self._check_gradient()
        except NotDifferentiable as error:
            if self.region.stage != "both":
                raise UserError(f"{error}: such a cascade is attacked whole, and stage must be 'both'") from error
            raise NotDifferentiable(str(error), masks=True) from error

    def _check_gradient(self) -> None:
        region, legal = self.region, WHERE
        wrong = [
            f"{name} must be {getattr(legal, name)!r}, got {getattr(region, name)!r}"
            for name in ("classes", "localise_only", "mask_outside")
            if getattr(region, name) != getattr(legal, name)
        ]
        if wrong:
            raise NotDifferentiable(f"{self.name} is a cascade without a gradient: {'; '.join(wrong)}")
        for system in (self.coarse, self.fine):
            system.check_gradient()

    def notes(self, frozen: VolumeModel, found: Segmentation) -> Mapping[str, Any]:
        """Return the stage, the held box, the box that was found, and the share of their union that both hold.

        A cascade without a gradient holds no box.
        """
        if not isinstance(frozen, HeldBox):
            return {"stage": self.region.stage, "box_found": found.notes["box"]}
        return {
            "stage": self.region.stage,
            "box_held": sides(frozen.box),
            "box_found": found.notes["box"],
            "box_overlap": overlap(sides(frozen.box), found.notes["box"]),
        }

    def ranges(self, volume: Volume) -> Sequence[IntensityRange]:
        """Return the ranges of the fine system; see System."""
        return self.fine.ranges(volume)

    def network(self) -> TrainedModel:
        """Raise UserError: a cascade has two networks."""
        raise UserError(f"{self.name} is a cascade, and has no single network")

    def _located(
        self, volume: Volume, done: Done | None, whole: Volume | None, probabilities: bool = False
    ) -> tuple[Segmentation, np.ndarray, np.ndarray, Box | None]:
        """What the coarse system says, its class map without small parts, the mask of what is looked for, its box."""
        coarse = self.coarse.segment(volume, done, whole, probabilities)
        kept = drop_small_parts(coarse.label, self.region.fraction, self._wanted, self.region.fraction_of)
        found = np.isin(kept, self._wanted)
        margin = _margin_voxels(self.region.margin, self.region.margin_unit, volume.spacing)
        return coarse, kept, found, bounding_box(found, margin)

    @property
    def _wanted(self) -> tuple[int, ...]:
        """The class indices that are looked for."""
        names = self.coarse.labels.names
        classes = self.region.classes
        return tuple(map(names.index, classes)) if classes else tuple(range(1, len(names)))

    def _problems(self) -> list[str]:
        coarse, fine = self.coarse.labels.predicted, self.fine.labels.predicted
        known = dict.fromkeys(coarse.foreground)
        wanted = self.region.classes
        found = [unknown_name("class of the coarse model", name, known) for name in wanted if name not in known]
        first, second = self.coarse.channels, self.fine.channels
        if not same_channels(first, second):
            found.append(f"the coarse model's channels {', '.join(first)} are not the fine one's {', '.join(second)}")
        if coarse != fine and not self.region.localise_only:
            found.append(
                f"the coarse model's labels {_listed(coarse)} are not the fine one's {_listed(fine)}: "
                "set localise_only if the coarse model is only to say where to look"
            )
        return found


def cascade_entries(systems: Sequence[str]) -> dict[str, Any]:
    """Return the entries of a cascade whose coarse and fine system are given.

    Raises:
        UserError: They are not two.
    """
    if len(systems) != 2:
        raise UserError(f"a cascade has two systems, the coarse one and the fine one, got {len(systems)}")
    return {"coarse": systems[0], "fine": systems[1]}


def open_cascade(entry: CascadeEntry, opening: Opening) -> CascadeSystem:
    """Open the two systems of a cascade entry and join them.

    Raises:
        UserError: They do not fit each other, or one of them cannot be opened.
    """
    settings = deployment_of(entry)
    coarse, fine = opening.open(entry.coarse, settings), opening.open(entry.fine, settings)
    region = Region(**{name: getattr(entry, name) for name in Region.__dataclass_fields__})
    return CascadeSystem(coarse, fine, region, entry.name or opening.name)


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
