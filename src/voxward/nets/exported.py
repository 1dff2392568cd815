"""Networks that torch.export wrote (.pt2), read as data and run operator by operator.

torch.export.load may run code that is in such a file: it unpickles example inputs and some weights, evaluates size
expressions as Python, and calls whatever function of torch a node names. Here nothing but JSON and raw numbers is read,
and only the operators of OPERATORS are called.
"""

from __future__ import annotations

import json
import math
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from voxward.core.archive import opened_archive
from voxward.core.errors import UserError
from voxward.nets.exported_operators import CHECKS, OPERATORS, call, in_place, refuse_training

_KINDS: dict[int, torch.dtype] = {
    1: torch.uint8, 2: torch.int8, 3: torch.int16, 4: torch.int32, 5: torch.int64, 6: torch.float16, 7: torch.float32,
    8: torch.float64, 12: torch.bool, 13: torch.bfloat16,
}  # fmt: skip
# Views may repeat their numbers, such as a mask that is the same for all channels, but not without end.
_MOST_REPEATED = 1 << 24
_MOST_NUMBERS = 1 << 31
"""The most numbers of one layer's result for one window; more fit no memory."""
# The name of no node.
_DEVICE = "<device>"


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
        # What writes into its argument must not write into the caller's image.
        self._writes = any(in_place(node["target"]) for node in program.nodes)
        for name, value in weights.items():
            place = self._places[name]
            if value.is_floating_point():
                self.register_parameter(place, nn.Parameter(value, requires_grad=False))
            else:
                self.register_buffer(place, value)

    @property
    def shape(self) -> tuple[int | None, ...]:
        """Return the sizes of the image (b, c, *spatial) that the network takes; None where a size is free."""
        return self.program.shape

    def forward(self, images: Tensor) -> Tensor:
        """Return what the network says about a batch of windows (b, c, *spatial).

        Raises:
            UserError: The windows have a size that the network was not exported for.
        """
        sizes = tuple(images.shape[1:])
        if len(sizes) != len(self.shape) - 1 or any(
            size not in (None, given) for size, given in zip(self.shape[1:], sizes, strict=True)
        ):
            raise UserError(f"the network was exported for images of shape {self.shape[1:]}, got {sizes}")
        images = images.clone() if self._writes else images
        size = self.shape[0] or len(images)
        if size == len(images):
            return self._run(images)
        return torch.cat([self._filled(images[n : n + size], size) for n in range(0, len(images), size)])

    def _filled(self, images: Tensor, size: int) -> Tensor:
        """Run images as a batch of the size that the network was exported with, which they may not fill."""
        more = images[-1:].expand(size - len(images), *images.shape[1:])
        return self._run(torch.cat([images, more]))[: len(images)]

    def check_memory(self, shape: Sequence[int]) -> None:
        """Refuse a network some layer of which fits no memory, without computing anything.

        Args:
            shape: The sizes of the image (b, c, *spatial).

        Raises:
            UserError: There is such a layer.
        """
        weights = {name: getattr(self, place).to("meta") for name, place in self._places.items()}
        self._run(torch.empty(tuple(shape), device="meta"), weights, _MOST_NUMBERS)

    def _run(self, images: Tensor, weights: Mapping[str, Tensor] | None = None, most: int | None = None) -> Tensor:
        values: dict[str, Any] = {_DEVICE: images.device}
        for name, weight in self.program.inputs:
            held = images if weight is None else getattr(self, self._places[weight])
            values[name] = held if weight is None or weights is None else weights[weight]
        for node in self.program.nodes:
            if node["target"] in CHECKS:
                continue
            arguments = {each["name"]: _value(each["arg"], values) for each in node["inputs"]}
            found = call(node["target"], arguments)
            if isinstance(found, Tensor) and most is not None and found.numel() > most:
                raise UserError(f"{node['target']} makes {found.numel()} numbers of one window, which fit no memory")
            values.update(_results(node["outputs"], found))
        output: Tensor = values[self.program.output]
        return output


def read_exported(path: Path, result: int | None = None) -> ExportedNetwork:
    """Read a .pt2 file.

    Args:
        path: The file that torch.export.save wrote.
        result: Which of several results is taken, counted from 0; None for a network with one.

    Returns:
        The network in evaluation mode.

    Raises:
        FileNotFoundError: There is no such file.
        UserError: The file is damaged, or holds what is not read: pickled weights, operators that are not known, more
            than one image, or several results of which none was chosen.
    """
    if not path.is_file():
        raise FileNotFoundError(f"there is no exported network {path}")
    try:
        with opened_archive(path) as archive:
            _refuse_packed(archive)
            root = _root(archive)
            names = [name for name in archive.namelist() if name.startswith(f"{root}/models/")]
            if len(names) != 1:
                raise UserError(f"it must hold one network, got {len(names)}")
            described = json.loads(archive.read(names[0]))
            model = Path(names[0]).stem
            weights = _weights(archive, f"{root}/data/weights/", f"{model}_weights_config.json")
            weights |= _weights(archive, f"{root}/data/constants/", f"{model}_constants_config.json")
        program = _program(described, result)
        missing = [weight for _, weight in program.inputs if weight is not None and weight not in weights]
        if missing:
            raise UserError(f"the weight {missing[0]!r} is not there")
        return ExportedNetwork(program, weights).eval()
    except UserError as error:
        raise UserError(f"{path}: {error}") from error
    except _DAMAGED as error:
        raise UserError(f"{path} is damaged, or no file of torch.export.save: {error!r}"[:500]) from error


_DAMAGED = (
    zipfile.BadZipFile, KeyError, TypeError, ValueError, AttributeError, IndexError, OverflowError, RecursionError,
    EOFError, RuntimeError, NotImplementedError,
)  # fmt: skip


def _refuse_packed(archive: zipfile.ZipFile) -> None:
    """torch.export.save compresses nothing; what is packed could unpack to more than fits into memory."""
    packed = [entry.filename for entry in archive.infolist() if entry.compress_type != zipfile.ZIP_STORED]
    if packed:
        raise UserError(f"{packed[0]!r} in it is compressed, which torch.export.save does not do")


def _root(archive: zipfile.ZipFile) -> str:
    roots = {name.partition("/")[0] for name in archive.namelist()}
    if "serialized_exported_program.json" in roots:
        raise UserError(
            "it was written by an older version of PyTorch, which pickles weights: export it with a new one"
        )
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
    sizes, strides = ([_whole(each) for each in meta[key]] for key in ("sizes", "strides"))
    offset = _whole(meta["storage_offset"])
    content = archive.read(folder + place)
    stored = torch.frombuffer(bytearray(content), dtype=kind) if content else torch.empty(0, dtype=kind)
    last = offset + sum((size - 1) * stride for size, stride in zip(sizes, strides, strict=True))
    if 0 not in sizes and last >= len(stored):
        raise UserError(f"the weight {name!r} is shorter than its sizes say")
    if math.prod(sizes) > max(len(stored), _MOST_REPEATED):
        raise UserError(f"the weight {name!r} has sizes that cannot be")
    return torch.empty(sizes, dtype=kind) if 0 in sizes else torch.as_strided(stored, sizes, strides, offset).clone()


def _whole(given: Mapping[str, Any]) -> int:
    """A size, stride or offset of a weight, which is a number and no expression."""
    number = given["as_int"]
    if not isinstance(number, int) or isinstance(number, bool) or not 0 <= number < 1 << 62:
        raise UserError(f"a weight has a size that cannot be: {number!r}"[:200])
    return number


def _program(described: Mapping[str, Any], result: int | None) -> Program:
    module = described["graph_module"]
    graph, signature = module["graph"], module["signature"]
    nodes = tuple(graph["nodes"])
    unknown = sorted({str(node["target"]) for node in nodes} - set(OPERATORS) - CHECKS)
    if unknown:
        raise UserError(f"the operators {', '.join(unknown)} are not supported"[:1000])
    inputs = tuple(_input(spec) for spec in signature["input_specs"])
    refuse_training(nodes, [name for name, weight in inputs if weight is not None])
    images = [name for name, weight in inputs if weight is None]
    outputs = [name for each in graph["outputs"] for name in _names(each)]
    if len(images) != 1:
        raise UserError(f"a network takes one image, got {len(images)}")
    if len(outputs) != 1 if result is None else result not in range(len(outputs)):
        chosen = "" if result is None else f", of which there is no number {result}"
        raise UserError(f"it returns {len(outputs)} results{chosen}: say by result which one holds the scores (from 0)")
    sizes = graph["tensor_values"][images[0]]["sizes"]
    # A size that is an expression is free; the expression itself is never looked at.
    return Program(
        nodes, inputs, outputs[result or 0], tuple(_whole(size) if "as_int" in size else None for size in sizes)
    )


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
    raise UserError(f"a result of the form {argument!r} is not supported"[:500])


def _results(outputs: Sequence[Mapping[str, Any]], found: Any) -> dict[str, Any]:
    """The results of a node by name; a node with one list of results has one name for each of its members."""
    names = [name for each in outputs for name in _names(each)]
    several = len(outputs) != 1 or "as_tensors" in outputs[0]
    return dict(zip(names, found if several else [found], strict=True))


_LITERAL = ("as_int", "as_ints", "as_float", "as_floats", "as_bool", "as_bools", "as_string")


def _value(argument: Mapping[str, Any], values: Mapping[str, Any]) -> Any:
    (kind, given), *_ = argument.items()
    if kind in _LITERAL:
        return given
    if kind in ("as_none", "as_memory_format", "as_layout"):
        return None
    if kind in ("as_tensor", "as_sym_int", "as_sym_float", "as_sym_bool"):
        return _named(given, values)
    if kind in ("as_tensors", "as_sym_ints", "as_sym_floats", "as_optional_tensors", "as_sym_bools"):
        return [_named(each, values) for each in given]
    if kind == "as_optional_tensor":
        return None if "as_none" in given else _named(given["as_tensor"], values)
    if kind == "as_scalar_type":
        return _KINDS[given]
    if kind == "as_device":
        return values[_DEVICE]
    raise UserError(f"an argument of the form {kind} is not supported"[:200])


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
