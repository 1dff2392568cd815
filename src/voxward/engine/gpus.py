"""One GPU for each of several processes on a machine."""

from __future__ import annotations

import os

import torch

VISIBLE = "CUDA_VISIBLE_DEVICES"
"""The variable by which CUDA knows which GPUs a process may see. It is read when CUDA is first used."""


def visible_gpus() -> list[str]:
    """Return the names of the GPUs that this process may see, as CUDA_VISIBLE_DEVICES names them."""
    named = os.environ.get(VISIBLE)
    if named is None:
        return [str(index) for index in range(torch.cuda.device_count())]
    return [name.strip() for name in named.split(",") if name.strip()]


def see_one(number: int) -> None:
    """Let this process see one GPU of those that it sees now; nothing changes where there are fewer than two.

    Args:
        number: The number of the process on its machine, from 0; processes take the GPUs in turn.
    """
    gpus = visible_gpus()
    if len(gpus) > 1:
        os.environ[VISIBLE] = gpus[number % len(gpus)]
