"""Training and validation batches.

Every sample has a number, and everything that is drawn for it is a function of the run's seed and that number. So any
step can be reproduced, a run resumes with the batches it would have had, and the number of workers changes nothing.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from voxward.core.case import Frame
from voxward.core.errors import UserError
from voxward.core.files import inside
from voxward.core.interrupt import ignore_signals
from voxward.core.plan import Plan
from voxward.core.recipe import Sampling
from voxward.core.types import Images, Labels
from voxward.data.sampling import (
    draw_annotated_voxel,
    draw_foreground_voxel,
    draw_training_patch,
    patch_around,
    read_patch,
)
from voxward.data.store import open_case

# One stream of random numbers per purpose, so that none repeats another's.
_ORDER, _PATCH, _AUGMENTATION, _VALIDATION = range(4)

# Seconds for which a background process goes on after it was asked to end: longer than a step.
_GRACE = 30

Sample = tuple[Tensor, Tensor, Tensor, str]


class LoaderDied(UserError):  # noqa: N818 - it says what happened
    """A process that reads ahead was killed; all steps before are whole."""


@dataclass(frozen=True, eq=False)
class PatchBatch:
    """A batch of patches.

    Training batches cover the plan's source_size and are still to be augmented down to its patch_size. Validation
    batches have the patch_size.

    Attributes:
        step: The global training step, or the number of the validation batch.
        images: Normalised intensities (b, c, d, h, w), float32.
        labels: Class indices (b, d, h, w) in the stored number type, as a rule uint8, which takes an eighth of the
            memory of int64. Augmentation, losses and scores turn them into int64.
        ranges: The intensity range (low, high) of each channel of each sample (b, c, 2), normalised like the images,
            float32.
        ids: The cases that the patches were cut from.
    """

    step: int
    images: Images
    labels: Labels
    ranges: Float[Tensor, "b c 2"]
    ids: tuple[str, ...]


class PatchDataset(Dataset[Sample]):
    """Training samples by their number n = 0, 1, 2, ... without end.

    An epoch is one patch per case, in an order of its own; sample n lies in epoch n // len(ids). A sample is the image
    (c, *source_size), the label (*source_size), the intensity range of each channel (c, 2), and the case's id.

    Args:
        folder: The folder of the prepared cases.
        ids: The ids of the training cases.
        plan: The plan that the cases were prepared with.
        sampling: The recipe's part on where patches lie.
        seed: The seed of everything that is drawn.

    Raises:
        UserError: There are no ids, or the seed is negative.
        FileNotFoundError: A case is not there.
    """

    def __init__(self, folder: Path, ids: Sequence[str], plan: Plan, sampling: Sampling, seed: int) -> None:
        _check_cases(folder, ids, seed)
        self.folder, self.ids, self.plan, self.sampling, self.seed = folder, tuple(ids), plan, sampling, seed

    def __getitem__(self, n: int) -> Sample:
        epoch, place = divmod(n, len(self.ids))
        id = self.ids[_epoch_order(self.seed, epoch, len(self.ids))[place]]
        source, plan = open_case(inside(self.folder, id), id), self.plan
        draw = draw_training_patch(source, plan.patch_size, self.sampling, _generator(self.seed, _PATCH, n))
        image, label = read_patch(source, draw, plan.patch_size, plan.source_size, plan.padding)
        return image, label, _ranges(source.frame), id


def patch_batches(
    dataset: PatchDataset,
    *,
    batch_size: int,
    first_step: int,
    last_step: int,
    workers: int,
    rank: int = 0,
    world: int = 1,
    pinned: bool = False,
) -> Iterator[PatchBatch]:
    """Return the training batches of some steps.

    Step s takes the samples of the dataset from number (s * world + rank) * batch_size on.

    Args:
        dataset: The training samples.
        batch_size: The number of patches in a batch.
        first_step: The global number of the first step.
        last_step: The global number of the step after the last one.
        workers: The number of background processes that read ahead, each on one thread; 0 reads in this process.
        rank: The number of this process, in [0, world).
        world: The number of processes that train one network together.
        pinned: Whether the batches are in pinned memory, from which they get to a GPU faster.

    Returns:
        An iterator over the batches. It raises `LoaderDied` where one of the background processes was killed, and
        whatever the reading of a case raises.

    Raises:
        UserError: A number is out of range.
    """
    _check_steps(batch_size, first_step, last_step, workers, rank, world)
    starts = ((step * world + rank) * batch_size for step in range(first_step, last_step))
    loader = DataLoader(
        dataset if workers == 0 else _Careful(dataset),
        batch_sampler=(list(range(start, start + batch_size)) for start in starts),
        num_workers=workers,
        collate_fn=_collate if workers == 0 else _collate_careful,
        worker_init_fn=_begin_worker,
        pin_memory=pinned,
        # Its own generator: the default would draw from the global one, and a resumed run's dropout would differ.
        generator=torch.Generator(),
    )
    return _numbered(range(first_step, last_step), loader, workers)


def validation_patches(folder: Path, ids: Sequence[str], plan: Plan, seed: int) -> Iterator[PatchBatch]:
    """Return one fixed patch of every case; the same arguments always give the same patches.

    Each is centred on a foreground voxel that the seed and the place in `ids` decide, or on the volume's centre if the
    case has no foreground (in a partly annotated case: on an annotated voxel).

    Args:
        folder: The folder of the prepared cases.
        ids: The ids of the cases.
        plan: The plan that the cases were prepared with.
        seed: The seed of the drawn voxels.

    Returns:
        An iterator over batches of plan.batch_size patches of plan.patch_size; the last batch may be smaller.

    Raises:
        UserError: There are no ids, or the seed is negative.
        FileNotFoundError: A case is not there.
    """
    _check_cases(folder, ids, seed)
    return _validation(folder, tuple(ids), plan, seed)


def step_generator(seed: int, step: int, stream: int = 0) -> torch.Generator:
    """Return the CPU generator that draws the augmentation of a batch, over all processes.

    Args:
        seed: The seed of the run.
        step: The global number of the step.
        stream: The number of the batch, where a step has several.
    """
    return _generator(seed, _AUGMENTATION, step, stream)


def _validation(folder: Path, ids: tuple[str, ...], plan: Plan, seed: int) -> Iterator[PatchBatch]:
    for step, first in enumerate(range(0, len(ids), plan.batch_size)):
        places = range(first, min(first + plan.batch_size, len(ids)))
        samples = [_validation_sample(folder, ids[n], plan, _generator(seed, _VALIDATION, n)) for n in places]
        yield PatchBatch(step, *_collate(samples))


def _validation_sample(folder: Path, id: str, plan: Plan, generator: torch.Generator) -> Sample:
    source = open_case(inside(folder, id), id)
    i, j, k = source.shape
    voxel = draw_foreground_voxel(source, generator) or draw_annotated_voxel(source, generator)
    voxel = voxel or (i // 2, j // 2, k // 2)
    draw = patch_around(source, plan.patch_size, voxel)
    image, label = read_patch(source, draw, plan.patch_size, plan.patch_size, plan.padding)
    return image, label, _ranges(source.frame), id


def _ranges(frame: Frame) -> Tensor:
    """The intensity ranges (c, 2) of a case, normalised like its image."""
    figures = zip(frame.low, frame.high, frame.mean, frame.std, strict=True)
    return torch.tensor([((low - mean) / std, (high - mean) / std) for low, high, mean, std in figures])


def _numbered(steps: range, loader: DataLoader[Any], workers: int) -> Iterator[PatchBatch]:
    with _deaths_while_waiting():
        batches = iter(loader)
    try:
        for step in steps:
            batch = _next(batches, workers)
            if isinstance(batch, _Dead):
                raise LoaderDied(
                    f"a process that reads patches ahead (training.workers={workers}) {batch} before step {step + 1}. "
                    "Most often the machine has no memory left, or its shared memory /dev/shm is full or too small (in "
                    "Docker: --shm-size=8g). Free memory, or use fewer of these processes (with --set "
                    "training.workers=0 none, and no shared memory)"
                )
            if isinstance(batch, Exception):
                raise batch
            yield PatchBatch(step, *batch)
    finally:
        del batches  # ends the background processes


def _next(batches: Iterator[Any], workers: int) -> Any:
    """The next batch, or an error; it does not hold on to the background processes, as one of PyTorch does."""
    try:
        return next(batches)
    except RuntimeError as error:
        if workers == 0 or "DataLoader worker" not in str(error):
            raise
        return _Dead("was killed")


class _Careful(Dataset[Any]):
    """Samples for background processes: one that cannot be read is its error, which is raised where it is used.

    PyTorch would make another message of it, which holds a traceback.
    """

    def __init__(self, dataset: PatchDataset) -> None:
        self.dataset = dataset

    def __getitem__(self, n: int) -> Sample | Exception:
        try:
            return self.dataset[n]
        except (UserError, OSError) as error:
            return error


class _Dead(Exception):  # noqa: N818 - it says what happened
    """What happened to a background process."""


def _collate_careful(samples: list[Any]) -> Any:
    """A batch in shared memory, or the error of a sample.

    PyTorch would move the batch there later, in a thread whose errors reach nobody: the training would wait for ever.
    """
    if (error := next((sample for sample in samples if isinstance(sample, Exception)), None)) is not None:
        return error
    batch = _collate(samples)
    try:
        for tensor in batch[:3]:
            tensor.share_memory_()  # type: ignore[no-untyped-call]
    except RuntimeError:
        return _Dead("found no room for a batch in the shared memory")
    return batch


def _begin_worker(number: int) -> None:
    """A signal to all processes of a job is for the one that trains, which goes on to the end of its step."""
    ignore_signals()
    if hasattr(signal, "SIGALRM"):
        # Not for ever: PyTorch and Python end with SIGTERM what does not end by itself.
        signal.signal(signal.SIGTERM, lambda *_: signal.alarm(_GRACE))


@contextmanager
def _deaths_while_waiting() -> Iterator[None]:
    """Let a dead background process be noticed where a batch is waited for, as it begins inside the block.

    PyTorch would raise the error at once, anywhere in the middle of a step or of the saving of a state.
    """
    if threading.current_thread() is not threading.main_thread() or not hasattr(signal, "SIGCHLD"):
        yield
        return
    before = signal.getsignal(signal.SIGCHLD)
    try:
        yield
    finally:
        signal.signal(signal.SIGCHLD, before)


def _collate(samples: list[Sample]) -> tuple[Tensor, Tensor, Tensor, tuple[str, ...]]:
    images, labels, ranges, ids = zip(*samples, strict=True)
    return torch.stack(images), torch.stack(labels), torch.stack(ranges), ids


@lru_cache(maxsize=4)
def _epoch_order(seed: int, epoch: int, count: int) -> np.ndarray:
    return np.random.default_rng(_entropy(seed, _ORDER, epoch)).permutation(count)


def _generator(seed: int, *stream: int) -> torch.Generator:
    state = _entropy(seed, *stream).generate_state(1, np.uint64)
    return torch.Generator().manual_seed(int(state[0]))


def _entropy(seed: int, *stream: int) -> np.random.SeedSequence:
    return np.random.SeedSequence(seed, spawn_key=stream)


def _check_cases(folder: Path, ids: Sequence[str], seed: int) -> None:
    if not ids:
        raise UserError("ids is empty: there is no case to draw patches from")
    if seed < 0:
        raise UserError(f"seed must not be negative, got {seed}")
    missing = [id for id in ids if not inside(folder, id).is_dir()]
    if missing:
        raise FileNotFoundError(f"{folder} lacks {len(missing)} of {len(ids)} prepared cases, e.g. {missing[:3]}")


def _check_steps(batch_size: int, first_step: int, last_step: int, workers: int, rank: int, world: int) -> None:
    if batch_size < 1:
        raise UserError(f"batch_size must be at least 1, got {batch_size}")
    if not 0 <= first_step <= last_step:
        raise UserError(f"steps must satisfy 0 <= first_step <= last_step, got {first_step} and {last_step}")
    if workers < 0:
        raise UserError(f"workers must not be negative, got {workers}")
    if not 0 <= rank < world:
        raise UserError(f"rank must be in [0, world), got rank={rank} and world={world}")
