"""Networks are compared without training them: by the weights of the super-net, as in one-shot search."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import replace

import torch

from voxward.architecture_search.paths import Path, sample_path
from voxward.architecture_search.run import SearchRun
from voxward.architecture_search.supernet import SuperNet
from voxward.core.genotype import Genotype
from voxward.data.loader import PatchBatch, validation_patches
from voxward.nets.slicewise import Slicewise
from voxward.pipeline.precision import autocast
from voxward.training.validate import overlap, pooled_dice

_ATTEMPTS = 100


def judge(run: SearchRun, genotypes: Sequence[Genotype]) -> list[float]:
    """Return the Dice score (0 to 1) of each network with the weights of the super-net.

    It is counted over one patch of each case that the architecture learnt on, and is the mean over the foreground
    classes or regions. Batch norms take the statistics of the batch, because their running ones are those of the whole
    super-net.

    Args:
        run: The search.
        genotypes: The networks.
    """
    plan = replace(run.plan, batch_size=run.batch_size)
    batches = list(validation_patches(run.cases.folder, run.cases.selection, plan, run.seed))
    return [_dice(run, genotype, batches) for genotype in genotypes]


def _dice(run: SearchRun, genotype: Genotype, batches: Sequence[PatchBatch]) -> float:
    net = copy.deepcopy(run.bilevel.net).train()
    net.restrict(genotype)
    network = net if net.layout.dimensions == 3 else Slicewise(net)
    labels = run.plan.labels
    counts = torch.zeros(3, len(labels.scored), dtype=torch.float64)
    for batch in batches:
        with torch.no_grad(), autocast(run.precision, run.device):
            logits = network(batch.images.to(run.device))
        counts += overlap(logits, batch.labels.to(run.device), labels).cpu()
    return pooled_dice(counts)


def draw_candidates(net: SuperNet, paths: int, count: int, seed: int) -> tuple[Genotype, ...]:
    """Draw different networks, with the probability of their paths and with the best cells.

    Args:
        net: The super-net.
        paths: The number of different paths of each network.
        count: The number of networks.
        seed: The seed of the draw.

    Returns:
        The networks; fewer than `count` where the distribution is so narrow that no others turn up.
    """
    generator = torch.Generator().manual_seed(seed)
    weights, cells = net.edge_weights().detach().double().cpu(), net.best_cells()
    unions: dict[tuple[Path, ...], Genotype] = {}
    for _ in range(_ATTEMPTS * count):
        if len(unions) == count:
            break
        drawn = _different_paths(net, weights, paths, generator)
        if drawn is not None and drawn not in unions:
            unions[drawn] = net.genotype_of(drawn, cells)
    return tuple(unions.values())


def _different_paths(
    net: SuperNet, weights: torch.Tensor, paths: int, generator: torch.Generator
) -> tuple[Path, ...] | None:
    drawn: set[Path] = set()
    for _ in range(_ATTEMPTS):
        drawn.add(sample_path(net.space, weights, generator))
        if len(drawn) == paths:
            return tuple(sorted(drawn))
    return None


def decode_best(run: SearchRun, paths: int) -> tuple[Genotype, float]:
    """Return the best network with so many paths, and its Dice score by `judge`.

    It is the decoded network, or a drawn candidate that is better.

    Args:
        run: A search that has ended.
        paths: The number of paths.
    """
    settings, net = run.settings, run.bilevel.net
    genotypes = (
        net.decode(paths, settings.score, settings.diverse),
        *draw_candidates(net, paths, settings.candidates, run.seed),
    )
    judged = judge(run, genotypes)
    best = max(range(len(judged)), key=judged.__getitem__)  # among equals the first: the decoded one
    return genotypes[best], judged[best]
