"""voxward suspects: the training cases whose loss stayed high, as a list to review."""

from __future__ import annotations

from pathlib import Path

from voxward.core.outputs import Outputs
from voxward.runs.folder import RunFolder
from voxward.training.ledger import Suspect, read_ledger, suspects_text
from voxward.training.ledger import suspects as found_in


def suspects(
    run: Path | str,
    *,
    out: Path | str | None = None,
    rule: str = "mad",
    threshold: float | None = None,
    epochs: int = 10,
    overwrite: bool = False,
) -> tuple[Suspect, ...]:
    """List the training cases of a run whose loss stayed high, by a rule that is written out.

    Look at these cases, delete the lines of those that are sound, and leave the others out of the next training with
    `Fold(exclude=...)`. Validation cases are never listed.

    Args:
        run: The folder of a run.
        out: The CSV file that gets the list; None stands for `suspects.csv` in the folder of the run.
        rule: `mad` or `quantile`, see `training.ledger.suspects`.
        threshold: The threshold of the rule; None stands for 3 deviations (`mad`) or the quantile 0.95 (`quantile`).
        epochs: The number of last epochs whose losses count.
        overwrite: True replaces a file that is no such list, or that was edited since.

    Returns:
        The cases, the one with the highest loss first.

    Raises:
        UserError: The rule or a value is wrong, or a file would be replaced.
        FileNotFoundError: The run has no record of the losses of its cases.

    Example:
        >>> import voxward
        >>> found = voxward.suspects("run", rule="quantile", threshold=0.9)  # doctest: +SKIP
    """
    folder = RunFolder(Path(run))
    if not folder.ledger.is_file():
        raise FileNotFoundError(f"{run} has no record of its cases' losses: no {folder.ledger}")
    found = found_in(read_ledger(folder.ledger), rule, threshold, epochs)
    target = folder.root / "suspects.csv" if out is None else Path(out)
    Outputs(target.parent, "a list of suspects", overwrite).text(target.name, suspects_text(found))
    return found
