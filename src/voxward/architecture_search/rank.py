"""Networks are compared without training them: by the weights of the super-net, as in one-shot search."""

from __future__ import annotations

import copy
import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path as FilePath

import torch

from voxward.architecture_search.paths import Path, sample_path
from voxward.architecture_search.run import SearchRun
from voxward.architecture_search.supernet import SuperNet
from voxward.core.devices import resolve_device
from voxward.core.errors import UserError
from voxward.core.genotype import Genotype
from voxward.core.labels import LabelSet
from voxward.core.progress import Progress, silent
from voxward.core.structure import to_data
from voxward.data.loader import PatchBatch, validation_patches
from voxward.engine.course import Course
from voxward.engine.engine import Engine, Unfit
from voxward.nets.slicewise import Slicewise
from voxward.pipeline.precision import Precision, autocast
from voxward.training.validate import overlap, pooled_dice

_ATTEMPTS = 100


@dataclass(eq=False)
class Judge:
    """Scores networks with the weights of a super-net; implements engine.Doer.

    Attributes:
        net: The super-net after its search.
        batches: One patch of each case that the architecture learnt on.
        labels: The classes or regions.
        precision: The precision of the search.
        device: The kind of device, such as `cpu` or `cuda`.
    """

    net: SuperNet
    batches: Sequence[PatchBatch]
    labels: LabelSet
    precision: Precision
    device: str

    def do(self, genotype: Genotype, folder: FilePath, progress: Progress) -> float:
        """Return the Dice score (0 to 1) of a network, the mean over the foreground classes or regions.

        Batch norms take the statistics of the batch, because their running ones are those of the whole super-net.

        Raises:
            Unfit: This process has no such device.
        """
        try:
            device = resolve_device(self.device)
        except UserError as error:
            raise Unfit(str(error)) from error
        net = copy.deepcopy(self.net).to(device).train()
        net.restrict(genotype)
        network = net if net.layout.dimensions == 3 else Slicewise(net)
        counts = torch.zeros(3, len(self.labels.scored), dtype=torch.float64)
        for n, batch in enumerate(self.batches):
            with torch.no_grad(), autocast(self.precision, device):
                logits = network(batch.images.to(device))
            counts += overlap(logits, batch.labels.to(device), self.labels)
            progress("judge", n + 1, len(self.batches))
        return pooled_dice(counts)


@dataclass(frozen=True)
class Judging:
    """The scores of several networks; implements engine.Work for Genotype.

    Attributes:
        doer: What scores a network.
        scores: The scores so far, by the network's key.
    """

    doer: Judge
    scores: dict[str, float] = field(default_factory=dict)

    def key(self, unit: Genotype) -> str:
        """Return the network as a text."""
        return json.dumps(to_data(unit), sort_keys=True)

    def group(self, unit: Genotype) -> None:
        """Return nothing: whoever has the super-net can score any network."""

    def finished(self, unit: Genotype) -> bool:
        """Return whether a network has a score."""
        return self.key(unit) in self.scores

    def accept(self, unit: Genotype, result: float) -> None:
        """Keep the score of a network."""
        self.scores[self.key(unit)] = result

    def failed(self, unit: Genotype, error: Exception) -> None:
        """Raise the error: the best of the others need not be the best."""
        raise error


def judge(run: SearchRun, genotypes: Sequence[Genotype], engine: Engine, progress: Progress = silent) -> list[float]:
    """Return the Dice score (0 to 1) of each network with the weights of the super-net; see `Judge.do`.

    Args:
        run: The search.
        genotypes: The networks.
        engine: What scores them, one after the other or several at once.
        progress: Told which network is scored.
    """
    plan = replace(run.plan, batch_size=run.batch_size)
    batches = tuple(validation_patches(run.cases.folder, run.cases.selection, plan, run.seed))
    work = Judging(Judge(run.bilevel.net, batches, run.plan.labels, run.precision, run.device.type))
    course = Course[Genotype]("judge", progress, lambda unit: f"a network of {len(unit.paths)} paths", lambda unit: 1.0)
    course.run(genotypes, work, engine)
    return [work.scores[work.key(genotype)] for genotype in genotypes]


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
    weights, cells = net.edge_weights().detach().cpu().double(), net.best_cells()
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


def decode_best(run: SearchRun, paths: int, engine: Engine, progress: Progress = silent) -> tuple[Genotype, float]:
    """Return the best network with so many paths, and its Dice score by `judge`.

    It is the decoded network, or a drawn candidate that is better.

    Args:
        run: A search that has ended.
        paths: The number of paths.
        engine: What scores the candidates.
        progress: Told which network is scored.
    """
    settings, net = run.settings, run.bilevel.net
    genotypes = (
        net.decode(paths, settings.score, settings.diverse),
        *draw_candidates(net, paths, settings.candidates, run.seed),
    )
    judged = judge(run, genotypes, engine, progress)
    best = max(range(len(judged)), key=judged.__getitem__)  # among equals the first: the decoded one
    return genotypes[best], judged[best]
