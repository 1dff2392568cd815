"""voxward suspects: the training cases whose loss stayed high, as a list to review."""

from __future__ import annotations

from pathlib import Path

from voxward.core.outputs import Outputs
from voxward.runs.folder import RunFolder
from voxward.training.ledger import Rule, Suspect, read_ledger, suspects_text
from voxward.training.ledger import suspects as found_in


def suspects(
    run: Path | str,
    out: Path | str | None = None,
    rule: Rule = "mad",
    threshold: float | None = None,
    epochs: int = 10,
    overwrite: bool = False,
) -> tuple[Suspect, ...]:
    """The cases that `run` was fitted on and never learnt, by an explicit rule; validation cases are never among them.

    rule, threshold (None: 3 for `mad`, 0.95 for `quantile`), epochs: see training.ledger.suspects. The list is written
    to `out` (default: RUN/suspects.csv); look at the cases, delete the lines of those that are sound, and give the
    rest to `train(exclude=...)`. overwrite: replace a file that is no such list, or one that was edited. Raises
    FileNotFoundError where the run has no ledger, ValueError for a bad rule and for a file that is not replaced.
    """
    folder = RunFolder(Path(run))
    if not folder.ledger.is_file():
        raise FileNotFoundError(f"{run} has no record of its cases' losses: no {folder.ledger}")
    limit = threshold if threshold is not None else {"mad": 3.0, "quantile": 0.95}.get(rule, 3.0)
    found = found_in(read_ledger(folder.ledger), rule, limit, epochs)
    target = folder.root / "suspects.csv" if out is None else Path(out)
    Outputs(target.parent, "a list of suspects", overwrite).text(target.name, suspects_text(found))
    return found
