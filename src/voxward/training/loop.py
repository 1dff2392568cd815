"""fit: the training loop, read downwards."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

from voxward.core.progress import Progress, silent
from voxward.data.augment.pipeline import apply_augmentation, draw_augmentation
from voxward.data.augment.spatial import active_axes
from voxward.data.loader import PatchBatch, patch_batches, step_generator
from voxward.inference.run_folder import save_weights
from voxward.training.interrupt import Interrupted, stop_on_signal
from voxward.training.ledger import LossLedger
from voxward.training.log import COLUMNS, TrainingLog
from voxward.training.mean_weights import save_average
from voxward.training.setup import TrainingRun
from voxward.training.state import save_state
from voxward.training.steps import StepInput
from voxward.training.validate import Validation, validate

# Until a time budget is turned into a number of steps, this many are run; the first few are slower and not counted.
TIMED_STEPS, WARM_UP_STEPS = 13, 3
# A validation as often as once an epoch, but in a short run at least this often, and for at most this share of time.
VALIDATIONS, VALIDATION_SHARE = 25, 0.07
_NO_END = 10**9


def fit(run: TrainingRun, minutes: float | None = None, progress: Progress = silent) -> None:
    """Train from the run's state to its end, validating and saving on the way.

    minutes: a time budget for training and its validations; it is turned into a number of steps once, from the first
    timed steps, and stored. Without it the run lasts the recipe's epochs. Raises Interrupted after a signal, with the
    state saved; FloatingPointError when the loss is not finite.
    """
    state = run.state
    if state.total_steps is None and minutes is None:
        _set_length(run, run.recipe.training.epochs * run.steps_per_epoch, run.steps_per_epoch)
    if state.step == state.total_steps:
        return
    columns = (*COLUMNS, *run.step.figures[1:], *(("robust_dice",) if run.recipe.defence is not None else ()))
    log = TrainingLog(run.folder.log, state.step, columns) if run.fabric.is_global_zero else None
    run.network.train()
    try:
        with stop_on_signal() as stop:
            _Sitting(run, minutes, log, progress).work(stop)
    finally:
        if log is not None:
            log.close()


class _Sitting:
    """One sitting at a run: from its state until the end or a signal."""

    def __init__(self, run: TrainingRun, minutes: float | None, log: TrainingLog | None, progress: Progress) -> None:
        self.run, self.minutes, self.log, self.progress = run, minutes, log, progress
        self.state = run.state
        self.active = active_axes(run.plan.patch_size, run.plan.spacing)
        kept = (self.state.sums, self.state.counts) if self.state.sums else ((0.0,) * len(run.step.figures),) * 2
        # Two rows: sums of the figures since the last validation, and how many of each were measured.
        self.measured = torch.tensor(kept, dtype=torch.float64, device=run.fabric.device)
        self.before, self.started = self.state.seconds, time.perf_counter()
        self.step_seconds: list[float] = []
        self.figures: dict[str, float] = {}
        self.ledger = LossLedger(run.folder.ledger, run.state.step, run.cases.fit, run.fabric)

    def work(self, stop: Callable[[], bool]) -> None:
        """Step until the run's end. Raises Interrupted when `stop` says so."""
        state = self.state
        began = time.perf_counter()
        for batch in self._batches():
            figures = self._train_on(batch).double()
            losses = self.run.trainer.case_losses
            assert losses is not None
            self.ledger.note(state.step + 1, state.step // self.run.steps_per_epoch, batch.ids, losses)
            known = ~figures.isnan()
            known[0] = True  # the loss always is, and must not hide that it is not finite
            self.measured += torch.stack([figures.where(known, 0.0), known.double()])
            state.step += 1
            self.run.average_if_due()
            if state.total_steps is None:
                self._time_step(began)
            ended = state.step == state.total_steps
            if ended or (state.validate_every and state.step % state.validate_every == 0):
                self._validate()
                self._save()
            self.progress("train", state.step, state.total_steps, **self.figures)
            if ended:
                return
            if self._anyone(stop()):
                self._save()
                raise Interrupted(f"stopped at step {state.step}; --resume continues the run in {self.run.folder.root}")
            began = time.perf_counter()

    def _batches(self) -> Iterator[PatchBatch]:
        run, fabric = self.run, self.run.fabric
        return patch_batches(
            run.cases.folder, run.cases.fit, run.plan, run.recipe.sampling, run.seed, run.plan.batch_size,
            first_step=self.state.step, last_step=self.state.total_steps or _NO_END,
            workers=run.recipe.training.workers, rank=fabric.global_rank, world=fabric.world_size,
        )  # fmt: skip

    def _train_on(self, batch: PatchBatch) -> Tensor:
        """Set the learning rate, augment on the device, step."""
        run = self.run
        run.restart_if_due()
        for group in run.learner.optimizer.param_groups:
            group["lr"] = run.learning_rate * run.learner.schedule.factor(self.state.done)
        generator = step_generator(run.seed, batch.step, run.fabric.global_rank)
        count, channels = batch.images.shape[:2]
        draw = draw_augmentation(run.recipe.augmentation, count, channels, self.active, generator)
        images, labels, windows = run.fabric.to_device((batch.images, batch.labels, batch.windows))
        images, labels = apply_augmentation(
            images, labels, draw, run.plan.patch_size, run.plan.spacing, run.plan.padding
        )
        return run.step(StepInput(images, labels, windows, batch.step, self.state.done, generator))

    def _time_step(self, began: float) -> None:
        if self.run.fabric.device.type == "cuda":
            torch.cuda.synchronize(self.run.fabric.device)  # or the launch would be timed, not the step
        self.step_seconds.append(time.perf_counter() - began)
        if len(self.step_seconds) == TIMED_STEPS:
            self._fit_budget()

    def _fit_budget(self) -> None:
        """Turn the seconds that are left of the budget into a number of steps."""
        assert self.minutes is not None
        per_step = statistics.median(self.step_seconds[WARM_UP_STEPS:])
        began = time.perf_counter()
        validate(self.run)
        per_validation = time.perf_counter() - began
        left = max(self.minutes * 60 - self._seconds(), 0.0)
        wanted = min(self.run.steps_per_epoch, max(1, int(left / per_step / VALIDATIONS)))
        every = max(wanted, math.ceil(per_validation / per_step / VALIDATION_SHARE))
        _set_length(self.run, self.state.step + max(1, int(left / (per_step + per_validation / every))), every)

    def _validate(self) -> None:
        state, run = self.state, self.run
        means = (self.measured[0] / self.measured[1]).tolist()
        mean_loss = means[0]
        if not math.isfinite(mean_loss):
            raise FloatingPointError(
                f"the training loss is {mean_loss} at step {state.step}: lower optimizer.options.lr, "
                f"set training.clip_gradient_norm, or train in fp32"
            )
        result = validate(run)
        run.learner.schedule.observe(state.done, result.loss)
        self.figures = {"loss": mean_loss, "validation_loss": result.loss, "dice": result.dice}
        if result.robust is not None:
            self.figures["robust_dice"] = result.robust
        defence = run.recipe.defence
        score = result.score(run.recipe.training.best, 0.0 if defence is None else defence.robust)
        self.measured.zero_()
        if self.log is not None:
            self.log.add(self._row(means, result))
            if score > state.best_score:
                save_weights(run.network, run.folder.weights("best"))
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
            self._seconds(),
        )
        row = dict(zip(COLUMNS, map(float, values), strict=True)) | dict(
            zip(run.step.figures[1:], means[1:], strict=True)
        )
        return row if result.robust is None else row | {"robust_dice": result.robust}

    def _save(self) -> None:
        run, state = self.run, self.state
        self.ledger.flush()
        sums, counts = self.measured.tolist()
        state.sums, state.counts, state.seconds = tuple(sums), tuple(map(int, counts)), self._seconds()
        if run.fabric.is_global_zero:
            save_weights(run.network, run.folder.weights("last"))
            if run.learner.average is not None and state.step == state.total_steps:
                save_average(run)
        # Last: a state at the run's end says that nothing is left to do.
        save_state(run.folder.state, state, run.learner, run.step)
        run.fabric.barrier()

    def _seconds(self) -> float:
        return self.before + time.perf_counter() - self.started

    def _anyone(self, stop: bool) -> bool:
        """A signal may reach one process of several: all stop at the same step."""
        if self.run.fabric.world_size == 1:
            return stop
        return bool(self.run.fabric.all_reduce(torch.tensor(float(stop)), reduce_op="sum") > 0)


def _set_length(run: TrainingRun, steps: int, every: int) -> None:
    """Every process must run the same number of steps: the first one's decision counts."""
    steps, every = run.fabric.broadcast((steps, every))
    run.state.total_steps, run.state.validate_every = steps, every
