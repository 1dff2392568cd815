"""What is said where a step of a training or of a search does not fit into the memory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from voxward.core.errors import UserError
from voxward.core.memory import lacks_memory

TRAINING = (
    "preparation.batch_size or preparation.memory_gib, with a smaller patch_size in a plan.json of your own (--plan), "
    "or with training.precision=bf16"
)
SEARCH = "search.batch_size or search.part, or with search.checkpointing=true"


@contextmanager
def explained(batch: int, patch: Sequence[int], saved: tuple[Path, int], remedy: str) -> Iterator[None]:
    """Turn too little memory for a step, inside the block, into an error that says what can be done.

    Args:
        batch: The number of patches in a batch.
        patch: The size of a patch in voxels.
        saved: The folder, and the step of the state in it.
        remedy: What else to begin with, after "a smaller".

    Raises:
        UserError: There is too little memory.
    """
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not lacks_memory(error):
            raise
        said, size, (folder, step) = " ".join(str(error).split()), " x ".join(map(str, patch)), saved
        raise UserError(
            f"too little memory for a step on {batch} patches of {size} voxels: {said or type(error).__name__}. "
            f"{folder} holds the state of step {step}: free memory or use a device with more (--device), and go on "
            f"with --resume, or begin again, in another folder, with a smaller {remedy}"
        ) from error
