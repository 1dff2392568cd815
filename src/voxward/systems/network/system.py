"""A network that stands alone, with the pipeline that its user describes, as a deployed system."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from voxward.core.case import Volume
from voxward.core.devices import resolve_device
from voxward.core.errors import UserError
from voxward.core.gradientless import Gradientless
from voxward.core.memory import lacks_memory
from voxward.core.model import Box, VolumeModel
from voxward.core.recipe import Choice
from voxward.core.structure import from_data
from voxward.pipeline.predictor import Done, Predictor
from voxward.pipeline.tta import averaged
from voxward.runs.folder import TrainedModel
from voxward.runs.postprocess import PostProcess
from voxward.systems.code_digest import code_digest
from voxward.systems.deployment import Deployment, deployment_of
from voxward.systems.network.adapted import AdaptedNetwork, Convention
from voxward.systems.network.axes import Axes
from voxward.systems.network.entry import NetworkEntry, inference_of, labels_in, plan_of
from voxward.systems.network.files import FunctionNetwork, Loaded, is_torchscript, load_network
from voxward.systems.opening import Opening
from voxward.systems.run import RunSystem
from voxward.systems.system import Freeze, IntensityRange, NotDifferentiable, Segmentation

_SUFFIXES = (".pt2", ".onnx", ".ts", ".pt")


@dataclass(frozen=True, eq=False)
class NetworkSystem(RunSystem):
    """A network that stands alone, with a pipeline of voxward around it; implements System.

    Attributes:
        stored: Whether volumes are taken as their files store them, and are not turned to RAS.
    """

    stored: bool = False

    @property
    def members(self) -> tuple[tuple[Predictor, float], ...]:
        """The predictor, with its share of 1.

        Raises:
            UserError: The network takes volumes as files store them, which the members of an ensemble do not.
        """
        self._refuse_stored("an ensemble")
        return super().members

    def options(self) -> Mapping[str, Any]:
        """Return how the network is deployed."""
        network = self._adapted.convention
        axes = network.axes
        return {
            **super().options(),
            "kind": "network",
            "axes": [list(axes.order), list(axes.flips), axes.stored],
            "slicewise": network.slicewise,
            "outputs": list(network.order),
            "probabilities": network.probabilities,
            "result": network.result,
        }

    def segment(
        self, volume: Volume, done: Done | None = None, whole: Volume | None = None, probabilities: bool = False
    ) -> Segmentation:
        """Segment a volume; see System."""
        self.check(len(volume.array), volume.affine)
        return super().segment(self._seen(volume), done, None if whole is None else self._seen(whole), probabilities)

    def freeze(
        self, volume: Volume, how: Freeze = Freeze(), whole: Volume | None = None, inside: Box | None = None
    ) -> VolumeModel:
        """Bind the pipeline to a clean volume; see System."""
        self.check(len(volume.array), volume.affine)
        model = super().freeze(self._seen(volume), how, None if whole is None else self._seen(whole), inside)
        return Gradientless(model, self._why) if self._no_gradient else model

    def check_gradient(self) -> None:
        """Refuse a network that cuts its input off, such as a TorchScript graph that was optimised for inference."""
        if self._no_gradient:
            raise NotDifferentiable(self._why)

    @property
    def _why(self) -> str:
        return f"{self.name} has no gradient: {self._no_gradient}"

    def ranges(self, volume: Volume) -> Sequence[IntensityRange]:
        """Return the range of every channel; see System."""
        return super().ranges(self._seen(volume))

    def network(self) -> TrainedModel:
        """Return the network with its plan.

        Raises:
            UserError: The network takes volumes as files store them, and a single window is cut after turning to RAS.
        """
        self._refuse_stored("mode 'patch'")
        return super().network()

    @property
    def _adapted(self) -> AdaptedNetwork:
        network = self.predictor.model.network
        assert isinstance(network, AdaptedNetwork)
        return network

    @cached_property
    def _no_gradient(self) -> str:
        """Why there is no gradient; empty where there is one."""
        leaf = _probe(self.predictor).requires_grad_()
        try:
            scores = self.predictor.scores(leaf)
            if not scores.requires_grad:
                return "autograd cannot follow it"
            torch.autograd.grad(scores.sum(), leaf)
        except (RuntimeError, NotImplementedError) as error:
            if lacks_memory(error):
                raise
            return _last_line(error)
        return ""

    def _seen(self, volume: Volume) -> Volume:
        """The volume as the pipeline takes it: without directions where the axes are those of the file."""
        return replace(volume, affine=np.diag([*volume.spacing, 1.0])) if self.stored else volume

    def _refuse_stored(self, what: str) -> None:
        if self.stored:
            raise UserError(f"{self.name} takes volumes as files store them: {what} needs an orientation such as RAS")


def open_network(entry: NetworkEntry, opening: Opening) -> NetworkSystem:
    """Open a network with the pipeline of an entry.

    Raises:
        FileNotFoundError: There is no such file.
        UserError: The network cannot be read, is a program that the user does not trust, or does not fit the entries.
    """
    loaded = load_network(entry, opening.base, opening.trust, opening.device)
    return _joined(entry, loaded, opening.outer, opening.device, entry.name or opening.name, opening.source)


def network_system(
    network: Callable[[Tensor], Tensor], *, name: str = "network", device: str | None = None, **pipeline: Any
) -> NetworkSystem:
    """Make a system of a network of your own and a description of the pipeline around it.

    Every command takes such a system in place of a run folder.

    Args:
        network: From images (b, c, *spatial) to logits (b, k, *spatial): a module of PyTorch, which is put into
            evaluation mode, or any function.
        name: The name in tables.
        device: `auto`, `cpu`, `cuda`, `mps` or `xpu`; None leaves the network where it is.
        pipeline: The entries of a `system.yaml` of the kind `network`, such as `channels`, `labels` and `window`; see
            docs/own-network.md.

    Returns:
        The system, which was tried on one window.

    Raises:
        UserError: An entry is wrong, or the network does not fit them.

    Example:
        >>> liver = {"channels": [{"name": "CT", "normalization": "scale", "low": -100, "high": 240}],
        ...          "labels": {"background": 0, "liver": 1}, "spacing": [1.5, 1.5, 3.0], "window": [96, 96, 48]}
        >>> system = voxward.network_system(my_network, **liver)
        >>> voxward.attack(system, "Task03_Liver", out="attacked")
    """
    source = f"the pipeline of {name}"
    entry = from_data(NetworkEntry, {"network": name, **pipeline}, source)
    wrapped = FunctionNetwork(network).eval()
    held = next((value.device for value in wrapped.state_dict().values()), None)
    on = resolve_device(device or "cpu") if held is None or device is not None else held
    return _joined(entry, Loaded(wrapped.to(on), code_digest(network)), Deployment(), on, name, source)


def _joined(
    entry: NetworkEntry, loaded: Loaded, outer: Deployment, device: torch.device, title: str, source: str
) -> NetworkSystem:
    settings, axes = deployment_of(entry).within(outer), Axes.of(entry.orientation)
    labels, order = labels_in(entry, source)
    window = _window(entry, loaded.shape, source)
    how = Convention(axes, entry.slicewise, order, entry.returns == "probabilities", labels.head, entry.result)
    model = TrainedModel(
        plan_of(entry, labels, axes, window, source), inference_of(entry, axes),
        AdaptedNetwork(loaded.network, how).to(device).eval(), PostProcess(),
        Choice("network", {"identity": loaded.identity}),
    )  # fmt: skip
    predictor = Predictor(
        model, device, settings.precision or "fp32", settings.overlap, tta=settings.tta, graphs=settings.graphs or 0
    )
    _try(predictor, source)
    return NetworkSystem(predictor, None, title, axes.stored)


def _window(entry: NetworkEntry, shape: Sequence[int | None], source: str) -> tuple[int, ...]:
    """The window of an entry, or the size that the network was exported with; both must be the same."""
    given, sizes = entry.window, tuple(shape[2:])
    axes = 2 if entry.slicewise else 3
    if shape and len(sizes) != axes:
        word = "true" if len(sizes) == 2 else "false"
        raise UserError(f"{source}: {entry.network} takes images of {len(sizes)} axes, which needs slicewise: {word}")
    if shape and shape[1] not in (None, len(entry.channels)):
        raise UserError(f"{source}: {entry.network} takes {shape[1]} channels, got {len(entry.channels)} in channels")
    if given is None:
        fixed = tuple(size for size in sizes if size is not None)
        if len(fixed) < axes:
            raise UserError(f"{source}: window is missing: {entry.network} does not say which size it takes")
        return fixed
    if any(size not in (None, length) for size, length in zip(sizes, given, strict=False)):
        legal = ", ".join("any" if size is None else str(size) for size in sizes)
        raise UserError(f"{source}: {entry.network} was exported for windows of [{legal}], got {list(given)}")
    return given


def _probe(predictor: Predictor) -> Tensor:
    """One window of noise."""
    shape = (1, len(predictor.model.plan.channels), *predictor.model.plan.window_size)
    return torch.randn(shape, generator=torch.Generator().manual_seed(0)).to(predictor.device)


def _try(predictor: Predictor, source: str) -> None:
    """Refuse a network that does not fit its description, by one forward pass."""
    images, plan = _probe(predictor), predictor.model.plan
    forward = averaged(predictor.forward, predictor.views, plan.labels.head, predictor.mean)
    try:
        _check_memory(predictor.model.network, images)
        forward(images)
    except UserError as error:
        raise UserError(f"{source}: {error}") from error
    except Exception as error:
        channels, size = len(plan.channels), list(images.shape[2:])
        raise UserError(
            f"{source}: the network refuses a window of {channels} channels and {size} voxels: {_last_line(error)}"
        ) from error


def _check_memory(network: torch.nn.Module, images: Tensor) -> None:
    assert isinstance(network, AdaptedNetwork)
    check: Any = getattr(network.network, "check_memory", None)
    if check is not None:
        seen = network.convention.axes.turned(images)
        check(seen.shape[:4] if network.convention.slicewise else seen.shape)


def _last_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[-1][:500] if lines else ''}"


def network_alone(path: Path) -> dict[str, Any] | None:
    """Refuse a file that holds a network and nothing else: nobody can tell what its pipeline is.

    Raises:
        UserError: It is one.
    """
    if path.is_file() and (path.suffix in _SUFFIXES or is_torchscript(path)):
        raise UserError(
            f"{path} is a network alone: describe its channels, labels and window in a system.yaml of the kind "
            "network, see docs/own-network.md"
        )
    return None


def network_entries(systems: Sequence[str]) -> dict[str, Any]:
    """Return the entries of a network whose file is given.

    Raises:
        UserError: It is not one file.
    """
    if len(systems) != 1:
        raise UserError(f"a network is one file, got {len(systems)}")
    return {"network": systems[0]}
