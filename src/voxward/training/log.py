"""The log of a training or an architecture search.

It is a CSV file with one row per validation; the same figures are written for TensorBoard.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from tensorboardX import SummaryWriter

from voxward.core.errors import UserError
from voxward.core.files import append_text, write_text
from voxward.core.log_file import log_heading, log_row, read_rows

COLUMNS = ("step", "epoch", "training_loss", "validation_loss", "validation_dice", "learning_rate", "seconds")


class TrainingLog:
    """A log to which rows are appended.

    Args:
        path: The CSV file. Rows after `step`, which a killed sitting has left, are removed from it.
        step: The number of steps that are done.
        columns: The names of the columns, of which the first two are shown as whole numbers.
    """

    def __init__(self, path: Path, step: int, columns: Sequence[str] = COLUMNS) -> None:
        self.path, self.columns = path, tuple(columns)
        kept = [row for row in read_log(path) if row["step"] <= step] if path.is_file() else []
        write_text(path, "".join([log_heading(self.columns), *map(self._line, kept)]))
        self.tensorboard = SummaryWriter(str(path.parent / "tensorboard"), purge_step=step + 1)

    def add(self, row: dict[str, float]) -> None:
        """Append one row.

        Args:
            row: A value for every column, by name; NaN values are left out of the file of TensorBoard.
        """
        append_text(self.path, self._line(row))
        for name in (name for name in self.columns[2:] if not math.isnan(row[name])):
            self.tensorboard.add_scalar(name, row[name], int(row["step"]))

    def _line(self, row: dict[str, float]) -> str:
        whole = {"step", "epoch"}
        cells = [str(int(row[name])) if name in whole else repr(float(row[name])) for name in self.columns]
        return log_row(self.columns, cells)

    def close(self) -> None:
        """Write what is left to the file of TensorBoard."""
        self.tensorboard.close()


def read_log(path: Path) -> list[dict[str, float]]:
    """Read the rows of a log, each of which maps the names of the columns to numbers.

    A last line that was cut short is left out.

    Raises:
        UserError: A cell is no number, a row is damaged, or the file is no CSV.
    """
    try:
        return [{name: float(value) for name, value in row.items()} for row in read_rows(path, ("step",))]
    except UserError:
        raise
    except ValueError as error:
        raise UserError(f"{path} must hold a number in every cell: {error}") from error
