"""The number type that a network computes with."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Literal, get_args

import torch

from voxward.core.devices import kind_of, multiplies_bfloat16
from voxward.core.errors import UserError

Precision = Literal["auto", "fp32", "bf16", "fp16"]

_DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


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
    if precision == "fp16" and kind_of(device).host:
        raise UserError("precision 'fp16' is slow and imprecise on a CPU; use bf16, fp32 or auto")
    if precision != "auto":
        return precision
    return "bf16" if multiplies_bfloat16(device) else "fp32"


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
