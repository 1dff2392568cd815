"""All that a bundle says about a prediction: its network, preprocessing, windows and post-processing."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from voxward.core.errors import UserError
from voxward.core.labels import LabelSet
from voxward.nets.counted import refuse_larger
from voxward.nets.monai_networks import build_network, network_argument
from voxward.systems.bundle.arguments import Arguments, arguments_of, objects_of
from voxward.systems.bundle.boxes import PADDINGS
from voxward.systems.bundle.classes import channel_names, labels_of, output_names, read_metadata
from voxward.systems.bundle.config import Config, Item, inside, read_config
from voxward.systems.bundle.inferer import Inferer
from voxward.systems.bundle.post import Ending, read_ending
from voxward.systems.bundle.steps import Step
from voxward.systems.bundle.transforms import read_steps
from voxward.systems.bundle.weights import load_weights, read_weights

WEIGHTS = "models/model.pt"


# More channels or classes than any image has.
_MOST = 10_000


@dataclass(frozen=True)
class Definition:
    """What a bundle's configuration decides about a prediction.

    Attributes:
        config: The configuration.
        network: The name and the arguments of the network.
        steps: The preprocessing.
        inferer: The windows.
        ending: The post-processing.
        channels: The number of input channels.
        outputs: The number of outputs.
        described: All of this as plain data.
    """

    config: Config
    network: tuple[str, Mapping[str, Any]]
    steps: tuple[Step, ...]
    inferer: Inferer
    ending: Ending
    channels: int
    outputs: int

    @property
    def described(self) -> Sequence[str]:
        """Return all of this as texts, which differ where predictions may."""
        parts = (sorted(self.network[1].items()), self.steps, self.inferer, self.ending)
        return (self.network[0], *map(repr, parts))


@dataclass(frozen=True, eq=False)
class Bundle:
    """A bundle as it is deployed.

    Attributes:
        root: The folder of the bundle.
        definition: What its configuration decides.
        network: The network with its weights.
        weights: The file of the weights.
        channels: The names of the channels.
        labels: The classes or regions.
        outputs: For each class or region, in the order of the labels, the place of the network's output.
    """

    root: Path
    definition: Definition
    network: nn.Module
    weights: Path
    channels: tuple[str, ...]
    labels: LabelSet
    outputs: tuple[int, ...]


def read_bundle(
    root: Path,
    config: str = "inference",
    weights: str | None = None,
    regions: Mapping[str, Sequence[int]] | None = None,
    order: Sequence[int] | None = None,
    device: torch.device | None = None,
) -> Bundle:
    """Read a bundle.

    Args:
        root: The folder that holds `configs` and `models`.
        config: The name of the configuration in `configs`, without its suffix.
        weights: The file of the weights in the folder; None takes what the configuration names, or models/model.pt.
        regions: The label values in each region, by the name of its output.
        order: For each region the label value that is written where it is found.
        device: Where the network goes; None for the CPU.

    Raises:
        FileNotFoundError: A file is missing.
        UserError: Something cannot be reproduced or read safely; the message names file, item and reason.
    """
    definition = read_definition(read_config(root, config), regions is not None)
    metadata = read_metadata(root)
    channels = channel_names(metadata, definition.channels)
    names = output_names(metadata, definition.outputs)
    try:
        labels, outputs = labels_of(names, definition.outputs, definition.ending.head, regions, order)
    except UserError as error:
        raise UserError(f"{definition.config.file}: {error}") from error
    path = weights_file(definition.config, weights)
    found = read_weights(path)
    network = load_weights(build(definition, path), found, path)
    if device is not None:
        network = network.to(device)
    return Bundle(root, definition, network, path, channels, labels, outputs)


def read_definition(config: Config, mapped: bool = False) -> Definition:
    """Read what a configuration decides about a prediction, without its weights.

    Args:
        config: The configuration.
        mapped: Whether the user says which label values stand for the regions, see `read_ending`.

    Raises:
        UserError: Something cannot be reproduced or read safely; the message names file, item and reason.
    """
    network = arguments_of(config, _item(config, "network_def", "network"))
    arguments = {name: config.plain(item) for name, item in network.given.items() if not _is_mark(name)}
    steps, _ = read_steps(objects_of(config, _item(config, "preprocessing")))
    inferer = _inferer(arguments_of(config, _item(config, "inferer")))
    after = objects_of(config, _item(config, "postprocessing"))
    ending = read_ending(after, mapped)
    if not ending.operations:
        config.refuse("postprocessing", "nothing decides for a class: an AsDiscreted is needed")
    if any(step.moves for step in steps) and not ending.inverts:
        config.refuse("postprocessing", "there is no Invertd, so that masks would not lie on the file's voxels")
    channels, outputs = _counts(config, network, arguments, inferer)
    return Definition(config, (network.target, arguments), steps, inferer, ending, channels, outputs)


def _counts(config: Config, network: Arguments, arguments: Mapping[str, Any], inferer: Inferer) -> tuple[int, int]:
    """The number of channels and of outputs of the network."""
    try:
        dims, *counts = [
            network_argument(network.target, arguments, name)
            for name in ("spatial_dims", "in_channels", "out_channels")
        ]
    except UserError as error:
        config.refuse(network.item, str(error))
    if dims != (3 if inferer.slices is None else 2):
        config.refuse(
            network.item,
            f"a network of {dims} axes does not fit the inferer: one of 3 axes gets windows, and one of 2 axes needs a "
            "SliceInferer",
        )
    if not all(isinstance(count, int) and 0 < count <= _MOST for count in counts):
        config.refuse(network.item, f"in_channels and out_channels must be numbers from 1 to {_MOST}, got {counts}")
    return counts[0], counts[1]


def build(definition: Definition, weights: Path) -> nn.Module:
    """Build the network of a definition, with random weights.

    Args:
        definition: The definition.
        weights: The file of its weights, than which it is not larger.

    Raises:
        UserError: The network is not known, or its arguments are wrong.
    """
    try:
        refuse_larger(lambda: build_network(*definition.network), weights)
        return build_network(*definition.network)
    except UserError as error:
        raise UserError(f"{definition.config.file}: network_def: {error}") from error


def weights_file(config: Config, given: str | None) -> Path:
    """Return the file of the weights.

    Args:
        config: The configuration.
        given: A path in the bundle, from the user; None takes what a CheckpointLoader or `ckpt_path` of the
            configuration names, or else models/model.pt.

    Raises:
        UserError: The path leads out of the bundle.
    """
    named = given or _named_weights(config) or WEIGHTS
    path = config.root / named
    if not inside(path, config.root):
        raise UserError(f"{config.file}: the weights {named!r} lie outside the bundle {config.root}")
    return path


def _named_weights(config: Config) -> str | None:
    for item in _paths(config):
        try:
            found = config.plain(item)
        except UserError as error:
            if (config.root / WEIGHTS).is_file():
                warnings.warn(f"{error}; {WEIGHTS} is taken instead", stacklevel=2)
                return None
            raise
        if isinstance(found, str):
            return found
    return None


def _paths(config: Config) -> list[Item]:
    """The items that may name the file of the weights: of loaders, or the path by itself."""
    found = []
    for item in _loaders(config):
        loader = item.raw if isinstance(item.raw, Mapping) else {}
        if str(loader.get("_target_")).endswith("CheckpointLoader") and "load_path" in loader:
            found.append(item.inside("load_path"))
    alone = config.find("ckpt_path")
    return found if alone is None else [*found, alone]


def _loaders(config: Config) -> list[Item]:
    """The items that may load a checkpoint."""
    found = []
    for name in ("checkpointloader", "handlers", "val_handlers"):
        item = config.find(name)
        if item is not None and isinstance(item.raw, list):
            found += [item.inside(place) for place in range(len(item.raw))]
        elif item is not None:
            found.append(item)
    return found


def _item(config: Config, *names: str) -> Item:
    found = next((item for name in names if (item := config.find(name)) is not None), None)
    if found is None:
        config.refuse(names[0], "it is missing")
    return found


def _is_mark(name: str) -> bool:
    """Whether an argument is one of MONAI's own marks, such as `_target_`."""
    return name.startswith("_") and name.endswith("_")


def _inferer(given: Arguments) -> Inferer:
    if given.target == "SimpleInferer":
        given.finish()
        return Inferer()
    if given.target not in ("SlidingWindowInferer", "SlidingWindowInfererAdapt", "SliceInferer"):
        given.refuse("the inferer is not known; known: SimpleInferer, SlidingWindowInferer, SlidingWindowInfererAdapt, "
                     "SliceInferer")  # fmt: skip
    given.skip("sw_batch_size", "sw_device", "progress", "cache_roi_weight_map", "cpu_thresh", "buffer_steps",
               "buffer_dim")  # fmt: skip
    if given.flag("with_coord"):
        given.refuse("with_coord is not supported", "with_coord")
    slices = given.target == "SliceInferer"
    axis = given.choice("spatial_dim", (0, 1, 2), 0) if slices else None
    count = (2,) if slices else (1, 3)
    size, sigma = given.axes("roi_size", sizes=count), given.axes("sigma_scale", 0.125, (1, *count))
    overlap = given.axes("overlap", 0.25)
    if not all(math.isfinite(value) and value == int(value) for value in size) or not all(
        0 <= share < 1 for share in overlap
    ):
        given.refuse(f"roi_size must hold whole numbers and overlap shares below 1, got {size} and {overlap}")
    padding = given.choice("padding_mode", tuple(PADDINGS), "constant")
    i, j, k = (max(int(length), 0) for length in _three(size, axis, 1.0))  # 0: the whole axis
    found = Inferer(
        (i, j, k), _three(overlap, None, 0.0), given.choice("mode", ("constant", "gaussian"), "constant"),
        _three(sigma, axis, 0.125), PADDINGS[padding], given.number("cval", 0.0) or 0.0, axis,
    )  # fmt: skip
    given.finish()
    return found


def _three(values: tuple[float, ...], axis: int | None, across: float) -> Any:
    """One value per axis; across slices it is given."""
    if axis is not None and len(values) == 2:
        return (*values[:axis], across, *values[axis:])
    return values if len(values) == 3 else values * 3
