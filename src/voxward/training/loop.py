"""The training loop: steps, validations, corrections of the length, and the saved state."""

from __future__ import annotations

import math
import statistics
import warnings
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from voxward.core.devices import kind_of, wide, wide_type
from voxward.core.progress import Progress, silent
from voxward.core.types import Images
from voxward.data.augment.pipeline import AugmentationDraw, apply_augmentation, draw_augmentation, moved_mask
from voxward.data.augment.spatial import active_axes
from voxward.data.loader import PatchBatch, PatchDataset, patch_batches, step_generator
from voxward.runs.folder import save_weights
from voxward.training.budget import (
    CLOCK,
    Clock,
    cost_noted,
    may_plan,
    next_correction,
    noted,
    pace,
    steps_for,
    warn_of_few_steps,
)
from voxward.training.finite import LossWatch
from voxward.training.gain import keep_best, note_start, warn_of_no_gain
from voxward.training.ledger import LossLedger
from voxward.training.log import COLUMNS, TrainingLog
from voxward.training.mean_weights import save_average
from voxward.training.origin import Origin
from voxward.training.out_of_memory import TRAINING, explained
from voxward.training.selection import Validation
from voxward.training.setup import TrainingRun
from voxward.training.sides import training_swaps
from voxward.training.sitting import Sitting
from voxward.training.state import save_state
from voxward.training.steps import StepInput
from voxward.training.validate import validate

# A validation as often as once an epoch, but in a short run at least this often, and for at most this share of time.
VALIDATIONS, VALIDATION_SHARE = 25, 0.07
# A validation that takes a larger share is of fewer patches, but of so many batches at least.
FEWEST_JUDGED = 2
_NO_END = 10**9
# A share that is done to this part is done.
_ROUNDING = 1e-9

Lengths = Sequence[tuple[int, int, int]]


def fit(
    run: TrainingRun, minutes: float | None = None, progress: Progress = silent, clock: Clock = CLOCK,
    lengths: Lengths = (), until: float = 1.0,
) -> None:  # fmt: skip
    """Train a run from where it stands to its end, with validations, and save it on the way.

    With `until` below 1 it pauses there: the state is saved, and a later call goes on to the bit as if it had never
    paused. The schedule is that of the whole run, cut off there.

    Args:
        run: The run to train.
        minutes: A time budget for the training and its validations. It is turned into a number of steps, which follows
            the speed of the machine as the run goes on, and so does the schedule. Without it, the run lasts the
            epochs of the recipe.
        progress: A function that is told about every step.
        clock: A function that returns the time in seconds.
        lengths: The corrections of the length of a run with a time budget that this one follows; see `RunSettings`.
        until: The share (0 to 1) of the steps of the run, or of its time budget, at which it pauses.

    Raises:
        Interrupted: A signal stopped the run; its state is saved.
        FloatingPointError: The loss is not finite.
    """
    state = run.state
    if state.total_steps is None and minutes is None and not lengths:
        state.total_steps = run.recipe.training.epochs * run.steps_per_epoch
        state.validate_every = run.steps_per_epoch
    spent = state.done if minutes is None else state.seconds / (60.0 * minutes)
    if state.step == state.total_steps or reached(spent, until):
        return
    if state.step == 0:
        # From here on a run without a state is one that cannot go on, never one that has not begun.
        save_state(run.folder.state, state, run.learner, run.step)
        run.fabric.barrier()
    columns = (*COLUMNS, *run.step.figures[1:], *(("robust_dice",) if run.recipe.defence is not None else ()))
    log = TrainingLog(run.folder.log, state.step, columns) if run.fabric.is_global_zero else None
    run.network.train()
    sitting = TrainingSitting(run, minutes, progress, clock, lengths)
    sitting.until = until
    sitting.work(log)


def reached(spent: float, until: float) -> bool:
    """Return whether a run is to pause.

    Args:
        spent: The share (0 to 1) of its steps that is done, or of its time budget that is spent.
        until: The share at which it pauses; at 1 it never does, because it ends there by itself.
    """
    return until < 1.0 and spent >= until - _ROUNDING


class TrainingSitting(Sitting):
    """One sitting at a training run.

    Args:
        run: The run, whose state says where to begin.
        minutes: The time budget of the whole run, or None.
        progress: A function that is told about every step.
        clock: A function that returns the time in seconds.
        lengths: The corrections of the length of another run that this one follows.

    Attributes:
        until: The share (0 to 1) of the run at which this sitting pauses.
    """

    until = 1.0

    def __init__(
        self, run: TrainingRun, minutes: float | None, progress: Progress, clock: Clock, lengths: Lengths = ()
    ) -> None:
        super().__init__(run.folder.root, run.fabric.device, minutes, progress, clock)
        self.run, self.state, self.before, self.lengths = run, run.state, run.state.seconds, lengths
        self.active, self.origins = active_axes(run.plan.patch_size, run.plan.spacing), run.origins
        kept = (self.state.sums, self.state.counts) if self.state.sums else ((0.0,) * len(run.step.figures),) * 2
        # Two rows: sums of the figures since the last validation, and how many of each were measured.
        device = run.fabric.device
        self.measured = torch.tensor(kept, dtype=wide_type(device), device=device)
        self.save_seconds = 0.0
        self.figures: dict[str, float] = {}
        self.ledger = LossLedger(run.folder.ledger, run.state.step, run.cases.fit, run.fabric)
        self.watch = LossWatch(run.folder.root, run.cases.fit, run.fabric, run.state.step)

    @property
    def step(self) -> int:
        """Return the number of steps that are done, over all sittings."""
        return self.state.step

    def steps(self) -> Iterator[None]:
        """Train on one batch after another until the end of the run."""
        state = self.state
        if self.run.judges_start and state.step == 0:
            judged = self.run.validation[: state.judged]
            note_start(self.run, judged if self.budget is None else self._in_time(self.budget))
            if self.budget is not None and state.judged is None:
                state.judged = len(self.run.validation)  # later weights are compared on the same patches
        began = self.clock()
        for batch in self._batches():
            self._learn(batch)
            if self.budget is not None:
                self._keep_time(began, self.budget)
            self._follow()
            self.run.average_if_due()
            ended = state.step == state.total_steps
            if ended or state.must_validate:
                self._validate_and_save()
            self.progress("train", state.step, state.total_steps, **self.figures, **self.time_left())
            if ended:
                if self.budget is not None:
                    self._warn(state.step, ended=True)
                warn_of_no_gain(self.run)
                return
            spent = state.done if self.budget is None else self.seconds() / self.budget
            if self.anyone(reached(spent, self.until)):
                self.save()
                yield  # a signal that came during this step must stop what would follow the pause
                return
            yield
            began = self.clock()

    def _batches(self) -> Iterator[PatchBatch]:
        run, share = self.run, self.run.share
        # The last step of a run with a time budget is not known before it is reached.
        last = None if self.budget is not None or self.lengths else self.state.total_steps
        return patch_batches(
            PatchDataset(run.cases.folder, run.cases.fit, run.plan, run.recipe.sampling, run.seed),
            batch_size=share.own, first_step=self.state.step, last_step=last or _NO_END,
            workers=run.recipe.training.workers, rank=share.rank, world=share.world,
            pinned=kind_of(run.fabric.device).pinned,
        )  # fmt: skip

    def _learn(self, batch: PatchBatch) -> None:
        """Train on a batch, and note its figures and the loss of each of its cases."""
        state = self.state
        plan, saved = self.run.plan, (self.run.folder.root, self.watch.saved)
        try:
            with explained(plan.batch_size, plan.patch_size, saved, TRAINING):
                figures = wide(self._train_on(batch))
        except FloatingPointError as error:
            raise self.watch.failure(str(error), state.step + 1, batch.ids) from error
        self.watch.note(state.step + 1, batch.ids, figures[0])
        losses = self.run.learner.case_losses
        assert losses is not None
        self.ledger.note(state.step + 1, state.step // self.run.steps_per_epoch, batch.ids, losses)
        known = ~figures.isnan()
        known[0] = True  # the loss always is, and must not hide that it is not finite
        self.measured += torch.stack([figures.where(known, 0.0), known.to(figures)])
        state.step += 1

    def _train_on(self, batch: PatchBatch) -> Tensor:
        """Set the learning rate, augment on the device, step."""
        run = self.run
        run.restart_if_due()
        for group in run.learner.optimizer.param_groups:
            group["lr"] = run.learning_rate * run.learner.schedule.factor(self.state.done)
        # Drawn for the batch of all processes: a patch is augmented alike whatever process has it.
        generator, channels = step_generator(run.seed, batch.step), batch.images.shape[1]
        whole = draw_augmentation(run.recipe.augmentation, run.share.total, channels, self.active, generator)
        draw = whole.of(run.share.places)
        images, labels, ranges = run.fabric.to_device((batch.images, batch.labels, batch.ranges))
        origin = self._origin(images, batch.ids, draw)
        images, labels = apply_augmentation(
            images, labels, draw, run.plan.patch_size, run.plan.spacing, run.plan.padding,
            training_swaps(run.recipe, run.plan.labels),
        )  # fmt: skip
        return run.step(
            StepInput(
                images, labels, ranges, batch.step, self.state.done, generator=generator, share=run.share, origin=origin
            )
        )

    def _origin(self, images: Images, ids: Sequence[str], draw: AugmentationDraw) -> Origin | None:
        """Where the intensities of a batch come from, as it will be augmented; None where the step does not ask."""
        if self.origins is None:
            return None
        plan, air = self.run.plan, self.origins.air(images, ids)
        if air is not None:
            air = moved_mask(air, draw, plan.patch_size, plan.spacing, plan.padding)
        return self.origins.of(ids, air)

    def _keep_time(self, began: float, budget: float) -> None:
        """Note how long the step took, and decide the length of the run or correct it where that is due."""
        state = self.state
        state.recent = noted(state.recent, state.step, self.seconds_since(began))
        if state.total_steps is None:
            if self.anyone(may_plan(state.step, self.seconds(), budget)):
                started = self.clock()
                judged = self.run.validation[: state.judged]
                validate(self.run, self._in_time(budget) if state.judged is None else judged)
                self._note_validation(started)
                self._correct(budget)
                self._warn(state.total_steps or 0, ended=False)
        elif state.step < state.total_steps and (state.step >= state.correct_at or state.must_validate):
            self._correct(budget)

    def _correct(self, budget: float) -> None:
        """Give the run as many more steps as fit into the time that is left, at the speed of the last ones."""
        run, state = self.run, self.state
        per_step = pace(state.recent, None if state.total_steps is None else state.total_steps - state.step)
        cost = statistics.median(state.validation_costs or (0.0,))
        wanted = min(run.steps_per_epoch, max(1, int(budget / per_step / VALIDATIONS)))
        every = max(wanted, math.ceil(cost / VALIDATION_SHARE))
        # The last validation comes in any case.
        left = budget - self.seconds() - per_step * cost
        steps = steps_for(left, per_step * (1 + cost / every))
        # Every process must run the same number of steps: the first one's decision counts.
        steps, every = run.fabric.broadcast((steps, every))
        self._set_length(steps, every)
        state.correct_at = next_correction(state.step, steps)

    def _in_time(self, budget: float) -> Iterator[PatchBatch]:
        """Those validation patches for which a short run has the time; from then on only these are judged."""
        batches, started = self.run.validation, self.clock()
        for number, batch in enumerate(batches):
            late = self.clock() - started > VALIDATION_SHARE * budget
            if self.anyone(late and number >= FEWEST_JUDGED):
                self.state.judged = number
                if self.run.fabric.is_global_zero:
                    warnings.warn(
                        f"this time budget is too short for all validation patches: {number} of {len(batches)} batches "
                        "of them are judged, and choose the best weights; give it more minutes",
                        stacklevel=2,
                    )
                return
            yield batch

    def _set_length(self, left: int, every: int) -> None:
        state = self.state
        state.validate_every = every
        state.correct(left)
        state.lengths = (*state.lengths, (state.step, left, every))

    def _follow(self) -> None:
        """Correct the length as the run did that this one follows."""
        for step, left, every in self.lengths:
            if step == self.state.step:
                self._set_length(left, every)

    def _warn(self, steps: int, ended: bool) -> None:
        """Warn of too few updates of the weights; a step that hardens may make several updates."""
        if self.run.fabric.is_global_zero:
            warn_of_few_steps(steps * self.run.step.updates, self.run.recipe.training.min_steps, ended)

    def _note_validation(self, started: float) -> None:
        """Note how many steps a validation that began at `started`, and the saving after it, would have been worth."""
        state = self.state
        if state.recent:
            cost = (self.clock() - started + self.save_seconds) / pace(state.recent, None)
            state.validation_costs = cost_noted(state.validation_costs, cost)

    def _validate_and_save(self) -> None:
        started = self.clock()
        self._validate()
        self._note_validation(started)
        self.state.validated, started = self.state.step, self.clock()
        self.save()
        self.save_seconds = self.clock() - started

    def _validate(self) -> None:
        state, run = self.state, self.run
        self.watch.check(run.network)
        measured = self._measured_by_all()
        means = (measured[0] / measured[1]).tolist()
        result = validate(run, run.validation[: state.judged])
        run.learner.schedule.observe(state.done, result.loss)
        self.figures = {"loss": means[0], "validation_loss": result.loss, "dice": result.dice}
        if result.robust is not None:
            self.figures["robust_dice"] = result.robust
        defence = run.recipe.defence
        score = result.score(run.recipe.training.best, 0.0 if defence is None else defence.robust)
        self.measured.zero_()
        if self.log is not None:
            self.log.add(self._row(means, result))
            if score > state.best_score:
                keep_best(run, result)
        state.best_score = max(state.best_score, score)

    def _row(self, means: Sequence[float], result: Validation) -> dict[str, float]:
        run, state = self.run, self.state
        rate = float(run.learner.optimizer.param_groups[0]["lr"])
        values = (
            state.step,
            state.step // run.steps_per_epoch,
            means[0],
            result.loss,
            result.dice,
            rate,
            self.seconds(),
        )
        row = dict(zip(COLUMNS, map(float, values), strict=True)) | dict(
            zip(run.step.figures[1:], means[1:], strict=True)
        )
        return row if result.robust is None else row | {"robust_dice": result.robust}

    def save(self) -> None:
        """Write the weights, the losses of the cases, and the state of the run.

        Raises:
            FloatingPointError: A loss or a weight is not finite; nothing is written.
        """
        run, state = self.run, self.state
        self.watch.check(run.network)
        self.ledger.flush()
        sums, counts = self._measured_by_all().tolist()
        state.sums, state.counts, state.seconds = tuple(sums), tuple(map(int, counts)), self.seconds()
        if run.fabric.is_global_zero:
            save_weights(run.network, run.folder.weights("last"))
        if run.learner.average is not None and state.step == state.total_steps:
            save_average(run)
        # Last: a state at the run's end says that nothing is left to do.
        save_state(run.folder.state, state, run.learner, run.step)
        self.watch.saved = state.step
        run.fabric.barrier()

    @property
    def together(self) -> bool:
        """Return whether several processes train together."""
        return bool(self.run.fabric.world_size > 1)

    def _measured_by_all(self) -> Tensor:
        """Return the sums of the figures, the mean over the processes, and how many of each were measured."""
        if self.run.fabric.world_size == 1:
            return self.measured
        found: Tensor = self.run.fabric.all_reduce(self.measured.clone(), reduce_op="mean")
        return found

    def anyone(self, stop: bool) -> bool:
        """Return whether any process says so; a signal may reach only one of several processes."""
        if not self.together:
            return stop
        return bool(self.run.fabric.all_reduce(torch.tensor(float(stop)), reduce_op="sum") > 0)
