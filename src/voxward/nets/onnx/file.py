"""Reads an ONNX file into a graph of plain values, and refuses what no network needs."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

from torch import Tensor

from voxward.core.errors import MissingPackageError, UserError
from voxward.nets.onnx.external import FLOATS, embed, numbers, tensors_of
from voxward.nets.onnx.uncovered import Uncovered

OPSETS = range(9, 26)
_DOMAINS = ("", "ai.onnx")
_CONTROL = ("If", "Loop", "Scan", "SequenceMap")
# The greatest message of protobuf.
_LARGEST = 1 << 31


@dataclass(frozen=True)
class Node:
    """One operator of a network.

    Attributes:
        operator: The name of the operator.
        name: The name of the node, or of its first result where it has none.
        inputs: The names of the values that it takes; empty where an optional one is left out.
        outputs: The names of the values that it gives.
        attributes: Its attributes as plain values: int, float, str, tuples of them, or a tensor.
    """

    operator: str
    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, Any]

    def __str__(self) -> str:
        return f"the node {self.name!r} ({self.operator})"


@dataclass(frozen=True)
class Graph:
    """A network as its file describes it.

    Attributes:
        opset: The version of ONNX's operators.
        nodes: The operators in the order in which they run.
        constants: The weights and other numbers by name: float32 or float64, int64 or bool.
        input: The name of the image.
        output: The name of the result.
        batch: The only number of windows that the network takes at once; None for any number.
        shape: The channels and the spatial sizes that the image must have; None where one is free.
        kind: ONNX's code of the number type of the image.
    """

    opset: int
    nodes: tuple[Node, ...]
    constants: Mapping[str, Tensor]
    input: str
    output: str
    batch: int | None
    shape: tuple[int | None, ...]
    kind: int


def need_onnx(path: Path) -> ModuleType:
    """Return the package onnx.

    Args:
        path: The file that needs it, for the message.

    Raises:
        MissingPackageError: It is not installed.
    """
    try:
        return import_module("onnx")
    except ImportError as error:
        raise MissingPackageError(f"{path} needs onnx: pip install voxward[onnx]") from error


def load(path: Path) -> tuple[Any, str]:
    """Read an ONNX file as data, with the numbers of the files beside it.

    Args:
        path: The file.

    Returns:
        A ModelProto that refers to no other file, and the SHA-256 of the file and of what it takes from others.

    Raises:
        FileNotFoundError: There is no such file, or a data file of it is missing.
        MissingPackageError: The package onnx is not installed.
        UserError: The file is damaged or too large, refers to a file outside its folder, or has functions, loops,
            branches or operators of its own.
    """
    onnx = need_onnx(path)
    if not path.is_file():
        raise FileNotFoundError(f"there is no network {path}")
    if path.stat().st_size >= _LARGEST:
        raise UserError(f"{path.stat().st_size} bytes are more than an ONNX file can have")
    from google.protobuf.message import DecodeError

    content = path.read_bytes()
    try:
        model = onnx.ModelProto.FromString(content)
    except DecodeError as error:
        raise UserError(f"it is damaged, or no ONNX file: {error}") from error
    model.ClearField("training_info")
    _refuse_programs(model)
    digest, count = hashlib.sha256(content), len(content)
    for tensor in tensors_of(model.graph):
        data = embed(tensor, path.parent)
        digest.update(data)
        # Many tensors may name the same bytes of a file.
        count += len(data)
        if count >= _LARGEST:
            raise UserError(f"it and its data files hold more than {_LARGEST} bytes, which is not read")
    return model, digest.hexdigest()


def _refuse_programs(model: Any) -> None:
    if model.functions:
        names = ", ".join(sorted(function.name for function in model.functions)[:5])
        raise UserError(f"it has functions of its own ({names}): export it with its functions inlined")
    if model.graph.sparse_initializer:
        raise UserError("it has sparse weights, which are not read")
    for node in model.graph.node:
        if node.domain not in _DOMAINS:
            raise UserError(f"{_named(node)} is of {node.domain!r}; only ONNX's own operators are run")
        nested = any(attribute.HasField("g") or attribute.graphs for attribute in node.attribute)
        if node.op_type in _CONTROL or nested:
            raise UserError(f"{_named(node)} is a branch or a loop, which no network of windows needs")


def _named(node: Any) -> str:
    return f"the node {_name(node)!r} ({node.op_type})"


def _name(node: Any) -> str:
    return str(node.name or next(iter(node.output), ""))


def graph_of(model: Any, output: str | None = None) -> Graph:
    """Return the graph of a model that `load` read.

    Args:
        model: The ModelProto.
        output: The name of the result that holds the scores, where the network gives several.

    Raises:
        Uncovered: The version of ONNX's operators, or a number type, is not known.
        UserError: The file breaks a rule of ONNX, or does not take one image and return one result.
    """
    version = next((each.version for each in model.opset_import if each.domain in _DOMAINS), 0)
    if version not in OPSETS:
        raise Uncovered(f"its operators are of version {version}; known are {OPSETS[0]} to {OPSETS[-1]}")
    _check(model)
    graph = model.graph
    constants = {tensor.name: numbers(tensor) for tensor in graph.initializer}
    image = _image(graph, constants)
    batch, *shape = _sizes(image)
    nodes = tuple(map(_node, graph.node))
    kind = image.type.tensor_type.elem_type
    result = _result(graph, output)
    return Graph(version, nodes, constants, image.name, result, batch=batch, shape=tuple(shape), kind=kind)


def _check(model: Any) -> None:
    from onnx import checker

    try:
        checker.check_model(model)
    except (checker.ValidationError, RuntimeError, ValueError) as error:
        raise UserError(f"it breaks a rule of ONNX: {' '.join(str(error).split())}") from error


def _image(graph: Any, constants: Mapping[str, Tensor]) -> Any:
    # Old files list the weights among the inputs.
    images = [value for value in graph.input if value.name not in constants]
    if len(images) != 1:
        raise UserError(f"it must take one image, got {len(images)}: {', '.join(value.name for value in images)}")
    kind = images[0].type.tensor_type.elem_type
    if kind not in FLOATS:
        raise UserError(f"its image {images[0].name!r} must be of floating-point numbers, got ONNX's type {kind}")
    return images[0]


def _sizes(image: Any) -> list[int | None]:
    sizes = [each.dim_value if each.dim_value > 0 else None for each in image.type.tensor_type.shape.dim]
    if len(sizes) < 3:
        raise UserError(f"its image {image.name!r} must have the sizes (batch, channels, *spatial), got {sizes}")
    if sizes[0] not in (None, 1):
        raise UserError(f"it takes {sizes[0]} windows at once: export it for one, or for any number")
    return sizes


def _result(graph: Any, asked: str | None) -> str:
    names = [str(value.name) for value in graph.output]
    if asked is None and len(names) == 1:
        return names[0]
    if asked is None or asked not in names:
        got = "several" if asked is None else repr(asked)
        raise UserError(f"output must be one of its results {', '.join(names)}, got {got}")
    return asked


def _node(node: Any) -> Node:
    attributes = {attribute.name: _attribute(attribute) for attribute in node.attribute}
    outputs = list(node.output)
    while outputs and not outputs[-1]:
        outputs.pop()  # optional results that are left out
    return Node(node.op_type, _name(node), tuple(node.input), tuple(outputs), attributes)


def _attribute(attribute: Any) -> Any:
    from onnx import AttributeProto, helper

    if attribute.type == AttributeProto.TENSOR:
        return numbers(attribute.t)
    value = helper.get_attribute_value(attribute)
    if isinstance(value, bytes):
        return _text(value, attribute.name)
    if isinstance(value, int | float | str):
        return value
    if not isinstance(value, Sequence) and not hasattr(value, "__iter__"):
        raise UserError(f"the attribute {attribute.name!r} is of a type that is not read")
    return tuple(_text(each, attribute.name) if isinstance(each, bytes) else each for each in value)


def _text(value: bytes, name: str) -> str:
    try:
        return value.decode("utf-8")
    except UnicodeDecodeError as error:
        raise UserError(f"the attribute {name!r} is not a text in UTF-8: {error}") from error


def needed(graph: Graph) -> Graph:
    """Return a graph with the nodes alone that its result depends on.

    Args:
        graph: The graph.
    """
    wanted, kept = {graph.output}, []
    for node in reversed(graph.nodes):
        if wanted & set(node.outputs):
            kept.append(node)
            wanted |= set(node.inputs)
    return replace(graph, nodes=tuple(reversed(kept)))
