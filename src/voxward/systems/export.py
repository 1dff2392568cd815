"""A trained run as files that other programs read: its network as torch.export or ONNX, and how it is deployed."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from voxward.core.case import Volume
from voxward.core.document import with_format
from voxward.core.errors import MissingPackageError, UserError
from voxward.core.labels import LabelSet
from voxward.core.plan import Plan
from voxward.core.structure import to_data
from voxward.core.yaml import dump_yaml
from voxward.pipeline.predictor import Predictor
from voxward.runs.postprocess import PostProcess
from voxward.systems.network.entry import ORDERS, ChannelEntry
from voxward.systems.network.files import read_network
from voxward.systems.run import RunSystem
from voxward.systems.system import System

CLOSE = 1e-4
"""How far logits may lie apart, as a share of the largest one or in itself, whichever is more."""
DESCRIPTION = "system.yaml"
_SEED = 0


@dataclass(frozen=True)
class Exported:
    """What was exported.

    Attributes:
        network: The file of the network.
        description: What says how it is deployed: a `system.yaml`, the configuration of a bundle, or plans.json; None
            where a `system.yaml` cannot say it.
        apart: The largest difference of logits between the file and the run, on windows of noise.
        unsaid: What is done otherwise than in the run, or cannot be said, one sentence each.
    """

    network: Path
    description: Path | None
    apart: float
    unsaid: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Written:
    """What a writer made in a folder.

    Attributes:
        path: The file of the network.
        network: The network, read again from the file, in evaluation mode.
        description: What says how it is deployed; None where nothing can.
        unsaid: What is done otherwise than in the run, or cannot be said, one sentence each.
    """

    path: Path
    network: nn.Module
    description: Path | None
    unsaid: tuple[str, ...]


def exportable(system: System) -> RunSystem:
    """Return the run that a system is.

    Raises:
        UserError: It is another kind of system, which consists of several networks or is exported already.
    """
    if type(system) is not RunSystem:
        raise UserError(
            f"{system.name} is no single run of voxward: only these are exported. The runs of an ensemble or a cascade "
            "are exported one by one"
        )
    return system


def write_pt2(network: nn.Module, window: Tensor, path: Path) -> None:
    """Write a network as a file of torch.export, for batches and windows of any size that the network takes.

    Args:
        network: From windows (b, c, d, h, w) to logits, in evaluation mode on the CPU.
        window: An example (1, c, d, h, w).
        path: The file.
    """
    program = _program(network, window)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.export.save(program, path)


def write_onnx(network: nn.Module, window: Tensor, path: Path) -> None:
    """Write a network as an ONNX file, for batches and windows of any size that the network takes.

    Args:
        network: From windows (b, c, d, h, w) to logits, in evaluation mode on the CPU.
        window: An example (1, c, d, h, w).
        path: The file.

    Raises:
        MissingPackageError: onnxscript is not installed.
    """
    try:
        import onnxscript  # noqa: F401
    except ModuleNotFoundError as error:
        raise MissingPackageError("to write ONNX needs onnxscript: pip install 'voxward[onnx]'") from error
    exported, log = _program(network, window), logging.getLogger("torch.onnx")
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            program = torch.onnx.export(exported, (_example(window),), dynamo=True, verbose=False, external_data=False)
    finally:
        log.setLevel(level)
    assert program is not None
    program.save(str(path))


def write_alone(
    write: Callable[[nn.Module, Tensor, Path], None], suffix: str, system: RunSystem, network: nn.Module, folder: Path
) -> Written:
    """Write a network that stands alone, with the `system.yaml` that has voxward deploy it as the run is.

    Args:
        write: `write_pt2` or `write_onnx`.
        suffix: How the file's name ends, without the dot.
        system: The run.
        network: Its network in float32, in evaluation mode on the CPU.
        folder: The folder, which is there and empty.
    """
    path, said = folder / f"network.{suffix}", folder / DESCRIPTION
    write(network, noise_window(system.predictor), path)
    lost = tuple(unsaid(system))
    if not lost:
        said.write_text(description_of(system, path.name), encoding="utf-8")
    return Written(path, read_network(path), None if lost else said, lost)


def _example(window: Tensor) -> Tensor:
    return torch.cat([window, window])  # a batch of one would be taken for the only size


def _program(network: nn.Module, window: Tensor) -> torch.export.ExportedProgram:
    free = {axis: torch.export.Dim.AUTO for axis in (0, 2, 3, 4) if axis == 0 or window.shape[axis] > 1}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.export.export(network, (_example(window),), dynamic_shapes=(free,))


def noise_window(predictor: Predictor) -> Tensor:
    """Return a window (1, c, d, h, w) of noise of the size that a run predicts at once."""
    plan, source = predictor.model.plan, torch.Generator().manual_seed(_SEED)
    return torch.randn(1, len(plan.channels), *plan.window_size, generator=source)


def difference(one: nn.Module, other: nn.Module, window: Tensor) -> tuple[float, float]:
    """Return how far the logits of two networks lie apart, and how far they may, in windows of two sizes.

    Args:
        one: A network.
        other: Another one.
        window: The window (1, c, d, h, w).
    """
    found, limit = [], CLOSE
    # Twice as many, and twice as long: the file must take windows of other sizes, too.
    longer = [2 if axis == _first_long_axis(window) else 1 for axis in range(window.ndim)]
    for images in (window, torch.cat([window, window.flip(0)]).repeat(longer)):
        with torch.no_grad():
            first, second = one(images), other(images)
        found.append((first - second).abs().max())
        limit = max(limit, CLOSE * float(first.abs().max()))
    return float(torch.stack(found).max()), limit  # of tensors, because Python's max would lose a NaN


def _first_long_axis(window: Tensor) -> int:
    return next((axis for axis in range(2, window.ndim) if window.shape[axis] > 1), 0)


def description_of(system: RunSystem, network: str) -> str:
    """Return the `system.yaml` of an exported network: how the run is deployed, as far as such a file can say it.

    Args:
        system: The run.
        network: The name of the file beside it.
    """
    predictor = system.predictor
    plan, inference = predictor.model.plan, predictor.model.inference
    data: dict[str, Any] = {
        "kind": "network",
        "name": system.name,
        "network": network,
        "channels": [_channel(channel) for channel in plan.channels],
        **labels_entry(plan.labels),
        "window": list(plan.window_size),
        "overlap": inference.overlap if predictor.overlap is None else predictor.overlap,
        "blending": inference.weights,
        "interpolation": {order: name for name, order in ORDERS.items()}.get(plan.spline_order[0], "cubic"),
        "padding": plan.padding,
        "mean": predictor.mean,
        "precision": "fp32",
    }
    if plan.resample:
        data["spacing"] = list(plan.spacing)
    if plan.crop_nonzero:
        data["crop"] = "nonzero"
    if predictor.mirrors:
        data |= {"tta": "mirrors", "mirror_axes": list(predictor.mirrors)}
    return dump_yaml(with_format(data))


def unsaid(system: RunSystem) -> Iterator[str]:
    """Yield what a `system.yaml` of kind network cannot say of a run, one sentence each."""
    predictor = system.predictor
    plan, model = predictor.model.plan, predictor.model
    inference = model.inference
    if inference.placement != "step":
        yield f"the run places windows by inference.placement: {inference.placement}"
    if inference.combine != "mean":
        yield f"the run puts windows together by inference.combine: {inference.combine}"
    if predictor.augmentation == "symmetries":
        yield "the run averages 16 symmetries of every window (tta: symmetries)"
    if predictor.mirrors and inference.mirror_pairs:
        yield "the run has classes change sides in mirrored windows (inference.mirror_pairs)"
    if model.postprocess != PostProcess():
        kinds = ", ".join(dict.fromkeys(kind for kind in model.postprocess.kinds if kind != "none")) or "small parts"
        yield f"the run post-processes the class map ({kinds}; --set postprocessing=false leaves that out)"
    if plan.resample and (len(set(plan.spline_order)) > 1 or plan.spline_order[0] not in ORDERS.values()):
        yield f"the run resamples images by splines of the orders {list(plan.spline_order)}, one per axis"


def nan_said(plan: Plan) -> Iterator[str]:
    """Yield what another tool does about NaN, which voxward refuses or reads as 0."""
    what = "read as 0, as in the run" if plan.nan == "zero" else "refused"
    yield f"an image with NaN is not {what}"


def check_whole(system: RunSystem, other: System) -> None:
    """Refuse a description whose system does not find what the run finds in a volume of noise.

    Args:
        system: The run.
        other: The system that was opened from the description.

    Raises:
        UserError: The probabilities differ by more than CLOSE.
    """
    # Where there are regions, a description does not name the classes beneath them.
    one, two = (labels.regions or (labels.names, labels.values) for labels in (system.labels, other.labels))
    if one != two:
        raise UserError(
            f"the exported system has other labels than {system.name}: nothing was written. Please report this"
        )
    plan = system.predictor.model.plan
    rng = np.random.default_rng(_SEED)
    shape = tuple(int(np.ceil(1.3 * n)) if n > 1 else 1 for n in plan.window_size)
    values = [rng.normal(channel.mean, channel.std or 1.0, shape) for channel in plan.channels]
    image = np.stack(values).astype(np.float32)
    if any(shape[axis] > 4 for axis in range(3)):
        image[:, : shape[0] // 5] = 0.0  # a margin, which some runs crop
    affine = np.diag([*(1.1 * np.array(plan.spacing)), 1.0])
    volume = Volume(image, affine)
    exact = replace(system, predictor=replace(system.predictor, precision="fp32"))
    found = [one.segment(volume, probabilities=True).probabilities for one in (exact, other)]
    assert found[0] is not None
    assert found[1] is not None
    apart = float(np.abs(np.asarray(found[0], np.float64) - np.asarray(found[1], np.float64)).max())
    if not apart <= 10 * CLOSE:
        raise UserError(
            f"the exported system finds other probabilities than {system.name} in a volume of noise, by {apart:.2g}: "
            "nothing was written. Please report this"
        )


def _channel(channel: Any) -> Mapping[str, Any]:
    entry = ChannelEntry(**to_data(channel))
    return {"name": entry.name, "normalization": entry.normalization, **entry.used}


def labels_entry(labels: LabelSet) -> Mapping[str, Any]:
    """Return the entries `labels`, `regions_class_order` and `outputs` of a `system.yaml`.

    Args:
        labels: The classes or regions of the run.
    """
    if not labels.regions:
        data: dict[str, Any] = dict(zip(labels.names, labels.values, strict=True))
    else:
        # Here the first region that holds a voxel wins; in a file the last one is written over the others.
        data = {labels.names[0]: 0, **{region.name: list(region.values) for region in reversed(labels.regions)}}
    found: dict[str, Any] = {"labels": data}
    if labels.regions and labels.regions[0].written is not None:
        found["regions_class_order"] = [region.written for region in reversed(labels.regions)]
    if labels.regions:
        found["outputs"] = list(labels.scored)
    if labels.ignore is not None:
        data["ignore"] = labels.ignore
    return found
