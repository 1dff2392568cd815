"""The numbers of an ONNX file: weights inside the file, or in data files beside it.

A data file must lie in the folder of the network: a file from elsewhere must not make voxward read anything else.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

import numpy as np
import torch
from torch import Tensor

from voxward.core.errors import UserError
from voxward.nets.onnx.uncovered import Uncovered

# The sizes in bytes of ONNX's number types, by its codes: float, uint8, int8, uint16, int16, int32, int64, bool,
# float16, double, uint32, uint64 and bfloat16.
_BYTES = {1: 4, 2: 1, 3: 1, 4: 2, 5: 2, 6: 4, 7: 8, 9: 1, 10: 2, 11: 8, 12: 4, 13: 8, 16: 2}
FLOATS = frozenset({1, 10, 11, 16})
_EXTERNAL = 1


def tensors_of(graph: Any) -> Iterator[Any]:
    """Yield every tensor of a graph: its initial values and the attributes of its nodes.

    Args:
        graph: A GraphProto or a FunctionProto without graphs inside.
    """
    yield from getattr(graph, "initializer", ())
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("t"):
                yield attribute.t
            yield from attribute.tensors


def embed(tensor: Any, folder: Path) -> bytes:
    """Put the numbers of a tensor into the tensor itself if they are in a file beside the network.

    Args:
        tensor: A TensorProto, which is changed.
        folder: The folder of the network.

    Returns:
        What was read from such a file; nothing where the tensor had its numbers.

    Raises:
        UserError: The tensor is not as large as it says, or its file is missing, too short, or not in the folder.
    """
    size = _size(tensor)
    if tensor.data_location == _EXTERNAL:
        entries = {_text(entry.key): _text(entry.value) for entry in tensor.external_data}
        tensor.raw_data = _read(tensor, entries, folder, size)
        tensor.ClearField("external_data")
        tensor.data_location = 0
        return bytes(tensor.raw_data)
    if tensor.HasField("raw_data"):
        if len(tensor.raw_data) != size:
            raise UserError(f"the tensor {tensor.name!r} claims {size} bytes and has {len(tensor.raw_data)}")
    else:
        _check_count(tensor, size)
    return b""


def _text(value: str | bytes) -> str:
    """A text of the file; where it is no UTF-8, protobuf returns its bytes."""
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value


def _size(tensor: Any) -> int:
    """The bytes that a tensor says it has; nothing is allocated for it."""
    if tensor.data_type not in _BYTES:
        raise Uncovered(f"the tensor {tensor.name!r} has the number type {tensor.data_type} of ONNX, which is not read")
    if any(length < 0 for length in tensor.dims):
        raise UserError(f"the tensor {tensor.name!r} has the impossible sizes {list(tensor.dims)}")
    return math.prod(map(int, tensor.dims)) * _BYTES[tensor.data_type]


def _check_count(tensor: Any, size: int) -> None:
    fields = (tensor.float_data, tensor.int32_data, tensor.int64_data, tensor.double_data, tensor.uint64_data)
    found, claimed = max(map(len, fields)), size // _BYTES[tensor.data_type]
    if found != claimed:
        raise UserError(f"the tensor {tensor.name!r} claims {claimed} numbers and has {found}")


def _read(tensor: Any, entries: dict[str, str], folder: Path, size: int) -> bytes:
    path = _beside(entries.get("location", ""), folder, tensor.name)
    try:
        offset, length = int(entries.get("offset", "0")), int(entries.get("length", str(size)))
    except ValueError as error:
        raise UserError(f"the tensor {tensor.name!r} has no whole number as its place in {path}") from error
    if length != size:
        raise UserError(f"the tensor {tensor.name!r} claims {size} bytes, of which {path} should hold {length}")
    if offset < 0 or offset + length > path.stat().st_size:
        raise UserError(f"the tensor {tensor.name!r} is {length} bytes from {offset}, but {path} is shorter")
    with path.open("rb") as file:
        file.seek(offset)
        return file.read(length)


def _beside(location: str, folder: Path, name: str) -> Path:
    parts = PurePosixPath(location).parts
    outside = (
        not parts or "\\" in location or "\0" in location or ".." in parts
        or PurePosixPath(location).is_absolute() or PureWindowsPath(location).drive
    )  # fmt: skip
    path = folder / location
    if outside or not path.resolve().is_relative_to(folder.resolve()):
        raise UserError(
            f"the numbers of {name!r} are said to be in {location!r}, which is not in the folder {folder} of the "
            "network: nothing outside that folder is read"
        )
    if not path.is_file():
        raise FileNotFoundError(f"the numbers of {name!r} should be in {path}, which is no file")
    return path


def numbers(tensor: Any) -> Tensor:
    """Return the numbers of a tensor that `embed` has checked: float32 or float64, int64 or bool.

    Args:
        tensor: A TensorProto.
    """
    from onnx import numpy_helper

    array = np.asarray(numpy_helper.to_array(tensor))
    if tensor.data_type in FLOATS:
        array = array.astype(np.float64 if tensor.data_type == 11 else np.float32)
    elif array.dtype != np.bool_:
        if array.dtype == np.uint64 and array.size and array.max() > np.iinfo(np.int64).max:
            raise Uncovered(f"the tensor {tensor.name!r} holds numbers above {np.iinfo(np.int64).max}")
        array = array.astype(np.int64)
    return torch.from_numpy(np.array(array, order="C"))
