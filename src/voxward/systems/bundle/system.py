"""A bundle of MONAI as a deployed system."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from voxward.core.case import Volume
from voxward.core.errors import UserError
from voxward.core.labels import LabelSet
from voxward.core.model import Box, VolumeModel
from voxward.pipeline.memory import fitting
from voxward.pipeline.model import PipelineModel, legal_range
from voxward.pipeline.predictor import Done, refuse_header
from voxward.pipeline.probabilities import probabilities_of
from voxward.pipeline.windows import sweep
from voxward.runs.folder import RunFolder, TrainedModel
from voxward.systems.bundle.boxes import Boxed, CropForeground, size3
from voxward.systems.bundle.config import config_file
from voxward.systems.bundle.definition import Bundle, read_bundle
from voxward.systems.bundle.intensities import Intensity, Normalize
from voxward.systems.bundle.member import BundleMember
from voxward.systems.bundle.steps import prepare
from voxward.systems.digest import digest, weights_digest
from voxward.systems.opening import Opening
from voxward.systems.system import Freeze, IntensityRange, Segmentation

_FRACTIONS = "the bundle interpolates class numbers (argmax before Invertd without nearest_interp); they are rounded"


@dataclass(frozen=True, kw_only=True)
class BundleEntry:
    """A bundle of MONAI in a `system.yaml`.

    Attributes:
        bundle: The folder that holds `configs` and `models`.
        config: The name of the configuration in `configs`, without its suffix.
        weights: The file of the weights in the folder; None takes what the configuration names, or models/model.pt.
        regions: For a network with one sigmoid per region: the label values in each region, by the name of its output.
        regions_class_order: For each region, as in `regions`, the label value that is written where it is found; later
            ones are written over earlier ones. None for nested regions.
        graphs: How many windows' graphs a gradient may hold in memory at once; figures do not depend on it.
        tta: `none`: MONAI averages no mirrored copies.
        name: The name in tables; None takes that of the folder.
    """

    bundle: str
    config: str = "inference"
    weights: str | None = None
    regions: Mapping[str, tuple[int, ...]] | None = None
    regions_class_order: tuple[int, ...] | None = None
    graphs: int = 0
    tta: Literal["none"] = "none"
    name: str | None = None


@dataclass(frozen=True, eq=False)
class BundleSystem:
    """A bundle of MONAI as it is deployed; implements System.

    Attributes:
        bundle: The bundle.
        on: The device of the network.
        title: The name in tables.
        graphs: How many windows' graphs a gradient may hold at once.
    """

    bundle: Bundle
    on: torch.device
    title: str
    graphs: int = 0

    @property
    def name(self) -> str:
        """The title."""
        return self.title

    @property
    def channels(self) -> tuple[str, ...]:
        """The names of the channels in metadata.json."""
        return self.bundle.channels

    @property
    def labels(self) -> LabelSet:
        """The classes, or regions, of metadata.json."""
        return self.bundle.labels

    @property
    def device(self) -> torch.device:
        """The device of the network."""
        return self.on

    @property
    def precision(self) -> str:
        """The network computes in float32, as MONAI's does on a CPU."""
        return "fp32"

    @property
    def runs(self) -> tuple[RunFolder, ...]:
        """None: this is no run of voxward."""
        return ()

    @cached_property
    def _weights(self) -> str:
        return weights_digest([self.bundle.network])

    def fingerprint(self) -> str:
        """Return a digest of weights, configuration and settings."""
        return digest(self._weights, list(self.bundle.definition.described), str(self.labels))

    def options(self) -> Mapping[str, Any]:
        """Return how the bundle is deployed."""
        return {
            "kind": "bundle",
            "config": self.bundle.definition.config.file.name,
            "network": self.bundle.definition.network[0],
            "weights": str(self.bundle.weights.relative_to(self.bundle.root)),
        }

    def check(self, channels: int, affine: np.ndarray) -> None:
        """Refuse a volume by its header; see System."""
        refuse_header(self.channels, channels, affine)

    def segment(
        self, volume: Volume, done: Done | None = None, whole: Volume | None = None, probabilities: bool = False
    ) -> Segmentation:
        """Segment a volume; see System."""
        _refuse_part(whole)
        member = self._bound(volume, hold=False)
        logits = _blended(member, _tensor(volume), done)
        ending = self.bundle.definition.ending
        # What the bundle saves counts regions in the order of the network's outputs.
        order = [self.bundle.outputs.index(place) for place in range(len(self.bundle.outputs))]
        with torch.no_grad():
            saved = ending.judge(logits[order], member.preparation)
            kept = None
            if probabilities:
                kept = probabilities_of(ending.scores(logits, member.preparation), self.labels).cpu().numpy()
        boxes = _boxes(member)
        notes = {"boxes": boxes} if boxes else {}
        return Segmentation(self._read(saved), notes, _FRACTIONS if ending.fractions else "", kept)

    def check_probabilities(self) -> None:
        """Do nothing: a bundle has probabilities."""

    def freeze(
        self, volume: Volume, how: Freeze = Freeze(), whole: Volume | None = None, inside: Box | None = None
    ) -> VolumeModel:
        """Bind the pipeline to a clean volume; see System."""
        _refuse_part(whole)
        member = self._bound(volume, hold=how.statistics == "frozen")
        return PipelineModel((member,), volume.spacing, self.labels.head, gradient=how.gradient)

    def check_gradient(self) -> None:
        """Do nothing: the whole pipeline has a gradient."""

    def notes(self, frozen: VolumeModel, found: Segmentation) -> Mapping[str, Any]:
        """Say whether the attacked file is cropped to another box than the clean one, which the attack held."""
        assert isinstance(frozen, PipelineModel)
        member = frozen.members[0]
        assert isinstance(member, BundleMember)
        return {} if found.notes.get("boxes", []) == _boxes(member) else {"crop_box_moved": True}

    def ranges(self, volume: Volume) -> Sequence[IntensityRange]:
        """Return the range of every channel: what the bundle clips to first, or else the volume's own."""
        return [IntensityRange(low, high, self._keeps_zero) for low, high in self._limits(_tensor(volume))]

    def network(self) -> TrainedModel:
        """Refuse: the network's window alone is not what is deployed.

        Raises:
            UserError: Always.
        """
        raise UserError("a bundle is attacked as a whole: mode 'patch' needs a run of voxward")

    @property
    def _keeps_zero(self) -> bool:
        """Whether voxels that are 0 in the file are treated apart."""
        before = []
        for step in self.bundle.definition.steps:
            if isinstance(step, CropForeground):
                return True
            if isinstance(step, Intensity):
                before.append(step)
                break
        return any(isinstance(step, Normalize) and step.nonzero for step in before)

    def _limits(self, x: Tensor) -> list[tuple[float, float]]:
        first = next((step for step in self.bundle.definition.steps if isinstance(step, Intensity)), None)
        own = [(float(channel.min()), float(channel.max())) for channel in x]
        pairs = (first.clips(x) if first is not None else None) or own
        return [legal_range(*pair) for pair in pairs]

    def _bound(self, volume: Volume, hold: bool) -> BundleMember:
        self.check(len(volume.array), volume.affine)
        x = _tensor(volume)
        with torch.no_grad():
            preparation, image = prepare(self.bundle.definition.steps, x, volume.affine, hold)
        return BundleMember(self.bundle, preparation, size3(image.shape[1:]), tuple(self._limits(x)), self.graphs)

    def _read(self, saved: Tensor) -> np.ndarray:
        """Class indices (i, j, k) of what the bundle saves."""
        labels, found = self.labels, saved[0]
        if labels.regions:
            found = labels.region_maps.to_labels(saved[list(self.bundle.outputs)] > 0)
        return found.cpu().numpy().astype(np.uint8 if labels.count <= 256 else np.uint16)


def open_bundle(entry: BundleEntry, opening: Opening) -> BundleSystem:
    """Open a bundle with the settings of an entry.

    Raises:
        FileNotFoundError: There is no such folder, or a file in it is missing.
        UserError: The bundle cannot be reproduced or read safely.
    """
    root = opening.path(entry.bundle)
    if not root.is_dir():
        raise FileNotFoundError(f"{opening.source}: there is no bundle {root}")
    bundle = read_bundle(root, entry.config, entry.weights, entry.regions, entry.regions_class_order, opening.device)
    return BundleSystem(bundle, opening.device, entry.name or root.resolve().name, entry.graphs)


def bundle_alone(path: Path) -> dict[str, Any] | None:
    """Return the entries of a bundle's folder; None if the path is none."""
    found = path.is_dir() and config_file(path) is not None and (path / "models").is_dir()
    return {"bundle": "."} if found else None


def bundle_entries(systems: Sequence[str]) -> dict[str, Any]:
    """Return the entries of a bundle.

    Raises:
        UserError: It is not one folder.
    """
    if len(systems) != 1:
        raise UserError(f"a bundle is one folder, got {len(systems)}")
    return {"bundle": systems[0]}


def _blended(member: BundleMember, x: Tensor, done: Done | None) -> Tensor:
    """The blended logits of a volume on the network's grid, without padding."""
    windows, inferer = member.cover, member.bundle.definition.inferer
    report = None if done is None else (lambda finished: done(finished, windows.count))
    with torch.no_grad():
        image = member.image(x[None])
        slabs = list(sweep(fitting(member.forward), image, windows, member.batch, report))
        return inferer.unpadded(torch.cat(slabs, windows.axis + 1), member.shape)


def _boxes(member: BundleMember) -> list[list[list[int]]]:
    """The ends, per axis, of every box that the volume was cut or padded to."""
    boxes = [step for step in member.preparation.steps if isinstance(step, Boxed)]
    return [[list(ends) for ends in zip(box.start, box.stop, strict=True)] for box in boxes]


def _tensor(volume: Volume) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(volume.array, np.float32))


def _refuse_part(whole: Volume | None) -> None:
    if whole is not None:
        raise UserError("a bundle cannot be a stage of a cascade of voxward")
