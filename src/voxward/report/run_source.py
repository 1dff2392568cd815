"""What a report reads of folders of `voxward train`, `harden`, `search` and `cv`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from voxward.core.plan import load_json, load_plan
from voxward.core.recipe import Recipe, load_run_recipe
from voxward.core.types import Size3
from voxward.report.architectures import Architecture
from voxward.report.source_files import attempt, read_mapping, read_mapping_if_there
from voxward.runs.folder import RunFolder, RunSettings, unfinished
from voxward.systems.evaluate import Evaluation
from voxward.training.log import read_log

Log = tuple[Mapping[str, float], ...]
"""The rows of a log, a figure per column; NaN where there is none."""


@dataclass(frozen=True)
class LoggedFolder:
    """A folder of work that keeps a log.

    Attributes:
        folder: The folder.
        log: The rows of the log.
        name: What the page calls it; empty: the name of the folder.
    """

    folder: RunFolder
    log: Log = ()
    name: str = ""

    def __post_init__(self) -> None:
        if not self.name:
            object.__setattr__(self, "name", self.folder.root.resolve().name)

    @property
    def seconds(self) -> float | None:
        """How long the work took; None where the log does not say."""
        return _seconds(self.log)


@dataclass(frozen=True)
class RunSource(LoggedFolder):
    """The folder of a training or of a hardening.

    Attributes:
        metrics: What metrics.json holds; None where the run was not evaluated on its validation cases.
        recipe: How the network is trained; None where the file cannot be read.
        settings: What the run was started with; None where the file cannot be read.
        progress: How far the training is, such as "step 12 of 180"; None where it has ended.
        evaluations: The scores by the folder inside the run that holds them; empty for the validation cases of the run.
    """

    metrics: Mapping[str, Any] | None = None
    recipe: Recipe | None = None
    settings: RunSettings | None = None
    progress: str | None = None
    evaluations: Mapping[str, Evaluation] = field(default_factory=dict)


@dataclass(frozen=True)
class SearchSource(LoggedFolder):
    """The folder of an architecture search.

    Attributes:
        architectures: The networks that were found; none where the search has not ended.
        patch: The plan's patch size in voxels, for which the costs of the networks are; None where it is not known.
    """

    architectures: tuple[Architecture, ...] = ()
    patch: Size3 | None = None


@dataclass(frozen=True)
class ValidationSource:
    """The folder of `voxward cv`.

    Attributes:
        folder: The folder.
        runs: The runs of all folds that were begun; the name of each is its folder inside this one.
        metrics: What metrics.json over all cases holds; None where the cross-validation is not finished.
        name: What the page calls it; empty: the name of the folder.
        planned: The names of all runs that there are to be.
        evaluation: The scores of all cases; None where the cross-validation is not finished.
    """

    folder: Path
    runs: tuple[RunSource, ...] = ()
    metrics: Mapping[str, Any] | None = None
    name: str = ""
    planned: tuple[str, ...] = ()
    evaluation: Evaluation | None = None

    def __post_init__(self) -> None:
        if not self.name:
            object.__setattr__(self, "name", self.folder.resolve().name)


def read_run(folder: Path, problems: list[str]) -> RunSource:
    """Read the folder of a training.

    Args:
        folder: The folder.
        problems: Gets a sentence for everything that is missing, damaged or unknown.
    """
    run = RunFolder(folder)
    evaluations = {
        "" if path.parent == folder else path.parent.name: found
        for path in sorted([*folder.glob("metrics.json"), *folder.glob("*/metrics.json")])
        if (found := _evaluation(path, problems)) is not None
    }
    settings = attempt(lambda: load_json(RunSettings, run.settings), problems) if run.settings.is_file() else None
    return RunSource(
        run, _log(run.log, problems), metrics=read_mapping_if_there(folder / "metrics.json", []),
        recipe=attempt(lambda: load_run_recipe(run.recipe), problems), settings=settings,
        progress=attempt(lambda: unfinished(run), problems), evaluations=evaluations,
    )  # fmt: skip


def read_search(folder: Path, problems: list[str]) -> SearchSource:
    """Read the folder of an architecture search; the arguments are those of `read_run`."""
    run, path = RunFolder(folder), folder / "architectures.json"
    found = attempt(lambda: _architectures(path), problems) if path.is_file() else None
    plan = attempt(lambda: load_plan(run.plan), problems) if run.plan.is_file() else None
    patch = None if plan is None else plan.patch_size
    return SearchSource(run, _log(run.search_log, problems), architectures=found or (), patch=patch)


def read_validation(folder: Path, problems: list[str]) -> ValidationSource:
    """Read the folder of a cross-validation; the arguments are those of `read_run`."""
    runs = tuple(
        replace(read_run(path.parent, problems), name=path.parent.relative_to(folder).as_posix())
        for path in sorted(folder.glob("fold-*/*/recipe.yaml"))
    )
    settings = read_mapping(folder / "cv.json", problems) or {}
    metrics = folder / "metrics.json"
    return ValidationSource(
        folder, runs, read_mapping_if_there(metrics, []), planned=_planned(settings),
        evaluation=_evaluation(metrics, problems) if metrics.is_file() else None,
    )  # fmt: skip


@dataclass(frozen=True)
class _Architectures:
    """What architectures.json holds."""

    architectures: tuple[Architecture, ...]


def _architectures(path: Path) -> tuple[Architecture, ...]:
    return load_json(_Architectures, path).architectures


def _planned(settings: Mapping[str, Any]) -> tuple[str, ...]:
    """The runs of all folds and recipes, where the settings name them."""
    folds, recipes = settings.get("folds"), settings.get("recipes")
    if not isinstance(folds, int) or not isinstance(recipes, list):
        return ()
    names = [Path(str(name)).name.removesuffix(".yaml").removesuffix(".yml") for name in recipes]
    return tuple(f"fold-{fold}/{name}" for fold in range(folds) for name in names)


def _evaluation(path: Path, problems: list[str]) -> Evaluation | None:
    found = read_mapping(path, problems)
    return None if found is None else attempt(lambda: Evaluation.from_data(found, str(path)), problems)


def _log(path: Path, problems: list[str]) -> Log:
    if not path.is_file():
        problems.append(f"{path.parent.parent} has no log of its training yet.")
        return ()
    return tuple(attempt(lambda: read_log(path), problems, "A log is left out: ") or ())


def _seconds(log: Log) -> float | None:
    return log[-1].get("seconds") if log else None
