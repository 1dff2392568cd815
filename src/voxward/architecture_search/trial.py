"""One rung of one candidate as a unit of work: it trains on from where it paused, and is scored."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from pathlib import Path

import torch
from torch import Tensor

from voxward.architecture_search.rungs import Score
from voxward.attacks.apgd import APGD
from voxward.attacks.threat import ThreatModel
from voxward.core.choices import Compute
from voxward.core.files import atomic_write
from voxward.core.model import PatchModel
from voxward.core.plan import Plan
from voxward.core.progress import Progress, silent
from voxward.core.recipe import Recipe, Sampling, dump_recipe
from voxward.data.loader import PatchBatch, validation_patches
from voxward.engine.engine import Unfit
from voxward.runs.folder import RunFolder, load_weights
from voxward.training.budget import CLOCK, Clock
from voxward.training.defence import bare, patch_ball
from voxward.training.fabric import start_fabric
from voxward.training.loop import fit
from voxward.training.mean_weights import averaged, statistics_patches
from voxward.training.setup import TrainingCases, TrainingRun, set_up
from voxward.training.validate import overlap, pooled_dice

TRIALS = "trials"
# A slice of a case says little about it: flat patches are looked at so many times, at the end more often; others once.
_LOOKS, _LOOKS_AT_THE_END = 3, 8
# Before the end, batch norms are measured on so many patches: their voxels are many, and so are the candidates.
_STATISTICS = 32
# Fewer steps leave Auto-PGD without its rule for the length of a step.
_STEPS = 10


@dataclass(frozen=True)
class Rung:
    """A candidate that is trained on, up to a share of its whole training.

    Args:
        number: The number of the candidate.
        rung: The number of the rung, from 0.
        until: The share (0 to 1) of the whole training.
        before: The share that was done before.
        recipe: The recipe of the candidate.
    """

    number: int
    rung: int
    until: float
    before: float
    recipe: Recipe


def trial_folder(root: Path, number: int) -> RunFolder:
    """Return the run folder of a candidate.

    Args:
        root: The folder of the search.
        number: The number of the candidate.
    """
    return RunFolder(root / TRIALS / f"{number:02d}")


@dataclass(frozen=True)
class Trainer:
    """Trains candidates and scores them; implements engine.Doer.

    Attributes:
        root: The folder of the search, where the caller sees it.
        plan: The plan.
        cases: The prepared cases.
        seed: The seed of all that is drawn while training, the same for every candidate.
        minutes: The time budget of a whole training, or None for the epochs of the recipe.
        eps: The size of the attack that measures robust Dice, as a share (0 to 1) of the intensity range; None: it is
            not measured.
        compute: Where it is computed.
        clock: A function that returns the time in seconds.
    """

    root: Path
    plan: Plan
    cases: TrainingCases
    seed: int
    minutes: float | None
    eps: float | None
    compute: Compute
    clock: Clock = CLOCK

    def do(self, unit: Rung, folder: Path, progress: Progress) -> Score:
        """Train a candidate on to the end of a rung, and score it. What is done already is not done again.

        Raises:
            Unfit: This process does not see the folder of the search or the prepared cases.
        """
        if folder.absolute() != self.root or not self.cases.folder.is_dir():
            raise Unfit(f"{self.root} or {self.cases.folder} is not here: a paused training goes on where its state is")
        run = self.opened(unit)
        fit(run, self.minutes, progress, self.clock, until=unit.until)
        if unit.until == 1.0:
            load_weights(bare(run.network), run.folder.weights("swa"))  # the mean, whose norms are measured already
            return measured(run, self._patches(run, _LOOKS_AT_THE_END), self.eps)
        with averaged(run, self._statistics(run)):
            return measured(run, self._patches(run, _LOOKS), self.eps)

    def _patches(self, run: TrainingRun, looks: int) -> Sequence[PatchBatch]:
        if self._volumes:
            return run.validation
        return tuple(chain.from_iterable(self._flat_patches[:looks]))

    @property
    def _volumes(self) -> bool:
        """Whether patches are so large that none are kept from one candidate to the next."""
        return self.plan.patch_size[2] > 1

    @cached_property
    def _flat_patches(self) -> tuple[tuple[PatchBatch, ...], ...]:
        """The patches of each look at the selection, read once in each process for all candidates."""
        return selection_patches(self.cases, self.plan, self.seed, max(_LOOKS, _LOOKS_AT_THE_END))

    @cached_property
    def _fed(self) -> dict[Sampling, tuple[Tensor, ...]]:
        """By the sampling of their recipes: what candidates measure their batch norms on."""
        return {}

    def _statistics(self, run: TrainingRun) -> Iterable[Tensor]:
        if self._volumes:
            return statistics_patches(run, _STATISTICS)
        if run.recipe.sampling not in self._fed:
            self._fed[run.recipe.sampling] = tuple(statistics_patches(run, _STATISTICS))
        return self._fed[run.recipe.sampling]

    def opened(self, unit: Rung) -> TrainingRun:
        """Return the training of a candidate, at its beginning or where it paused."""
        folder = trial_folder(self.root, unit.number)
        if not folder.recipe.is_file():
            with atomic_write(folder.recipe) as path:
                path.write_text(dump_recipe(unit.recipe, checksum=True), encoding="utf-8")
        fabric = start_fabric(unit.recipe, self.compute)
        return set_up(folder, unit.recipe, self.plan, self.cases, self.seed, fabric)


def selection_patches(cases: TrainingCases, plan: Plan, seed: int, looks: int) -> tuple[tuple[PatchBatch, ...], ...]:
    """Read patches of the selection cases: for each look one of each case.

    Args:
        cases: The prepared cases.
        plan: The plan.
        seed: The seed of the search. The first patch of each case is that of the validations of its trainings.
        looks: The number of patches of each case.
    """
    selection = cases.selection or cases.fit[:1]
    return tuple(tuple(validation_patches(cases.folder, selection, plan, seed + look)) for look in range(looks))


def score(run: TrainingRun) -> Score:
    """Score a training where it stands, with the exponential mean of its weights, as at the end of a whole training.

    Args:
        run: The training of a candidate, with at least one step. Its network is left as it was found.
    """
    looks = _LOOKS_AT_THE_END if run.plan.patch_size[2] == 1 else 1
    with averaged(run):
        return measured(run, tuple(chain.from_iterable(selection_patches(run.cases, run.plan, run.seed, looks))))


def measured(run: TrainingRun, patches: Sequence[PatchBatch], eps: float | None = None) -> Score:
    """Score the network of a training as it is.

    Args:
        run: The training. Its network is left in the mode (training or evaluation) in which it was found.
        patches: The patches of the selection that count.
        eps: The size of the attack, see `Trainer`.
    """
    known = run.plan.labels
    clean, struck = torch.zeros(2, 3, len(known.scored), dtype=torch.float64)
    training = run.network.training
    run.network.eval()
    for batch in patches:
        images, labels = run.fabric.to_device((batch.images, batch.labels))
        clean += overlap(_logits(run, images), labels, known)
        if eps is not None:
            found = attacked(run, images, labels, batch.ranges, eps)
            struck += overlap(_logits(run, found), labels, known)
    run.network.train(training)
    robust = None if eps is None else pooled_dice(struck)
    return Score(pooled_dice(clean), robust, run.state.step, run.state.seconds)


@torch.no_grad()
def _logits(run: TrainingRun, images: Tensor) -> Tensor:
    found: Tensor = run.network(images)
    return found


def attacked(run: TrainingRun, images: Tensor, labels: Tensor, ranges: Tensor, eps: float) -> Tensor:
    """Return patches that a short APGD on the soft Dice has perturbed.

    Args:
        run: The training whose network is attacked, as it is.
        images: The patches (b, c, d, h, w).
        labels: The class indices (b, d, h, w).
        ranges: The intensity range of each channel of each case.
        eps: The size of the attack, as a share (0 to 1) of these ranges.
    """
    attack, ball = APGD("dice", steps=_STEPS), patch_ball(images, ranges.to(images), eps)
    model = PatchModel(bare(run.network), run.plan.labels.head)
    truth = run.plan.labels.target(labels)
    state = attack.begin(model, images, truth, ThreatModel(eps), ball, run.seed, silent)
    attack.settle(state)
    return ball.project(state.best)
