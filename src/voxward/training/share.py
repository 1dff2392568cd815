"""How the processes of a training share a batch: the run keeps its batch, whatever the number of processes."""

from __future__ import annotations

import warnings
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from voxward.core.devices import kind_of
from voxward.core.errors import UserError
from voxward.core.plan import Plan, load_json
from voxward.losses.whole import Total, total_of_processes
from voxward.runs.folder import RunFolder, RunSettings
from voxward.training.ledger import steps_of

if TYPE_CHECKING:
    from lightning_fabric import Fabric


@dataclass(frozen=True)
class Share:
    """The part of every batch that this process takes.

    Sample n of a batch is the same whatever the number of processes, and so is all that is drawn for it. Process r
    takes the samples from r * own on.

    Args:
        total: The number of patches in a step, over all processes.
        rank: The number of this process, in [0, world).
        world: The number of processes that train one network together.

    Raises:
        UserError: The processes cannot take equally many patches.
    """

    total: int
    rank: int = 0
    world: int = 1

    def __post_init__(self) -> None:
        if not 0 <= self.rank < self.world:
            raise UserError(f"rank must be in [0, world), got rank={self.rank} and world={self.world}")
        if self.total % self.world:
            legal = [n for n in range(1, self.total + 1) if self.total % n == 0]
            raise UserError(
                f"a step of the run has {self.total} patches, which {self.world} processes cannot share equally: use "
                f"{', '.join(map(str, legal))} of them"
            )

    @property
    def own(self) -> int:
        """Return the number of patches that this process takes in a step."""
        return self.total // self.world

    @property
    def places(self) -> slice:
        """Return which samples of a batch this process takes."""
        return slice(self.rank * self.own, (self.rank + 1) * self.own)


def share_of(total: int, fabric: Fabric) -> Share:
    """Return the part of every batch that this process takes.

    Args:
        total: The number of patches in a step, over all processes.
        fabric: The processes of the training.
    """
    return Share(total, int(fabric.global_rank), int(fabric.world_size))


def patches_of(folder: RunFolder, plan: Plan, processes: int) -> int:
    """Return the number of patches in a step of a run that has begun.

    Runs of version 0.2 do not say it; then it is counted in the losses that they have logged.

    Args:
        folder: The folder of the run.
        plan: The plan of the run.
        processes: The number of processes that train it now.
    """
    kept = load_json(RunSettings, folder.settings).patches
    if kept is None and folder.ledger.is_file():
        kept = max(Counter(steps_of(folder.ledger)).values(), default=None)
    return kept or plan.batch_size * processes


def check_processes(patches: int, plan: Plan, processes: int) -> None:
    """Refuse a number of processes that cannot share the batch of a run; warn where they need more memory than planned.

    Args:
        patches: The number of patches in a step of the run, over all processes.
        plan: The plan of the run, whose batch is what the memory of one process is planned for.
        processes: The number of processes that are to train it.

    Raises:
        UserError: They cannot take equally many patches.
    """
    own = Share(patches, 0, processes).own
    if own > plan.batch_size:
        warnings.warn(
            f"a step of the run has {patches} patches, so each of {processes} processes takes {own} at once: it needs "
            f"the memory of {own} patches, and the plan is for {plan.batch_size}",
            stacklevel=2,
        )


def total_over(fabric: Fabric) -> Total | None:
    """Return the function that adds up the losses' sums over all processes; None for a lone process."""
    return total_of_processes if fabric.world_size > 1 else None


def with_shared_norms(network: nn.Module, fabric: Fabric) -> nn.Module:
    """Let batch norms take their statistics over the batches of all processes, as nnU-Net does.

    PyTorch can do so on GPUs only. On CPUs each process normalises by its own patches, which a warning says.

    Args:
        network: The network of a training, whose layers may be replaced.
        fabric: The processes of the training.

    Returns:
        The network, with weights and names as before.
    """
    if fabric.world_size == 1 or not any(isinstance(part, _BatchNorm) for part in network.modules()):
        return network
    if not kind_of(fabric.device).host:
        converted: nn.Module = nn.SyncBatchNorm.convert_sync_batchnorm(network)  # type: ignore[no-untyped-call]
        return converted
    if fabric.is_global_zero:
        warnings.warn(
            "batch norm takes its statistics over the patches of one process each on CPUs, so the result depends on "
            "the number of processes; on GPUs, and with instance norm, it does not",
            stacklevel=2,
        )
    return network
