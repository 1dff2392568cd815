"""Stochastic weight averaging with warm restarts, see core.recipe.averaging: schedule, restarts, and the mean."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from voxward.core.errors import UserError
from voxward.core.recipe import Choice
from voxward.core.recipe.averaging import Averaging
from voxward.training.schedule import Schedule


def restart_choice(optimizer: Choice, averaging: Averaging, rate: float) -> Choice:
    """The optimiser of a recipe's restarts: its own, or the averaging's; rate: the recipe's initial learning rate."""
    return optimizer if averaging.optimizer is None else Choice(averaging.optimizer, {"lr": rate})


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
            raise UserError("there is no mean of the weights before the first snapshot")
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
            raise UserError(f"the mean of the weights does not fit the network, e.g. {', '.join(wrong[:3])}")
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
