"""The search of MS-NAS in two phases (section 2.2), with weights and architecture on different halves of the cases.

A step of the architecture differentiates the loss at the weights as they are (the first order of DARTS, section 2.4).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from voxward.architecture_search.cell import block_slice
from voxward.architecture_search.cost import CostTable, expected_cost
from voxward.architecture_search.paths import path_entropy
from voxward.architecture_search.supernet import SuperNet
from voxward.core.devices import wide_type
from voxward.core.errors import UserError
from voxward.core.genotype import CELL_KINDS
from voxward.core.length import RunLength
from voxward.core.recipe.search import Search
from voxward.core.registry import Registry

Phase = Literal["warm-up", "cell", "network"]
LossOf = Callable[[], Tensor]
"""The loss of the super-net, as it is now, on a batch."""

# An epoch that is done to this share of one is done.
_ROUNDING = 1e-6
# After Adam for architectures in DARTS.
_ADAM_BETAS = (0.5, 0.999)


@dataclass(frozen=True)
class Budget:
    """The measure of the expected cost of a network, which a search may limit.

    Args:
        table: The costs of the parts of the super-net's space.
        paths: The number of paths of the network that will be decoded.
    """

    table: CostTable
    paths: int

    def gmac(self, net: SuperNet) -> Tensor:
        """Return the expected 10^9 multiply-adds of a decoded network for one image; it can be differentiated."""
        return expected_cost(net, self.table, self.paths)[1] / 1e9


class Bilevel:
    """A search that goes on step by step: the super-net, its optimisers, and how many steps are done.

    A step is a step of the architecture (none in the warm-up) and then a step of the weights. In the cell phase alpha
    and p move, in the network phase beta. Nothing else of the architecture moves, not even by weight decay.

    Args:
        net: The super-net.
        settings: The part `search` of the recipe.
        steps_per_epoch: The number of steps in an epoch, at least 1.
        budget: What the expected cost is compared with.

    Raises:
        UserError: A value is out of range, or the optimiser of the architecture is unknown.
    """

    def __init__(self, net: SuperNet, settings: Search, steps_per_epoch: int, budget: Budget) -> None:
        if steps_per_epoch < 1:
            raise UserError(f"steps_per_epoch must be at least 1, got {steps_per_epoch}")
        self.net, self.settings, self.budget = net, settings, budget
        self.length = RunLength(total_steps=settings.epochs * steps_per_epoch)
        self.weights = _sgd(settings, net.weight_parameters())
        make = ARCHITECTURE_OPTIMIZERS[settings.arch_optimizer].make
        self.architecture: dict[Phase, torch.optim.Optimizer] = {
            "cell": make(settings, net.cell_parameters()),
            "network": make(settings, net.network_parameters()),
        }

    @property
    def step(self) -> int:
        """Return the number of steps that are done."""
        return self.length.step

    @property
    def total_steps(self) -> int:
        """Return the number of steps of the whole search, as long as its length is not corrected."""
        assert self.length.total_steps is not None
        return self.length.total_steps

    @property
    def epoch(self) -> int:
        """Return the number of epochs that are done; each is an equal share of the steps, whatever their number."""
        return int(self.length.done * self.settings.epochs + _ROUNDING)

    @property
    def phase(self) -> Phase:
        """Return the phase of the step that comes next."""
        if self.epoch < self.settings.warmup_epochs:
            return "warm-up"
        return "cell" if self.epoch < self.settings.cell_epochs else "network"

    def advance(self, weight_loss: LossOf, architecture_loss: LossOf) -> tuple[float, float]:
        """Do one step.

        Args:
            weight_loss: A function that returns the loss that the weights learn on.
            architecture_loss: A function that returns the loss that the architecture learns on.

        Returns:
            The losses before the step: of the weights, and of the architecture (NaN in the warm-up).

        Raises:
            FloatingPointError: A loss is not finite.
        """
        self._set_pace()
        searched = math.nan
        optimizer = self.architecture.get(self.phase)
        if optimizer is not None:
            loss = architecture_loss()
            searched = _finite(loss, "architecture")
            _descend(optimizer, loss + self._budget_loss(loss) + self._entropy_loss(), None)
        loss = weight_loss()
        learnt = _finite(loss, "weight")
        _descend(self.weights, loss, self.settings.clip_gradient_norm)
        self.length.step += 1
        return learnt, searched

    def entropies(self) -> dict[str, Tensor]:
        """Return how undecided the choices are, each from 0 (all is chosen) to 1; these can be differentiated.

        Returns:
            Scalars: `operation_entropy`, the mean over alpha; `input_entropy`, the mean over p; and `path_entropy`, of
            the distribution over paths. Each is a share of the largest entropy that is possible.
        """
        net, operations, inputs = self.net, list[Tensor](), list[Tensor]()
        for kind in CELL_KINDS:
            by_operation, by_input = net.cell_weights(kind)
            operations += by_operation.unbind()
            blocks = range(2, net.layout.blocks + 1)  # block 1 has one input: no choice
            inputs += [by_input[block_slice(block)] for block in blocks]
        paths = math.log(net.space.paths_to[net.space.sink])
        return {
            "operation_entropy": _mean_entropy(operations, net.beta),
            "input_entropy": _mean_entropy(inputs, net.beta),
            "path_entropy": path_entropy(net.space, net.edge_weights()) / max(paths, math.ulp(1.0)),
        }

    def figures(self) -> dict[str, float]:
        """Return where the architecture stands: entropies, temperature, and expected 10^9 multiply-adds."""
        with torch.no_grad():
            entropies = {name: float(value) for name, value in self.entropies().items()}
            return entropies | {
                "temperature": self.net.temperature,
                "expected_gmac": float(self.budget.gmac(self.net)),
            }

    def state(self) -> dict[str, Any]:
        """Return what `restore` needs, as tensors and plain numbers."""
        return {
            "step": self.step,
            "total_steps": self.total_steps,
            "since": self.length.since,
            "net": self.net.state_dict(),
            "weights": self.weights.state_dict(),
            **{phase: optimizer.state_dict() for phase, optimizer in self.architecture.items()},
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from what `state` returned, as if there had been no interruption."""
        # States of searches whose length was never corrected hold the step alone.
        total, since = state.get("total_steps", self.total_steps), state.get("since", (0, 0.0))
        self.length = RunLength(state["step"], total, tuple(since))
        self.net.load_state_dict(state["net"])
        self.weights.load_state_dict(state["weights"])
        for phase, optimizer in self.architecture.items():
            optimizer.load_state_dict(state[phase])
        self._set_pace()

    def finish(self) -> None:
        """Set the temperature at which the architecture is decoded."""
        self.net.temperature = self.settings.temperature

    def _set_pace(self) -> None:
        """Set the learning rates and the temperature of the next step."""
        first, last = self.settings.lr
        done, warmup = self.length.done, self.settings.warmup_epochs / self.settings.epochs
        rate = last + (first - last) * 0.5 * (1 + math.cos(math.pi * done))
        groups = [*self.weights.param_groups]
        if ARCHITECTURE_OPTIMIZERS[self.settings.arch_optimizer].follows_weights:
            groups += [group for optimizer in self.architecture.values() for group in optimizer.param_groups]
        for group in groups:
            group["lr"] = rate
        searched = max(done - warmup, 0.0) / (1.0 - warmup) if warmup < 1 else 0.0
        self.net.temperature = self.settings.temperature**searched

    def _budget_loss(self, like: Tensor) -> Tensor | float:
        """Return what a cost beyond the budget adds to a loss; costs are counted in float64 on the CPU."""
        if self.settings.budget_gmac is None:
            return 0.0
        beyond = (self.budget.gmac(self.net) / self.settings.budget_gmac - 1).abs()
        return self.settings.budget_weight * beyond.to(like.device, wide_type(like))

    def _entropy_loss(self) -> Tensor | float:
        """Return a loss that makes choices clear, the more the nearer the phase is to its end (DiNTS, section 3.4)."""
        if self.settings.entropy_weight == 0:
            return 0.0
        settings = self.settings
        first, last = settings.warmup_epochs / settings.epochs, settings.cell_epochs / settings.epochs
        if self.phase == "network":
            first, last = last, 1.0
        ramp = min((self.length.done_at(self.step + 1) - first) / (last - first), 1.0)
        return self.settings.entropy_weight * ramp * torch.stack([*self.entropies().values()]).sum()


def _sgd(settings: Search, parameters: list[nn.Parameter]) -> torch.optim.Optimizer:
    return torch.optim.SGD(
        parameters, lr=settings.lr[0], momentum=settings.momentum, weight_decay=settings.weight_decay
    )


def _adam(settings: Search, parameters: list[nn.Parameter]) -> torch.optim.Optimizer:
    return torch.optim.Adam(parameters, lr=settings.arch_lr, betas=_ADAM_BETAS, weight_decay=settings.arch_weight_decay)


@dataclass(frozen=True)
class ArchitectureOptimizer:
    """An optimiser of the architecture.

    Args:
        make: A function that makes it from the settings of a search and the parameters.
        follows_weights: True if its learning rate is that of the weights.
    """

    make: Callable[[Search, list[nn.Parameter]], torch.optim.Optimizer]
    follows_weights: bool


ARCHITECTURE_OPTIMIZERS: Registry[ArchitectureOptimizer] = Registry(
    "search.arch_optimizer",
    {"adam": ArchitectureOptimizer(_adam, False), "sgd": ArchitectureOptimizer(_sgd, True)},
)


def _descend(optimizer: torch.optim.Optimizer, loss: Tensor, most: float | None) -> None:
    """Move the parameters of an optimiser down the loss; `most` is the largest norm of the gradient, or None."""
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    # A kind of cell that a small space has no edge for gets zeros.
    slopes = torch.autograd.grad(loss, parameters, allow_unused=True, materialize_grads=True)
    for parameter, slope in zip(parameters, slopes, strict=True):
        parameter.grad = slope
    if most is not None:
        nn.utils.clip_grad_norm_(parameters, most)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)


def _finite(loss: Tensor, name: str) -> float:
    value = float(loss.detach())
    if not math.isfinite(value):
        raise FloatingPointError(f"the {name} loss is {value}")
    return value


def _mean_entropy(choices: Sequence[Tensor], like: Tensor) -> Tensor:
    """Return the mean entropy of the choices, each as a share of its largest one; 0 without choices."""
    if not choices:
        return like.new_zeros(())
    # Clamped, for the slope of x log x is infinite at the 0 of a saturated softmax.
    logs = [weights.clamp_min(torch.finfo(weights.dtype).tiny).log() for weights in choices]
    shares = [-(w * log).sum() / math.log(len(w)) for w, log in zip(choices, logs, strict=True)]
    return torch.stack(shares).mean()
