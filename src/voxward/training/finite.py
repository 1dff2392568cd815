"""Stops a training whose loss or weights are no longer finite, before anything of that is saved."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from voxward.core.devices import kind_of

if TYPE_CHECKING:
    from lightning_fabric import Fabric

# Steps between two looks at losses that a GPU or several processes computed: the training waits for each look.
EVERY = 32
_REMEDY = "a lower optimizer.options.lr, with training.clip_gradient_norm, or with training.precision=fp32"


@dataclass(eq=False)
class LossWatch:
    """Looks at the loss of every step, and remembers the cases of its batch until it has.

    Losses stay on their device until they are looked at: after every step on a CPU, after `EVERY` steps elsewhere.

    Attributes:
        folder: The folder of the run, for messages.
        cases: The ids of all cases that may be noted, the same in every process.
        fabric: The processes of the training.
        saved: The step of the state that is saved in the folder.
    """

    folder: Path
    cases: tuple[str, ...]
    fabric: Fabric
    saved: int
    _noted: list[tuple[int, tuple[str, ...], Tensor]] = field(default_factory=list, init=False)
    _last: tuple[int, tuple[str, ...]] = field(default=(0, ()), init=False)

    def note(self, step: int, ids: tuple[str, ...], loss: Tensor) -> None:
        """Remember the loss of a step, and look at it where that costs nothing.

        Args:
            step: The number of the step, counted from 1.
            ids: The ids of the cases of its batch.
            loss: The training loss, one value.

        Raises:
            FloatingPointError: A loss is not finite.
        """
        self._noted.append((step, ids, loss.detach().reshape(())))
        self._last = step, ids
        if len(self._noted) >= EVERY or (kind_of(loss).host and self.fabric.world_size == 1):
            self.look()

    def look(self) -> None:
        """Look at all losses that were noted since; all processes have to call this method at the same step.

        Raises:
            FloatingPointError: A loss is not finite. The message names the first such step and the cases of its batch.
        """
        if not self._noted:
            return
        losses = self._gathered(torch.stack([loss for *_, loss in self._noted]))
        found = (~losses.isfinite()).any(0).nonzero().flatten().tolist()
        if found:
            step, ids, _ = self._noted[found[0]]
            value = losses[:, found[0]].sum().item()
            raise self.failure(f"the training loss is {value}", step, self._of_all(ids))
        self._noted.clear()

    def check(self, network: nn.Module) -> None:
        """Look at all losses, and at the weights and the statistics of a network that is to be saved.

        Args:
            network: The network.

        Raises:
            FloatingPointError: A loss or a value of the network is not finite.
        """
        self.look()
        if not finite(network):
            raise self.failure("the weights of the network are not finite", self._last[0], self._of_all(self._last[1]))

    def failure(self, what: str, step: int, ids: tuple[str, ...]) -> FloatingPointError:
        """Return the error that stops the training.

        Args:
            what: What is not finite.
            step: The step at which that was so.
            ids: The cases of the batch of the step.
        """
        return stopped(what, (step, ids), (self.folder, self.saved), _REMEDY)

    def _gathered(self, values: Tensor) -> Tensor:
        """The values of all processes, (processes, n)."""
        if self.fabric.world_size == 1:
            return values[None]
        found: Tensor = self.fabric.all_gather(values)
        return found.reshape(self.fabric.world_size, -1)

    def _of_all(self, ids: tuple[str, ...]) -> tuple[str, ...]:
        """The cases of the batches of all processes."""
        if self.fabric.world_size == 1:
            return ids
        places = torch.tensor([self.cases.index(id) for id in ids])
        return tuple(self.cases[n] for n in self._gathered(self.fabric.to_device(places)).flatten().tolist())


def stopped(what: str, at: tuple[int, Sequence[str]], saved: tuple[Path, int], remedy: str) -> FloatingPointError:
    """Return the error that stops a training or a search at a value that is not finite.

    Args:
        what: What is not finite.
        at: The step at which that was so, counted from 1, and the cases of its batch.
        saved: The folder, and the step of the state in it.
        remedy: What else to begin with, after "begin again with".
    """
    (step, ids), (folder, kept) = at, saved
    return FloatingPointError(
        f"{what} at step {step}, whose batch holds patches of {', '.join(dict.fromkeys(ids))}. Nothing of it was "
        f"saved: {folder} holds the state of step {kept}, from which --resume goes on. If it stops there again, look "
        f"at the images of these cases (`voxward check`), or begin again, in another folder, with {remedy}"
    )


def finite(network: nn.Module) -> bool:
    """Return whether all weights and statistics of a network are finite.

    Args:
        network: The network.
    """
    values = [value for value in (*network.parameters(), *network.buffers()) if value.is_floating_point()]
    return not values or bool(torch.stack([value.detach().isfinite().all() for value in values]).all())
