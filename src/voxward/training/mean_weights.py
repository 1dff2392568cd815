"""The checkpoint with the mean of the weights of a run, whose batch norms get statistics that belong to the mean."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from voxward.core.devices import kind_of
from voxward.data.loader import PatchDataset, patch_batches
from voxward.runs.folder import save_weights
from voxward.training.setup import TrainingRun

# Patches that the running statistics are taken from, at most.
_PATCHES = 200


def save_average(run: TrainingRun) -> None:
    """Write the mean of the snapshots as the checkpoint `swa`.

    All processes have to call this function, because batch norms may take their statistics over all of them. The first
    one writes.

    Args:
        run: A run whose recipe averages the weights. Its network is left as it was found.
    """
    with averaged(run):
        if run.fabric.is_global_zero:
            save_weights(run.network, run.folder.weights("swa"))


@contextmanager
def averaged(run: TrainingRun, patches: Iterable[Tensor] | None = None) -> Iterator[None]:
    """Give the network of a run the mean of its weights inside a `with` block, with norms that belong to the mean.

    All processes have to enter it. After the block the network is as it was found.

    Args:
        run: A run whose recipe averages the weights, with at least one snapshot.
        patches: The patches that the norms are measured on, from `statistics_patches`; None: as many as a checkpoint
            is measured on.
    """
    assert run.learner.average is not None
    buffers = {name: value.clone() for name, value in run.network.named_buffers()}
    with run.learner.average.applied():
        _renew_statistics(run, statistics_patches(run) if patches is None else patches)
        yield
    with torch.no_grad():
        for name, value in run.network.named_buffers():
            value.copy_(buffers[name])


@torch.no_grad()
def _renew_statistics(run: TrainingRun, patches: Iterable[Tensor]) -> None:
    """Measure the running statistics of the batch norms as means over patches that are not augmented.

    The patches are of the training cases; the method is that of `torch.optim.swa_utils.update_bn`.
    """
    norms = [part for part in run.network.modules() if isinstance(part, _BatchNorm) and part.track_running_stats]
    if not norms:
        return
    modes, momenta = {part: part.training for part in run.network.modules()}, [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None
    run.network.train()
    network: nn.Module = getattr(run.network, "module", run.network)
    for images in patches:
        with run.fabric.autocast():
            network(run.fabric.to_device(images))
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    for part, training in modes.items():
        part.training = training


def statistics_patches(run: TrainingRun, most: int = _PATCHES) -> Iterator[Tensor]:
    """Read the patches of training cases that the running statistics of batch norms are measured on, not augmented.

    Args:
        run: The run.
        most: The largest number of patches; there is at least one batch.

    Returns:
        An iterator over batches of images (b, c, d, h, w).
    """
    size, plan = run.plan.batch_size, run.plan
    steps = max(1, min(most, len(run.cases.fit)) // size)
    batches = patch_batches(
        PatchDataset(run.cases.folder, run.cases.fit, plan, run.recipe.sampling, run.seed), batch_size=size,
        first_step=0, last_step=steps, workers=0, pinned=kind_of(run.fabric.device).pinned,
    )  # fmt: skip
    offset = [(outer - inner) // 2 for outer, inner in zip(plan.source_size, plan.patch_size, strict=True)]
    inside = tuple(slice(start, start + n) for start, n in zip(offset, plan.patch_size, strict=True))
    for batch in batches:
        yield batch.images[(slice(None), slice(None), *inside)]
