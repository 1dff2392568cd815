"""A trained run as a deployed system."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch

from voxward.core.case import Volume
from voxward.core.errors import UserError
from voxward.core.labels import LabelSet
from voxward.core.model import Box, VolumeModel
from voxward.core.structure import to_data
from voxward.data.normalization import normalization_of
from voxward.data.prepare import measured
from voxward.pipeline.model import PipelineModel, legal_range
from voxward.pipeline.precision import resolve_precision
from voxward.pipeline.predictor import Done, Predictor
from voxward.pipeline.probabilities import certain
from voxward.runs.folder import RunFolder, TrainedModel, load_run
from voxward.runs.postprocess import PostProcess
from voxward.systems.deployment import Deployment, deployment_of
from voxward.systems.digest import digest, weights_digest
from voxward.systems.opening import Opening
from voxward.systems.system import Freeze, IntensityRange, Segmentation

# Settings of the recipe that older runs do not have; without a value they are no part of a run's fingerprint.
_NEWER = ("sides", "mirror_pairs")
_NEWER_STEPS = ("fraction_of", "islands")


@dataclass(frozen=True, kw_only=True)
class RunEntry(Deployment):
    """A trained run in a `system.yaml`.

    Attributes:
        run: The run folder.
        name: The name in tables; None takes that of the folder or file.
    """

    run: str
    name: str | None = None


@dataclass(frozen=True, eq=False)
class RunSystem:
    """One trained model with the settings it is deployed with; implements System.

    Attributes:
        predictor: The model and its settings.
        folder: The run folder it was read from; None for a model that was built in memory.
        title: The name in tables; None takes the folder's.
    """

    predictor: Predictor
    folder: RunFolder | None = None
    title: str | None = None

    @property
    def name(self) -> str:
        """The title, or the name of the run folder."""
        return self.title or ("model" if self.folder is None else self.folder.root.resolve().name)

    @property
    def channels(self) -> tuple[str, ...]:
        """The names of the plan's channels."""
        return tuple(channel.name for channel in self.predictor.model.plan.channels)

    @property
    def labels(self) -> LabelSet:
        """The plan's classes or regions."""
        return self.predictor.model.plan.labels

    @property
    def device(self) -> torch.device:
        """The device of the network."""
        return self.predictor.device

    @property
    def precision(self) -> str:
        """The number type that the network computes in on its device."""
        return resolve_precision(self.predictor.precision, self.predictor.device)

    @property
    def runs(self) -> tuple[RunFolder, ...]:
        """The run folder, where there is one."""
        return () if self.folder is None else (self.folder,)

    @property
    def members(self) -> tuple[tuple[Predictor, float], ...]:
        """The predictor, with its share of 1 in the mean of an ensemble of one."""
        return ((self.predictor, 1.0),)

    @cached_property
    def _weights(self) -> str:
        return weights_digest([self.predictor.model.network])

    def fingerprint(self) -> str:
        """Return a digest of weights, plan, inference settings and post-processing."""
        model = self.predictor.model
        architecture = None if model.architecture is None else to_data(model.architecture)
        return digest(self._weights, architecture, to_data(model.plan), self.options())

    def options(self) -> Mapping[str, Any]:
        """Return how the run is deployed: the recipe's inference settings, or what is set otherwise."""
        predictor = self.predictor
        inference = predictor.model.inference
        # What is set to the recipe's own value changes nothing.
        used = {
            "overlap": inference.overlap if predictor.overlap is None else predictor.overlap,
            "mirror_axes": list(predictor.mirrors),
            "tta": "symmetries" if predictor.augmentation == "symmetries" else "mirrors",
        }
        return {
            "kind": "run",
            "inference": {
                name: value for name, value in {**to_data(inference), **used}.items() if value or name not in _NEWER
            },
            "precision": self.precision,
            "postprocess": {
                name: value
                for name, value in to_data(predictor.model.postprocess).items()
                if name not in _NEWER_STEPS or value != getattr(PostProcess(), name)
            },
        }

    def check(self, channels: int, affine: np.ndarray) -> None:
        """Refuse a volume by its header; see System."""
        self.predictor.check(channels, affine)

    def segment(
        self, volume: Volume, done: Done | None = None, whole: Volume | None = None, probabilities: bool = False
    ) -> Segmentation:
        """Segment a volume; see System."""
        kept = certain(self.labels, volume.shape) if probabilities else None
        return Segmentation(self.predictor.segment(volume, done, whole, kept), probabilities=kept)

    def check_probabilities(self) -> None:
        """Refuse a run whose windows vote; see System."""
        if self.predictor.model.inference.combine == "vote":
            raise UserError(f"{self.name} lets its windows vote (inference.combine), so that it has no probabilities")

    def freeze(
        self, volume: Volume, how: Freeze = Freeze(), whole: Volume | None = None, inside: Box | None = None
    ) -> VolumeModel:
        """Bind the pipeline to a clean volume; see System."""
        return PipelineModel.freeze(
            [self.predictor], volume, self.labels.head, self.predictor.mean,
            gradient=how.gradient, whole=whole, inside=inside, statistics=how.statistics,
        )  # fmt: skip

    def check_gradient(self) -> None:
        """Do nothing: the whole pipeline has a gradient."""

    def notes(self, frozen: VolumeModel, found: Segmentation) -> Mapping[str, Any]:
        """Return nothing: a run decides nothing that an attack holds but the deployment does not."""
        return {}

    def ranges(self, volume: Volume) -> Sequence[IntensityRange]:
        """Return the range of every channel that the plan clips to; see System."""
        plan = self.predictor.model.plan
        pairs = [legal_range(low, high) for low, high, _, _ in measured(volume, plan)]
        zeros = [normalization_of(channel).keeps_zero for channel in plan.channels]
        return [IntensityRange(low, high, zero) for (low, high), zero in zip(pairs, zeros, strict=True)]

    def network(self) -> TrainedModel:
        """Return the trained model."""
        return self.predictor.model


def run_entries(systems: Sequence[str]) -> dict[str, Any]:
    """Return the entries of a run whose folder is given.

    Raises:
        UserError: It is not one folder.
    """
    if len(systems) != 1:
        raise UserError(f"a run is one run folder, got {len(systems)}")
    return {"run": systems[0]}


def open_run(entry: RunEntry, opening: Opening) -> RunSystem:
    """Open a run folder with the settings of an entry.

    Raises:
        FileNotFoundError: The folder is no trained run; the message names what is missing.
        UserError: A file of it is damaged, or a setting does not fit the run.
    """
    settings, folder = deployment_of(entry).within(opening.outer), Path(opening.path(entry.run))
    if not folder.is_dir():
        raise FileNotFoundError(
            f"{opening.source}: run: there is no folder {folder}; paths in a system.yaml start from the file's folder"
        )
    model = load_run(folder, settings.checkpoint or "auto", opening.device)
    if settings.postprocessing is False:
        model = replace(model, postprocess=PostProcess())
    predictor = Predictor(
        model, opening.device, settings.precision or "auto", settings.overlap, tta=settings.tta,
        graphs=settings.graphs or 0,
    )  # fmt: skip
    return RunSystem(predictor, RunFolder(folder), entry.name or opening.name)
