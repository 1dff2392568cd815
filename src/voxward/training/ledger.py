"""The loss of every training case in every epoch, and a list to review of the cases whose loss stays high.

Henry et al. (BraTS 2020, section 2.6) removed cases with a high loss at the end of a training from the next training.
The paper does not say by which rule; the rules here are written out.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from voxward.core.errors import UserError
from voxward.core.files import append_text, write_text
from voxward.core.log_file import csv_line, log_heading, log_row, read_rows
from voxward.core.reading import read_csv
from voxward.core.registry import Registry

if TYPE_CHECKING:
    from lightning_fabric import Fabric

COLUMNS = ("step", "epoch", "case", "loss")
# A normal distribution's standard deviation in median absolute deviations.
_SIGMA = 1.4826


@dataclass(eq=False)
class LossLedger:
    """A log with the loss of every case of every batch, over all processes.

    The loss of a case is that of its own patch, whatever the batch size, see `Learner.case_losses`. Losses stay on
    their device until `flush`, so that the training does not wait for them.

    Args:
        path: The CSV file. Rows after `step`, which a killed sitting has left, are removed from it.
        step: The number of steps that are done.
        cases: The ids of all cases that may be noted, the same in every process.
        fabric: The processes of the training.
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
        lines = [log_heading(COLUMNS), *(log_row(COLUMNS, [row[name] for name in COLUMNS]) for row in kept)]
        write_text(self.path, "".join(lines))

    def note(self, step: int, epoch: int, ids: tuple[str, ...], losses: Float[Tensor, " b"]) -> None:
        """Remember the losses of the cases of a batch.

        Every process has to note equally many cases of the same steps.

        Args:
            step: The number of the step, counted from 1.
            epoch: The epoch, counted from 0.
            ids: The ids of the cases.
            losses: The loss of each case; NaN is not written.
        """
        self._noted.append((step, epoch, ids, losses))

    def flush(self) -> None:
        """Append what was noted to the file; all processes have to call this method, and the first one writes."""
        if not self._noted:
            return
        place = {id: n for n, id in enumerate(self.cases)}
        places = self._gathered(torch.tensor([[place[id] for id in ids] for _, _, ids, _ in self._noted]))
        losses = self._gathered(torch.stack([losses for *_, losses in self._noted]))
        if self.fabric.is_global_zero:
            append_text(self.path, "".join(self._rows(places, losses)))
        self._noted.clear()

    def _gathered(self, values: Tensor) -> Tensor:
        """Gather the values (batches, b) of each process into (processes, batches, b), in host memory."""
        found: Tensor = self.fabric.all_gather(self.fabric.to_device(values))
        return found.reshape(-1, *values.shape).cpu()  # a lone process gathers no axis

    def _rows(self, places: Tensor, losses: Tensor) -> Iterator[str]:
        for n, (step, epoch, *_) in enumerate(self._noted):
            for place, loss in zip(places[:, n].flatten().tolist(), losses[:, n].flatten().tolist(), strict=True):
                if math.isnan(loss):  # no voxel of the patch was annotated
                    continue
                yield log_row(COLUMNS, [step, epoch, self.cases[place], repr(loss)])


@dataclass(frozen=True)
class Suspect:
    """A case whose loss stayed high.

    Args:
        case: The id of the case.
        loss: The mean loss of the case over the last epochs.
        limit: The limit that this loss exceeds.
    """

    case: str
    loss: float
    limit: float


def read_ledger(path: Path) -> dict[str, dict[int, float]]:
    """Read a ledger.

    Returns:
        The mean loss of each case in each epoch: case id -> epoch -> loss.

    Raises:
        FileNotFoundError: There is no such file.
    """
    losses: dict[str, dict[int, list[float]]] = defaultdict(lambda: defaultdict(list))
    for row in _rows(path):
        try:
            losses[row["case"]][int(row["epoch"])].append(float(row["loss"]))
        except ValueError as error:
            raise UserError(f"{path}, case {row['case']!r}: epoch and loss must be numbers: {error}") from error
    return {case: {epoch: float(np.mean(v)) for epoch, v in epochs.items()} for case, epochs in losses.items()}


@dataclass(frozen=True)
class Rule:
    """A rule by which a loss is too high.

    Args:
        limit: A function of the losses of all cases and of a threshold; a loss above the returned limit is too high.
        threshold: The threshold that is used if none is given.
        most: The threshold must be above 0 and below this number.
        legal: The words that say which thresholds are legal.
    """

    limit: Callable[[np.ndarray, float], float]
    threshold: float
    most: float
    legal: str


def _above_the_median(losses: np.ndarray, threshold: float) -> float:
    """Return the median plus `threshold` standard deviations, estimated from the median absolute deviation."""
    median = float(np.median(losses))
    return median + threshold * _SIGMA * float(np.median(np.abs(losses - median)))


def _quantile(losses: np.ndarray, threshold: float) -> float:
    return float(np.quantile(losses, threshold))


RULES: Registry[Rule] = Registry(
    "rule",
    {
        "mad": Rule(_above_the_median, threshold=3.0, most=math.inf, legal="positive"),
        "quantile": Rule(_quantile, threshold=0.95, most=1.0, legal="between 0 and 1"),
    },
)


def suspects(
    ledger: Mapping[str, Mapping[int, float]], rule: str = "mad", threshold: float | None = None, epochs: int = 10
) -> tuple[Suspect, ...]:
    """Return the cases whose mean loss over the last epochs is too high.

    Args:
        ledger: The mean loss of each case in each epoch, from `read_ledger`.
        rule: A name in `RULES`. With `mad`, a loss is too high if it is above the median of all cases by more than
            `threshold` standard deviations, which are estimated from the median absolute deviation. With `quantile`,
            it is too high if it is above the `threshold` quantile of all cases.
        threshold: The threshold of the rule, or None for 3 (`mad`) or 0.95 (`quantile`).
        epochs: The number of last epochs that count, at least 1.

    Returns:
        The cases, the one with the highest loss first.

    Raises:
        UserError: The rule is unknown, a value is out of range, or the ledger is empty.
    """
    by = RULES[rule]
    used = by.threshold if threshold is None else threshold
    if epochs < 1:
        raise UserError(f"epochs must be at least 1, got {epochs}")
    if not 0 < used < by.most:
        raise UserError(f"threshold must be {by.legal} with the rule {rule!r}, got {used}")
    if not ledger:
        raise UserError("the ledger is empty: nothing was trained")
    last = max(epoch for losses in ledger.values() for epoch in losses)
    means = {
        case: float(np.mean(recent))
        for case, losses in ledger.items()
        if (recent := [loss for epoch, loss in losses.items() if epoch > last - epochs])
    }
    limit = by.limit(np.array(list(means.values())), used)
    found = [Suspect(case, loss, limit) for case, loss in means.items() if loss > limit]
    return tuple(sorted(found, key=lambda suspect: -suspect.loss))


def read_cases(path: Path) -> tuple[str, ...]:
    """Read the ids of the cases in a reviewed list.

    Args:
        path: A CSV file with a column `case`.

    Raises:
        UserError: The file has no such column.
        FileNotFoundError: There is no such file.
    """
    return tuple(row["case"] for row in read_csv(path, ("case",)))


def suspects_text(found: Sequence[Suspect]) -> str:
    """Return the CSV text of a list to review, with the columns case, loss and limit.

    A person deletes the rows of the cases that are sound; the other cases can be left out of a training.
    """
    lines = ["case,loss,limit", *(csv_line([s.case, f"{s.loss:.5f}", f"{s.limit:.5f}"]) for s in found)]
    return "\n".join(lines) + "\n"


def steps_of(path: Path) -> tuple[int, ...]:
    """Return the step of every row of a ledger.

    Raises:
        FileNotFoundError: There is no such file.
    """
    return tuple(int(row["step"]) for row in _rows(path))


def _rows(path: Path) -> list[dict[str, str]]:
    return read_rows(path, COLUMNS)
