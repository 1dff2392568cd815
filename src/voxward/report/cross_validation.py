"""The work of a cross-validation: a run per recipe and fold, then one table and one ensemble."""

from __future__ import annotations

import shutil
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from voxward.core.case import Dataset
from voxward.core.choices import Compute, Fold, Output
from voxward.core.devices import resolve_device
from voxward.core.document import without_format
from voxward.core.errors import Failure, UserError
from voxward.core.failures import Failures, files_of
from voxward.core.outputs import Outputs
from voxward.core.plan import load_json, load_plan
from voxward.core.progress import Progress, counter
from voxward.core.reading import read_json
from voxward.core.recipe import load_recipe
from voxward.core.structure import to_data
from voxward.data.content import contents_of
from voxward.data.io import volume_stem
from voxward.data.nan import dataset_reading_nan, reading_nan
from voxward.data.places import dataset_within, within
from voxward.data.splits import declared_folds, load_split
from voxward.engine.course import Course
from voxward.engine.engine import Unfit
from voxward.metrics.policies import Scoring
from voxward.pipeline.precision import resolve_precision
from voxward.report.metrics import METRICS_FILES, save_metrics
from voxward.report.training import draw_curve
from voxward.runs.folder import RunFolder, RunSplit
from voxward.runs.unseen import scope_of
from voxward.systems.evaluate import Evaluation, evaluate_pairs
from voxward.systems.nan import nan_for, tolerance_for
from voxward.systems.open import compose_system, open_system
from voxward.systems.origin import origin_of
from voxward.systems.predict import predict_cases, volumes_in
from voxward.systems.score import PREDICTIONS, score_system
from voxward.systems.system import System
from voxward.training.begin import Request, checked_recipe
from voxward.training.ledger import read_cases
from voxward.training.train import train_run

_UNPREDICTED = (
    "the runs of its fold have no prediction of it: they failed on it, or were trained on the same image; the warnings "
    "above say which"
)


@dataclass(frozen=True)
class FoldRun:
    """One recipe trained on one fold.

    Attributes:
        fold: The number of the fold, from 0.
        recipe: The recipe's name or path.
        folder: The run folder.
    """

    fold: int
    recipe: str
    folder: Path

    def within(self, root: Path) -> FoldRun:
        """Return the same run in another folder of runs."""
        return replace(self, folder=root / self.folder.parent.name / self.folder.name)

    @property
    def scored(self) -> bool:
        """Whether the run is trained, and its validation cases are scored."""
        return all((self.folder / name).is_file() for name in METRICS_FILES)

    @property
    def dice(self) -> float:
        """The mean foreground Dice on the fold's validation cases; -1 where none is defined."""
        path = self.folder / "metrics.json"
        foreground = without_format(read_json(path), str(path))["foreground"]
        return float(foreground["mean"]) if foreground else -1.0


def runs_course(progress: Progress) -> Course[FoldRun]:
    """Return what reports on the runs, each of which takes as long as another, and most of that for its training.

    Args:
        progress: What the reports go to.
    """
    return Course("runs", progress, lambda run: f"{run.folder.name}, fold {run.fold}", lambda run: 1.0, inner="train")


@dataclass(frozen=True)
class CrossValidation:
    """What is trained, and how; implements engine.Work for FoldRun.

    Attributes:
        dataset: The dataset.
        root: The folder of the runs.
        recipes: The recipes.
        overrides: Changes of the recipes.
        minutes: The time budget of each training; None: the recipe's epochs.
        keep: How many of the recipes predict each fold; None: all.
        fold: The number of folds, and the seed.
        scoring: How cases are scored.
        compute: Where the work is done.
        progress: Told about every step.
        overwrite: Whether other files may be replaced.
    """

    dataset: Dataset
    root: Path
    recipes: tuple[str, ...]
    overrides: tuple[str, ...]
    minutes: float | None
    keep: int | None
    fold: Fold
    scoring: Scoring
    compute: Compute
    progress: Progress
    overwrite: bool

    @property
    def names(self) -> list[str]:
        """The name of each recipe's runs."""
        return [Path(name).name.removesuffix(".yaml").removesuffix(".yml") for name in self.recipes]

    @property
    def units(self) -> list[FoldRun]:
        """All runs, fold by fold."""
        return [
            FoldRun(fold, recipe, self.root / f"fold-{fold}" / name)
            for fold in range(self.fold.folds)
            for recipe, name in zip(self.recipes, self.names, strict=True)
        ]

    @property
    def settings(self) -> dict[str, object]:
        """What all calls that fill one folder must have in common."""
        return {
            "dataset": self.dataset.name, "recipes": list(self.recipes), "folds": self.fold.folds, "keep": self.keep,
            "minutes": self.minutes, "seed": self.fold.seed, "overrides": list(self.overrides),
            "exclude": None if self.fold.exclude is None else list(read_cases(Path(self.fold.exclude))),
            "scoring": self._scoring, "cases": [case.id for case in self.dataset.cases],
            "content": [to_data(load_recipe(name, self.overrides)) for name in self.recipes],
        }  # fmt: skip

    @property
    def _scoring(self) -> dict[str, object]:
        """How cases are scored; folders from before there was a second surface Dice do not name the first one."""
        data = dict(to_data(self.scoring))
        return {name: value for name, value in data.items() if (name, value) != ("nsd", "voxels")}

    def check(self) -> None:
        """Refuse what cannot work, before any training.

        Raises:
            UserError: A recipe, a fold or a number is wrong.
        """
        if not self.recipes:
            raise UserError("recipe must name at least one")
        if self.keep is not None and not 1 <= self.keep <= len(self.recipes):
            raise UserError(f"keep must be 1 to {len(self.recipes)}, the number of recipes, got {self.keep}")
        for fold in range(self.fold.folds):
            load_split(self.dataset, fold, self.fold.seed, self.fold.folds)
        if (count := declared_folds(self.dataset) or 0) > self.fold.folds:
            warnings.warn(
                f"{self.dataset.root} declares {count} folds, and {self.fold.folds} of them are cross-validated: cases "
                f"of the others are not scored (--folds {count} takes all)",
                stacklevel=2,
            )
        device = resolve_device(self.compute.device)
        for name in self.recipes:
            used = checked_recipe(load_recipe(name, self.overrides), self.dataset)
            resolve_precision(used.training.precision, device)
        if len(set(self.names)) < len(self.names):
            raise UserError(f"recipes must have different names, got {', '.join(self.names)}")

    @cached_property
    def doer(self) -> FoldTrainer:
        """Return what trains a run, in this process or another one."""
        contents = {} if self.compute.cluster is None else contents_of(self.dataset.cases, self.compute.workers)
        return FoldTrainer(
            contents=contents,
            dataset=self.dataset, root=self.root.absolute(), overrides=self.overrides, minutes=self.minutes,
            fold=self.fold, scoring=self.scoring, compute=replace(self.compute, cluster=None), overwrite=self.overwrite,
        )  # fmt: skip

    def key(self, unit: FoldRun) -> str:
        """Return the name of a run."""
        return f"{unit.folder.parent.name}-{unit.folder.name}"

    def group(self, unit: FoldRun) -> str:
        """Return the run itself: runs have nothing in common that a process could keep."""
        return self.key(unit)

    def finished(self, unit: FoldRun) -> bool:
        """Return whether a run is trained and scored."""
        return unit.scored

    def accept(self, unit: FoldRun, result: None) -> None:
        """Do nothing: the result of a run is its folder."""

    def failed(self, unit: FoldRun, error: Exception) -> None:
        """Raise the error: without one of its runs there is no cross-validation."""
        raise error


@dataclass(frozen=True)
class FoldTrainer:
    """Trains runs and scores their validation cases; implements engine.Doer.

    Attributes:
        contents: A digest of the files of each case, which another machine's must equal; empty in one process.
        dataset: The dataset.
        root: The folder of the runs, where the caller sees it.
        overrides: Changes of the recipes.
        minutes: The time budget of each training; None: the recipe's epochs.
        fold: The number of folds, and the seed.
        scoring: How cases are scored.
        compute: Where the work is done.
        overwrite: Whether other files may be replaced.
    """

    contents: Mapping[str, str]
    dataset: Dataset
    root: Path
    overrides: tuple[str, ...]
    minutes: float | None
    fold: Fold
    scoring: Scoring
    compute: Compute
    overwrite: bool

    def do(self, unit: FoldRun, folder: Path, progress: Progress) -> None:
        """Train a run, or go on with it, and score its validation cases.

        Raises:
            Unfit: This process does not see the dataset, or sees another one under its path.
        """
        if not self.dataset.root.is_dir():
            raise Unfit(f"the dataset {self.dataset.root} is not here")
        run, there = RunFolder(unit.within(folder).folder), folder.absolute() == self.root
        if not there and contents_of(self.dataset.cases, self.compute.workers) != self.contents:
            raise Unfit(f"the cases of {self.dataset.root} are others here than where the work was started")
        fold = Fold(unit.fold, self.fold.folds, self.fold.seed, self.fold.exclude)
        request = Request(
            dataset=self.dataset, out=run, recipe=unit.recipe, overrides=self.overrides, minutes=self.minutes,
            resume=run.recipe.is_file(), fold=fold, compute=self.compute,
        )  # fmt: skip
        train_run(request, draw_curve, progress)
        self.score(open_system(run.root, device=self.compute.device), run.root, progress)
        if not there:  # prepared cases are large, and can be made again
            shutil.rmtree(request.prepared, ignore_errors=True)

    def score(self, system: System, folder: Path, progress: Progress) -> None:
        """Score a system on the cases that none of its runs has seen; metrics and predictions go into a folder."""
        scope = scope_of(system.runs, self.dataset, workers=self.compute.workers)
        scope.warn()
        output = Output(folder, self.overwrite, progress)
        dataset = dataset_reading_nan(self.dataset, nan_for(system.runs))
        dataset = dataset_within(dataset, tolerance_for(system.runs))
        scored = score_system(
            system, dataset, scope.ids, output, self.scoring, self.compute.workers, resume=True, failures=Failures()
        )
        result = replace(scored, origin=origin_of(system, dataset, scope))
        save_metrics(result, Outputs(folder, "metrics", self.overwrite))


def summarise(work: CrossValidation, outputs: Outputs) -> Evaluation:
    """Score every case by the runs of its own fold, write the ensemble of all kept runs, and predict the test cases.

    Args:
        work: The finished cross-validation.
        outputs: Its folder.

    Raises:
        CasesFailed: Cases could not be scored or predicted; all others are, and the table says so.
    """
    kept = _kept(work)
    predicted: dict[str, Path] = {}
    for own in kept:
        folder = _predictions(work, own)
        predicted |= {volume_stem(path): path for path in volumes_in(folder)}
    wanted = {id for own in kept for id in load_json(RunSplit, RunFolder(own[0].folder).splits).validation}
    failures, cases = Failures(), [case for case in work.dataset.cases if case.id in wanted]
    for case in cases:
        if case.id not in predicted:
            failures.add(Failure(case.id, _UNPREDICTED, files_of(case)))
    pairs = [(case.id, case.label, predicted[case.id]) for case in failures.left(cases) if case.label is not None]
    plan, shown = load_plan(RunFolder(work.units[0].folder).plan), counter(work.progress, "score")
    result = evaluate_pairs(
        pairs,
        plan.labels,
        work.scoring,
        work.compute.workers,
        shown,
        failures,
        affine_tolerance=plan.affine_tolerance,
    )
    members = [unit.folder for own in kept for unit in own]
    outputs.text("system.yaml", compose_system("ensemble", members, work.root / "system.yaml"))
    if work.dataset.unlabelled:
        together = open_system(work.root / "system.yaml", device=work.compute.device)
        target = Outputs(work.root / "predictions", PREDICTIONS, work.overwrite)
        tests = reading_nan(work.dataset.unlabelled, nan_for(together.runs))
        tests = within(tests, tolerance_for(together.runs))
        predict_cases(together, tests, target, True, work.progress, failures)
    save_metrics(result, outputs)
    failures.raise_any(len(cases) + len(work.dataset.unlabelled), result)
    return result


def _kept(work: CrossValidation) -> list[Sequence[FoldRun]]:
    """The runs of each fold that predict it, the best one first."""
    by_fold: dict[int, list[FoldRun]] = {}
    for unit in work.units:
        by_fold.setdefault(unit.fold, []).append(unit)
    return [sorted(own, key=lambda unit: -unit.dice)[: work.keep] for own in by_fold.values()]


def _predictions(work: CrossValidation, kept: Sequence[FoldRun]) -> Path:
    """The folder of the predictions of a fold's validation cases by its kept runs."""
    if len(kept) == 1:
        return kept[0].folder / "predictions"
    folder = kept[0].folder.parent / "together"
    target = Outputs(folder, "a system", work.overwrite)
    target.text("system.yaml", compose_system("ensemble", [unit.folder for unit in kept], folder / "system.yaml"))
    work.doer.score(open_system(folder / "system.yaml", device=work.compute.device), folder, work.progress)
    return folder / "predictions"
