"""A search from a plan and prepared cases to its end: batches, progress, log and the state that resumes it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path

import torch
from torch import Tensor, nn

from voxward.architecture_search.bilevel import Bilevel, Budget, Phase
from voxward.architecture_search.cost import cost_table
from voxward.architecture_search.space import MacroSpace
from voxward.architecture_search.supernet import SuperNet
from voxward.attacks.objectives import create_objective
from voxward.core.errors import UserError
from voxward.core.files import atomic_write
from voxward.core.plan import Plan
from voxward.core.progress import Progress, silent
from voxward.core.recipe import Recipe
from voxward.core.recipe.search import Search
from voxward.core.types import Images, Labels
from voxward.data.augment.pipeline import apply_augmentation, draw_augmentation
from voxward.data.augment.spatial import active_axes
from voxward.data.loader import PatchBatch, patch_batches, step_generator
from voxward.losses.registry import create_loss
from voxward.losses.types import Loss
from voxward.nets.searched import Layout, stage_strides
from voxward.nets.slicewise import Slicewise
from voxward.pipeline.precision import Precision, autocast
from voxward.runs.folder import RunFolder, read_state
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
from voxward.training.defence import patch_ball, searched
from voxward.training.interrupt import Interrupted, stop_on_signal
from voxward.training.log import TrainingLog
from voxward.training.setup import TrainingCases, training_precision

COLUMNS = (
    "step", "epoch", "phase", "weight_loss", "architecture_loss", "operation_entropy", "input_entropy", "path_entropy",
    "temperature", "expected_gmac", "seconds",
)  # fmt: skip
PHASES = ("warm-up", "cell", "network")
"""The log writes their positions."""
_TIMED_PASSES = 3
_NO_END = 10**9
_SMALLEST = 1e-12


@dataclass(frozen=True, eq=False)
class SearchRun:
    """A search that is ready to go on. cases: `fit` is the weights' half, `selection` the architecture's.

    network: takes volumes (b, c, d, h, w), whatever the super-net's dimensions.
    """

    folder: RunFolder
    recipe: Recipe
    plan: Plan
    cases: TrainingCases
    seed: int
    device: torch.device
    precision: Precision
    bilevel: Bilevel
    network: nn.Module
    loss: Loss

    @property
    def settings(self) -> Search:
        """The recipe's."""
        return self.bilevel.settings

    @property
    def log(self) -> Path:
        """One row per epoch."""
        return self.folder.search_log

    @property
    def batch_size(self) -> int:
        """Patches per batch of either half."""
        return self.settings.batch_size or self.plan.batch_size


def plan_layout(recipe: Recipe, plan: Plan) -> tuple[MacroSpace, Layout]:
    """The space and the sizes of the super-net that a recipe's search has for a plan: 2D for flat patches, else 3D.

    A plan with fewer strides than the search has scales gets fewer scales. Raises ValueError for a recipe of another
    network than `searched`.
    """
    if recipe.network.name != "searched":
        raise UserError(f"a search needs a recipe with network.name searched, got {recipe.network.name!r}")
    settings, options = recipe.search or Search(), recipe.network.options
    dimensions = 2 if plan.patch_size[2] == 1 else 3
    steps, flat_stem = options.get("strides") or plan.strides, options.get("flat_stem")
    flat = flat_stem if flat_stem is not None else dimensions == 2
    scales = min(settings.scales, len(steps) + flat)
    if scales < 1:
        raise UserError(f"a search needs a plan with strides: its patches {plan.patch_size} are too small for one")
    layout = Layout(
        dimensions,
        stage_strides(dimensions, scales, steps, flat_stem),
        options.get("filters", 32),
        settings.blocks,
        options.get("norm", "batch"),
    )
    return MacroSpace(settings.layers, scales), layout


def super_net(recipe: Recipe, plan: Plan, seed: int) -> SuperNet:
    """The super-net of a recipe's search for a plan, its weights drawn by the seed. Raises ValueError as its parts."""
    settings = recipe.search or Search()
    space, layout = plan_layout(recipe, plan)
    torch.manual_seed(seed)
    return SuperNet(
        len(plan.channels), plan.labels.outputs, space, layout, settings.part, settings.start, settings.checkpointing
    )


def set_up_search(
    folder: RunFolder, recipe: Recipe, plan: Plan, cases: TrainingCases, seed: int, device: torch.device, paths: int
) -> SearchRun:
    """Build super-net and optimisers; read the folder's state where there is one. paths: that will be decoded."""
    settings = recipe.search or Search()
    net = super_net(recipe, plan, seed).to(device)
    size = plan.patch_size[: net.layout.dimensions]
    table = cost_table(net.space, net.layout, net.in_channels, net.out_channels, size)
    batch = settings.batch_size or plan.batch_size
    smaller = min(len(cases.fit), len(cases.selection))
    steps = settings.steps_per_epoch or -(-smaller // batch)
    bilevel = Bilevel(net, settings, steps, Budget(table, paths))
    network = net if net.layout.dimensions == 3 else Slicewise(net)
    loss, precision = create_loss(recipe.loss, plan.labels), training_precision(recipe, plan, device)
    return SearchRun(folder, recipe, plan, cases, seed, device, precision, bilevel, network.train(), loss)


def search_architecture(
    run: SearchRun, minutes: float | None = None, progress: Progress = silent, clock: Clock = CLOCK
) -> None:
    """Search from the run's state to its end, leaving the super-net as it is decoded.

    Args:
        run: The search.
        minutes: A time budget, which all phases share as they share the recipe's steps. The number of steps follows
            the speed of the machine as the search goes on. Without it the search lasts the recipe's steps.
        progress: Told about every step.
        clock: What measures time.

    Raises:
        Interrupted: A signal stopped the search; its state is saved.
        FloatingPointError: A loss is not finite.
    """
    sitting = _Sitting(run, minutes, progress, clock)
    if run.bilevel.step < run.bilevel.total_steps:
        if not run.folder.state.is_file():
            sitting.begin()
        log = TrainingLog(run.log, run.bilevel.step, COLUMNS)
        try:
            with stop_on_signal() as stop:
                for _ in sitting.steps(log):
                    if stop():
                        sitting.save()
                        raise Interrupted(f"stopped at step {run.bilevel.step}; --resume continues {run.folder.root}")
        finally:
            log.close()
    run.bilevel.finish()


class _Sitting:
    """One sitting at a search: from its state until the end or a signal."""

    def __init__(self, run: SearchRun, minutes: float | None, progress: Progress, clock: Clock) -> None:
        self.run, self.progress, self.clock = run, progress, clock
        self.budget = None if minutes is None else 60.0 * minutes
        self.active = active_axes(run.plan.patch_size, run.plan.spacing)
        self.losses: list[tuple[float, float]] = []  # since the last row of the log
        self.recent: tuple[float, ...] = ()  # seconds per pass of the steps measured last
        self.correct_at = 0
        self.before, self.started = 0.0, clock()
        if run.folder.state.is_file():
            self._load()

    def begin(self) -> None:
        """Write the state of a search that has not begun, told its length from timed passes if it has a budget.

        From here on a search without a state is one that cannot go on.
        """
        if self.budget is not None:
            self.recent = self._timed_passes()
            self._correct(self.budget)
            # The first steps are slower than the timed passes; until they are over these tell the pace.
            self.correct_at = max(self.correct_at, WARM_UP_STEPS + 1)
            warn_of_few_steps(self.run.bilevel.total_steps, self.run.settings.min_steps, ended=False)
        self.save()

    def steps(self, log: TrainingLog) -> Iterator[None]:
        """Search step by step until the end, with a row of the log and a saved state after every epoch."""
        run, bilevel = self.run, self.run.bilevel
        weights, architecture = self.batches(run.cases.fit, bilevel.step), None
        while bilevel.step < bilevel.total_steps:
            if architecture is None and bilevel.phase != "warm-up":
                architecture = self.batches(run.cases.selection, bilevel.step)
            began, epoch, phase = self.clock(), bilevel.epoch, bilevel.phase
            batch, other = next(weights), None if architecture is None else next(architecture)
            losses = bilevel.advance(partial(self.learnt, batch), partial(self._searched, other))
            self.losses.append(losses)
            if self.budget is not None:
                self._keep_time(began, phase, self.budget)
            if bilevel.epoch > epoch:
                log.add(self._row(PHASES.index(phase)))
                self.save()
            self.progress("search", bilevel.step, bilevel.total_steps, phase=phase, loss=losses[0])
            yield
        if self.budget is not None:
            warn_of_few_steps(bilevel.step, run.settings.min_steps, ended=True)

    def save(self) -> None:
        """Write what a resumed search needs."""
        content = {
            "bilevel": self.run.bilevel.state(), "losses": self.losses, "seconds": self._seconds(),
            "recent": self.recent, "correct_at": self.correct_at,
        }  # fmt: skip
        with atomic_write(self.run.folder.state) as unfinished:
            torch.save(content, unfinished)

    def _load(self) -> None:
        content = read_state(self.run.folder.state)
        self.run.bilevel.restore(content["bilevel"])
        self.losses, self.before = content["losses"], content["seconds"]
        self.recent, self.correct_at = tuple(content.get("recent", ())), content.get("correct_at", 0)

    def _timed_passes(self) -> tuple[float, ...]:
        """Seconds of a few passes; the norms' statistics move, nothing else."""
        run, seconds = self.run, list[float]()
        parameters = run.bilevel.net.weight_parameters()
        for batch in islice(self.batches(run.cases.fit, 0), 1 + _TIMED_PASSES):
            began = self.clock()
            torch.autograd.grad(self.learnt(batch), parameters, allow_unused=True)
            self._wait()
            seconds.append(self.clock() - began)
        return tuple(seconds[1:] or seconds)  # the first pass is slower

    def _keep_time(self, began: float, phase: Phase, budget: float) -> None:
        self._wait()
        bilevel = self.run.bilevel
        seconds = (self.clock() - began) / _passes(self.run.settings, phase)
        if bilevel.step > WARM_UP_STEPS:
            self.recent = noted(self.recent, WARM_UP_STEPS + 1 + bilevel.step, seconds)
        if bilevel.step >= self.correct_at and bilevel.step < bilevel.total_steps:
            self._correct(budget)

    def _correct(self, budget: float) -> None:
        """Let the search have as many more steps as the time that is left has room for."""
        bilevel, settings = self.run.bilevel, self.run.settings
        done, warmup = bilevel.length.done, settings.warmup_epochs / settings.epochs
        early = max(warmup - done, 0.0) / max(1.0 - done, _SMALLEST)
        passes = early * _passes(settings, "warm-up") + (1.0 - early) * _passes(settings, "network")
        left = steps_for(budget - self._seconds(), pace(self.recent, bilevel.total_steps - bilevel.step) * passes)
        # A search is one only when it has had a step.
        bilevel.length.correct(max(left, 0 if bilevel.step else 1))
        self.correct_at = next_correction(bilevel.step, left)

    def _wait(self) -> None:
        if self.run.device.type == "cuda":
            torch.cuda.synchronize(self.run.device)  # or the launch would be timed, not the work

    def batches(self, ids: Sequence[str], first: int) -> Iterator[PatchBatch]:
        """Those of a half, from step `first` on."""
        run = self.run
        return patch_batches(
            run.cases.folder, ids, run.plan, run.recipe.sampling, run.seed, run.batch_size, first,
            run.bilevel.total_steps if self.budget is None else _NO_END, run.recipe.training.workers,
        )  # fmt: skip

    def learnt(self, batch: PatchBatch) -> Tensor:
        """The loss that the weights learn on."""
        return self._loss(*self._augmented(batch, 0))

    def _searched(self, batch: PatchBatch | None) -> Tensor:
        """The loss that the architecture learns on, of perturbed patches where the recipe asks for them."""
        assert batch is not None  # the warm-up has no architecture step
        images, labels = self._augmented(batch, 1)
        settings = self.run.settings
        if settings.adversarial_eps > 0:
            images = self._perturbed(images, labels, batch.windows.to(images.device))
        return self._loss(images, labels)

    def _loss(self, images: Images, labels: Labels) -> Tensor:
        run = self.run
        with autocast(run.precision, run.device):
            return run.loss(run.network(images), labels)

    def _augmented(self, batch: PatchBatch, stream: int) -> tuple[Images, Labels]:
        run = self.run
        generator = step_generator(run.seed, batch.step, stream)
        count, channels = batch.images.shape[:2]
        draw = draw_augmentation(run.recipe.augmentation, count, channels, self.active, generator)
        images, labels = batch.images.to(run.device), batch.labels.to(run.device)
        return apply_augmentation(images, labels, draw, run.plan.patch_size, run.plan.spacing, run.plan.padding)

    def _perturbed(self, images: Images, labels: Labels, windows: Tensor) -> Images:
        run, steps = self.run, self.run.settings.adversarial_steps
        truth = run.plan.labels.target(labels)
        ball, objective = patch_ball(images, windows, run.settings.adversarial_eps), create_objective("dice")
        with autocast(run.precision, run.device):
            return searched(
                run.network, ball, images, lambda z, progress: objective(z, truth, progress), steps,
                min(1.0, 2.5 / steps),
            )  # fmt: skip

    def _row(self, phase: int) -> dict[str, float]:
        weights, architecture = (sum(column) / len(self.losses) for column in zip(*self.losses, strict=True))
        self.losses = []
        bilevel = self.run.bilevel
        values = (bilevel.step, bilevel.epoch, phase, weights, architecture)
        row = dict(zip(COLUMNS, map(float, values), strict=False))
        return row | bilevel.figures() | {"seconds": self._seconds()}

    def _seconds(self) -> float:
        return self.before + self.clock() - self.started


def _passes(settings: Search, phase: Phase) -> int:
    """Forward and backward passes of a step; one of the architecture has another one for every sign step."""
    if phase == "warm-up":
        return 1
    return 2 + (settings.adversarial_steps if settings.adversarial_eps > 0 else 0)
