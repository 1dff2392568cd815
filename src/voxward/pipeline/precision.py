"""The number type and the device that a network computes with."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Literal, get_args

import torch

from voxward.core.errors import UserError

Precision = Literal["auto", "fp32", "bf16", "fp16"]

_DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


def resolve_device(device: str) -> torch.device:
    """Return the device that a word stands for; `auto` is cuda if there is one, else cpu.

    Args:
        device: `auto`, `cpu`, `cuda` or another device of PyTorch.

    Raises:
        UserError: cuda was asked for, and there is none.
    """
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if device == "cuda" and not torch.cuda.is_available():
        raise UserError("device 'cuda' was asked for, but no CUDA device is available; use cpu or auto")
    return torch.device(device)


def resolve_precision(precision: Precision, device: torch.device) -> Literal["fp32", "bf16", "fp16"]:
    """Return the number type that a word stands for on a device.

    Args:
        precision: `fp32`, `bf16` or `fp16` stand for themselves; `auto` is bf16 if the hardware multiplies bfloat16
            fast, else fp32.
        device: The device.

    Raises:
        UserError: fp16 was asked for on a CPU, or the word is unknown.
    """
    if precision not in get_args(Precision):
        raise UserError(f"precision must be one of {', '.join(get_args(Precision))}, got {precision!r}")
    if precision == "fp16" and device.type == "cpu":
        raise UserError("precision 'fp16' is slow and imprecise on a CPU; use bf16, fp32 or auto")
    if precision != "auto":
        return precision
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp32"
    # PyTorch runs bfloat16 on any CPU, but more slowly than float32 on one without these instructions.
    fast = getattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)()
    return "bf16" if fast else "fp32"


def autocast(precision: Precision, device: torch.device) -> AbstractContextManager[object]:
    """Return the context in which a forward pass computes in a precision.

    Args:
        precision: `auto`, `fp32`, `bf16` or `fp16`.
        device: The device.

    Raises:
        UserError: As `resolve_precision` does.
    """
    resolved = resolve_precision(precision, device)
    return nullcontext() if resolved == "fp32" else torch.autocast(device.type, _DTYPES[resolved])
