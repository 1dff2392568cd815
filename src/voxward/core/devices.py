"""What voxward computes on: which devices there are, and what each kind can do."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from voxward.core.choices import DEVICES
from voxward.core.errors import UserError


@dataclass(frozen=True)
class Kind:
    """What a kind of device can do.

    Attributes:
        title: What an error calls such a device.
        host: Whether it is the processor. To look at a value there waits for nothing, and operators that voxward
            wrote for processors are faster there than PyTorch's.
        double: Whether it has numbers of 64 bits (float64).
        pinned: Whether copies to it are faster from pinned memory.
        together: Whether several processes can train one network on such devices.
    """

    title: str
    host: bool = False
    double: bool = True
    pinned: bool = False
    together: bool = False


KINDS: dict[str, Kind] = {
    "cpu": Kind("CPU", host=True, together=True),
    "cuda": Kind("CUDA device", pinned=True, together=True),
    "mps": Kind("Apple GPU (MPS)", double=False),
    "xpu": Kind("Intel GPU (XPU)", pinned=True),
}
"""The kinds by the name that PyTorch gives them. Any other accelerator of PyTorch is taken to have float64."""


def kind_of(on: torch.device | Tensor) -> Kind:
    """Return what a device can do.

    Args:
        on: The device, or a tensor on it.
    """
    name = (on.device if isinstance(on, Tensor) else on).type
    return KINDS.get(name) or Kind(f"{name} device")


def resolve_device(device: str) -> torch.device:
    """Return the device that a word stands for; `auto` is cuda if there is one, else cpu.

    Args:
        device: `auto`, or the name of a kind of device of PyTorch, such as `cpu`, `cuda`, `mps` or `xpu`.

    Raises:
        UserError: PyTorch knows no such device, or there is none on this machine.
    """
    if device == "auto":
        return torch.device("cuda" if is_there("cuda") else "cpu")
    try:
        found = torch.device(device)
    except RuntimeError as error:
        raise UserError(f"device must be one of {', '.join(DEVICES)}, got {device!r}") from error
    if not is_there(found.type):
        others = " or ".join(name for name in KINDS if is_there(name))
        raise UserError(
            f"device {device!r} was asked for, but no {kind_of(found).title} is available; use {others} or auto"
        )
    return found


def is_there(name: str) -> bool:
    """Return whether PyTorch can compute on a kind of device on this machine.

    Args:
        name: The name of the kind, such as `cuda`.
    """
    module = _module(name)
    return module is not None and bool(module.is_available())


def accelerators() -> tuple[str, ...]:
    """Return the names of the GPUs that PyTorch can compute on, such as `NVIDIA H200`."""
    others = (name for name, kind in KINDS.items() if not kind.host and is_there(name))
    return tuple(name_of(torch.device(name, n)) for name in others for n in range(_module(name).device_count()))


def name_of(device: torch.device) -> str:
    """Return the name of an accelerator as its maker gives it, or else what kind it is.

    Args:
        device: The device, which is there.
    """
    ask = getattr(_module(device.type), "get_device_name", None)
    return kind_of(device).title if ask is None else str(ask(device))


def memory_of(device: torch.device) -> int:
    """Return the memory of an accelerator in bytes; 0 where PyTorch does not say.

    Args:
        device: The device, which is there.
    """
    module = _module(device.type)
    if hasattr(module, "get_device_properties"):
        return int(getattr(module.get_device_properties(device), "total_memory", 0))
    ask = getattr(module, "recommended_max_memory", None)  # what Metal calls it
    return 0 if ask is None else int(ask())


def multiplies_bfloat16(device: torch.device) -> bool:
    """Return whether a device multiplies bfloat16 faster than float32.

    Args:
        device: The device.
    """
    if kind_of(device).host:
        # PyTorch runs bfloat16 on any CPU, but more slowly than float32 on one without these instructions.
        return bool(getattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)())
    ask = getattr(_module(device.type), "is_bf16_supported", None)
    return ask is not None and bool(ask(including_emulation=False))


def wait_for(device: torch.device) -> None:
    """Wait until a device has done all that it was given, so that a clock measures the work.

    Args:
        device: The device.
    """
    if kind_of(device).host:
        return
    module = _module(device.type)
    # Metal's takes no argument, because there is one device.
    module.synchronize(*([device] if module.device_count() > 1 else []))


def release_memory() -> None:
    """Give back the memory that PyTorch keeps of every accelerator without using it."""
    for name, kind in KINDS.items():
        if not kind.host and is_there(name):
            _module(name).empty_cache()


def wide_type(on: torch.device | Tensor) -> torch.dtype:
    """Return the widest number type of a device: float64, or float32 where there is no such thing.

    Args:
        on: The device, or a tensor on it.
    """
    return torch.float64 if kind_of(on).double else torch.float32


def wide(x: Tensor) -> Tensor:
    """Return a tensor in the widest number type of its device, see `wide_type`.

    Args:
        x: A tensor of any shape and number type.
    """
    return x.to(wide_type(x))


def _module(name: str) -> Any:
    """PyTorch's module for a kind of device, such as `torch.cuda`; None where it has none."""
    try:
        return torch.get_device_module(name)
    except RuntimeError:
        return None
