"""What is unlike where the work of a folder was done again: weights, figures, segmentations and records."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.torch import load_file

from voxward.core.document import without_format
from voxward.core.errors import UserError
from voxward.core.reading import read_json
from voxward.data.io import SUFFIXES, read_image
from voxward.data.volume_file import volumes_among
from voxward.report.table import Column, Row, Table
from voxward.robustness.asked import records_asked_for
from voxward.robustness.eps import record_eps_text
from voxward.robustness.record import DOUBLED, Record
from voxward.runs.folder import RunFolder
from voxward.systems.evaluate import Evaluation
from voxward.training.log import read_log

# What another kind of processor, or a GPU, may change: it rounds otherwise. See results/reliability.md.
DICE, VOXELS, ATTACKED, TRAINED = 0.01, 0.001, 0.05, 0.05
"""How far apart may lie, at most: the Dice of a segmentation without an attack; the share of voxels of another class;
the Dice under attack, whose search goes another way; and the validation Dice of a training, whose steps do."""
_NAMED = 5
# What says where and how fast a record was made.
_WHERE = ("seconds", "processor", "device", "torch", "version")


@dataclass(frozen=True)
class Compared:
    """Figures of one kind in two folders.

    Attributes:
        what: What is compared.
        count: How many are compared.
        unlike: How many are not the same to the last bit.
        largest: The largest difference; infinite where one is missing, or is no number.
        allowed: The largest difference that is allowed.
        beyond: What differs by more.
    """

    what: str
    count: int
    unlike: int
    largest: float
    allowed: float
    beyond: tuple[str, ...]


@dataclass(frozen=True)
class Reproduction:
    """What was found where the work of a folder was done again.

    Attributes:
        out: The new folder.
        work: The kind of work.
        exact: Whether everything had to be the same to the last bit.
        compared: What was compared.
    """

    out: Path
    work: str
    exact: bool
    compared: tuple[Compared, ...]

    @property
    def same(self) -> bool:
        """Return whether everything is the same to the last bit."""
        return not any(one.unlike for one in self.compared)

    @property
    def met(self) -> bool:
        """Return whether no difference is larger than allowed."""
        return bool(self.compared) and not any(one.beyond for one in self.compared)

    def table(self) -> Table:
        """Return a row for each kind of figure."""
        heads = ("compared", "unlike", "largest difference", "allowed")
        columns = (Column("what", "left"), *map(Column, heads), Column("which differ by more", "left"))
        how = "to the last bit" if self.exact else "within a tolerance, because machine or versions are not the same"
        return Table(columns, tuple(map(_row, self.compared)), caption=f"{self.work} done again, compared {how}")


def compare_training(before: Path, after: Path, exact: bool) -> Iterator[Compared]:
    """Compare two runs: their weights, logs and post-processing; within a tolerance only the validation Dice counts."""
    old, new = RunFolder(before), RunFolder(after)
    logs = [read_log(run.log) for run in (old, new)]
    if not exact:
        dice = [{f"{name} validation Dice": value for name, value in _dice(log)} for log in logs]
        yield _compared("validation Dice", dice, TRAINED)
    for name in ("best", "last", "swa"):
        files = [run.root / "checkpoints" / f"{name}.safetensors" for run in (old, new)]
        if any(path.is_file() for path in files):
            yield _compared(f"tensors of {name}.safetensors", [*map(_tensors, files)], 0.0 if exact else math.inf)
    yield _compared("figures of the training log", [*map(_cells, logs)], 0.0 if exact else math.inf)
    chosen = [{"post-processing": _json(run.postprocess)} for run in (old, new)]
    yield _compared("post-processing", chosen, 0.0 if exact else math.inf)


def compare_evaluation(before: Path, after: Path, exact: bool) -> Iterator[Compared]:
    """Compare two evaluations: the Dice of each class of each case, and the segmentations."""
    found = [_scores(folder / "metrics.json") for folder in (before, after)]
    yield _compared("Dice of a class of a case", found, 0.0 if exact else DICE)
    yield from compare_predictions(before / "predictions", after / "predictions", exact)


def compare_predictions(before: Path, after: Path, exact: bool) -> Iterator[Compared]:
    """Compare the segmentations that are in the new folder with those of the same names in the old one."""
    names = [path.name for path in volumes_among(after.glob("*"))]
    shares = {name: _unlike(before / name, after / name) for name in names}
    yield _compared("share of other voxels", [dict.fromkeys(shares, 0.0), shares], 0.0 if exact else VOXELS)


def compare_attacks(before: Path, after: Path, exact: bool) -> Iterator[Compared]:
    """Compare two attacks: every record but for times and machines, or within a tolerance the Dice of each."""
    old, new = ({_key(record): record for record in records_asked_for(folder)} for folder in (before, after))
    if exact:
        yield _compared("records", [{key: _content(one) for key, one in held.items()} for held in (old, new)], 0.0)
        names = sorted(path.relative_to(after).as_posix() for path in after.glob("volumes/**/*") if path.is_file())
        kept = [name for name in names if name.lower().endswith(SUFFIXES)]
        shares = {name: _unlike(before / name, after / name) for name in kept}
        yield _compared("share of other voxels", [dict.fromkeys(shares, 0.0), shares], 0.0)
        return
    for what, searched, allowed in (("controls", False, DICE), ("attacks", True, ATTACKED)):
        dice = [{k: one.dice() for k, one in held.items() if _searched(one) is searched} for held in (old, new)]
        yield _compared(f"Dice of {what}", dice, allowed)


def _searched(record: Record) -> bool:
    """Whether an attack found it, whose way small differences change: also one that is run again as a control."""
    return record.kind == "attack" or record.attack == DOUBLED


def _compared(what: str, both: Sequence[Mapping[str, Any]], allowed: float) -> Compared:
    """Compare values by their names; numbers by how far they lie apart, and everything else by whether it is equal."""
    before, after = both
    gaps = {name: _gap(before.get(name), after.get(name)) for name in dict.fromkeys([*before, *after])}
    unlike = [name for name, gap in gaps.items() if gap > 0]
    beyond = tuple(name for name in unlike if gaps[name] > allowed)
    return Compared(what, len(gaps), len(unlike), max(gaps.values(), default=0.0), allowed, beyond)


def _gap(before: Any, after: Any) -> float:
    if isinstance(before, float) and isinstance(after, float):
        if before == after or (math.isnan(before) and math.isnan(after)):
            return 0.0
        gap = abs(before - after)
        return math.inf if math.isnan(gap) else gap
    if isinstance(before, np.ndarray) and isinstance(after, np.ndarray) and before.shape == after.shape:
        if before.dtype == after.dtype and before.tobytes() == after.tobytes():
            return 0.0
        gap = float(np.abs(before.astype(np.float64) - after).max(initial=0.0))
        return gap if gap > 0 else math.inf
    return 0.0 if type(before) is type(after) and before == after else math.inf


def _row(one: Compared) -> Row:
    beyond = ", ".join(one.beyond[:_NAMED]) + (", ..." if len(one.beyond) > _NAMED else "")
    largest = "missing or no number" if math.isinf(one.largest) else f"{one.largest:.3g}"
    allowed = "any" if math.isinf(one.allowed) else f"{one.allowed:g}"
    return Row((one.what, str(one.count), str(one.unlike), largest, allowed, beyond))


def _dice(log: Iterable[Mapping[str, float]]) -> Iterator[tuple[str, float]]:
    known = [row["validation_dice"] for row in log if math.isfinite(row["validation_dice"])]
    if known:
        yield "best", max(known)
        yield "last", known[-1]


def _cells(log: Iterable[Mapping[str, float]]) -> dict[str, float]:
    rows = enumerate(log, start=1)
    return {f"{key} of row {n}": value for n, row in rows for key, value in row.items() if key != "seconds"}


def _tensors(path: Path) -> dict[str, np.ndarray]:
    if not path.is_file():
        return {}
    return {name: value.float().numpy() for name, value in load_file(path).items()}


def _json(path: Path) -> Any:
    return without_format(read_json(path), str(path)) if path.is_file() else None


def _scores(path: Path) -> dict[str, float | None]:
    if not path.is_file():
        raise UserError(f"{path} is not there: there is nothing to compare with")
    cases = Evaluation.from_data(_json(path), str(path)).cases
    return {f"{name} of {case.id}": scores.dice for case in cases for name, scores in case.classes.items()}


def _unlike(before: Path, after: Path) -> float:
    """The share of voxels that differ; infinite where one of both files is missing or has another shape."""
    if not (before.is_file() and after.is_file()):
        return math.inf
    old, new = (read_image([path]).array for path in (before, after))
    return float(np.mean(old != new)) if old.shape == new.shape else math.inf


def _key(record: Record) -> str:
    return f"{record.attack} at {record_eps_text(record)} on {record.case} ({record.model}, seed {record.seed})"


def _content(record: Record) -> dict[str, Any]:
    return {name: value for name, value in record.to_data().items() if name not in _WHERE}
