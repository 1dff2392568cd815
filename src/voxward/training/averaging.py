"""Means of the weights of a run: over snapshots with restarts of the learning rate, or exponential.

`core.recipe.averaging` describes both.
"""

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
    """Return the optimiser with which every cycle of the averaging begins.

    Args:
        optimizer: The optimiser of the recipe.
        averaging: The averaging of the recipe, which may name another optimiser.
        rate: The initial learning rate of the recipe, which the other optimiser gets.
    """
    return optimizer if averaging.optimizer is None else Choice(averaging.optimizer, {"lr": rate})


@dataclass(frozen=True)
class Restarting:
    """A schedule that goes through another one up to the first restart and then through the cycles of the averaging.

    Args:
        before: The schedule of the recipe; the share of the run before the first restart is its whole run.
        averaging: When the restarts are, and how the learning rate falls in each cycle.
    """

    before: Schedule
    averaging: Averaging

    def factor(self, done: float) -> float:
        """Return the learning rate at a time of the run, as a multiple of the initial one.

        Args:
            done: The share of the whole run that is done, from 0 to 1.
        """
        averaging = self.averaging
        return averaging.factor(done) if self._restarted(done) else self.before.factor(done / averaging.start)

    def observe(self, done: float, validation_loss: float) -> None:
        """Pass a validation loss on to `before`, until the first restart.

        Args:
            done: The share of the whole run that is done, from 0 to 1.
            validation_loss: The loss of the validation.
        """
        if not self._restarted(done):
            self.before.observe(done / self.averaging.start, validation_loss)

    def state(self) -> dict[str, Any]:
        """Return the state of `before`, because the cycles depend on time alone."""
        return self.before.state()

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from what `state` returned.

        Args:
            state: The state of `before`.
        """
        self.before.restore(state)

    def _restarted(self, done: float) -> bool:
        return done >= self.averaging.start * (1.0 - 1e-12)


@dataclass(eq=False)
class WeightAverage:
    """The mean of the parameters of a network over its snapshots, which all have the same weight.

    The mean lies on the device of the parameters and has their type. Buffers are not averaged. The running statistics
    of a batch norm belong to the last weights and not to the mean, so they have to be measured again with the mean in
    place, which `training.mean_weights` does. Group and instance norms have none.

    Args:
        network: The network, with or without the wrapper of Fabric.
        count: The number of snapshots so far.
        mean: The mean of every parameter, by name.
    """

    network: nn.Module
    count: int = 0
    mean: dict[str, Tensor] = field(default_factory=dict)

    @property
    def share(self) -> float:
        """Return the weight of the next snapshot in the mean, above 0 and at most 1."""
        return 1.0 / (self.count + 1)

    @torch.no_grad()
    def add(self) -> None:
        """Take a snapshot: add the present parameters of the network to the mean."""
        for name, parameter in self._parameters().items():
            if self.count:
                self.mean[name].lerp_(parameter.detach(), self.share)
            else:
                self.mean[name] = parameter.detach().clone()
        self.count += 1

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Give the network the mean as its weights inside a `with` block, and its own weights after it.

        Raises:
            UserError: There is no snapshot yet.
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
        """Return what `restore` needs; like a `state_dict`, it refers to the tensors of the mean and copies nothing."""
        return {"count": torch.tensor(self.count)} | {f"mean.{name}": value for name, value in self.mean.items()}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Go on from what `state` returned; its tensors are copied to the devices of the parameters.

        Args:
            state: The number of snapshots, and the mean of every parameter.

        Raises:
            UserError: The names or the shapes are not those of the network's parameters.
        """
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


@dataclass(eq=False)
class ExponentialMean(WeightAverage):
    """The exponential mean of the parameters of a network over all steps.

    At the beginning it forgets faster, as if the decay were (1 + n) / (10 + n) after n steps. Otherwise the mean of a
    short training would be that of its random beginning.

    Args:
        decay: The weight of the mean so far, above 0 and below 1.
    """

    decay: float = 0.99

    @property
    def share(self) -> float:
        """Return the weight of the next snapshot in the mean, above 0 and at most 1."""
        return max(1.0 - self.decay, 9.0 / (10.0 + self.count))


def _fits(value: Tensor | None, own: Tensor | None) -> bool:
    return value is not None and own is not None and value.shape == own.shape
