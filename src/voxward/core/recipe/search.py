"""The part of a recipe that says how an architecture is searched, by default as MS-NAS (Yan et al., MICCAI 2020)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Search:
    """The space of architectures, the super-net, the schedule of the search, and how a network is decoded.

    The search has two phases. The weights learn in all epochs, on one half of the training cases. On the other half,
    alpha (operations) and p (inputs of a block) learn in the first phase, and beta (paths) in the second one.

    Args:
        layers: The number of layers of cells.
        scales: The largest number of resolutions; a plan with fewer strides has fewer.
        blocks: The number of blocks in a cell.
        part: The share 1 / part of the channels that an operation of the super-net works on.
        start: What is equally likely at the beginning: `uniform-path` for all paths, or `uniform-edge` for all edges
            into a node, as in the paper.
        checkpointing: True saves memory by computing each cell again in the backward pass.
        batch_size: The number of patches in a batch, or None for that of the plan.
        steps_per_epoch: The number of steps in an epoch, or None for one patch per case of a half.
        min_steps: The number of steps below which the result is poor. A time budget with room for fewer gives a
            warning.
        warmup_epochs: The number of epochs of the first phase before alpha and p learn.
        cell_epochs: The number of epochs of the first phase.
        network_epochs: The number of epochs of the second phase.
        lr: The learning rate of the weights at the beginning and at the end; it falls along a cosine.
        momentum: The momentum of the weights' SGD.
        weight_decay: The weight decay of the weights.
        clip_gradient_norm: The largest norm of the gradient of the weights.
        arch_optimizer: The optimiser of alpha, p and beta: `adam`, or `sgd` with the numbers of the weights' SGD, as in
            the paper.
        arch_lr: The learning rate of `adam`.
        arch_weight_decay: The weight decay of `adam`.
        temperature: The temperature of all softmaxes at the end, to which it falls from 1 after the warm-up.
        budget_gmac: The number of 10^9 multiply-adds for one patch that a decoded network should have, or None.
        budget_weight: The weight of |expected / budget - 1| in the loss of alpha, p and beta.
        entropy_weight: The weight of the entropies of alpha, p and the paths (0 to 1 each), which grows from 0 over
            each phase and favours clear choices; 0, as in the paper, switches it off.
        adversarial_eps: The radius of an l_inf ball, as a share (0 to 1) of the intensity range; alpha, p and beta
            learn on patches that are perturbed within it. 0 leaves patches clean.
        adversarial_steps: The number of sign steps of that perturbation.
        score: How paths are ranked in decoding: `sum`, as in the paper, or `log`, which finds the likeliest paths.
        diverse: True asks for a new edge in each path.
        candidates: The number of networks that are drawn from the distribution of paths and compete with the decoded
            one. They are compared by their Dice with the weights of the super-net, on the half that beta learned on.
    """

    layers: int = 10
    scales: int = 5
    blocks: int = 3
    part: int = 4
    start: Literal["uniform-path", "uniform-edge"] = "uniform-path"
    checkpointing: bool = False
    batch_size: int | None = None
    steps_per_epoch: int | None = None
    min_steps: int = 0
    warmup_epochs: int = 5
    cell_epochs: int = 20
    network_epochs: int = 20
    lr: tuple[float, float] = (0.025, 0.001)
    momentum: float = 0.9
    weight_decay: float = 3e-4
    clip_gradient_norm: float = 5.0
    arch_optimizer: Literal["adam", "sgd"] = "adam"
    arch_lr: float = 3e-3
    arch_weight_decay: float = 1e-3
    temperature: float = 1.0
    budget_gmac: float | None = None
    budget_weight: float = 0.1
    entropy_weight: float = 0.0
    adversarial_eps: float = 0.0
    adversarial_steps: int = 1
    score: Literal["sum", "log"] = "sum"
    diverse: bool = False
    candidates: int = 0

    @property
    def epochs(self) -> int:
        """Return the number of epochs of both phases together."""
        return self.cell_epochs + self.network_epochs

    def problems(self) -> list[str]:
        """Return one sentence for each value that is out of range."""
        return self._space_problems() + self._schedule_problems()

    def _space_problems(self) -> list[str]:
        whole = {"layers": 1, "scales": 1, "blocks": 1, "part": 1, "adversarial_steps": 1, "candidates": 0}
        found = [
            f"{name} must be at least {least}, got {getattr(self, name)}"
            for name, least in whole.items()
            if getattr(self, name) < least
        ]
        if self.scales > self.layers // 2 + 1:
            found.append(
                f"scales must be at most {self.layers // 2 + 1}, which {self.layers} layers can reach, "
                f"got {self.scales}"
            )
        return found

    def _schedule_problems(self) -> list[str]:
        found = [
            f"{name} must be at least 1, got {value}"
            for name, value in (("batch_size", self.batch_size), ("steps_per_epoch", self.steps_per_epoch))
            if value is not None and value < 1
        ]
        found += [
            f"{name} must not be negative, got {getattr(self, name)}"
            for name in (
                "min_steps", "warmup_epochs", "cell_epochs", "network_epochs", "weight_decay", "arch_weight_decay",
                "budget_weight", "entropy_weight",
            )
            if getattr(self, name) < 0
        ]  # fmt: skip
        found += [
            f"{name} must be positive, got {value}"
            for name, value in (
                ("lr", min(self.lr)), ("arch_lr", self.arch_lr), ("clip_gradient_norm", self.clip_gradient_norm),
                ("temperature", self.temperature), ("budget_gmac", self.budget_gmac),
            )
            if value is not None and value <= 0
        ]  # fmt: skip
        if self.epochs < 1:
            found.append("cell_epochs and network_epochs must be at least 1 together")
        if self.warmup_epochs > self.cell_epochs:
            found.append(f"warmup_epochs must be at most cell_epochs = {self.cell_epochs}, got {self.warmup_epochs}")
        if not 0 <= self.momentum < 1:
            found.append(f"momentum must be in [0, 1), got {self.momentum}")
        if not 0 <= self.adversarial_eps <= 1:
            found.append(f"adversarial_eps must be in [0, 1], got {self.adversarial_eps}")
        return found
