"""The one object that resumes a run."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import nn

from voxward.core.files import atomic_write
from voxward.core.length import RunLength
from voxward.runs.folder import read_state
from voxward.training.averaging import Restarting, WeightAverage
from voxward.training.schedule import Schedule
from voxward.training.steps import Step


@dataclass
class TrainingState(RunLength):
    """Where a run stands, with every correction of its length, so that a resumed run is the same run.

    Attributes:
        validate_every: Steps between two validations.
        validated: The step of the last validation.
        best_score: The best score of all validations so far.
        sums: The sum of every figure of the steps since the last validation.
        counts: How often each of these figures was measured.
        seconds: Training time so far, over all sittings.
        restarts: How often the optimiser began again.
        snapshots: How many of the averaging's snapshots have been taken or passed by.
        recent: Seconds of the steps measured last, of a run with a time budget.
        validation_costs: How many steps the last validations took the time of.
        correct_at: The step at which the length is corrected next.
    """

    validate_every: int | None = None
    validated: int = 0
    best_score: float = -math.inf
    sums: tuple[float, ...] = ()
    counts: tuple[int, ...] = ()
    seconds: float = 0.0
    restarts: int = 0
    snapshots: int = 0
    recent: tuple[float, ...] = ()
    validation_costs: tuple[float, ...] = ()
    correct_at: int = 0

    @property
    def must_validate(self) -> bool:
        """Whether a validation is due."""
        return self.validate_every is not None and self.step - self.validated >= self.validate_every


@dataclass(eq=False)
class Learner:
    """The objects of a run that change as it learns, as Fabric wrapped them (so they are on the run's device).

    average: of the weights, and again: what makes the optimiser of a restart; None where the recipe does not average.
    """

    fabric: Fabric
    network: nn.Module
    optimizer: torch.optim.Optimizer
    schedule: Schedule
    average: WeightAverage | None = None
    again: Callable[[], torch.optim.Optimizer] | None = None

    def restart(self) -> None:
        """Begin anew with an optimiser that knows nothing."""
        assert self.again is not None
        self.optimizer = self.again()


def save_state(path: Path, state: TrainingState, learner: Learner, step: Step) -> None:
    """Write everything a resumed run needs, atomically; to be called by all processes, the first of which writes."""
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
    with atomic_write(path) as unfinished:
        torch.save(content, unfinished)


def load_state(path: Path, learner: Learner, step: Step) -> TrainingState:
    """Read a state back into the objects of a freshly set-up run. Nothing but tensors and numbers is unpickled."""
    content: dict[str, Any] = read_state(path)
    kept = content["state"]
    # States of runs whose length was told once do not say when they were validated last.
    kept.setdefault("validated", kept["step"] - kept["step"] % (kept["validate_every"] or 1))
    if isinstance(learner.schedule, Restarting):
        taken = learner.schedule.averaging.snapshots_due(RunLength(kept["step"], kept["total_steps"]).done)
        kept.setdefault("snapshots", taken)
    state = TrainingState(**kept)
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
