"""The operators of ONNX that have a gradient here: from a name to what makes a node's function of its attributes."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from voxward.core.registry import Registry
from voxward.nets.onnx import arithmetic, convolutions, resizing, shapes
from voxward.nets.onnx.arithmetic import many, over_axes, pairwise, plain
from voxward.nets.onnx.file import Node
from voxward.nets.onnx.uncovered import Uncovered

OPERATORS: Registry[Callable[..., Callable[..., Any]]] = Registry(
    "operator of ONNX",
    {
        "Abs": plain(torch.abs),
        "Add": pairwise(torch.add),
        "And": pairwise(torch.logical_and),
        "AveragePool": convolutions.average_pool,
        "BatchNormalization": arithmetic.batch_normalization,
        "Cast": shapes.cast,
        "CastLike": shapes.cast_like,
        "Ceil": plain(torch.ceil),
        "Celu": arithmetic.celu,
        "Clip": arithmetic.clip,
        "Concat": shapes.concat,
        "Constant": shapes.constant,
        "ConstantOfShape": shapes.constant_of_shape,
        "Conv": convolutions.conv,
        "ConvTranspose": convolutions.conv_transpose,
        "Cos": plain(torch.cos),
        "CumSum": arithmetic.cumulative_sum,
        "DepthToSpace": shapes.depth_to_space,
        "Div": pairwise(arithmetic.divide),
        "Dropout": shapes.dropout,
        "Einsum": arithmetic.einsum,
        "Elu": arithmetic.elu,
        "Equal": pairwise(torch.eq),
        "Erf": plain(torch.erf),
        "Exp": plain(torch.exp),
        "EyeLike": shapes.eye_like,
        "Expand": plain(shapes.expand),
        "Flatten": shapes.flatten,
        "Floor": plain(torch.floor),
        "Gather": shapes.gather,
        "GatherElements": shapes.gather_elements,
        "Gelu": arithmetic.gelu,
        "Gemm": arithmetic.gemm,
        "GlobalAveragePool": convolutions.global_average_pool,
        "GlobalMaxPool": convolutions.global_max_pool,
        "Greater": pairwise(torch.gt),
        "GreaterOrEqual": pairwise(torch.ge),
        "GroupNormalization": arithmetic.group_normalization,
        "GridSample": resizing.grid_sample,
        "HardSigmoid": arithmetic.hard_sigmoid,
        "HardSwish": plain(arithmetic.hard_swish),
        "Identity": plain(lambda x: x),
        "InstanceNormalization": arithmetic.instance_normalization,
        "LayerNormalization": arithmetic.layer_normalization,
        "LeakyRelu": arithmetic.leaky_relu,
        "Less": pairwise(torch.lt),
        "LessOrEqual": pairwise(torch.le),
        "Log": plain(torch.log),
        "LogSoftmax": arithmetic.log_softmax,
        "MatMul": pairwise(torch.matmul),
        "Max": many(torch.maximum),
        "MaxPool": convolutions.max_pool,
        "Mean": plain(arithmetic.mean_of),
        "Min": many(torch.minimum),
        "Mish": plain(torch.nn.functional.mish),
        "Mod": arithmetic.modulo,
        "Mul": pairwise(torch.mul),
        "Neg": plain(torch.neg),
        "Not": plain(torch.logical_not),
        "Or": pairwise(torch.logical_or),
        "PRelu": plain(arithmetic.prelu),
        "Pad": convolutions.pad,
        "Pow": pairwise(arithmetic.power),
        "Range": plain(shapes.range_),
        "Reciprocal": plain(torch.reciprocal),
        "ReduceL1": over_axes(arithmetic.reduce_l1),
        "ReduceL2": over_axes(arithmetic.reduce_l2),
        "ReduceMax": over_axes(torch.amax),
        "ReduceMean": over_axes(arithmetic.reduce_mean),
        "ReduceMin": over_axes(torch.amin),
        "ReduceProd": over_axes(arithmetic.reduce_product),
        "ReduceSum": over_axes(torch.sum),
        "ReduceSumSquare": over_axes(arithmetic.reduce_sum_square),
        "Relu": plain(torch.relu),
        "Reshape": shapes.reshape,
        "Resize": resizing.resize,
        "Round": plain(torch.round),
        "Selu": arithmetic.selu,
        "Shape": shapes.shape,
        "Sigmoid": plain(torch.sigmoid),
        "Sign": plain(torch.sign),
        "Sin": plain(torch.sin),
        "Size": plain(shapes.size),
        "Slice": shapes.slice_,
        "Softmax": arithmetic.softmax,
        "Softplus": plain(torch.nn.functional.softplus),
        "Softsign": plain(torch.nn.functional.softsign),
        "SpaceToDepth": shapes.space_to_depth,
        "Split": shapes.split,
        "Sqrt": plain(torch.sqrt),
        "Squeeze": shapes.squeeze,
        "Sub": pairwise(torch.sub),
        "Sum": many(torch.add),
        "Swish": arithmetic.swish,
        "Tanh": plain(torch.tanh),
        "ThresholdedRelu": arithmetic.thresholded_relu,
        "Tile": plain(shapes.tile),
        "Transpose": shapes.transpose,
        "Unsqueeze": shapes.unsqueeze,
        "Upsample": resizing.upsample,
        "Where": plain(shapes.where),
    },
)

PRECISE = {"Resize": (1, 2), "Upsample": (1,), "Pad": (2,)}
"""Inputs that are numbers of the computation rather than of the image: they stay on the CPU and in their type."""

SIZES = ("Shape", "Size")
"""Operators that give numbers of the computation from an image."""


def make(node: Node, opset: int) -> Callable[..., Tensor | tuple[Tensor, ...]]:
    """Return the function of a node's inputs.

    Args:
        node: The node.
        opset: The version of ONNX's operators.

    Raises:
        Uncovered: The operator, an attribute of it, or its value is not covered. The message names the node.
    """
    if node.operator not in OPERATORS:
        raise Uncovered(f"{node}: the operator {node.operator} is not covered")
    build = OPERATORS[node.operator]
    legal = inspect.signature(build).parameters
    unknown = sorted(set(node.attributes) - (set(legal) - {"opset", "outputs"}))
    if unknown:
        raise Uncovered(f"{node}: the attribute {', '.join(unknown)} is not covered")
    context = {"opset": opset, "outputs": len(node.outputs)}
    try:
        function: Callable[..., Tensor | tuple[Tensor, ...]] = build(
            **node.attributes, **{key: value for key, value in context.items() if key in legal}
        )
        return function
    except Uncovered as error:
        raise Uncovered(f"{node}: {error}") from error
