"""Training and validation batches.

Every sample has a number, and everything random about it is a function of the run's seed and that number. So any
step can be reproduced, a run resumes with the batches it would have had, and the number of workers changes nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from voxward.core.case import Frame
from voxward.core.errors import UserError
from voxward.core.plan import Plan
from voxward.core.recipe import Sampling
from voxward.core.types import Images, Labels
from voxward.data.sampling import draw_foreground_voxel, draw_training_patch, patch_around, read_patch
from voxward.data.store import open_case

# One stream of random numbers per purpose, so that none repeats another's.
_ORDER, _PATCH, _AUGMENTATION, _VALIDATION = range(4)

Sample = tuple[Tensor, Tensor, Tensor, str]


@dataclass(frozen=True, eq=False)
class PatchBatch:
    """`images` (b, c, d, h, w) float32 and `labels` (b, d, h, w) class indices of the cases `ids`.

    Labels have the stored type (uint8 as a rule, an eighth of int64); augmentation, losses and scores make them int64.
    Training batches cover the plan's source_size and are still to be augmented down to its patch_size, which
    validation batches have. `step` is the global training step, or the number of the validation batch. `windows`
    (b, c, 2): the intensity window (low, high) of each channel, normalised like the images, float32.
    """

    step: int
    images: Images
    labels: Labels
    windows: Float[Tensor, "b c 2"]
    ids: tuple[str, ...]


class PatchDataset(Dataset[Sample]):
    """Training samples by their number n = 0, 1, 2, ... without end.

    An epoch is one patch per case, in an order of its own; sample n lies in epoch n // len(ids). A sample is (image
    (c, *source_size), label (*source_size), id). Raises ValueError without ids, FileNotFoundError for missing cases.
    """

    def __init__(self, folder: Path, ids: Sequence[str], plan: Plan, sampling: Sampling, seed: int) -> None:
        _check_cases(folder, ids, seed)
        self.folder, self.ids, self.plan, self.sampling, self.seed = folder, tuple(ids), plan, sampling, seed

    def __getitem__(self, n: int) -> Sample:
        epoch, place = divmod(n, len(self.ids))
        id = self.ids[_epoch_order(self.seed, epoch, len(self.ids))[place]]
        source, plan = open_case(self.folder / id, id), self.plan
        draw = draw_training_patch(source, plan.patch_size, self.sampling, _generator(self.seed, _PATCH, n))
        image, label = read_patch(source, draw, plan.patch_size, plan.source_size, plan.padding)
        return image, label, _windows(source.frame), id


def patch_batches(
    folder: Path,
    ids: Sequence[str],
    plan: Plan,
    sampling: Sampling,
    seed: int,
    batch_size: int,
    first_step: int,
    last_step: int,
    workers: int,
    rank: int = 0,
    world: int = 1,
) -> Iterator[PatchBatch]:
    """The batches of global steps first_step, ..., last_step - 1 for process `rank` of `world`.

    Step s takes the samples of `PatchDataset` from (s * world + rank) * batch_size on. workers: background processes
    that read ahead, each on one thread; 0 reads in this process. Batches are in pinned memory where a GPU is present.
    """
    dataset = PatchDataset(folder, ids, plan, sampling, seed)
    _check_steps(batch_size, first_step, last_step, workers, rank, world)
    starts = ((step * world + rank) * batch_size for step in range(first_step, last_step))
    loader = DataLoader(
        dataset,
        batch_sampler=(list(range(start, start + batch_size)) for start in starts),
        num_workers=workers,
        collate_fn=_collate,
        pin_memory=torch.cuda.is_available(),
        # Its own generator: the default would draw from the global one, and a resumed run's dropout would differ.
        generator=torch.Generator(),
    )
    return _numbered(range(first_step, last_step), loader)


def validation_patches(folder: Path, ids: Sequence[str], plan: Plan, seed: int) -> Iterator[PatchBatch]:
    """One fixed patch of plan.patch_size per case, plan.batch_size at a time (the last batch may be smaller).

    Each is centred on a foreground voxel drawn by (seed, place in ids), or on the volume's centre when the case has
    no foreground. The same arguments always give the same patches.
    """
    _check_cases(folder, ids, seed)
    return _validation(folder, tuple(ids), plan, seed)


def step_generator(seed: int, step: int, rank: int) -> torch.Generator:
    """The CPU generator that draws the augmentation of global step `step` in process `rank`."""
    return _generator(seed, _AUGMENTATION, step, rank)


def _validation(folder: Path, ids: tuple[str, ...], plan: Plan, seed: int) -> Iterator[PatchBatch]:
    for step, first in enumerate(range(0, len(ids), plan.batch_size)):
        places = range(first, min(first + plan.batch_size, len(ids)))
        samples = [_validation_sample(folder, ids[n], plan, _generator(seed, _VALIDATION, n)) for n in places]
        yield PatchBatch(step, *_collate(samples))


def _validation_sample(folder: Path, id: str, plan: Plan, generator: torch.Generator) -> Sample:
    source = open_case(folder / id, id)
    i, j, k = source.shape
    voxel = draw_foreground_voxel(source, generator) or (i // 2, j // 2, k // 2)
    draw = patch_around(source, plan.patch_size, voxel)
    image, label = read_patch(source, draw, plan.patch_size, plan.patch_size, plan.padding)
    return image, label, _windows(source.frame), id


def _windows(frame: Frame) -> Tensor:
    """The intensity windows (c, 2) of a case, normalised like its image."""
    figures = zip(frame.low, frame.high, frame.mean, frame.std, strict=True)
    return torch.tensor([((low - mean) / std, (high - mean) / std) for low, high, mean, std in figures])


def _numbered(steps: range, loader: DataLoader[Sample]) -> Iterator[PatchBatch]:
    for step, batch in zip(steps, loader, strict=True):
        yield PatchBatch(step, *batch)


def _collate(samples: list[Sample]) -> tuple[Tensor, Tensor, Tensor, tuple[str, ...]]:
    images, labels, windows, ids = zip(*samples, strict=True)
    return torch.stack(images), torch.stack(labels), torch.stack(windows), ids


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
    missing = [id for id in ids if not (folder / id).is_dir()]
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
