"""The loop of a search: steps, the log of every epoch, corrections of the length, and the saved state."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from itertools import islice

import torch
from torch import Tensor

from voxward.architecture_search.bilevel import Phase
from voxward.architecture_search.run import SearchRun
from voxward.attacks.objectives import create_objective
from voxward.core.devices import kind_of
from voxward.core.files import atomic_write, telling_of_a_full_disk
from voxward.core.progress import Progress, silent
from voxward.core.recipe.search import Search
from voxward.core.types import Images, Labels
from voxward.data.augment.pipeline import apply_augmentation, draw_augmentation
from voxward.data.augment.spatial import active_axes
from voxward.data.loader import PatchBatch, PatchDataset, patch_batches, step_generator
from voxward.pipeline.precision import autocast
from voxward.runs.folder import read_state, unusable_state
from voxward.training.budget import (
    CLOCK,
    WARM_UP_STEPS,
    Clock,
    next_correction,
    noted,
    pace,
    steps_for,
    warn_of_few_steps,
)
from voxward.training.defence import ascended, patch_ball
from voxward.training.finite import finite, stopped
from voxward.training.log import TrainingLog
from voxward.training.out_of_memory import SEARCH, explained
from voxward.training.sides import training_swaps
from voxward.training.sitting import Sitting

COLUMNS = (
    "step", "epoch", "phase", "weight_loss", "architecture_loss", "operation_entropy", "input_entropy", "path_entropy",
    "temperature", "expected_gmac", "seconds",
)  # fmt: skip
PHASES = ("warm-up", "cell", "network")
"""The phases of a search; the log writes their positions in this list."""
_TIMED_PASSES = 3
_NO_END = 10**9
_SMALLEST = 1e-12
_REMEDY = "a lower search.lr or search.arch_lr, or with training.precision=fp32"


def search_architecture(
    run: SearchRun,
    minutes: float | None = None,
    progress: Progress = silent,
    clock: Clock = CLOCK,
    around: AbstractContextManager[None] | None = None,
) -> None:
    """Search from where the search stands to its end, and leave the super-net as it is decoded.

    Args:
        run: The search.
        minutes: A time budget, which all phases share as they share the steps of the recipe. The number of steps
            follows the speed of the machine as the search goes on. Without it, the search lasts the steps of the
            recipe.
        progress: A function that is told about every step.
        clock: A function that returns the time in seconds.
        around: A block that is entered once it is known how many steps are done, and left after the last one.

    Raises:
        Interrupted: A signal stopped the search; its state is saved.
        FloatingPointError: A loss is not finite.
    """
    sitting = SearchSitting(run, minutes, progress, clock)
    with around or nullcontext():
        if run.bilevel.step < run.bilevel.total_steps:
            if not run.folder.state.is_file():
                sitting.begin()
            sitting.work(TrainingLog(run.log, run.bilevel.step, COLUMNS))
    run.bilevel.finish()


class SearchSitting(Sitting):
    """One sitting at a search.

    Args:
        run: The search; its state is read where there is one.
        minutes: The time budget of the whole search, or None.
        progress: A function that is told about every step.
        clock: A function that returns the time in seconds.
    """

    def __init__(self, run: SearchRun, minutes: float | None, progress: Progress, clock: Clock) -> None:
        super().__init__(run.folder.root, run.device, minutes, progress, clock)
        self.run = run
        self.active = active_axes(run.plan.patch_size, run.plan.spacing)
        self.losses: list[tuple[float, float]] = []  # since the last row of the log
        self.recent: tuple[float, ...] = ()  # seconds per pass of the last steps that were measured
        self.correct_at = 0
        self.shown: tuple[str, ...] = ()  # the cases of the last batch
        if run.folder.state.is_file():
            self._load()
        self.saved = run.bilevel.step

    @property
    def step(self) -> int:
        """Return the number of steps that are done, over all sittings."""
        return self.run.bilevel.step

    def begin(self) -> None:
        """Write the state of a search that has not begun.

        With a time budget, a few passes are timed first to decide the length. From here on a search without a state is
        one that cannot go on.
        """
        if self.budget is not None:
            self.recent = self._timed_passes()
            self._correct(self.budget)
            # The first steps are slower than the timed passes; until they are over these tell the pace.
            self.correct_at = max(self.correct_at, WARM_UP_STEPS + 1)
            warn_of_few_steps(self.run.bilevel.total_steps, self.run.settings.min_steps, ended=False)
        self.save()

    def steps(self) -> Iterator[None]:
        """Search step by step until the end, with a row of the log and a saved state after every epoch."""
        run, bilevel = self.run, self.run.bilevel
        weights, architecture = self.batches(run.cases.fit, bilevel.step), None
        while bilevel.step < bilevel.total_steps:
            if architecture is None and bilevel.phase != "warm-up":
                architecture = self.batches(run.cases.selection, bilevel.step)
            began, epoch, phase = self.clock(), bilevel.epoch, bilevel.phase
            batch, other = next(weights), None if architecture is None else next(architecture)
            saved = (self.folder, self.saved)
            try:
                with explained(run.batch_size, run.plan.patch_size, saved, SEARCH):
                    losses = bilevel.advance(partial(self.learnt, batch), partial(self._searched, other))
            except FloatingPointError as error:
                raise self._stopped(str(error), self.step + 1) from error
            self.losses.append(losses)
            if self.budget is not None:
                self._keep_time(began, phase, self.budget)
            if bilevel.epoch > epoch:
                assert self.log is not None
                self.log.add(self._row(PHASES.index(phase)))
                self.save()
            self.progress("search", bilevel.step, bilevel.total_steps, phase=phase, loss=losses[0], **self.time_left())
            yield
        if self.budget is not None:
            warn_of_few_steps(bilevel.step, run.settings.min_steps, ended=True)

    def save(self) -> None:
        """Write everything that a resumed search needs.

        Raises:
            FloatingPointError: A weight is not finite; nothing is written.
        """
        if not finite(self.run.bilevel.net):
            raise self._stopped("the weights of the super-net are not finite", self.step)
        content = {
            "bilevel": self.run.bilevel.state(), "losses": self.losses, "seconds": self.seconds(),
            "recent": self.recent, "correct_at": self.correct_at,
        }  # fmt: skip
        with (
            atomic_write(self.run.folder.state) as unfinished,
            telling_of_a_full_disk(unfinished),
            unfinished.open("wb") as file,
        ):
            torch.save(content, file)
        self.saved = self.run.bilevel.step

    def _stopped(self, what: str, step: int) -> FloatingPointError:
        return stopped(what, (step, self.shown), (self.folder, self.saved), _REMEDY)

    def _load(self) -> None:
        content = read_state(self.run.folder.state)
        try:
            self.run.bilevel.restore(content["bilevel"])
            self.losses, self.before = list(content["losses"]), float(content["seconds"])
            self.recent, self.correct_at = tuple(content.get("recent", ())), content.get("correct_at", 0)
        except (RuntimeError, LookupError, TypeError, ValueError, AttributeError) as error:
            raise unusable_state(self.run.folder.state, error) from error

    def _timed_passes(self) -> tuple[float, ...]:
        """Time a few passes, in seconds; only the running statistics of the norms change."""
        run, seconds = self.run, list[float]()
        parameters = run.bilevel.net.weight_parameters()
        for batch in islice(self.batches(run.cases.fit, 0), 1 + _TIMED_PASSES):
            began = self.clock()
            torch.autograd.grad(self.learnt(batch), parameters, allow_unused=True)
            seconds.append(self.seconds_since(began))
        return tuple(seconds[1:] or seconds)  # the first pass is slower

    def _keep_time(self, began: float, phase: Phase, budget: float) -> None:
        bilevel = self.run.bilevel
        seconds = self.seconds_since(began) / _passes(self.run.settings, phase)
        if bilevel.step > WARM_UP_STEPS:
            self.recent = noted(self.recent, WARM_UP_STEPS + 1 + bilevel.step, seconds)
        if bilevel.step >= self.correct_at and bilevel.step < bilevel.total_steps:
            self._correct(budget)

    def _correct(self, budget: float) -> None:
        """Give the search as many more steps as fit into the time that is left."""
        bilevel, settings = self.run.bilevel, self.run.settings
        done, warmup = bilevel.length.done, settings.warmup_epochs / settings.epochs
        early = max(warmup - done, 0.0) / max(1.0 - done, _SMALLEST)
        passes = early * _passes(settings, "warm-up") + (1.0 - early) * _passes(settings, "network")
        left = steps_for(budget - self.seconds(), pace(self.recent, bilevel.total_steps - bilevel.step) * passes)
        # A search is one only when it has had a step.
        bilevel.length.correct(max(left, 0 if bilevel.step else 1))
        self.correct_at = next_correction(bilevel.step, left)

    def batches(self, ids: Sequence[str], first: int) -> Iterator[PatchBatch]:
        """Return the batches of one half of the cases, from step `first` on."""
        run = self.run
        return patch_batches(
            PatchDataset(run.cases.folder, ids, run.plan, run.recipe.sampling, run.seed), batch_size=run.batch_size,
            first_step=first, last_step=run.bilevel.total_steps if self.budget is None else _NO_END,
            workers=run.recipe.training.workers, pinned=kind_of(run.device).pinned,
        )  # fmt: skip

    def learnt(self, batch: PatchBatch) -> Tensor:
        """Return the loss that the weights learn on."""
        return self._loss(*self._augmented(batch, 0))

    def _searched(self, batch: PatchBatch | None) -> Tensor:
        """Return the loss that the architecture learns on, of perturbed patches where the recipe asks for them."""
        assert batch is not None  # the warm-up has no architecture step
        images, labels = self._augmented(batch, 1)
        settings = self.run.settings
        if settings.adversarial_eps > 0:
            images = self._perturbed(images, labels, batch.ranges.to(images.device))
        return self._loss(images, labels)

    def _loss(self, images: Images, labels: Labels) -> Tensor:
        run = self.run
        with autocast(run.precision, run.device):
            return run.loss(run.network(images), labels)

    def _augmented(self, batch: PatchBatch, stream: int) -> tuple[Images, Labels]:
        run, self.shown = self.run, batch.ids
        generator = step_generator(run.seed, batch.step, stream)
        count, channels = batch.images.shape[:2]
        draw = draw_augmentation(run.recipe.augmentation, count, channels, self.active, generator)
        images, labels = batch.images.to(run.device), batch.labels.to(run.device)
        swaps = training_swaps(run.recipe, run.plan.labels)
        return apply_augmentation(images, labels, draw, run.plan.patch_size, run.plan.spacing, run.plan.padding, swaps)

    def _perturbed(self, images: Images, labels: Labels, ranges: Tensor) -> Images:
        run, steps = self.run, self.run.settings.adversarial_steps
        truth = run.plan.labels.target(labels)
        ball, objective = patch_ball(images, ranges, run.settings.adversarial_eps), create_objective("dice")
        with autocast(run.precision, run.device):
            return ascended(
                run.network, ball, images, lambda z, progress: objective(z, truth, progress), steps,
                min(1.0, 2.5 / steps),
            )  # fmt: skip

    def _row(self, phase: int) -> dict[str, float]:
        weights, architecture = (sum(column) / len(self.losses) for column in zip(*self.losses, strict=True))
        self.losses = []
        bilevel = self.run.bilevel
        values = (bilevel.step, bilevel.epoch, phase, weights, architecture)
        row = dict(zip(COLUMNS, map(float, values), strict=False))
        return row | bilevel.figures() | {"seconds": self.seconds()}


def _passes(settings: Search, phase: Phase) -> int:
    """Return the number of forward and backward passes of a step; each step of an attack needs one more."""
    if phase == "warm-up":
        return 1
    return 2 + (settings.adversarial_steps if settings.adversarial_eps > 0 else 0)
