"""Several systems that predict together: the mean of their logits, or of their probabilities, in the file's voxels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from voxward.core.case import Volume
from voxward.core.channels import same_channels
from voxward.core.errors import UserError
from voxward.core.gradientless import Gradientless, NotDifferentiable
from voxward.core.labels import LabelSet
from voxward.core.model import Box, VolumeModel
from voxward.pipeline.mean import Mean
from voxward.pipeline.model import PipelineModel
from voxward.pipeline.predictor import Done, Predictor
from voxward.pipeline.probabilities import certain
from voxward.pipeline.together import segment_together
from voxward.runs.folder import RunFolder, TrainedModel
from voxward.systems.deployment import Deployment, deployment_of
from voxward.systems.digest import digest
from voxward.systems.opening import Opening
from voxward.systems.run import RunSystem
from voxward.systems.system import Freeze, IntensityRange, Segmentation


@dataclass(frozen=True, kw_only=True)
class EnsembleEntry(Deployment):
    """An ensemble in a `system.yaml`.

    Attributes:
        members: Run folders, `system.yaml` files, or entries that are written out; runs or ensembles.
        mean: What is averaged, `logits` or `probabilities`; None leaves what the first run's recipe says.
        name: The name in tables; None takes the file's.
    """

    members: tuple[str | Mapping[str, Any], ...]
    mean: Mean | None = None
    name: str | None = None


@dataclass(frozen=True, eq=False)
class EnsembleSystem:
    """Runs, or other ensembles, whose logits or probabilities are averaged voxel by voxel; implements System.

    Every member prepares the volume by its own plan, so that runs of different recipes may be mixed. Labels and
    post-processing are the first member's. A member that is an ensemble has one share, as a run has.

    Attributes:
        parts: The members.
        averaged: What is averaged; None takes what the first run's recipe says.
        title: The name in tables.

    Raises:
        UserError: There is no member; labels or channels of the members differ; a member is no run and no ensemble of
            runs, or its windows vote, so that it has no scores to average; or members average different things.
    """

    parts: tuple[RunSystem | EnsembleSystem, ...]
    averaged: Mean | None = None
    title: str = "ensemble"

    def __post_init__(self) -> None:
        if not self.parts:
            raise UserError("an ensemble needs at least one member, got none")
        for part in self.parts:
            if not isinstance(part, RunSystem | EnsembleSystem):
                raise UserError(
                    f"the members of an ensemble are runs or ensembles, whose scores can be averaged; {part.name!r} "
                    "has only a mask"
                )
        self._check_members()

    def _check_members(self) -> None:
        if any(predictor.model.inference.combine == "vote" for predictor, _ in self.members):
            raise UserError(
                "the members of an ensemble must average their windows, got a recipe with inference.combine 'vote': "
                "train it with 'mean', or let it predict alone"
            )
        if len(labels := {part.labels.predicted for part in self.parts}) > 1:
            raise UserError(f"the members of an ensemble must agree on their labels, got {sorted(map(str, labels))}")
        if not all(same_channels(part.channels, self.channels) for part in self.parts):
            channels = sorted({str(part.channels) for part in self.parts})
            raise UserError(f"the members of an ensemble must agree on their channels, got {channels}")
        inner = {part.mean for part in self.parts if isinstance(part, EnsembleSystem)} - {self.mean}
        if inner:
            raise UserError(f"an ensemble inside an ensemble must have its mean {self.mean!r}, got {inner.pop()!r}")

    @property
    def name(self) -> str:
        """The title."""
        return self.title

    @property
    def channels(self) -> tuple[str, ...]:
        """The names of the channels, which mean the same for every member."""
        return self.parts[0].channels

    @property
    def labels(self) -> LabelSet:
        """The classes or regions, the same for every member."""
        return self.parts[0].labels

    @property
    def device(self) -> torch.device:
        """The device of the first member; all are loaded to the same one."""
        return self.parts[0].device

    @property
    def precision(self) -> str:
        """The number types of the members, joined by + where they differ."""
        return "+".join(dict.fromkeys(part.precision for part in self.parts))

    @property
    def runs(self) -> tuple[RunFolder, ...]:
        """The run folders of all members."""
        return tuple(run for part in self.parts for run in part.runs)

    @property
    def mean(self) -> Mean:
        """What is averaged, `logits` or `probabilities`."""
        return self.averaged or self.members[0][0].mean

    @property
    def members(self) -> tuple[tuple[Predictor, float], ...]:
        """Every trained model with its share in the mean; the shares sum to 1."""
        pairs = [(predictor, share / len(self.parts)) for part in self.parts for predictor, share in part.members]
        return tuple(pairs)

    @property
    def weights(self) -> tuple[float, ...] | None:
        """The models' shares; None where all have the same."""
        shares = tuple(share for _, share in self.members)
        return None if all(share == shares[0] for share in shares) else shares

    @property
    def predictors(self) -> tuple[Predictor, ...]:
        """Every trained model."""
        return tuple(predictor for predictor, _ in self.members)

    def fingerprint(self) -> str:
        """Return a digest of the members' fingerprints and of what is averaged."""
        return digest("ensemble", self.mean, [part.fingerprint() for part in self.parts])

    def options(self) -> Mapping[str, Any]:
        """Return the settings of the ensemble and of its members."""
        return {"kind": "ensemble", "mean": self.mean, "members": [dict(part.options()) for part in self.parts]}

    def check(self, channels: int, affine: np.ndarray) -> None:
        """Refuse a volume by its header; see System."""
        for predictor in self.predictors:
            predictor.check(channels, affine)

    def segment(
        self, volume: Volume, done: Done | None = None, whole: Volume | None = None, probabilities: bool = False
    ) -> Segmentation:
        """Segment a volume; see System. Memory holds one layer of windows per member."""
        self.check(volume.array.shape[0], volume.affine)
        kept = certain(self.labels, volume.shape) if probabilities else None
        label = segment_together(self.predictors, volume, self.mean, self.weights, done, whole, kept)
        settled = self.predictors[0].model.postprocess.apply(label, volume.spacing)
        return Segmentation(settled, probabilities=kept)

    def check_probabilities(self) -> None:
        """Do nothing: the members have scores, or they would be no members."""

    def freeze(
        self, volume: Volume, how: Freeze = Freeze(), whole: Volume | None = None, inside: Box | None = None
    ) -> VolumeModel:
        """Bind all pipelines to a clean volume; see System."""
        model = PipelineModel.freeze(
            self.predictors, volume, self.labels.head, self.mean, gradient=how.gradient, whole=whole, inside=inside,
            statistics=how.statistics, weights=self.weights,
        )  # fmt: skip
        try:
            self.check_gradient()
        except NotDifferentiable as error:
            return Gradientless(model, str(error))
        return model

    def check_gradient(self) -> None:
        """Refuse a member without a gradient; see System."""
        for part in self.parts:
            part.check_gradient()

    def notes(self, frozen: VolumeModel, found: Segmentation) -> Mapping[str, Any]:
        """Return nothing: an ensemble decides nothing that an attack holds but the deployment does not."""
        return {}

    def ranges(self, volume: Volume) -> Sequence[IntensityRange]:
        """Return the ranges of the first member; see System."""
        return self.parts[0].ranges(volume)

    def network(self) -> TrainedModel:
        """Return the only member's network.

        Raises:
            UserError: There are several members.
        """
        if len(self.parts) > 1:
            raise UserError(f"{self.name} has {len(self.parts)} members, and no single network")
        return self.parts[0].network()


def ensemble_entries(systems: Sequence[str]) -> dict[str, Any]:
    """Return the entries of an ensemble whose members are given."""
    return {"members": list(systems)}


def open_ensemble(entry: EnsembleEntry, opening: Opening) -> EnsembleSystem:
    """Open the members of an ensemble entry and join them.

    Raises:
        UserError: The members do not fit each other, or one of them cannot be opened.
    """
    settings = deployment_of(entry)
    parts = tuple(opening.open(member, settings) for member in entry.members)
    return EnsembleSystem(parts, entry.mean, entry.name or opening.name)  # type: ignore[arg-type]
