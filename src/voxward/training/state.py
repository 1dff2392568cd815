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
from voxward.training.averaging import WeightAverage
from voxward.training.schedule import Schedule
from voxward.training.steps import Step


@dataclass
class TrainingState:
    """Where a run stands. `total_steps` and `validate_every` are fixed once, so a resumed run is the same run.

    seconds: training time so far, over all its sittings. sums, counts: the step's figures since the last validation.
    restarts: how often the optimiser began anew.
    """

    step: int = 0
    total_steps: int | None = None
    validate_every: int | None = None
    best_score: float = -math.inf
    sums: tuple[float, ...] = ()
    counts: tuple[int, ...] = ()
    seconds: float = 0.0
    restarts: int = 0

    @property
    def done(self) -> float:
        """Share of the run that is done; 0 until its length is known."""
        return self.step / self.total_steps if self.total_steps else 0.0


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
    content: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    state = TrainingState(**content["state"])
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
