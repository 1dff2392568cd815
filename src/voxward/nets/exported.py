"""Networks that torch.export wrote (.pt2), read as data and run operator by operator.

torch.export.load may run code that is in such a file: it unpickles example inputs and some weights, evaluates size
expressions as Python, and calls whatever function of torch a node names. Here nothing but JSON and raw numbers is read,
and only the operators of OPERATORS are called.
"""

from __future__ import annotations

import json
import math
import operator
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from voxward.core.errors import UserError
from voxward.core.registry import Registry

_ATEN = (
    "conv1d.default", "conv2d.default", "conv3d.default", "conv2d.padding", "conv3d.padding", "convolution.default",
    "conv_transpose2d.input", "conv_transpose3d.input", "instance_norm.default", "batch_norm.default",
    "group_norm.default", "layer_norm.default", "_native_batch_norm_legit_no_training.default",
    "relu.default", "relu_.default", "leaky_relu.default", "leaky_relu_.default", "prelu.default", "elu.default",
    "gelu.default", "silu.default", "silu_.default", "mish.default", "hardswish.default", "sigmoid.default",
    "tanh.default", "softmax.int", "_softmax.default", "log_softmax.int", "dropout.default", "feature_dropout.default",
    "alpha_dropout.default", "clone.default", "contiguous.default", "add.Tensor", "add.Scalar", "add_.Tensor",
    "sub.Tensor", "sub.Scalar", "mul.Tensor", "mul.Scalar", "div.Tensor", "div.Scalar", "neg.default",
    "pow.Tensor_Scalar",
    "sqrt.default", "rsqrt.default", "exp.default", "mean.dim", "sum.dim_IntList", "amax.default", "amin.default",
    "clamp.default", "clamp_min.default", "maximum.default", "minimum.default", "cat.default", "stack.default",
    "split.Tensor", "split_with_sizes.default", "chunk.default", "slice.Tensor", "select.int", "index_select.default",
    "permute.default", "transpose.int", "view.default", "reshape.default", "_unsafe_view.default", "flatten.using_ints",
    "unsqueeze.default", "squeeze.dim", "squeeze.dims", "expand.default", "repeat.default", "flip.default",
    "constant_pad_nd.default", "pad.default", "reflection_pad3d.default", "replication_pad3d.default",
    "max_pool2d.default", "max_pool3d.default", "avg_pool2d.default", "avg_pool3d.default",
    "adaptive_avg_pool2d.default", "adaptive_avg_pool3d.default", "upsample_nearest2d.vec", "upsample_nearest3d.vec",
    "upsample_bilinear2d.vec", "upsample_trilinear3d.vec", "upsample_nearest3d.default",
    "upsample_trilinear3d.default", "linear.default", "matmul.default", "bmm.default", "mm.default", "addmm.default",
    "scaled_dot_product_attention.default", "_to_copy.default", "to.dtype", "detach.default", "alias.default",
    "sym_size.int", "zeros_like.default", "ones_like.default",
)  # fmt: skip
_PLAIN: dict[str, Callable[..., Any]] = {
    f"_operator.{name}": getattr(operator, name)
    for name in ("add", "sub", "mul", "floordiv", "truediv", "mod", "neg", "getitem", "ge", "le", "eq", "lt", "gt")
}


def _aten(name: str) -> Callable[..., Any]:
    packet, _, overload = name.partition(".")
    found: Callable[..., Any] = getattr(getattr(torch.ops.aten, packet), overload)
    return found


OPERATORS: Registry[Callable[..., Any]] = Registry(
    "operator of an exported network",
    {**{f"torch.ops.aten.{name}": _aten(name) for name in _ATEN}, **_PLAIN, "math.trunc": math.trunc},
)

_KINDS: dict[int, torch.dtype] = {
    1: torch.uint8, 2: torch.int8, 3: torch.int16, 4: torch.int32, 5: torch.int64, 6: torch.float16, 7: torch.float32,
    8: torch.float64, 12: torch.bool, 13: torch.bfloat16,
}  # fmt: skip
_LARGEST = 1 << 34


@dataclass(frozen=True)
class Program:
    """A network's graph as its file describes it.

    Attributes:
        nodes: The operators in the order in which they run.
        inputs: For every input of the graph its name, and the name of the weight that it is; None for the image.
        output: The name of the result.
        shape: The sizes of the image that the network was exported with; None where a size is free.
    """

    nodes: tuple[Mapping[str, Any], ...]
    inputs: tuple[tuple[str, str | None], ...]
    output: str
    shape: tuple[int | None, ...]


class ExportedNetwork(nn.Module):
    """A network that runs a program.

    Args:
        program: The graph.
        weights: The weights by name.
    """

    def __init__(self, program: Program, weights: Mapping[str, Tensor]) -> None:
        super().__init__()
        self.program = program
        self._places = {name: f"weight_{n}" for n, name in enumerate(weights)}
        for name, value in weights.items():
            place = self._places[name]
            if value.is_floating_point():
                self.register_parameter(place, nn.Parameter(value, requires_grad=False))
            else:
                self.register_buffer(place, value)

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits of a batch of windows (b, c, *spatial)."""
        if self.program.shape[0] == 1 and len(images) > 1:
            return torch.cat([self._run(image[None]) for image in images])
        return self._run(images)

    def _run(self, images: Tensor) -> Tensor:
        values: dict[str, Any] = {
            name: images if weight is None else getattr(self, self._places[weight])
            for name, weight in self.program.inputs
        }
        for node in self.program.nodes:
            arguments = {each["name"]: _value(each["arg"], values) for each in node["inputs"]}
            found = _call(OPERATORS[node["target"]], node, arguments)
            names = [name for each in node["outputs"] for name in _names(each)]
            values.update(zip(names, [found] if len(names) == 1 else found, strict=True))
        output: Tensor = values[self.program.output]
        return output


def _call(function: Callable[..., Any], node: Mapping[str, Any], arguments: Mapping[str, Any]) -> Any:
    # Plain functions of Python take their arguments by place.
    if node["target"] in _PLAIN or node["target"].startswith("math."):
        return function(*arguments.values())
    return function(**arguments)


def read_exported(path: Path) -> ExportedNetwork:
    """Read a .pt2 file.

    Args:
        path: The file that torch.export.save wrote.

    Returns:
        The network in evaluation mode.

    Raises:
        FileNotFoundError: There is no such file.
        UserError: The file is damaged, or holds what is not read: pickled weights, operators that are not known, more
            than one image or result.
    """
    if not path.is_file():
        raise FileNotFoundError(f"there is no exported network {path}")
    try:
        with zipfile.ZipFile(path) as archive:
            root = _root(archive)
            names = [name for name in archive.namelist() if name.startswith(f"{root}/models/")]
            if len(names) != 1:
                raise UserError(f"it must hold one network, got {len(names)}")
            described = json.loads(archive.read(names[0]))
            model = Path(names[0]).stem
            weights = _weights(archive, f"{root}/data/weights/", f"{model}_weights_config.json")
            weights |= _weights(archive, f"{root}/data/constants/", f"{model}_constants_config.json")
        program = _program(described)
        missing = [weight for _, weight in program.inputs if weight is not None and weight not in weights]
        if missing:
            raise UserError(f"the weight {missing[0]!r} is not there")
        return ExportedNetwork(program, weights).eval()
    except UserError as error:
        raise UserError(f"{path}: {error}") from error
    except (zipfile.BadZipFile, json.JSONDecodeError, KeyError, TypeError, ValueError, RecursionError) as error:
        raise UserError(f"{path} is damaged, or no file of torch.export.save: {error!r}") from error


def _root(archive: zipfile.ZipFile) -> str:
    roots = {name.partition("/")[0] for name in archive.namelist()}
    if len(roots) != 1:
        raise UserError("it is no file of torch.export.save")
    return roots.pop()


def _weights(archive: zipfile.ZipFile, folder: str, config: str) -> dict[str, Tensor]:
    if folder + config not in archive.namelist():
        return {}
    entries = json.loads(archive.read(folder + config))["config"]
    return {name: _tensor(archive, folder, name, entry) for name, entry in entries.items()}


def _tensor(archive: zipfile.ZipFile, folder: str, name: str, entry: Mapping[str, Any]) -> Tensor:
    place, meta = str(entry["path_name"]), entry["tensor_meta"]
    if entry["use_pickle"] or meta is None or not place.startswith(("weight_", "tensor_")) or "/" in place:
        raise UserError(f"the weight {name!r} is pickled, which may run code when it is read")
    kind = _KINDS.get(meta["dtype"])
    if kind is None:
        raise UserError(f"the weight {name!r} has a number type that is not known")
    sizes, strides = ([int(each["as_int"]) for each in meta[key]] for key in ("sizes", "strides"))
    offset = int(meta["storage_offset"]["as_int"])
    if min([*sizes, *strides, offset], default=0) < 0 or archive.getinfo(folder + place).file_size > _LARGEST:
        raise UserError(f"the weight {name!r} has sizes that cannot be")
    stored = torch.frombuffer(bytearray(archive.read(folder + place)), dtype=kind)
    last = offset + sum((size - 1) * stride for size, stride in zip(sizes, strides, strict=True))
    if 0 not in sizes and last >= len(stored):
        raise UserError(f"the weight {name!r} is shorter than its sizes say")
    return torch.as_strided(stored, sizes, strides, offset).clone()


def _program(described: Mapping[str, Any]) -> Program:
    module = described["graph_module"]
    graph, signature = module["graph"], module["signature"]
    nodes = tuple(graph["nodes"])
    unknown = sorted({str(node["target"]) for node in nodes} - set(OPERATORS))
    if unknown:
        raise UserError(f"the operators {', '.join(unknown)} are not supported")
    inputs = tuple(_input(spec) for spec in signature["input_specs"])
    images = [name for name, weight in inputs if weight is None]
    outputs = [name for each in graph["outputs"] for name in _names(each)]
    if len(images) != 1 or len(outputs) != 1:
        raise UserError(f"a network takes one image and returns one result, got {len(images)} and {len(outputs)}")
    sizes = graph["tensor_values"][images[0]]["sizes"]
    return Program(nodes, inputs, outputs[0], tuple(size.get("as_int") for size in sizes))


_PLACES = {"parameter": "parameter_name", "buffer": "buffer_name", "tensor_constant": "tensor_constant_name"}


def _input(spec: Mapping[str, Any]) -> tuple[str, str | None]:
    (kind, inner), *more = spec.items()
    if more or kind not in ("user_input", *_PLACES):
        raise UserError(f"an input of the kind {kind!r} is not supported")
    argument = inner["arg"]
    if kind == "user_input":
        return str(argument["as_tensor"]["name"]), None
    return str(argument["name"]), str(inner[_PLACES[kind]])


def _names(argument: Mapping[str, Any]) -> list[str]:
    """The names of the tensors or numbers that a node gives."""
    for kind, value in argument.items():
        if kind in ("as_tensor", "as_sym_int", "as_sym_bool", "as_sym_float"):
            return [str(value.get("name", value.get("as_name")))]
        if kind == "as_tensors":
            return [str(each["name"]) for each in value]
    raise UserError(f"a result of the form {argument!r} is not supported")


_LITERAL = ("as_int", "as_ints", "as_float", "as_floats", "as_bool", "as_bools", "as_string")


def _value(argument: Mapping[str, Any], values: Mapping[str, Any]) -> Any:
    (kind, given), *_ = argument.items()
    if kind in _LITERAL:
        return given
    if kind == "as_none":
        return None
    if kind in ("as_tensor", "as_sym_int", "as_sym_float", "as_sym_bool"):
        return _named(given, values)
    if kind in ("as_tensors", "as_sym_ints", "as_sym_floats", "as_optional_tensors", "as_sym_bools"):
        return [_named(each, values) for each in given]
    if kind == "as_optional_tensor":
        return None if "as_none" in given else _named(given["as_tensor"], values)
    if kind == "as_scalar_type":
        return _KINDS[given]
    if kind in ("as_memory_format", "as_layout", "as_device"):
        return None
    raise UserError(f"an argument of the form {kind} is not supported")


def _named(given: Any, values: Mapping[str, Any]) -> Any:
    """A tensor or size by its name, or a number as it stands."""
    if not isinstance(given, Mapping):
        return given
    if "as_none" in given:
        return None
    inner = given.get("as_tensor", given)
    for key in ("name", "as_name"):
        if key in inner:
            return values[inner[key]]
    return next(inner[key] for key in ("as_int", "as_float", "as_bool") if key in inner)


def fixed_window(shape: Sequence[int | None]) -> tuple[int, ...] | None:
    """Return the spatial sizes that a network was exported for, or None where one of them is free.

    Args:
        shape: The sizes of the image (b, c, *spatial), None where free.
    """
    spatial = tuple(size for size in shape[2:] if size is not None)
    return spatial if len(spatial) == len(shape) - 2 else None
