"""A pretend accelerator for machines that have none: tensors on it say `pretend:0`, and the processor computes.

As on a GPU, an operator raises where it is given a tensor of the accelerator together with one of the processor, and
`numpy()` raises, too. What a GPU would have to copy or to wait for is counted. Every operator does the same arithmetic
as without the accelerator, so results can be compared bit for bit. Random numbers that are drawn on the accelerator, as
dropout draws them, come from PyTorch's generator of the processor, as they would without it. A few operators round
differently, because PyTorch splits them into others for a backend of this kind: the gradient of SiLU is one.

PyTorch allows one such backend in a process, and counts its devices at the first backward pass: tests/conftest.py
imports this module, so that it is there from the start. Other tests do not notice it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.utils._mode_utils import no_dispatch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.backend_registration import _setup_privateuseone_for_python_backend

NAME = "pretend"


class _Module:
    """What PyTorch and voxward ask of `torch.pretend`, as they ask it of `torch.cuda`."""

    @staticmethod
    def is_available() -> bool:
        return True

    @staticmethod
    def is_initialized() -> bool:
        return True

    @staticmethod
    def _is_in_bad_fork() -> bool:
        return False

    @staticmethod
    def device_count() -> int:
        return 1

    @staticmethod
    def current_device() -> int:
        return 0

    @staticmethod
    def manual_seed_all(seed: int) -> None:
        """Do nothing: the generator of the processor is used."""

    @staticmethod
    def get_rng_state(device: object = None) -> Tensor:
        return torch.zeros(0, dtype=torch.uint8)

    @staticmethod
    def set_rng_state(state: Tensor, device: object = None) -> None:
        """Do nothing."""

    @staticmethod
    def synchronize(device: object = None) -> None:
        """Do nothing: everything is done at once."""

    @staticmethod
    def get_device_name(device: object = None) -> str:
        return "Pretend 9000"

    @staticmethod
    def get_amp_supported_dtype() -> list[torch.dtype]:
        return [torch.bfloat16, torch.float16]


_setup_privateuseone_for_python_backend(rename=NAME, backend_module=_Module())
DEVICE = torch.device(NAME, 0)

_COPIES = ("aten::copy_", "aten::_to_copy", "aten::set_")
_INDEXED = ("aten::index", "aten::index_put", "aten::index_put_", "aten::_index_put_impl_")
# A GPU has to tell the processor what it found before the work goes on: a number, or the size of the result.
_WAITS = frozenset(
    "aten::" + name
    for name in (
        "_local_scalar_dense", "equal", "nonzero", "masked_select", "bincount", "_unique2", "unique_dim",
        "unique_consecutive", "repeat_interleave",
    )
)  # fmt: skip


@dataclass
class Counts:
    """What a GPU would have been kept from its work by.

    Attributes:
        sent: Copies from the processor's memory to the accelerator's.
        fetched: Copies back.
        waits: How often the processor would have waited for a number, or for the size of a result; copies back count.
        named: How often each operator did any of these.
    """

    sent: int = 0
    fetched: int = 0
    waits: int = 0
    named: dict[str, int] = field(default_factory=dict)


class OnPretend(Tensor):
    """A tensor that says it is on the accelerator, and holds one of the processor."""

    inner: Tensor

    @staticmethod
    def __new__(cls, inner: Tensor) -> OnPretend:
        made = torch.Tensor._make_wrapper_subclass(  # type: ignore[attr-defined]
            cls, inner.size(), strides=inner.stride(), storage_offset=inner.storage_offset(), dtype=inner.dtype,
            device=DEVICE,
        )  # fmt: skip
        made.inner = inner
        return made

    def tolist(self) -> Any:
        return self.cpu().tolist()

    def numpy(self, **_: Any) -> Any:
        raise TypeError(f"can't convert {NAME}:0 device type tensor to numpy. Use Tensor.cpu() first")

    def __array__(self, *_: Any, **__: Any) -> Any:
        return self.numpy()

    def __reduce_ex__(self, protocol: Any) -> Any:
        return self.inner.__reduce_ex__(protocol)  # in a file it is a tensor, wherever it was

    def __repr__(self) -> str:  # type: ignore[override]
        return f"OnPretend({self.inner!r})"

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _run(func, args, kwargs or {}, Counts(), True)


class PretendDevice(TorchDispatchMode):
    """The accelerator, which is there inside a `with`.

    Args:
        double: Whether it has float64, which the GPUs of Apple have not.

    Attributes:
        counts: What was counted so far.
    """

    def __init__(self, double: bool = True) -> None:
        super().__init__()
        self.double, self.counts = double, Counts()

    @contextmanager
    def counting(self) -> Iterator[Counts]:
        """Count from 0 inside of a `with`."""
        before, self.counts = self.counts, Counts()
        try:
            yield self.counts
        finally:
            self.counts = before

    def __enter__(self) -> PretendDevice:
        # Otherwise `torch.tensor(..., device="pretend")` asks for a backend in C++.
        self._lifts = torch._C._only_lift_cpu_tensors()
        torch._C._set_only_lift_cpu_tensors(True)
        # Otherwise a network that is moved has new parameters, of which its optimiser does not know.
        self._swaps = torch.__future__.get_swap_module_params_on_conversion()
        torch.__future__.set_swap_module_params_on_conversion(True)
        super().__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        torch.__future__.set_swap_module_params_on_conversion(self._swaps)
        torch._C._set_only_lift_cpu_tensors(self._lifts)
        super().__exit__(*error)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _run(func, args, kwargs or {}, self.counts, self.double)


def _run(func: Any, args: Any, kwargs: dict[str, Any], counts: Counts, double: bool) -> Any:
    """Do an operator on the processor's tensors, and let its results say where they would be."""
    name = func.name().split(".")[0]
    tensors = list(_tensors((*args, *kwargs.values())))
    here = [isinstance(tensor, OnPretend) for tensor in tensors]
    if any(here) and not all(here) and name not in _COPIES:
        _refuse_mixed(name, tensors, counts)
    ends_here = _ends_here(name, args, kwargs, any(here))
    _count(name, args, kwargs, (any(here), ends_here), counts)
    options = {**kwargs, "device": torch.device("cpu")} if kwargs.get("device") is not None else dict(kwargs)
    options.pop("pin_memory", None)
    found = func(*_changed(args, _inner), **{key: _changed(value, _inner) for key, value in options.items()})
    if name == "aten::_local_scalar_dense" or not ends_here:
        return found
    if torch.Tag.inplace_view in func.tags:  # the tensor has another shape, which has to be said of this one, too
        with no_dispatch():
            func(*args, **kwargs)
    known = {id(tensor.inner): tensor for tensor in tensors if isinstance(tensor, OnPretend)}
    return _changed(found, _shown(known, double))


def _ends_here(name: str, args: Any, kwargs: dict[str, Any], any_here: bool) -> bool:
    """Whether the result is on the accelerator."""
    if name == "aten::copy_":
        return isinstance(args[0], OnPretend)
    wanted = kwargs.get("device")
    return any_here if wanted is None else torch.device(wanted).type == NAME


def _refuse_mixed(name: str, tensors: list[Tensor], counts: Counts) -> None:
    """Raise as a GPU does; it takes single numbers of the processor, and indices, which are copied."""
    others = [tensor for tensor in tensors if not isinstance(tensor, OnPretend) and tensor.ndim > 0]
    if name in _INDEXED and isinstance(tensors[0], OnPretend) and not any(map(torch.is_floating_point, others)):
        counts.sent += len(others)
        return
    if others:
        shapes = [tuple(tensor.shape) for tensor in others]
        raise RuntimeError(
            f"{name}: Expected all tensors to be on the same device, got {NAME}:0 and cpu of shapes {shapes}"
        )


def _count(name: str, args: Any, kwargs: dict[str, Any], places: tuple[bool, bool], counts: Counts) -> None:
    begins, ends = places
    noted = True
    if name in _COPIES and _begins_here(name, args) != ends:
        counts.sent, counts.fetched = counts.sent + ends, counts.fetched + (not ends)
        counts.waits += not ends
    elif begins and (name in _WAITS or _indexed_by_mask(name, args)):
        counts.waits += 1
    else:
        noted = False
    if noted:
        counts.named[name] = counts.named.get(name, 0) + 1


def _begins_here(name: str, args: Any) -> bool:
    return isinstance(args[1] if name in ("aten::copy_", "aten::set_") else args[0], OnPretend)


def _indexed_by_mask(name: str, args: Any) -> bool:
    """Whether the number of voxels in a mask has to be known; a single number is written without it."""
    if name not in _INDEXED or not any(index is not None and index.dtype == torch.bool for index in args[1]):
        return False
    return name == "aten::index" or args[2].numel() != 1


def _tensors(values: Any) -> Iterator[Tensor]:
    for value in values:
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, list | tuple):
            yield from _tensors(value)


def _changed(value: Any, change: Callable[[Tensor], Tensor]) -> Any:
    """A value of an operator, with its tensors changed."""
    if isinstance(value, Tensor):
        return change(value)
    return type(value)(_changed(one, change) for one in value) if isinstance(value, list | tuple) else value


def _inner(tensor: Tensor) -> Tensor:
    return tensor.inner if isinstance(tensor, OnPretend) else tensor


def _shown(known: dict[int, OnPretend], double: bool) -> Callable[[Tensor], Tensor]:
    """Return what turns a result into one of the accelerator; operators in place return the tensor they were given."""

    def show(found: Tensor) -> Tensor:
        if isinstance(found, OnPretend):
            return found
        if found.dtype == torch.float64 and not double:
            raise RuntimeError(f"the {NAME} device has no float64")
        return known[id(found)] if id(found) in known else OnPretend(found)

    return show
