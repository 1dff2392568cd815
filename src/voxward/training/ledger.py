"""The loss of every training case in every epoch, and which cases never learn: a list for a person to look at.

Henry et al., BraTS 2020, section 2.6: cases with a high training loss at the end of a training were removed from the
next one's. By which rule the paper does not say; here it is written out.
"""

from __future__ import annotations

import csv
import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, get_args

import numpy as np
from torch import Tensor

from voxward.core.files import append_text, write_text

Rule = Literal["mad", "quantile"]
COLUMNS = ("step", "epoch", "case", "loss")
# A normal distribution's standard deviation in median absolute deviations.
_SIGMA = 1.4826


@dataclass(eq=False)
class LossLedger:
    """Appends a row per case of every batch; rows after `step` (of a sitting that was killed) are dropped first.

    The loss is the batch's, so that of the case alone where the batch size is 1. Losses stay on their device until
    `flush`, so that nothing waits for them.
    """

    path: Path
    step: int
    _noted: list[tuple[int, int, tuple[str, ...], Tensor]] = field(default_factory=list, init=False)

    def __post_init__(self) -> None:
        kept = [row for row in _rows(self.path) if int(row["step"]) <= self.step] if self.path.is_file() else []
        lines = [",".join(COLUMNS), *(_line([row[name] for name in COLUMNS]) for row in kept)]
        write_text(self.path, "\n".join(lines) + "\n")

    def note(self, step: int, epoch: int, ids: tuple[str, ...], loss: Tensor) -> None:
        """Remember the loss (a scalar) of the batch of these cases."""
        self._noted.append((step, epoch, ids, loss))

    def flush(self) -> None:
        """Append what was noted."""
        rows = [_line([step, epoch, id, repr(float(loss))]) for step, epoch, ids, loss in self._noted for id in ids]
        self._noted.clear()
        if rows:
            append_text(self.path, "\n".join(rows) + "\n")


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
        losses[row["case"]][int(row["epoch"])].append(float(row["loss"]))
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
        raise ValueError(f"rule must be one of {', '.join(get_args(Rule))}, got {rule!r}")
    if epochs < 1:
        raise ValueError(f"epochs must be at least 1, got {epochs}")
    if not (0 < threshold < (1 if rule == "quantile" else math.inf)):
        raise ValueError(f"threshold of the rule {rule!r} is out of range, got {threshold}")
    if not ledger:
        raise ValueError("the ledger is empty: nothing was trained")
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
    rows = list(csv.reader(path.read_text(encoding="utf-8").splitlines()))
    if not rows or "case" not in rows[0]:
        raise ValueError(f"{path} must be a CSV with a column 'case', got the columns {rows[0] if rows else []}")
    place = rows[0].index("case")
    return tuple(row[place] for row in rows[1:] if len(row) > place)


def write_suspects(path: Path, found: Sequence[Suspect]) -> None:
    """A CSV to be looked at: case, loss, limit; rows may be deleted, and the rest excluded from a training."""
    lines = ["case,loss,limit", *(_line([s.case, f"{s.loss:.5f}", f"{s.limit:.5f}"]) for s in found)]
    write_text(path, "\n".join(lines) + "\n")


def _rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def _line(values: Sequence[object]) -> str:
    """One CSV line; ids may hold commas or quotes."""
    texts = [str(value) for value in values]
    return ",".join('"' + t.replace('"', '""') + '"' if set(t) & set(',"') else t for t in texts)
