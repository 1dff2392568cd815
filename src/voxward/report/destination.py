"""Where the figures of a run go by default, so that they never replace those of other cases."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from voxward.core.choices import Cases
from voxward.core.document import without_format
from voxward.core.errors import UserError
from voxward.core.files import inside
from voxward.core.reading import read_json
from voxward.runs.folder import RunFolder
from voxward.runs.unseen import Scope
from voxward.systems.origin import Origin


def folder_of(run: RunFolder, origin: Origin, scope: Scope, cases: Cases) -> Path:
    """Return the folder of an evaluation: the run's own for all of its validation cases, else one inside it.

    It is RUN/test or RUN/all for these parts of the dataset that the run was trained on, and RUN/on-NAME for any other
    cases, with the part behind it, and `with-seen` where cases that were seen in training are scored. If such a folder
    holds figures of another dataset of the same name, eight letters that stand for the dataset are added.

    Args:
        run: The run.
        origin: What is scored.
        scope: The cases.
        cases: What was asked for.
    """
    if scope.own:
        return run.root
    part = [cases.split] if cases.split != "validation" else []
    seen = ["with-seen"] if cases.include_seen else []
    name = part if part and scope.from_own else [f"on-{origin.dataset}", *part]
    folder = inside(run.root, "-".join([*name, *seen]))
    return folder if _holds(folder, origin) else folder.with_name(f"{folder.name}-{origin.content[:8]}")


def refuse_several(system: Path | None, runs: Sequence[RunFolder]) -> None:
    """Refuse a system that has no folder for figures of its own, where none is given.

    Raises:
        UserError: It is no single run folder.
    """
    if len(runs) != 1 or system is None or not system.is_dir():
        raise UserError(
            "out must be given for a system.yaml, or where several runs predict together: RUN's own figures stay RUN's"
        )


def refuse_swapped(system: Path | None, dataset: Path | str | None) -> None:
    """Refuse a dataset where a system is expected and a run where a dataset is.

    Raises:
        UserError: The two are swapped.
    """
    if system is None or dataset is None:
        return
    if _is_run(Path(dataset)) and system.is_dir() and not _is_run(system):
        raise UserError(f"the system comes first, then the dataset: {dataset} {system}")


def _is_run(path: Path) -> bool:
    return RunFolder(path).recipe.is_file() and RunFolder(path).plan.is_file()


def _holds(folder: Path, origin: Origin) -> bool:
    """Whether figures of this dataset may go to a folder: it holds some of it already, or none at all."""
    path = folder / "metrics.json"
    if not path.is_file():
        return True
    found: Any = without_format(read_json(path), str(path))
    there = found.get("origin") if isinstance(found, dict) else None
    return isinstance(there, dict) and (origin.root == there.get("root") or origin.content == there.get("content"))
