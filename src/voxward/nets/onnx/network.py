"""An ONNX file as a network with a gradient: its operators are run one after the other by torch."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from voxward.core.errors import UserError
from voxward.core.memory import lacks_memory
from voxward.nets.onnx.file import Graph, Node, graph_of, load, needed
from voxward.nets.onnx.operators import PRECISE, SIZES, make
from voxward.nets.onnx.uncovered import Uncovered


@dataclass(frozen=True)
class Step:
    """A node and what it computes.

    Attributes:
        node: The node.
        run: The function of its inputs.
        done: The names of the values that no later step needs.
        precise: The names of the constants that it takes on the CPU and in their own type, because they are numbers of
            the computation rather than of the image.
    """

    node: Node
    run: Callable[..., Any]
    done: tuple[str, ...] = ()
    precise: tuple[str, ...] = ()


class OnnxNetwork(nn.Module):
    """A network that an ONNX file describes.

    Its floating-point weights are parameters, so that it moves between devices and number types as every network does.
    Whole numbers, which are sizes and places, stay on the CPU.

    Args:
        graph: The graph of the file.
        source: The file, for messages.
        identity: The SHA-256 of the file and of its data files.

    Attributes:
        identity: The same.
        shape: The channels and the spatial sizes of an image; None where one is free.
        operators: The names of the operators.
        differentiable: Whether the result has a gradient with respect to the image.
    """

    differentiable = True

    def __init__(self, graph: Graph, source: Path, identity: str) -> None:
        super().__init__()
        self.graph, self.source, self.identity = graph, source, identity
        self.shape = graph.shape
        self.operators = tuple(sorted({node.operator for node in graph.nodes}))
        steps, constants = _folded([Step(node, make(node, graph.opset)) for node in graph.nodes], graph.constants)
        steps = _with_precise(steps, graph.input)
        self._steps = _with_ends(steps, graph.output)
        self._places: dict[str, str] = {}
        for name in dict.fromkeys(name for step in steps for name in step.node.inputs if name not in step.precise):
            value = constants.get(name)
            if value is not None and value.is_floating_point():
                self._places[name] = f"weight_{len(self._places)}"
                self.register_parameter(self._places[name], nn.Parameter(value.clone(), requires_grad=False))
        # A weight is held once, as a parameter.
        taken = {name for step in steps for name in step.node.inputs} | {graph.output}
        taken -= self._places.keys() - {name for step in steps for name in step.precise}
        self._precise = {name: value for name, value in constants.items() if name in taken}

    def forward(self, images: Tensor) -> Tensor:
        """Return the scores of a batch of windows (b, c, *spatial)."""
        if self.graph.batch == 1 and len(images) > 1:
            return torch.cat([self._run(image[None]) for image in images])
        return self._run(images)

    def _run(self, images: Tensor) -> Tensor:
        weights = {name: getattr(self, place) for name, place in self._places.items()}
        values = {**self._precise, **weights, self.graph.input: images}
        for step in self._steps:
            given = [
                None
                if not name
                else self._precise[name]
                if name in step.precise and name in self._precise
                else values[name]
                for name in step.node.inputs
            ]
            values.update(_results(step, given, self.source))
            for name in step.done:
                del values[name]
        result: Tensor = values[self.graph.output]
        return result


def _results(step: Step, given: Sequence[Tensor | None], source: Path | str) -> dict[str, Tensor]:
    try:
        found = step.run(*given)
        results = found if isinstance(found, tuple) else (found,)
        return dict(zip(step.node.outputs, results, strict=True))
    except (RuntimeError, TypeError, ValueError, IndexError, ZeroDivisionError) as error:
        if lacks_memory(error):
            raise
        sizes = ", ".join(str(tuple(each.shape)) for each in given if each is not None)
        raise UserError(f"{source}: {step.node} cannot be computed from the sizes {sizes}: {error}") from error


def _folded(steps: Sequence[Step], constants: Mapping[str, Tensor]) -> tuple[list[Step], dict[str, Tensor]]:
    """Compute once what does not depend on the image; return the steps that do, and all constants."""
    known, left = dict(constants), []
    with torch.no_grad():
        for step in steps:
            if all(name in known for name in step.node.inputs if name):
                given = [known[name] if name else None for name in step.node.inputs]
                known.update(_results(step, given, "the network"))
            else:
                left.append(step)
    return left, known


def _with_precise(steps: Sequence[Step], image: str) -> list[Step]:
    """Say for every step which constants it takes as they are: all of them in a step that computes with sizes alone."""
    moving, found = {image}, []
    for step in steps:
        names = step.node.inputs
        if moving.isdisjoint(names):
            precise = tuple(names)
        else:
            precise = tuple(names[n] for n in PRECISE.get(step.node.operator, ()) if n < len(names))
            if step.node.operator not in SIZES:
                moving |= set(step.node.outputs)
        found.append(replace(step, precise=tuple(name for name in precise if name)))
    return found


def _with_ends(steps: Sequence[Step], output: str) -> tuple[Step, ...]:
    """Say for every step which values are not needed any more, so that their memory is free."""
    seen, ended = {output}, []
    for step in reversed(steps):
        made = {name for name in step.node.outputs if name}
        taken = {name for name in step.node.inputs if name}
        ended.append(replace(step, done=tuple(sorted((taken | made) - seen))))
        seen |= taken | made
    return tuple(reversed(ended))


def read_onnx(path: Path, output: str | None = None) -> OnnxNetwork:
    """Read an ONNX file as a network with a gradient.

    Args:
        path: The file. Data files of it must be in its folder.
        output: The name of the result that holds the scores, where the network gives several.

    Returns:
        The network in evaluation mode. Numbers in half precision are computed in float32.

    Raises:
        FileNotFoundError: There is no such file.
        MissingPackageError: The package onnx is not installed.
        Uncovered: An operator, or an option of one, has no gradient here; the message names the node.
        UserError: The file is damaged, unsafe, or no network of one image.
    """
    try:
        model, identity = load(path)
        graph = needed(graph_of(model, output))
        several = [node for node in graph.nodes if len([name for name in node.outputs if name]) > 1]
        extra = next((node for node in several if node.operator != "Split"), None)
        if extra is not None:
            raise Uncovered(f"{extra}: more than its first result is not covered")
        return OnnxNetwork(graph, path, identity).eval()
    except Uncovered as error:
        raise Uncovered(f"{path}: {error}") from error
    except UserError as error:
        raise UserError(f"{path}: {error}") from error
