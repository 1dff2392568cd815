"""The operators that a network of torch.export may consist of; nothing else of a file is ever called."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from voxward.core.errors import UserError
from voxward.core.registry import Registry

_ATEN = (
    "conv1d.default", "conv2d.default", "conv3d.default", "conv2d.padding", "conv3d.padding", "convolution.default",
    "conv_transpose1d.default", "conv_transpose2d.input", "conv_transpose3d.input",
    "instance_norm.default", "batch_norm.default", "group_norm.default", "layer_norm.default",
    "native_group_norm.default", "native_layer_norm.default", "_native_batch_norm_legit_no_training.default",
    "relu.default", "relu_.default", "relu6.default", "leaky_relu.default", "leaky_relu_.default", "prelu.default",
    "elu.default", "elu_.default", "gelu.default", "silu.default", "silu_.default", "mish.default", "softplus.default",
    "hardswish.default", "hardswish_.default", "hardsigmoid.default", "hardtanh.default", "hardtanh_.default",
    "sigmoid.default", "sigmoid_.default", "tanh.default", "erf.default", "softmax.int", "_softmax.default",
    "log_softmax.int", "_log_softmax.default", "dropout.default", "feature_dropout.default", "alpha_dropout.default",
    "clone.default", "contiguous.default", "add.Tensor", "add.Scalar", "add_.Tensor", "sub.Tensor", "sub.Scalar",
    "sub_.Tensor", "rsub.Scalar", "mul.Tensor", "mul.Scalar", "mul_.Tensor", "div.Tensor", "div.Scalar", "div_.Tensor",
    "neg.default", "abs.default", "pow.Tensor_Scalar", "sqrt.default", "rsqrt.default", "exp.default", "log.default",
    "reciprocal.default", "mean.default", "mean.dim", "sum.default", "sum.dim_IntList", "amax.default", "amin.default",
    "var_mean.correction", "var.correction", "std.correction", "clamp.default", "clamp_min.default",
    "clamp_max.default",
    "maximum.default", "minimum.default", "where.self", "masked_fill.Scalar", "gt.Scalar", "ge.Scalar", "lt.Scalar",
    "le.Scalar", "eq.Scalar", "ne.Scalar", "cat.default", "stack.default", "split.Tensor", "split_with_sizes.default",
    "chunk.default", "unbind.int", "slice.Tensor", "narrow.default", "select.int", "index_select.default",
    "index.Tensor", "roll.default", "permute.default", "transpose.int", "movedim.int", "t.default", "view.default",
    "reshape.default", "_unsafe_view.default", "unflatten.int", "flatten.using_ints", "unsqueeze.default",
    "squeeze.dim", "squeeze.dims", "expand.default", "expand_as.default", "repeat.default", "flip.default",
    "constant_pad_nd.default", "pad.default", "reflection_pad2d.default", "reflection_pad3d.default",
    "replication_pad2d.default", "replication_pad3d.default", "pixel_shuffle.default", "max_pool2d.default",
    "max_pool3d.default", "avg_pool2d.default", "avg_pool3d.default", "adaptive_avg_pool2d.default",
    "adaptive_avg_pool3d.default", "adaptive_max_pool2d.default", "adaptive_max_pool3d.default",
    "upsample_nearest2d.vec", "upsample_nearest3d.vec", "upsample_bilinear2d.vec", "upsample_trilinear3d.vec",
    "upsample_nearest2d.default", "upsample_nearest3d.default", "upsample_bilinear2d.default",
    "upsample_trilinear3d.default", "linear.default", "matmul.default", "bmm.default", "mm.default", "addmm.default",
    "einsum.default", "scaled_dot_product_attention.default", "_to_copy.default", "to.dtype", "to.dtype_layout",
    "type_as.default", "detach.default", "alias.default", "lift_fresh_copy.default", "sym_size.int",
    "zeros_like.default", "ones_like.default", "full_like.default", "zeros.default", "ones.default", "full.default",
    "new_zeros.default", "new_ones.default", "arange.default", "arange.start_step", "meshgrid.indexing",
    "numpy_T.default", "grid_sampler.default", "le.Tensor", "__and__.Tensor", "bitwise_and.Tensor",
)  # fmt: skip
_PLAIN: dict[str, Callable[..., Any]] = {
    f"_operator.{name}": getattr(operator, name)
    for name in ("add", "sub", "mul", "floordiv", "truediv", "mod", "neg", "getitem", "ge", "le", "eq", "lt", "gt")
}
_PREFIX = "torch.ops.aten."
CHECKS = frozenset(
    f"{_PREFIX}{name}.default"
    for name in ("_assert_scalar", "_assert_tensor_metadata", "sym_constrain_range", "sym_constrain_range_for_size")
)
"""Operators that only check a size or a number type; they are passed over."""
_FLAGS = ("train", "training")
# Sizes are far smaller; larger whole numbers would be made to fill the memory.
_MOST = 1 << 62


def _aten(name: str) -> Callable[..., Any] | None:
    packet, _, overload = name.partition(".")
    return getattr(getattr(torch.ops.aten, packet, None), overload, None)


OPERATORS: Registry[Callable[..., Any]] = Registry(
    "operator of an exported network",
    {
        # Some are of later versions of PyTorch only.
        **{f"{_PREFIX}{name}": found for name in _ATEN if (found := _aten(name)) is not None},
        # Only ever applied to a constant; in place, it could cut off the caller's image.
        f"{_PREFIX}detach_.default": torch.ops.aten.detach.default,
        **_PLAIN,
        "math.trunc": math.trunc,
        "torch.sym_max": max,
        "torch.sym_min": min,
    },
)


def in_place(target: str) -> bool:
    """Return whether an operator writes into its first argument: such names end with an underscore."""
    return target.startswith(_PREFIX) and target.removeprefix(_PREFIX).split(".")[0].endswith("_")


def refuse_training(nodes: Sequence[Mapping[str, Any]], weights: Collection[str]) -> None:
    """Refuse a network that was exported as it is in training: it would be random, or change its own weights.

    Args:
        nodes: The operators as the file describes them.
        weights: The names of the inputs that are weights.

    Raises:
        UserError: It was.
    """
    for node in nodes:
        arguments = {each["name"]: each["arg"] for each in node["inputs"]}
        first = next((each.get("as_tensor", {}).get("name") for each in arguments.values()), None)
        flags = [arguments.get(flag, {}).get("as_bool") for flag in _FLAGS]
        flags.append(arguments.get("dropout_p", {}).get("as_float"))  # of attention
        if any(flags) or (in_place(node["target"]) and first in weights):
            raise UserError(f"it was exported in training mode ({node['target']}): call network.eval() before that")


def call(target: str, arguments: Mapping[str, Any]) -> Any:
    """Call an operator of a network.

    Args:
        target: Its name, one of OPERATORS.
        arguments: Its arguments by name, in their order.

    Raises:
        UserError: Plain arithmetic is asked for on something else than numbers, or gives a number that is no size.
    """
    function = OPERATORS[target]
    if target.startswith(_PREFIX):
        return function(**arguments)
    found = function(*_numbers(target, list(arguments.values())))
    if isinstance(found, int) and abs(found) > _MOST:
        raise UserError(f"{target} gives a number that is no size")
    return found


def _numbers(target: str, given: Sequence[Any]) -> Sequence[Any]:
    """The arguments of plain arithmetic: of texts and lists, a product or a remainder could fill the memory."""
    first = (int, float, Tensor, list, tuple) if target.endswith("getitem") else (int, float)
    if not given or not isinstance(given[0], first) or not all(isinstance(each, int | float) for each in given[1:]):
        raise UserError(f"{target} works on numbers only")
    return given
