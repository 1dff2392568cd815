"""What is deployed: the one noun through which the rest of voxward predicts with, attacks and compares models."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch

from voxward.core.case import Volume
from voxward.core.gradientless import NotDifferentiable as NotDifferentiable
from voxward.core.labels import LabelSet
from voxward.core.model import Box, VolumeModel
from voxward.pipeline.member import Statistics
from voxward.pipeline.model import Gradient
from voxward.pipeline.predictor import Done
from voxward.runs.folder import RunFolder, TrainedModel


@dataclass(frozen=True, eq=False)
class Segmentation:
    """What a system says about one volume.

    Attributes:
        label: Class indices (i, j, k) in the shape and voxel order of the volume's file.
        notes: What else is worth a line in a record, such as the box that a cascade found.
        warning: What the user should know about this result; empty where there is nothing to say.
        probabilities: The probability of each class or region, (k, i, j, k) in float32, before post-processing; None
            where they were not asked for.
    """

    label: np.ndarray
    notes: Mapping[str, Any] = field(default_factory=dict)
    warning: str = ""
    probabilities: np.ndarray | None = None


@dataclass(frozen=True)
class Freeze:
    """How a system is bound to a clean volume before it is attacked.

    Attributes:
        gradient: `exact`, or `window_mean`: in every voxel the mean of the gradients of the windows that hold it.
        statistics: What normalises an attacked volume where a recipe takes the volume's own statistics: `frozen`,
            those of the clean volume, or `live`, its own, which the attack then moves as well.
    """

    gradient: Gradient = "exact"
    statistics: Statistics = "frozen"


@dataclass(frozen=True)
class IntensityRange:
    """The values of one channel that a system tells apart, in the unit of the volume's file.

    Attributes:
        low: Smaller values count as this one.
        high: Larger values count as this one; it is above `low`.
        keeps_zero: Whether voxels that are exactly 0 are air, which no perturbation should change: an MR recipe leaves
            them out of its statistics and may crop them away.
    """

    low: float
    high: float
    keeps_zero: bool = False


@runtime_checkable
class System(Protocol):
    """A deployed system, from a volume to a segmentation.

    A trained run, an ensemble, a cascade or a model of another tool implements it in one file each. Nobody outside this
    room asks which kind a system is.
    """

    @property
    def name(self) -> str:
        """The name that tables and file names use."""
        ...

    @property
    def channels(self) -> tuple[str, ...]:
        """The names of the channels that a volume must have, in order."""
        ...

    @property
    def labels(self) -> LabelSet:
        """The classes, or regions, that the system finds."""
        ...

    @property
    def device(self) -> torch.device:
        """The device that the system computes on."""
        ...

    @property
    def precision(self) -> str:
        """The number type that the networks compute in: `fp32`, `bf16` or `fp16`, joined by + where they differ."""
        ...

    @property
    def runs(self) -> tuple[RunFolder, ...]:
        """The run folders of voxward that the system consists of; none for a model of another tool."""
        ...

    def fingerprint(self) -> str:
        """Return a digest of the weights and of every setting that decides what the system predicts."""
        ...

    def options(self) -> Mapping[str, Any]:
        """Return the settings of the system as plain data."""
        ...

    def check(self, channels: int, affine: np.ndarray) -> None:
        """Refuse a volume by its header.

        Args:
            channels: How many channels the volume has.
            affine: Its affine (4, 4).

        Raises:
            UserError: The system cannot segment such a volume.
        """
        ...

    def segment(
        self, volume: Volume, done: Done | None = None, whole: Volume | None = None, probabilities: bool = False
    ) -> Segmentation:
        """Segment a volume (c, i, j, k).

        Args:
            volume: The volume as its file stores it.
            done: Called with the windows that are finished and the windows in all.
            whole: The volume that this one is a part of; its statistics then normalise the part.
            probabilities: Whether the probabilities are kept, too, as one array of the whole volume.

        Returns:
            The segmentation, post-processed.

        Raises:
            UserError: The volume does not fit the system, or the system returns NaN or infinite scores.
        """
        ...

    def check_probabilities(self) -> None:
        """Refuse to be asked for probabilities, before anything is read.

        Raises:
            UserError: The system has none.
        """
        ...

    def freeze(
        self, volume: Volume, how: Freeze = Freeze(), whole: Volume | None = None, inside: Box | None = None
    ) -> VolumeModel:
        """Bind the system to a clean volume, as an attack sees it.

        What the system decides from the volume (crop box, statistics, the box of a cascade) is the clean volume's from
        then on. A system without a gradient is bound, too: attacks that need none ask it for logits, and only
        `value_and_grad` of the model raises NotDifferentiable.

        Args:
            volume: The clean volume.
            how: Which gradient, and what normalises an attacked volume.
            whole: The volume that this one is a part of; the model then takes and segments such wholes.
            inside: The box of the part in the whole.

        Returns:
            A model of volumes (b, c, i, j, k) in the file's voxel order and intensities.

        Raises:
            UserError: The volume does not fit the system.
        """
        ...

    def check_gradient(self) -> None:
        """Refuse attacks that need a gradient, before anything is read.

        Raises:
            NotDifferentiable: The model of `freeze` has none; the message is one sentence that says why. Attacks that
                need no gradient can be used.
            UserError: The system cannot be attacked at all.
        """
        ...

    def notes(self, frozen: VolumeModel, found: Segmentation) -> Mapping[str, Any]:
        """Compare what was held during an attack with what the deployed system found in the attacked file.

        Args:
            frozen: What `freeze` returned for the clean volume.
            found: The system's segmentation of the attacked volume.

        Returns:
            What is worth a line in the record; empty for most systems.
        """
        ...

    def ranges(self, volume: Volume) -> Sequence[IntensityRange]:
        """Return, for every channel of a volume, the intensity range that the system looks at."""
        ...

    def network(self) -> TrainedModel:
        """Return the one trained network, for attacks on a single window.

        Raises:
            UserError: The system consists of several networks, or its network is not known.
        """
        ...
