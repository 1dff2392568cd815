"""The network that plans.json of an nnU-Net results folder describes. No name in it is ever imported."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from voxward.core.errors import UserError
from voxward.nets.nnunet import Architecture, Layer

_NETWORKS = {"PlainConvUNet": False, "ResidualEncoderUNet": True}
_AXES = {"Conv2d": 2, "Conv3d": 3}
_KNOWN = {
    "n_stages", "features_per_stage", "conv_op", "kernel_sizes", "strides", "n_blocks_per_stage", "n_conv_per_stage",
    "n_conv_per_stage_decoder", "conv_bias", "norm_op", "norm_op_kwargs", "dropout_op", "dropout_op_kwargs", "nonlin",
    "nonlin_kwargs", "nonlin_first", "stem_channels", "deep_supervision",
}  # fmt: skip
# More stages than any image can be halved.
_MOST_STAGES = 64


def architecture_of(own: Mapping[str, Any], path: Path) -> Architecture:
    """Return the network of a configuration.

    Args:
        own: The configuration.
        path: The file, for messages.

    Raises:
        UserError: The network is not known, or an entry is missing or of another form; the message names it.
    """
    given = own.get("architecture")
    try:
        found = _former(own) if given is None else _present(given)
    except UserError as error:
        raise UserError(f"{path}: {error}") from error
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise UserError(f"{path}: the entry architecture is not complete, or of another form: {error!r}") from error
    axes = found.axes, len(own["spacing"]), len(own["patch_size"])
    if len(set(axes)) > 1:
        raise UserError(f"{path}: the network has {axes[0]} axes, spacing has {axes[1]} and patch_size {axes[2]}")
    return found


def refuse_unfit(of: Architecture, patch: tuple[int, ...], path: Path) -> None:
    """Refuse a network that does not give back windows of the size that it takes.

    Args:
        of: The network.
        patch: The size of the windows in voxels.
        path: The file that describes the network, for messages.

    Raises:
        UserError: It is such a network, or its coarsest stage has a single voxel, which has no deviation. The message
            says which sizes do not fit.
    """
    window, coarsest = list(patch), [_coarsest(of, axis, length) for axis, length in enumerate(patch)]
    if None in coarsest:
        kernels, strides, total = ([*map(list, of.kernels)], [*map(list, of.strides)], list(of.total_stride))
        raise UserError(
            f"{path}: kernel_sizes {kernels} and strides {strides} do not bring a window of patch_size {window} back "
            f"to its size: kernel sizes must be odd, the first stride 1, and patch_size a multiple of {total}"
        )
    if of.norm.name.startswith("InstanceNorm") and set(coarsest) == {1}:
        raise UserError(
            f"{path}: the network takes no patch_size of {window}: its coarsest stage has one voxel, which "
            f"{of.norm.name} cannot normalise"
        )


def _coarsest(of: Architecture, axis: int, length: int) -> int | None:
    """The length of a window along an axis at the coarsest stage; None where the network does not give it back."""
    kernels, strides = [size[axis] for size in of.kernels], [size[axis] for size in of.strides]
    now, stages = _convolved(length, kernels[0]) if of.residual else length, []
    for count, kernel, stride in zip(of.encoder, kernels, strides, strict=True):
        for step in (stride, *[1] * (count - 1)):
            pooled, now = now // step, _convolved(now, kernel, step)
            if of.residual:
                now = _convolved(now, kernel)
                if now != pooled:  # the skip connection around the block
                    return None
        stages.append(now)
    for n, count in enumerate(of.decoder):
        now *= strides[-1 - n]
        if now != stages[-2 - n]:
            return None
        for _ in range(count):
            now = _convolved(now, kernels[-2 - n])
    return stages[-1] if now == length and min(stages) > 0 else None


def _convolved(length: int, kernel: int, stride: int = 1) -> int:
    """A length after a convolution with the padding of nnU-Net's blocks."""
    return (length + 2 * ((kernel - 1) // 2) - kernel) // stride + 1


def whole(value: Any, entry: str) -> int:
    """Return a whole number from 1 on; JSON may write 1.0 for 1.

    Args:
        value: What the file holds.
        entry: The name of the entry, for messages.

    Raises:
        UserError: It is something else.
    """
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not number or value != value or value in (float("inf"), float("-inf")) or int(value) != value or value < 1:
        raise UserError(f"{entry} must hold whole numbers from 1 on, got {value!r}")
    return int(value)


def _present(given: Mapping[str, Any]) -> Architecture:
    name, options = _last(given["network_class_name"]), given["arch_kwargs"]
    _refuse_unknown(name, options)
    residual, axes = _residual(name), _AXES[_last(options["conv_op"])]
    blocks = "n_blocks_per_stage" if residual else "n_conv_per_stage"
    stem = options.get("stem_channels")
    stages = _stages(options, "features_per_stage", "kernel_sizes", "strides", blocks)
    return Architecture(
        residual=residual,
        features=_counts(options, "features_per_stage", stages),
        kernels=_sizes(options, "kernel_sizes", stages, axes),
        strides=_sizes(options, "strides", stages, axes),
        encoder=_counts(options, blocks, stages),
        decoder=_counts(options, "n_conv_per_stage_decoder", stages - 1),
        bias=bool(options["conv_bias"]),
        norm=Layer(_last(options["norm_op"]), dict(options.get("norm_op_kwargs") or {})),
        nonlinearity=Layer(_last(options["nonlin"]), dict(options.get("nonlin_kwargs") or {})),
        nonlinearity_first=bool(options.get("nonlin_first", False)),
        stem=None if stem is None else whole(stem, "stem_channels"),
    )


def _refuse_unknown(name: str, options: Mapping[str, Any]) -> None:
    """Refuse options that would change the network in a way that is not built here."""
    unknown = {key: value for key, value in options.items() if key not in _KNOWN and value is not None}
    if unknown:
        raise UserError(f"network {name}: the options {unknown!r} are not supported")
    if _last(options["conv_op"]) not in _AXES:
        raise UserError(f"network {name}: conv_op {options['conv_op']!r} is not supported; supported: Conv2d, Conv3d")


def _former(own: Mapping[str, Any]) -> Architecture:
    """Plans from before nnU-Net 2.3 name the network's sizes one by one."""
    residual = _residual(str(own["UNet_class_name"]))
    strides, kernels = "pool_op_kernel_sizes", "conv_kernel_sizes"
    stages, axes = len(own[strides]), len(own[strides][0])
    base, most = (whole(own[entry], entry) for entry in ("UNet_base_num_features", "unet_max_num_features"))
    return Architecture(
        residual=residual,
        features=tuple(min(base * 2**n, most) for n in range(stages)),
        kernels=_sizes(own, kernels, stages, axes),
        strides=_sizes(own, strides, stages, axes),
        encoder=_counts(own, "n_conv_per_stage_encoder", stages),
        decoder=_counts(own, "n_conv_per_stage_decoder", stages - 1),
        bias=True,
        norm=Layer(f"InstanceNorm{axes}d", {"eps": 1e-5, "affine": True}),
        nonlinearity=Layer("LeakyReLU"),
    )


def _residual(name: str) -> bool:
    if name not in _NETWORKS:
        raise UserError(f"network {name!r} is not supported; supported: {', '.join(_NETWORKS)}")
    return _NETWORKS[name]


def _last(path: Any) -> str:
    """The last part of an import path, which is looked up and never imported."""
    return str(path).rpartition(".")[2]


def _stages(options: Mapping[str, Any], *entries: str) -> int:
    """The number of stages, which nnU-Net's networks name; old writers may leave it to the lists."""
    lengths = [len(options[entry]) for entry in entries if isinstance(options[entry], list)]
    stages = whole(options.get("n_stages", lengths[0] if lengths else None), "n_stages")
    if stages > _MOST_STAGES:
        raise UserError(f"n_stages must be at most {_MOST_STAGES}, got {stages}")
    return stages


def _counts(options: Mapping[str, Any], entry: str, stages: int) -> tuple[int, ...]:
    """A number for each stage, which may be one for all."""
    given = options[entry]
    return tuple(whole(value, entry) for value in _each(given, entry, stages))


def _sizes(options: Mapping[str, Any], entry: str, stages: int, axes: int) -> tuple[tuple[int, ...], ...]:
    """A size for each stage; one number is that of all axes."""
    rows = [row if isinstance(row, list) else [row] * axes for row in _each(options[entry], entry, stages)]
    if wrong := [row for row in rows if len(row) != axes]:
        raise UserError(f"{entry} must hold {axes} numbers for each stage, got {wrong[0]!r}")
    try:
        return tuple(tuple(whole(value, entry) for value in row) for row in rows)
    except UserError as error:
        raise UserError(f"{error} in {options[entry]!r}") from error


def _each(given: Any, entry: str, stages: int) -> list[Any]:
    found = given if isinstance(given, list) else [given] * stages
    if len(found) != stages:
        raise UserError(f"{entry} must hold a value for each of {stages} stages, got {given!r}")
    return found
