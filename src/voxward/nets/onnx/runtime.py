"""An ONNX file run by onnxruntime, without a gradient: for networks whose operators are not covered."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from voxward.core.errors import MissingPackageError, UserError
from voxward.nets.onnx.file import Graph, graph_of, load
from voxward.nets.onnx.uncovered import Uncovered

_KINDS = {1: np.float32, 10: np.float16, 11: np.float64}


class OnnxRuntimeNetwork(nn.Module):
    """A network that onnxruntime computes on the CPU.

    Args:
        session: An InferenceSession.
        graph: The graph of the file.
        source: The file, for messages.
        identity: The SHA-256 of the file and of its data files.

    Attributes:
        identity: The same.
        shape: The channels and the spatial sizes of an image; None where one is free.
        operators: The names of the operators.
        differentiable: Whether the result has a gradient with respect to the image.
    """

    differentiable = False

    def __init__(self, session: Any, graph: Graph, source: Path, identity: str) -> None:
        super().__init__()
        self.graph, self.source, self.identity, self._session = graph, source, identity, session
        self.shape = graph.shape
        self.operators = tuple(sorted({node.operator for node in graph.nodes}))

    def forward(self, images: Tensor) -> Tensor:
        """Return the scores of a batch of windows (b, c, *spatial), in the type and on the device of the images."""
        array = images.detach().cpu().numpy().astype(_KINDS[self.graph.kind])
        parts = [image[None] for image in array] if self.graph.batch == 1 else [array]
        found = np.concatenate([self._one(part) for part in parts])
        return torch.from_numpy(found).to(images)

    def _one(self, array: np.ndarray) -> np.ndarray:
        try:
            (result,) = self._session.run([self.graph.output], {self.graph.input: array})
        except Exception as error:  # onnxruntime's errors have no base class of their own
            raise UserError(f"{self.source}: onnxruntime cannot run windows of {array.shape}: {error}") from error
        return np.asarray(result)


def blackbox_onnx(path: Path, output: str | None = None) -> OnnxRuntimeNetwork:
    """Open an ONNX file with onnxruntime.

    Args:
        path: The file. Data files of it must be in its folder.
        output: The name of the result that holds the scores, where the network gives several.

    Returns:
        The network, which computes on the CPU and has no gradient.

    Raises:
        FileNotFoundError: There is no such file.
        MissingPackageError: The package onnx or onnxruntime is not installed.
        UserError: The file is damaged, unsafe, or no network of one image, or onnxruntime does not know an operator.
    """
    try:
        model, identity = load(path)
        graph = graph_of(model, output)
        if graph.kind not in _KINDS:
            raise UserError(f"its image must be of float16, float32 or float64, got ONNX's type {graph.kind}")
        # The model holds all its numbers: onnxruntime opens no file.
        return OnnxRuntimeNetwork(_session(model.SerializeToString(), path), graph, path, identity)
    except Uncovered as error:
        raise Uncovered(f"{path}: {error}") from error
    except UserError as error:
        raise UserError(f"{path}: {error}") from error


def _session(data: bytes, path: Path) -> Any:
    try:
        import onnxruntime
    except ImportError as error:
        raise MissingPackageError(f"{path} needs onnxruntime: pip install voxward[onnx]") from error
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 4  # what fails is raised, and not printed as well
    onnxruntime.disable_telemetry_events()
    try:
        return onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's errors have no base class of their own
        raise UserError(f"onnxruntime does not run it: {' '.join(str(error).split())}") from error
