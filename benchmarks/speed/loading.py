"""Training batches from the disk: ours against MONAI's PersistentDataset, and against the step that consumes them.

Both give batches of random patches of one size, half of them centred on foreground, from volumes that were prepared
and stored beforehand; the number of background processes is the same. MONAI stores whole preprocessed volumes and
crops after reading; ours reads the patch's chunks. New iterators are made each time, so that starting the processes
counts, as it does at the start of a MONAI epoch (ours lives for the whole run).
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from torch import Tensor

import voxward
from benchmarks.speed.harness import Duel, Work
from voxward.core.case import Dataset
from voxward.core.plan import Plan
from voxward.core.recipe import Recipe, load_recipe
from voxward.data.augment.pipeline import apply_augmentation, draw_augmentation
from voxward.data.augment.spatial import active_axes
from voxward.data.fingerprint import fingerprint
from voxward.data.formats import open_dataset
from voxward.data.loader import PatchBatch, PatchDataset, patch_batches, step_generator
from voxward.data.planner import make_plan
from voxward.data.store import prepare_dataset
from voxward.losses.registry import create_loss
from voxward.nets.registry import network_for_plan
from voxward.training.optim import create_optimizer

CASES = 20
BATCH, BATCHES, STEPS = 2, 50, 10
LARGE_CASES, LARGE_SIZE, LARGE_PATCH = 4, 192, (64, 64, 64)


@dataclass(frozen=True, eq=False)
class Prepared:
    """A dataset's first cases, prepared by the plan of `recipe` into the folder `store`."""

    name: str
    dataset: Dataset
    ids: tuple[str, ...]
    recipe: Recipe
    plan: Plan
    store: Path

    @classmethod
    def of(cls, root: Path, cases: int, store: Path, name: str) -> Prepared:
        dataset, recipe = open_dataset(root), load_recipe("dynunet")
        ids = tuple(case.id for case in dataset.cases[:cases])
        plan = make_plan(fingerprint(dataset, ids, 2, None, recipe.preparation.crop_nonzero), recipe.preparation)
        prepare_dataset(dataset, plan, store, ids)
        return cls(name, dataset, ids, recipe, plan, store)

    def batches(self, plan: Plan, count: int, workers: int) -> Iterator[PatchBatch]:
        dataset = PatchDataset(self.store, self.ids, plan, self.recipe.sampling, 0)
        return patch_batches(dataset, batch_size=BATCH, first_step=0, last_step=count, workers=workers)


def duels() -> Iterator[Duel]:
    with TemporaryDirectory() as name:
        folder = Path(name)
        small = Prepared.of(hippocampus(folder), CASES, folder / "small", "hippocampus")
        for workers in (0, 2):
            yield _against_monai(small, small.plan.patch_size, workers, folder / "small-cache")
        yield _against_step(small)
        voxward.write_phantoms(folder / "phantoms", LARGE_CASES, size=LARGE_SIZE)
        large = Prepared.of(folder / "phantoms", LARGE_CASES, folder / "large", f"phantoms of {LARGE_SIZE} voxels")
        yield _against_monai(large, LARGE_PATCH, 0, folder / "large-cache")


def hippocampus(folder: Path) -> Path:
    """The data set, or phantoms of about its size where it is not at hand."""
    data = Path(os.environ.get("VOXWARD_DATA", Path(__file__).parents[2].parent / "shared" / "data"))
    if (data / "Task04_Hippocampus").is_dir():
        return data / "Task04_Hippocampus"
    voxward.write_phantoms(folder / "stand-in", CASES, size=48)
    return folder / "stand-in"


def _against_monai(data: Prepared, patch: tuple[int, int, int], workers: int, cache: Path) -> Duel:
    """Our regions are as large as the patch here: the margin for rotations is not read."""
    plan = replace(data.plan, patch_size=patch, source_size=patch)
    peer = _monai_batches(data, patch, workers, cache)

    def ours() -> None:
        shapes = {
            (tuple(batch.images.shape), tuple(batch.labels.shape)) for batch in data.batches(plan, BATCHES, workers)
        }
        assert shapes == {((BATCH, 1, *patch), (BATCH, *patch))}, shapes

    size = " x ".join(map(str, patch))
    name = f"{BATCHES} batches of {BATCH} x {size}, {data.name}, {workers} workers"
    return Duel(name, ours, peer, "MONAI PersistentDataset, RandCropByPosNegLabeld", None, "random patches differ")


def _monai_batches(data: Prepared, patch: tuple[int, int, int], workers: int, cache: Path) -> Work:
    """Volumes are cached after padding and normalising, and with the indices that the crop draws from."""
    from monai.data import DataLoader, PersistentDataset
    from monai.transforms import Compose, FgBgToIndicesd, RandCropByPosNegLabeld
    from torch.utils.data import RandomSampler

    foreground = data.recipe.sampling.foreground
    transforms = Compose([
        *_monai_preparation(data, patch),
        FgBgToIndicesd("label"),
        RandCropByPosNegLabeld(
            ("image", "label"), "label", patch, pos=foreground, neg=1 - foreground,
            fg_indices_key="label_fg_indices", bg_indices_key="label_bg_indices",
        ),
        _Pair(),
    ])  # fmt: skip
    cases = [data.dataset.case(id) for id in data.ids]
    files = [{"image": [str(path) for path in case.images], "label": str(case.label)} for case in cases]
    dataset = PersistentDataset(files, transforms, cache_dir=cache)

    def work() -> None:
        drawn = RandomSampler(dataset, num_samples=BATCH * BATCHES)
        loader = DataLoader(dataset, batch_size=BATCH, sampler=drawn, num_workers=workers)
        count = 0
        for images, labels in loader:
            assert images.shape == (BATCH, 1, *patch) == labels.shape
            count += 1
        assert count == BATCHES

    return work


class _Pair:
    """From a sample, or the list of one that MONAI's crop makes, what a training step needs."""

    def __call__(self, samples: Any) -> tuple[Tensor, Tensor]:
        sample = samples[0] if isinstance(samples, list) else samples
        return sample["image"].as_tensor(), sample["label"].as_tensor()


def _monai_preparation(data: Prepared, patch: tuple[int, int, int]) -> list[Any]:
    """The same geometry as `prepare`, so that the volumes to crop from are as large."""
    import numpy as np
    from monai.transforms import (
        CastToTyped,
        EnsureChannelFirstd,
        LoadImaged,
        NormalizeIntensityd,
        Orientationd,
        Spacingd,
        SpatialPadd,
    )

    both = ("image", "label")
    return [
        LoadImaged(both),
        EnsureChannelFirstd(both),
        Orientationd(both, "RAS", labels=None),
        Spacingd(both, data.plan.spacing, mode=("bilinear", "nearest")),
        NormalizeIntensityd("image", nonzero=True),
        SpatialPadd(both, patch),
        CastToTyped(both, (np.float32, np.uint8)),
    ]


def _against_step(data: Prepared) -> Duel:
    """Loading and augmenting in the training process itself; a background process would hide most of it."""
    plan, recipe = data.plan, data.recipe
    step = _training_step(data)

    def ours() -> None:
        for batch in data.batches(plan, STEPS, workers=0):
            _augmented(batch, recipe, plan)

    def peer() -> None:
        for _ in range(STEPS):
            step()

    size = " x ".join(map(str, plan.patch_size))
    name = f"load and augment {STEPS} batches of {BATCH} x {size}, {data.name}, 0 workers"
    quality = "ratio = training steps' time / loading's"
    return Duel(name, ours, peer, "one dynunet training step per batch", 1.0, quality)


def _augmented(batch: PatchBatch, recipe: Recipe, plan: Plan) -> tuple[Tensor, Tensor]:
    active = active_axes(plan.patch_size, plan.spacing)
    count, channels = batch.images.shape[:2]
    draw = draw_augmentation(recipe.augmentation, count, channels, active, step_generator(0, batch.step, 0))
    return apply_augmentation(batch.images, batch.labels, draw, plan.patch_size, plan.spacing, plan.padding)


def _training_step(data: Prepared) -> Work:
    """Forward, loss, backward and update on one augmented batch, float32."""
    network = network_for_plan(data.recipe.network.name, data.plan, data.recipe.network.options).train()
    optimizer, loss = create_optimizer(data.recipe.optimizer, network), create_loss(data.recipe.loss)
    images, labels = _augmented(next(data.batches(data.plan, 1, workers=0)), data.recipe, data.plan)

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        loss(network(images), labels).backward()
        optimizer.step()

    return step
