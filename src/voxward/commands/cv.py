"""voxward cv: cross-validation from folds to one table and one ensemble, on as many processes as one likes."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch

from voxward.commands.evaluate import METRICS_FILES, evaluate
from voxward.commands.predict import predict_cases, volumes_in
from voxward.commands.train import checked_recipe, train
from voxward.core.case import Dataset
from voxward.core.claim import claim
from voxward.core.errors import UserError
from voxward.core.files import write_json
from voxward.core.outputs import Outputs
from voxward.core.plan import load_plan
from voxward.core.progress import Progress, counter, silent
from voxward.core.reading import read_json
from voxward.core.recipe import load_recipe
from voxward.data.formats import open_dataset
from voxward.data.io import volume_stem
from voxward.data.splits import load_split
from voxward.metrics.score import POLICIES
from voxward.pipeline.precision import resolve_device, resolve_precision
from voxward.report.tables import markdown_table
from voxward.runs.folder import RunFolder
from voxward.systems.evaluate import Evaluation, evaluate_pairs
from voxward.training.budget import check_minutes

# Seconds until work that another process has claimed is looked at again.
PAUSE = 5.0
_FILES = ("members.json", *METRICS_FILES)


@dataclass(frozen=True)
class _Unit:
    """One recipe trained on one fold, in `folder`."""

    fold: int
    recipe: str
    folder: Path

    @property
    def finished(self) -> bool:
        return (self.folder / "metrics.json").is_file()

    @property
    def dice(self) -> float:
        """Mean foreground Dice on the fold's validation cases; -1 where none is defined."""
        foreground = json.loads((self.folder / "metrics.json").read_text(encoding="utf-8"))["foreground"]
        return float(foreground["mean"]) if foreground else -1.0


def cv(
    dataset: Path | str,
    out: Path | str,
    recipe: Sequence[str] | str = ("rog",),
    folds: int = 5,
    keep: int | None = None,
    minutes: float | None = None,
    seed: int = 0,
    device: str = "auto",
    workers: int = 2,
    policy: str = "ignore",
    overrides: Sequence[str] = (),
    progress: Progress = silent,
    overwrite: bool = False,
) -> Evaluation:
    """Train each recipe on each fold, score every case by the runs that have not seen it, and predict the test cases.

    OUT/fold-N/RECIPE are the runs. With several recipes the best `keep` of each fold (None: all), by the mean Dice on
    its validation cases, predict those together. OUT/metrics.* is the table over all cases; unlabelled cases of the
    dataset are predicted by all kept runs together, into OUT/predictions. OUT/members.json lists the kept runs.
    minutes: of each training; seed, device, workers, policy, overrides: see `train` and `evaluate`. overwrite: replace
    tables in `out` that voxward did not write, or that were edited since.

    Several processes, also of several machines on one file system, may work on one OUT: each claims a run at a time,
    and takes over what a dead one has left. A call that was interrupted goes on where it stopped. Raises ValueError,
    before any work, for what `train` would refuse, a fold that does not exist, and an OUT begun with other settings.
    """
    recipes = (recipe,) if isinstance(recipe, str) else tuple(recipe)
    source, root = open_dataset(dataset), Path(out)
    check_minutes(minutes)
    if root.resolve() == source.root.resolve():
        raise UserError(f"out {root} is the dataset's own folder; choose another --out")
    outputs = Outputs(root, "part of a cross-validation", overwrite)
    outputs.check(_FILES)
    names = _checked(source, recipes, folds, keep, seed, policy, overrides, resolve_device(device))
    _settle(root, {
        "dataset": source.name, "recipes": list(recipes), "folds": folds, "keep": keep, "minutes": minutes,
        "seed": seed, "overrides": list(overrides),
    })  # fmt: skip
    units = [
        _Unit(fold, given, root / f"fold-{fold}" / name)
        for fold in range(folds)
        for given, name in zip(recipes, names, strict=True)
    ]

    def work(unit: _Unit) -> None:
        started = RunFolder(unit.folder).recipe.is_file()
        train(
            dataset, unit.folder, unit.recipe, minutes, started, fold=unit.fold, folds=folds, seed=seed, device=device,
            workers=workers, overrides=overrides, progress=progress,
        )  # fmt: skip
        evaluate(
            unit.folder, dataset, unit.folder, device=device, policy=policy, resume=True, progress=progress,
            overwrite=overwrite,
        )  # fmt: skip

    waiting = [unit for unit in units if not unit.finished]
    while waiting:
        left = [unit for unit in waiting if not _finish(root, unit, work)]
        progress("runs", len(units) - len(left), len(units))
        if len(left) == len(waiting):
            time.sleep(PAUSE)
        waiting = left
    return _summary(outputs, source, units, keep, device, policy, workers, progress)


def _checked(
    source: Dataset,
    recipes: Sequence[str],
    folds: int,
    keep: int | None,
    seed: int,
    policy: str,
    overrides: Sequence[str],
    device: torch.device,
) -> list[str]:
    """A folder's name for each recipe. Raises ValueError for what cannot work."""
    POLICIES[policy]
    if not recipes:
        raise UserError("recipe must name at least one")
    if keep is not None and not 1 <= keep <= len(recipes):
        raise UserError(f"keep must be 1 to {len(recipes)}, the number of recipes, got {keep}")
    for fold in range(folds):
        load_split(source, fold, seed, folds)
    for name in recipes:
        used = checked_recipe(load_recipe(name, overrides), source)
        resolve_precision(used.training.precision, device)
    names = [Path(name).name.removesuffix(".yaml").removesuffix(".yml") for name in recipes]
    if len(set(names)) < len(names):
        raise UserError(f"recipes must have different names, got {', '.join(names)}")
    return names


def _settle(root: Path, settings: dict[str, object]) -> None:
    """Write the settings once; a later call must have the same."""
    path = root / "cv.json"
    if not path.is_file():
        write_json(path, settings)
    found = read_json(path)
    differing = [name for name in settings if found.get(name) != settings[name]]
    if differing:
        listed = "; ".join(f"{name}: {settings[name]}, was {found.get(name)}" for name in differing)
        raise UserError(f"{root} holds a cross-validation with other settings ({listed}): use another --out")


def _finish(root: Path, unit: _Unit, work: Callable[[_Unit], None]) -> bool:
    """Whether the unit is finished, by us or by another; False while another works on it."""
    if unit.finished:
        return True
    with claim(root / "claims" / f"{unit.folder.parent.name}-{unit.folder.name}") as ours:
        if not ours:
            return False
        if not unit.finished:
            work(unit)
    return True


def _summary(
    outputs: Outputs,
    source: Dataset,
    units: Sequence[_Unit],
    keep: int | None,
    device: str,
    policy: str,
    workers: int,
    progress: Progress,
) -> Evaluation:
    """Every case scored by the runs of its own fold, and the test cases predicted by all."""
    root = outputs.folder
    by_fold: dict[int, list[_Unit]] = {}
    for unit in units:
        by_fold.setdefault(unit.fold, []).append(unit)
    kept = {fold: sorted(own, key=lambda unit: -unit.dice)[:keep] for fold, own in by_fold.items()}
    predicted: dict[str, Path] = {}
    with _turn(root / "claims" / "summary"):
        for own in kept.values():
            folder = _predictions(own, source, device, policy, outputs.overwrite, progress)
            predicted |= {volume_stem(path): path for path in volumes_in(folder)}
        cases = [case for case in source.cases if case.id in predicted and case.label is not None]
        pairs = [(case.id, case.label, predicted[case.id]) for case in cases if case.label is not None]
        labels = load_plan(RunFolder(units[0].folder).plan).labels
        result = evaluate_pairs(pairs, labels, policy, workers=workers, progress=counter(progress, "score"))
        members = [unit.folder for own in kept.values() for unit in own]
        outputs.json("members.json", [str(folder.relative_to(root)) for folder in members])
        if source.unlabelled:
            first, *others = members
            predict_cases(
                first, source.unlabelled, root / "predictions", device=device, members=others, resume=True,
                progress=progress, overwrite=outputs.overwrite,
            )  # fmt: skip
        outputs.text("metrics.md", markdown_table(result))
        result.save(outputs)
    return result


@contextmanager
def _turn(path: Path) -> Iterator[None]:
    """Wait until nobody else has this claim; what is done twice comes out the same."""
    while True:
        with claim(path) as ours:
            if ours:
                yield
                return
        time.sleep(PAUSE)


def _predictions(
    kept: Sequence[_Unit], source: Dataset, device: str, policy: str, overwrite: bool, progress: Progress
) -> Path:
    """The folder of the predictions of a fold's validation cases by its kept runs."""
    first, *others = kept
    if not others:
        return first.folder / "predictions"
    out = first.folder.parent / "together"
    evaluate(
        first.folder, source.root, out, device=device, policy=policy, members=[unit.folder for unit in others],
        resume=True, progress=progress, overwrite=overwrite,
    )  # fmt: skip
    return out / "predictions"
