"""A Python function from a volume to a mask as a deployed system, of which nothing else is known."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
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
from voxward.data.formats.description import labels_of
from voxward.data.normalization.sample import nonzero_sample, whole_range
from voxward.pipeline.model import legal_range
from voxward.pipeline.predictor import Done, refuse_header
from voxward.runs.folder import RunFolder, TrainedModel
from voxward.systems.code import function_of
from voxward.systems.code_digest import code_digest
from voxward.systems.digest import digest
from voxward.systems.masks import masks_of
from voxward.systems.opening import Opening
from voxward.systems.system import Freeze, IntensityRange, NotDifferentiable, Segmentation

SegmentVolume = Callable[[Volume], Any]
"""A function from a volume (c, i, j, k), as its file stores it, to the label values (i, j, k) of its voxels."""

# What is the intensity range of a channel where none is given, as for MR recipes.
_PERCENTILES = (0.5, 99.5)


@dataclass(frozen=True, kw_only=True)
class BlackBoxEntry:
    """A Python function from a volume to a mask in a `system.yaml`.

    Attributes:
        function: `module:function`; the module lies beside the file, or is installed.
        channels: The names of the channels that a volume must have, in order.
        labels: Names and values in the masks, or names and lists of values for regions, as in nnU-Net's dataset.json.
        regions_class_order: For regions that are not nested: the value that is written for each.
        intensities: For each channel the least and the greatest intensity that matters, [low, high]; None takes the 0.5
            and 99.5 percentiles of each volume.
        keeps_zero: Whether voxels that are exactly 0 are air, which no attack changes.
        version: A text to change when the function's weights change.
        ask_twice: Whether the first volume is segmented twice, to see whether the function answers the same.
        name: The name in tables; None takes the file's.
    """

    function: str
    channels: tuple[str, ...]
    labels: Mapping[Any, Any]
    regions_class_order: tuple[int, ...] | None = None
    intensities: tuple[tuple[float, float], ...] | None = None
    keeps_zero: bool = False
    version: str = ""
    ask_twice: bool = True
    name: str | None = None


@dataclass(frozen=True, eq=False)
class BlackBoxSystem:
    """A function from a volume to a mask; implements System.

    Attributes:
        function: The function. It gets a volume of its own, which it may change.
        classes: The classes, or regions, and the label values that stand for them in the masks.
        inputs: The names of the channels.
        title: The name in tables.
        intensities: For each channel the least and the greatest intensity that matters; None takes the 0.5 and 99.5
            percentiles of each volume.
        keeps_zero: Whether voxels that are exactly 0 are air, which no attack changes; the percentiles leave them out.
        version: A text that stands for what the function itself does not show, such as the weights that it loads.
        ask_twice: Whether the first volume is segmented twice, to see whether the function answers the same.
    """

    function: SegmentVolume
    classes: LabelSet
    inputs: tuple[str, ...]
    title: str
    intensities: tuple[tuple[float, float], ...] | None = None
    keeps_zero: bool = False
    version: str = ""
    ask_twice: bool = True
    _asked: list[bool] = field(default_factory=list, init=False, repr=False)

    def __post_init__(self) -> None:
        if not callable(self.function):
            raise UserError(f"{self.title}: segment must be a function of a volume, got {type(self.function).__name__}")
        if not self.inputs:
            raise UserError(f"{self.title}: channels must name at least one channel")
        ranges = self.intensities
        if ranges is not None and len(ranges) != len(self.inputs):
            raise UserError(
                f"{self.title}: intensities must hold one [low, high] for each channel ({', '.join(self.inputs)}), "
                f"got {len(ranges)}"
            )
        for low, high in ranges or ():
            if not (np.isfinite(low) and np.isfinite(high) and low < high):
                raise UserError(f"{self.title}: intensities must be finite with low < high, got [{low}, {high}]")
        _ = self._code  # before the function is called, which may change what it holds

    @property
    def name(self) -> str:
        """The title."""
        return self.title

    @property
    def channels(self) -> tuple[str, ...]:
        """The names of the channels."""
        return self.inputs

    @property
    def labels(self) -> LabelSet:
        """The classes, or regions."""
        return self.classes

    @property
    def device(self) -> torch.device:
        """The CPU, on which volumes are handed to the function."""
        return torch.device("cpu")

    @property
    def precision(self) -> str:
        """Not known."""
        return "unknown"

    @property
    def runs(self) -> tuple[RunFolder, ...]:
        """None: this is no run of voxward."""
        return ()

    def fingerprint(self) -> str:
        """Return a digest of the name, the settings and the function: its code, and the values that it holds.

        What it reads from files when it is called, such as weights, is not in it; `version` can stand for that.
        """
        return digest("blackbox", self.name, self._code, self.options())

    @cached_property
    def _code(self) -> str:
        return code_digest(self.function)

    def options(self) -> Mapping[str, Any]:
        """Return the settings."""
        return {
            "kind": "blackbox",
            "channels": list(self.inputs),
            "labels": to_data(self.classes),
            "intensities": to_data(self.intensities),
            "keeps_zero": self.keeps_zero,
            "version": self.version,
        }

    def check(self, channels: int, affine: np.ndarray) -> None:
        """Refuse a volume by its header; see System."""
        refuse_header(self.inputs, channels, affine)

    def segment(
        self, volume: Volume, done: Done | None = None, whole: Volume | None = None, probabilities: bool = False
    ) -> Segmentation:
        """Segment a volume; see System.

        Raises:
            UserError: The function fails, or what it returns is no mask of this volume.

        Warns:
            UserWarning: The function answers differently when it is asked twice.
        """
        self.check(len(volume.array), volume.affine)
        label = self._answer(volume)
        if self.ask_twice and not self._asked:
            self._asked.append(True)
            _warn_of_chance(self.name, label, self._answer(volume))
        if done is not None:
            done(1, 1)
        return Segmentation(label)

    def check_probabilities(self) -> None:
        """Refuse: there are only masks; see System."""
        raise UserError(f"{self.name} returns masks, and has no probabilities")

    def freeze(
        self, volume: Volume, how: Freeze = Freeze(), whole: Volume | None = None, inside: Box | None = None
    ) -> VolumeModel:
        """Bind the function to a clean volume; every query is a call of it. `how` does not matter. See System."""
        self.check(len(volume.array), volume.affine)
        return masks_of(self, volume, self._why)

    def check_gradient(self) -> None:
        """Refuse: a mask has no gradient; see System."""
        raise NotDifferentiable(self._why, masks=True)

    @property
    def _why(self) -> str:
        return f"{self.name} is a black box: it returns masks, which have no gradient"

    def notes(self, frozen: VolumeModel, found: Segmentation) -> Mapping[str, Any]:
        """Return nothing: an attack holds nothing that the deployed function does not."""
        return {}

    def ranges(self, volume: Volume) -> Sequence[IntensityRange]:
        """Return the given intensity ranges, or the 0.5 and 99.5 percentiles of each channel; see System."""
        pairs = self.intensities or [self._measured(channel) for channel in volume.array]
        return [IntensityRange(*legal_range(low, high), self.keeps_zero) for low, high in pairs]

    def network(self) -> TrainedModel:
        """Refuse: there is no network.

        Raises:
            UserError: Always.
        """
        raise UserError(f"{self.name} is a black box, and has no network: mode 'patch' needs a run of voxward")

    def _measured(self, channel: np.ndarray) -> tuple[float, float]:
        values = nonzero_sample(channel) if self.keeps_zero else channel.reshape(-1)[:: max(1, channel.size // 2**21)]
        low, high = np.percentile(values, _PERCENTILES) if len(values) else (0.0, 0.0)
        return (float(low), float(high)) if low < high else whole_range(channel)[:2]

    def _answer(self, volume: Volume) -> np.ndarray:
        """Ask the function once, and return class indices (i, j, k)."""
        own = Volume(volume.array.copy(), volume.affine.copy(), volume.scaling)
        try:
            mask = self.function(own)
        except UserError:
            raise
        except Exception as error:
            text = " ".join(str(error).split())
            raise UserError(f"{self.name} failed: {type(error).__name__}{': ' if text else ''}{text}") from error
        return self._checked(mask, volume)

    def _checked(self, mask: Any, volume: Volume) -> np.ndarray:
        if isinstance(mask, Volume) or mask is None:
            raise UserError(f"{self.name} must return the mask as an array, got {type(mask).__name__}")
        try:
            array = np.asarray(mask)
        except (TypeError, ValueError, RuntimeError) as error:  # such as a tensor on a GPU, or lists of unequal lengths
            raise UserError(f"{self.name} must return the mask as an array: {error}") from error
        if array.shape != volume.shape:
            raise UserError(
                f"{self.name} must return a mask of shape {volume.shape} for this volume, got {array.shape}"
            )
        if array.dtype.kind not in "iub":
            array = _whole(array, self.name)
        try:
            return self.classes.predicted.to_index(array.astype(np.uint8) if array.dtype.kind == "b" else array)
        except UserError as error:
            raise UserError(f"{self.name} returned a mask that does not fit its labels: {error}") from error


def blackbox_system(
    segment: SegmentVolume,
    labels: Sequence[str] | Mapping[str, Any],
    channels: Sequence[str] = ("image",),
    *,
    name: str | None = None,
    intensities: Sequence[tuple[float, float]] | None = None,
    keeps_zero: bool = False,
    version: str = "",
    ask_twice: bool = True,
) -> BlackBoxSystem:
    """Make a system of a Python function that segments a whole volume, and of which nothing else is known.

    Args:
        segment: The function. It gets a `voxward.Volume`, with `array` (c, i, j, k) in the file's number type and voxel
            order, `affine` and `spacing`, and returns the label values (i, j, k) of the voxels as an integer array.
            Runs under noise, which certificates are made of, give it floats.
        labels: The names of the classes, the background first, whose values are 0, 1, 2, ...; or names with values, or
            with lists of values for nested regions.
        channels: The names of the channels that a volume must have.
        name: The name in tables; None takes the function's.
        intensities: For each channel the least and the greatest intensity that matters, which give eps its unit; None
            takes the 0.5 and 99.5 percentiles of each volume.
        keeps_zero: Whether voxels that are exactly 0 are air, which no attack changes.
        version: A text to change when the function's weights change, so that earlier results are not kept as its own.
        ask_twice: Whether the first volume is segmented twice, to see whether the function answers the same.

    Returns:
        The system, for `predict`, `evaluate`, `attack` and `merge`.

    Raises:
        UserError: The labels or intensities are wrong.

    Example:
        >>> system = voxward.blackbox_system(segment, labels=("background", "liver"), channels=("CT",))
        >>> found = voxward.attack(system, "Task03_Liver", out="attack", protocol="blackbox")
        >>> found.report.markdown()
    """
    values = labels if isinstance(labels, Mapping) else {one: n for n, one in enumerate(labels)}
    ranges = None if intensities is None else tuple((float(low), float(high)) for low, high in intensities)
    title = name or str(getattr(segment, "__name__", type(segment).__name__))
    classes = labels_of(values, Path(title))
    settings = {"keeps_zero": keeps_zero, "ask_twice": ask_twice}
    return BlackBoxSystem(segment, classes, tuple(channels), title, ranges, version=version, **settings)


def open_blackbox(entry: BlackBoxEntry, opening: Opening) -> BlackBoxSystem:
    """Import the function of an entry.

    Raises:
        UserError: The user has not allowed programs to run, there is no such function, or a setting is wrong.
    """
    return BlackBoxSystem(
        function=function_of(entry.function, opening.base, opening.trust),
        classes=labels_of(entry.labels, Path(opening.source), order=entry.regions_class_order),
        inputs=entry.channels,
        title=entry.name or opening.name,
        intensities=entry.intensities,
        keeps_zero=entry.keeps_zero,
        version=entry.version,
        ask_twice=entry.ask_twice,
    )


def blackbox_entries(systems: Sequence[str]) -> dict[str, Any]:
    """Refuse: a function alone says neither its labels nor its channels.

    Raises:
        UserError: Always.
    """
    raise UserError("a blackbox is a Python function: write its system.yaml by hand, see docs/own-network.md")


def _whole(array: np.ndarray, name: str) -> np.ndarray:
    """Label values that were read as floating-point numbers, as integers, where they are whole."""
    numeric = array.dtype.kind == "f"
    wrong = array[~(np.isfinite(array) & (array == np.rint(array)))] if numeric else array.reshape(-1)
    if not numeric or len(wrong):
        first = f", such as {wrong[0]}" if len(wrong) else ""
        raise UserError(f"{name} must return whole label values, got {array.dtype}{first}")
    return array.astype(np.int64)


def _warn_of_chance(name: str, first: np.ndarray, second: np.ndarray) -> None:
    if changed := int((first != second).sum()):
        warnings.warn(
            f"{name} answers differently each time: asked twice about the first volume, {changed} of {first.size} "
            "voxels changed, so that no figure can be repeated exactly",
            stacklevel=3,
        )
