"""The loss of every training case in every epoch, and which cases never learn: a list for a person to look at.

Henry et al., BraTS 2020, section 2.6: cases with a high training loss at the end of a training were removed from the
next one's. By which rule the paper does not say; here it is written out.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import torch
from jaxtyping import Float
from lightning_fabric import Fabric
from torch import Tensor

from voxward.core.errors import UserError
from voxward.core.files import append_text, write_text
from voxward.core.reading import read_csv

Rule = Literal["mad", "quantile"]
COLUMNS = ("step", "epoch", "case", "loss")
# A normal distribution's standard deviation in median absolute deviations.
_SIGMA = 1.4826


@dataclass(eq=False)
class LossLedger:
    """Appends a row per case of every batch, of all processes; rows after `step` (of a killed sitting) are dropped.

    A case's loss is that of its own patch, whatever the batch size (Trainer.case_losses). Losses stay on their device
    until `flush`, so that nothing waits for them. cases: all that may be noted, the same in every process.
    """

    path: Path
    step: int
    cases: tuple[str, ...]
    fabric: Fabric
    _noted: list[tuple[int, int, tuple[str, ...], Tensor]] = field(default_factory=list, init=False)

    def __post_init__(self) -> None:
        if not self.fabric.is_global_zero:
            return
        kept = [row for row in _rows(self.path) if int(row["step"]) <= self.step] if self.path.is_file() else []
        lines = [",".join(COLUMNS), *(_line([row[name] for name in COLUMNS]) for row in kept)]
        write_text(self.path, "\n".join(lines) + "\n")

    def note(self, step: int, epoch: int, ids: tuple[str, ...], losses: Float[Tensor, " b"]) -> None:
        """Remember the losses of these cases, a batch's; in every process as many, of the same steps."""
        self._noted.append((step, epoch, ids, losses))

    def flush(self) -> None:
        """Append what was noted; to be called by all processes, the first of which writes."""
        if not self._noted:
            return
        place = {id: n for n, id in enumerate(self.cases)}
        places = self._gathered(torch.tensor([[place[id] for id in ids] for _, _, ids, _ in self._noted]))
        losses = self._gathered(torch.stack([losses for *_, losses in self._noted]))
        if self.fabric.is_global_zero:
            append_text(self.path, "".join(self._rows(places, losses)))
        self._noted.clear()

    def _gathered(self, values: Tensor) -> Tensor:
        """(batches, b) of this process -> (processes, batches, b) of all, in host memory."""
        found: Tensor = self.fabric.all_gather(self.fabric.to_device(values))
        return found.reshape(-1, *values.shape).cpu()  # a lone process gathers no axis

    def _rows(self, places: Tensor, losses: Tensor) -> Iterator[str]:
        for n, (step, epoch, *_) in enumerate(self._noted):
            for place, loss in zip(places[:, n].flatten().tolist(), losses[:, n].flatten().tolist(), strict=True):
                yield _line([step, epoch, self.cases[place], repr(loss)]) + "\n"


@dataclass(frozen=True)
class Suspect:
    """A case, its mean loss over the last epochs, and the limit that it exceeds."""

    case: str
    loss: float
    limit: float


def read_ledger(path: Path) -> dict[str, dict[int, float]]:
    """Per case and epoch the mean loss. Raises FileNotFoundError without a ledger."""
    losses: dict[str, dict[int, list[float]]] = defaultdict(lambda: defaultdict(list))
    for row in _rows(path):
        try:
            losses[row["case"]][int(row["epoch"])].append(float(row["loss"]))
        except ValueError as error:
            raise UserError(f"{path}, case {row['case']!r}: epoch and loss must be numbers: {error}") from error
    return {case: {epoch: float(np.mean(v)) for epoch, v in epochs.items()} for case, epochs in losses.items()}


def suspects(
    ledger: Mapping[str, Mapping[int, float]], rule: Rule = "mad", threshold: float = 3.0, epochs: int = 10
) -> tuple[Suspect, ...]:
    """The cases whose mean loss over the last `epochs` epochs is too high, the highest first.

    rule: `mad`, above the cases' median by more than `threshold` standard deviations, taken from the median absolute
    deviation; `quantile`, above the `threshold` quantile of the cases. Raises ValueError for values out of range and
    an empty ledger.
    """
    if rule not in get_args(Rule):
        raise UserError(f"rule must be one of {', '.join(get_args(Rule))}, got {rule!r}")
    if epochs < 1:
        raise UserError(f"epochs must be at least 1, got {epochs}")
    if not (0 < threshold < (1 if rule == "quantile" else math.inf)):
        legal = "between 0 and 1" if rule == "quantile" else "positive"
        raise UserError(f"threshold must be {legal} with the rule {rule!r}, got {threshold}")
    if not ledger:
        raise UserError("the ledger is empty: nothing was trained")
    last = max(epoch for losses in ledger.values() for epoch in losses)
    means = {
        case: float(np.mean(recent))
        for case, losses in ledger.items()
        if (recent := [loss for epoch, loss in losses.items() if epoch > last - epochs])
    }
    values = np.array(list(means.values()))
    if rule == "quantile":
        limit = float(np.quantile(values, threshold))
    else:
        median = float(np.median(values))
        limit = median + threshold * _SIGMA * float(np.median(np.abs(values - median)))
    found = [Suspect(case, loss, limit) for case, loss in means.items() if loss > limit]
    return tuple(sorted(found, key=lambda suspect: -suspect.loss))


def read_cases(path: Path) -> tuple[str, ...]:
    """The ids in a reviewed list: a CSV with a column `case`. Raises ValueError without one."""
    return tuple(row["case"] for row in read_csv(path, ("case",)))


def suspects_text(found: Sequence[Suspect]) -> str:
    """A CSV to be looked at: case, loss, limit; rows may be deleted, and the rest excluded from a training."""
    lines = ["case,loss,limit", *(_line([s.case, f"{s.loss:.5f}", f"{s.limit:.5f}"]) for s in found)]
    return "\n".join(lines) + "\n"


def _rows(path: Path) -> list[dict[str, str]]:
    return read_csv(path, COLUMNS)


def _line(values: Sequence[object]) -> str:
    """One CSV line; ids may hold commas or quotes."""
    texts = [str(value) for value in values]
    return ",".join('"' + t.replace('"', '""') + '"' if set(t) & set(',"') else t for t in texts)
