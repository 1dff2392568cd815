"""Stochastic weight averaging with warm restarts (Henry et al., BraTS 2020, section 2.5, after Athiwaratkun et al.).

Behind the ordinary training the rate is set back to half of its initial value and falls along a cosine, several times;
every few epochs the weights are noted, and their equal mean is the model. The optimiser starts anew at each restart.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from voxward.training.schedule import Schedule

# Shares of a run and steps are compared with room for the rounding of their products.
_ROUNDING = 1e-6


@dataclass(frozen=True)
class Averaging:
    """When weights are noted, and the learning rate meanwhile. Time is the share of the run, so that any length fits.

    start: share of the run before the first restart. restarts: cycles of equal length that fill the rest. snapshots:
    of the weights, evenly spread over a cycle, the last at its end. rate: with which a cycle begins, as a multiple of
    the run's initial learning rate. stretch: length of the cosine in cycles; above 1 the rate does not reach zero.
    initial: whether the weights before the first restart count as a snapshot, too.

    The defaults are the paper's 200 epochs, then 5 x 30 with a snapshot every 3: 50 snapshots. Raises ValueError for
    values out of range.
    """

    start: float = 200 / 350
    restarts: int = 5
    snapshots: int = 10
    rate: float = 0.5
    stretch: float = 1.0
    initial: bool = False

    def __post_init__(self) -> None:
        if not 0 <= self.start < 1:
            raise ValueError(f"start must be in [0, 1), got {self.start}")
        for name, count in (("restarts", self.restarts), ("snapshots", self.snapshots)):
            if count < 1:
                raise ValueError(f"{name} must be at least 1, got {count}")
        if not (math.isfinite(self.rate) and self.rate > 0):
            raise ValueError(f"rate must be positive, got {self.rate}")
        if not (math.isfinite(self.stretch) and self.stretch >= 1):
            raise ValueError(f"stretch must be at least 1, got {self.stretch}")

    def factor(self, done: float) -> float:
        """The learning rate at `done` (start to 1), as a multiple of the run's initial one."""
        cycles = (done - self.start) / (1.0 - self.start) * self.restarts + _ROUNDING * 1e-3
        within = cycles - min(int(cycles), self.restarts - 1)
        return self.rate * 0.5 * (1.0 + math.cos(math.pi * min(within / self.stretch, 1.0)))

    def restart_steps(self, total_steps: int) -> tuple[int, ...]:
        """How many steps of a run of `total_steps` are done when each cycle, and with it a new optimiser, begins."""
        return tuple(self._step(cycle / self.restarts, total_steps) for cycle in range(self.restarts))

    def snapshot_steps(self, total_steps: int) -> tuple[int, ...]:
        """How many steps are done at each snapshot, ascending, the last at the end.

        A run of fewer steps than snapshots notes the weights after each step once: the mean stays an equal one.
        """
        count = self.restarts * self.snapshots
        steps = {self._step(n / count, total_steps) for n in range(0 if self.initial else 1, count + 1)}
        return tuple(sorted(steps))

    def _step(self, part: float, total_steps: int) -> int:
        """The first step at or behind a part of what follows `start`."""
        return math.ceil(total_steps * (self.start + (1.0 - self.start) * part) - _ROUNDING)


RELEASED = Averaging(stretch=4 / 3, initial=True)
"""As in the authors' code: 51 snapshots, and a cosine over 40 epochs of which 30 are run."""


@dataclass(frozen=True)
class Restarting:
    """A Schedule: `before` over the share up to the first restart, which is its whole run, then the averaging's."""

    before: Schedule
    averaging: Averaging

    def factor(self, done: float) -> float:
        """See Schedule."""
        averaging = self.averaging
        return averaging.factor(done) if self._restarted(done) else self.before.factor(done / averaging.start)

    def observe(self, done: float, validation_loss: float) -> None:
        """Told to `before` as long as it lasts."""
        if not self._restarted(done):
            self.before.observe(done / self.averaging.start, validation_loss)

    def state(self) -> dict[str, Any]:
        """That of `before`: the restarts depend on time alone."""
        return self.before.state()

    def restore(self, state: dict[str, Any]) -> None:
        """See Schedule."""
        self.before.restore(state)

    def _restarted(self, done: float) -> bool:
        return done >= self.averaging.start * (1.0 - 1e-12)


@dataclass(eq=False)
class WeightAverage:
    """The running equal mean of a network's parameters over its snapshots, on the parameters' device and in their type.

    Buffers are not averaged: the network keeps its own. For most that is right; the running statistics of a batch
    norm, however, belong to the last weights and not to the mean, so they must be computed anew with the mean in
    place (`torch.optim.swa_utils.update_bn`). Group and instance norms have none.
    """

    network: nn.Module
    count: int = 0
    mean: dict[str, Tensor] = field(default_factory=dict)

    @torch.no_grad()
    def add(self) -> None:
        """Take the network's parameters as they are now into the mean."""
        for name, parameter in self._parameters().items():
            if self.count:
                self.mean[name].lerp_(parameter.detach(), 1.0 / (self.count + 1))
            else:
                self.mean[name] = parameter.detach().clone()
        self.count += 1

    @contextmanager
    def applied(self) -> Iterator[None]:
        """The network has the mean as its weights inside the block, and its own again behind it.

        Raises ValueError before the first snapshot.
        """
        if not self.count:
            raise ValueError("there is no mean of the weights before the first snapshot")
        own = {name: parameter.detach().clone() for name, parameter in self._parameters().items()}
        self._set(self.mean)
        try:
            yield
        finally:
            self._set(own)

    def state(self) -> dict[str, Tensor]:
        """What `restore` needs; like a `state_dict` it refers to the mean and does not copy it."""
        return {"count": torch.tensor(self.count)} | {f"mean.{name}": value for name, value in self.mean.items()}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Continue from a `state`, copied to the parameters' devices. Raises ValueError when it does not fit."""
        count = int(state["count"])
        mean = {name.removeprefix("mean."): value for name, value in state.items() if name != "count"}
        own = self._parameters() if count else {}
        wrong = sorted(name for name in mean.keys() | own.keys() if not _fits(mean.get(name), own.get(name)))
        if wrong:
            raise ValueError(f"the mean of the weights does not fit the network, e.g. {', '.join(wrong[:3])}")
        self.count = count
        self.mean = {name: mean[name].to(own[name].device, own[name].dtype, copy=True) for name in own}

    @torch.no_grad()
    def _set(self, values: Mapping[str, Tensor]) -> None:
        for name, parameter in self._parameters().items():
            parameter.copy_(values[name])

    def _parameters(self) -> dict[str, nn.Parameter]:
        inner: nn.Module = getattr(self.network, "module", self.network)  # without the prefix of Fabric's wrapper
        return dict(inner.named_parameters())


def _fits(value: Tensor | None, own: Tensor | None) -> bool:
    return value is not None and own is not None and value.shape == own.shape
