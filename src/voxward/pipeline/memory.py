"""Smaller batches of windows where a device has too little memory: the result is the same up to rounding."""

from __future__ import annotations

import gc
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from voxward.core.devices import release_memory
from voxward.core.errors import UserError
from voxward.core.memory import lacks_memory

Work = Callable[..., Tensor]
"""From tensors whose first axis counts windows to a tensor whose first axis does."""


@dataclass
class _Known:
    """What this process has learnt about the memory of its devices.

    Attributes:
        most: The number of voxels that one call may take, by whether it computes gradients.
        graphs: Whether a device could not hold the graph of a whole volume.
        told: Whether the user knows.
    """

    most: dict[bool, int] = field(default_factory=dict)
    graphs: bool = False
    told: bool = False


known = _Known()
"""What this process has learnt. Whatever needs more memory than there is fails once, and then begins smaller."""


def fitting(work: Work, gradient: bool = False) -> Work:
    """Return the same work, which is done in parts where it lacks memory.

    Args:
        work: What is done to a batch of windows, and to each window by itself.
        gradient: Whether it computes gradients, which takes more memory.
    """

    def done(*batches: Tensor) -> Tensor:
        count = len(batches[0])
        while True:
            step = min(count, _windows(batches[0], gradient))
            try:
                if step == count:
                    return work(*batches)
                parts = (tuple(batch[n : n + step] for batch in batches) for n in range(0, count, step))
                return torch.cat([work(*part) for part in parts])
            except (RuntimeError, MemoryError) as error:
                if not lacks_memory(error):
                    raise
                if step == 1:
                    raise UserError(_too_large(batches[0], error)) from error
            # Out of the block above: the error holds on to the tensors that it met.
            known.most[gradient] = _voxels(batches[0]) * (step // 2)
            _tell(f"for {step} windows at once")
            release()

    return done


def without_graphs() -> None:
    """Note that a device cannot hold the graph of a whole volume, and free what it holds of that."""
    known.graphs = True
    _tell("for the gradient of all windows of a volume at once")
    release()


def release() -> None:
    """Give back memory that nothing uses any more."""
    gc.collect()
    release_memory()


def _voxels(images: Tensor) -> int:
    return max(1, images[0, :1].numel())


def _windows(images: Tensor, gradient: bool) -> int:
    """How many windows one call may take, at least 1."""
    most = known.most.get(gradient)
    return len(images) if most is None else max(1, most // _voxels(images))


def _tell(what: str) -> None:
    if not known.told:
        known.told = True
        warnings.warn(
            f"too little memory {what}: going on with fewer, which takes longer and gives the same results up to "
            "rounding. This is said once",
            stacklevel=4,
        )


def _too_large(images: Tensor, error: BaseException) -> str:
    said = " ".join(str(error).split()) or type(error).__name__
    size = " x ".join(map(str, images.shape[2:]))
    return (
        f"too little memory for one window of {size} voxels: {said}. Free memory, use a device with "
        "more (--device), compute in precision=bf16, or train with a smaller window (preparation.patch_size of the "
        "planner fixed)"
    )
