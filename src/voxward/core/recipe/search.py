"""How an architecture is searched: a part of a recipe. The defaults are those of MS-NAS (Yan et al., MICCAI 2020)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Search:
    """The space, the super-net, the bilevel schedule and the decoding.

    Space: layers, scales (at most; a plan with fewer strides has fewer), blocks per cell. Super-net: part, start,
    checkpointing, see architecture_search.supernet; batch_size: None takes the plan's. Schedule: weights learn in all
    epochs, on one half of the training cases; on the other half alpha and p learn in the cell_epochs, after
    warmup_epochs of them, and beta in the network_epochs. steps_per_epoch: None for one batch per so many cases of a
    half. min_steps: steps below which the result is poor, so that a time budget with room for fewer gives a warning.
    Weights: SGD, lr falling by a cosine from its first to its second value, momentum, weight_decay,
    clip_gradient_norm. arch_optimizer: `adam` with arch_lr and arch_weight_decay, or `sgd`, the weights' (the paper).
    temperature: of all softmaxes at the end, to which it falls from 1 after the warm-up. budget_gmac: the expected
    10^9 multiply-adds of a decoded network for one patch are drawn there by budget_weight * |expected / budget - 1|.
    entropy_weight: grows from 0 over each phase, and, times the entropies of alpha, p and the paths (0 to 1 each),
    draws them to choices; 0: not (the paper). adversarial_eps: alpha, p and beta learn on patches perturbed within
    this share of the intensity window, by adversarial_steps sign steps; 0: clean ones. Decoding: score `sum` (the
    paper) or `log` (the likeliest paths); diverse: each path has a new edge. candidates: so many networks, drawn from
    the distribution of paths, compete with the decoded one, by their Dice with the super-net's weights on the half
    that beta learned on; 0: none.
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
        """Of both phases."""
        return self.cell_epochs + self.network_epochs

    def problems(self) -> list[str]:
        """Values out of range."""
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
