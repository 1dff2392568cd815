"""Where a run stands, and the one file from which it goes on after an interruption."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import torch

from voxward.core.files import atomic_write, telling_of_a_full_disk
from voxward.core.length import RunLength
from voxward.runs.folder import read_state, unusable_state
from voxward.training.averaging import Restarting
from voxward.training.learner import Learner
from voxward.training.steps import Step


@dataclass
class TrainingState(RunLength):
    """Where a run stands, with every correction of its length, so that a resumed run is the same run.

    Attributes:
        validate_every: The number of steps between two validations.
        validated: The step of the last validation.
        judged: The number of batches of patches that a validation is of; None: all.
        best_score: The best score of all validations so far.
        sums: The sum of every figure of the steps since the last validation.
        counts: The number of steps in which each of these figures was measured.
        seconds: The training time so far, over all sittings.
        restarts: The number of times that the optimiser was replaced by a new one.
        snapshots: The number of snapshots of the averaging that have been taken or were passed over.
        recent: The seconds of the last steps that were measured, for a run with a time budget.
        validation_costs: The duration of the last validations, counted in steps.
        correct_at: The step at which the length is corrected next.
        lengths: Each correction of the length so far, as `RunSettings` holds them.
    """

    validate_every: int | None = None
    validated: int = 0
    judged: int | None = None
    best_score: float = -math.inf
    sums: tuple[float, ...] = ()
    counts: tuple[int, ...] = ()
    seconds: float = 0.0
    restarts: int = 0
    snapshots: int = 0
    recent: tuple[float, ...] = ()
    validation_costs: tuple[float, ...] = ()
    correct_at: int = 0
    lengths: tuple[tuple[int, int, int], ...] = ()

    @property
    def must_validate(self) -> bool:
        """Return whether a validation is due."""
        return self.validate_every is not None and self.step - self.validated >= self.validate_every


def save_state(path: Path, state: TrainingState, learner: Learner, step: Step) -> None:
    """Write everything that a resumed run needs, atomically.

    All processes have to call this function; the first one writes.

    Args:
        path: The file, `checkpoints/state.pt` of the run.
        state: Where the run stands.
        learner: The network, its optimiser, its schedule and its running mean.
        step: The training step, which may keep perturbations.
    """
    kept = dict(step.state())
    if not learner.fabric.is_global_zero:
        return
    content = {
        "state": {field.name: getattr(state, field.name) for field in fields(state)},
        "network": learner.network.state_dict(),
        "optimizer": learner.optimizer.state_dict(),
        "schedule": learner.schedule.state(),
        "precision": learner.fabric.strategy.precision.state_dict(),
        "step": kept,
        "average": {} if learner.average is None else learner.average.state(),
    }
    with atomic_write(path) as unfinished, telling_of_a_full_disk(unfinished), unfinished.open("wb") as file:
        torch.save(content, file)


def load_state(path: Path, learner: Learner, step: Step) -> TrainingState:
    """Read a state back into the objects of a run that has just been set up.

    Nothing but tensors and plain numbers is unpickled.

    Args:
        path: The file that `save_state` wrote.
        learner: The new learner, which gets the weights, the optimiser and the rest of the saved one.
        step: The new training step, which gets what the saved one kept.

    Returns:
        Where the run stands.

    Raises:
        UserError: The file is damaged, or is the state of another run.
    """
    content: dict[str, Any] = read_state(path)
    try:
        return _restored(content, learner, step)
    except (RuntimeError, LookupError, TypeError, ValueError, AttributeError) as error:
        raise unusable_state(path, error) from error


def _restored(content: dict[str, Any], learner: Learner, step: Step) -> TrainingState:
    state = _read(content["state"], learner)
    learner.network.load_state_dict(content["network"])
    if state.restarts:
        learner.restart()
    learner.optimizer.load_state_dict(content["optimizer"])  # casts to each parameter's device
    learner.schedule.restore(content["schedule"])
    learner.fabric.strategy.precision.load_state_dict(content["precision"])
    step.restore(content["step"])
    if learner.average is not None:
        learner.average.restore(content["average"])
    return state


def _read(kept: dict[str, Any], learner: Learner) -> TrainingState:
    """Fill in what the states of runs lack whose length was decided once and never corrected."""
    kept.setdefault("validated", kept["step"] - kept["step"] % (kept["validate_every"] or 1))
    if isinstance(learner.schedule, Restarting):
        taken = learner.schedule.averaging.snapshots_due(RunLength(kept["step"], kept["total_steps"]).done)
        kept.setdefault("snapshots", taken)
    return TrainingState(**kept)
