"""Which errors mean that a device or the machine has too little memory."""

from __future__ import annotations

import torch

# What PyTorch and its libraries say where they have no exception of their own: its allocator on a CPU, CUDA's
# libraries, Metal, oneDNN, and the standard library of C++.
_SAID = (
    "DefaultCPUAllocator: ", "CUDA error: out of memory", "CUDNN_STATUS_ALLOC_FAILED", "CUBLAS_STATUS_ALLOC_FAILED",
    "MPS backend out of memory", "could not create a memory object", "std::bad_alloc",
)  # fmt: skip


def lacks_memory(error: BaseException) -> bool:
    """Return whether an error means that there is too little memory.

    Args:
        error: The error.
    """
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and any(said in str(error) for said in _SAID)
