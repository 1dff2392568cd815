"""voxward train: from a dataset folder to a trained run folder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch

import voxward
from voxward.core.case import Dataset
from voxward.core.errors import UserError
from voxward.core.outputs import Outputs
from voxward.core.plan import Plan, load_json, load_plan
from voxward.core.progress import Progress, counter, silent
from voxward.core.recipe import Recipe, dump_recipe, load_recipe
from voxward.core.structure import to_data
from voxward.data.fingerprint import fingerprint
from voxward.data.formats import open_dataset
from voxward.data.planner import make_plan
from voxward.data.splits import load_split, selection_split, without
from voxward.data.store import prepare_dataset
from voxward.nets.registry import network_for_plan, self_contained
from voxward.pipeline.precision import resolve_device, resolve_precision
from voxward.report.figures import training_curve
from voxward.runs.folder import RunFolder, RunSettings, RunSplit, load_run, load_weights
from voxward.training.budget import check_minutes
from voxward.training.finish import settle_postprocess
from voxward.training.ledger import read_cases
from voxward.training.log import read_log
from voxward.training.loop import fit
from voxward.training.setup import TrainingCases, check_auxiliary, check_recipe, set_up, start_fabric


def train(
    dataset: Path | str,
    out: Path | str,
    recipe: str = "rog",
    minutes: float | None = None,
    resume: bool = False,
    plan: Path | str | None = None,
    prepared: Path | str | None = None,
    fold: int = 0,
    seed: int = 0,
    device: str = "auto",
    devices: int = 1,
    workers: int = 2,
    start: Path | str | None = None,
    defence: str | None = None,
    exclude: Path | str | None = None,
    folds: int = 5,
    overrides: Sequence[str] = (),
    progress: Progress = silent,
) -> Path:
    """Train `recipe` on a dataset folder into the run folder `out`, planning and preparing when needed.

    minutes: time budget of the training itself; without it the recipe's epochs. resume: continue the run in `out`,
    exactly as it would have gone on (its own recipe, plan, split and length; recipe, minutes, plan, fold, seed, exclude
    and folds are then ignored, and a defence or overrides that contradict its recipe are refused). plan: an edited
    plan.json instead of the planner's. prepared: where the prepared cases are kept (default: inside the run). fold,
    seed: which split, and all randomness. device: auto, cpu or cuda; devices: how many processes train together. start:
    a run on the same dataset whose deployed weights, plan and split the new one begins with. defence: free, pgd or
    trades: adversarial training, see core.recipe.Defence (its numbers are overrides, such as defence.eps=0.03).
    exclude: a reviewed list of `voxward suspects`, whose cases are not trained on. folds: parts of the dataset, where
    it ships no splits of its own. overrides: `dotted.key=value` changes to the recipe. Returns the run folder.

    Raises ValueError or FileNotFoundError when an argument, the plan or the dataset is wrong; then there is no run
    folder yet, at most prepared cases. Raises training.interrupt.Interrupted when a signal stopped the run, which can
    then be resumed.
    """
    folder, source = RunFolder(Path(out)), open_dataset(dataset)
    defended = () if defence is None else (f"defence.method={defence}",)
    if start is not None and not resume:
        load_run(start)  # refuses what is no trained run
    used = _recipe_of(folder, source, resume, recipe, (*defended, *overrides))
    source = replace(source, labels=source.labels.with_regions(used.regions))
    check_minutes(minutes)
    resolve_precision(used.training.precision, resolve_device(device))
    fabric = start_fabric(used, device, devices)  # from here on there may be several processes; the first one writes
    shown = progress if fabric.is_global_zero else silent
    cases = Path(prepared) if prepared is not None else folder.root / "prepared"
    if fabric.is_global_zero and not resume:
        origin = None if start is None else str(Path(start).resolve())
        settings = RunSettings(str(source.root.resolve()), fold, seed, minutes, voxward.__version__, origin, folds)
        left_out = () if exclude is None else read_cases(Path(exclude))
        refuse_decisions(folder, plan)
        _start(folder, source, used, settings, plan, cases, workers, left_out, shown)
    elif fabric.is_global_zero:
        ids = split_of(folder, source)
        wanted = (*ids.fit, *ids.selection)
        prepare_dataset(source, load_plan(folder.plan), cases, wanted, workers, counter(shown, "prepare"))
    fabric.barrier()
    settings, split = load_json(RunSettings, folder.settings), split_of(folder, source)
    training_cases = TrainingCases(cases, split.fit, split.selection)
    first = None if settings.start is None else RunFolder(Path(settings.start)).weights("auto")
    # A run that goes on has weights of its own: the ones it started from may be gone by then.
    weights = None if folder.state.is_file() else first
    run = set_up(folder, used, load_plan(folder.plan), training_cases, settings.seed, fabric, weights)
    fit(run, settings.minutes, shown)
    if fabric.is_global_zero:
        _finish(folder, source, split, fabric.device, shown)
    return folder.root


def _recipe_of(folder: RunFolder, source: Dataset, resume: bool, recipe: str, overrides: Sequence[str]) -> Recipe:
    """The recipe to train, a new run's or the one to be resumed."""
    used = recipe_of(folder, source, resume, recipe, overrides)
    return used if resume else checked_recipe(used, source)


def checked_recipe(recipe: Recipe, source: Dataset) -> Recipe:
    """A new run's recipe, which needs no other file. Raises ValueError where it does not fit the dataset."""
    used = replace(recipe, network=self_contained(recipe.network))
    check_recipe(used, source.labels.with_regions(used.regions))
    used.postprocessing.kinds(source.labels)  # refuses classes that the dataset does not have
    return used


def recipe_of(
    folder: RunFolder, source: Dataset, resume: bool, recipe: str, overrides: Sequence[str], what: str = "run"
) -> Recipe:
    """The recipe that a folder holds when it is to be resumed, else a new one for a folder that holds none.

    Raises ValueError and FileNotFoundError for a folder that is not of that kind.
    """
    if folder.root.resolve() == source.root.resolve():
        raise UserError(f"the {what} folder {folder.root} is the dataset's own folder; choose another --out")
    if resume:
        if not folder.recipe.exists():
            raise FileNotFoundError(f"{folder.root} holds no {what} to resume: start it without --resume")
        if (left := folder.trained) and not folder.state.is_file():
            raise UserError(
                f"{folder.root} holds the {what}'s {_listed(left)}, but not its {folder.state}, without which it "
                "cannot go on: use it as it is, or start another one with another --out; nothing was changed"
            )
        return _unchanged(folder, load_recipe(folder.recipe), overrides)
    if folder.recipe.exists():
        raise UserError(f"{folder.root} already holds a run: pass --resume to continue it, or another --out")
    if left := (*folder.trained, *([folder.state] if folder.state.exists() else [])):
        raise UserError(f"{folder.root} holds {_listed(left)} of another {what}: choose another --out")
    return load_recipe(recipe, overrides)


def _listed(paths: Sequence[Path]) -> str:
    return ", ".join(path.name for path in paths)


def _unchanged(folder: RunFolder, kept: Recipe, overrides: Sequence[str]) -> Recipe:
    """What was decided at the start; a script that resumes may repeat its overrides, but not change them."""
    asked = load_recipe(folder.recipe, overrides)
    if replace(asked, network=self_contained(asked.network)) != kept:
        raise UserError(
            f"{' '.join(overrides)} contradicts the recipe that {folder.root} was started with, {folder.recipe}: "
            "resume without it, or start another run with another --out"
        )
    return kept


def _start(
    folder: RunFolder,
    source: Dataset,
    recipe: Recipe,
    settings: RunSettings,
    plan: Path | str | None,
    prepared: Path,
    workers: int,
    exclude: Sequence[str],
    progress: Progress,
) -> None:
    """Decide everything and prepare the cases; what was decided is written once all of it has worked."""
    given = without(load_split(source, settings.fold, settings.seed, settings.folds), exclude, source)
    split = RunSplit(*selection_split(given.train, recipe.training.selection, settings.seed), given.validation)
    if settings.start is not None:
        origin = RunFolder(Path(settings.start))
        split, plan = split_of(origin, source), origin.plan if plan is None else plan
    decided = plan_of(source, recipe, given.train, plan, workers, progress)
    network = network_for_plan(recipe.network.name, decided, recipe.network.options)  # refuses what does not fit
    check_auxiliary(recipe, network)
    if settings.start is not None:
        load_weights(network, origin.weights("auto"))
    prepare_dataset(source, decided, prepared, (*split.fit, *split.selection), workers, counter(progress, "prepare"))
    write_decisions(folder, decided, split, settings, recipe)


def refuse_decisions(folder: RunFolder, plan: Path | str | None, overwrite: bool = False) -> None:
    """Raise ValueError where a new run or search would replace a file of the user's, such as an edited plan.json.

    plan: the plan that was given, which may be the folder's own plan.json. overwrite: refuse nothing.
    """
    if plan is None or Path(plan).resolve() != folder.plan.resolve():
        Outputs(folder.root, "a plan", overwrite).check([folder.plan.name])
    Outputs(folder.root, "part of a run", overwrite).check([folder.splits.name, folder.settings.name])


def write_decisions(
    folder: RunFolder, plan: Plan, split: RunSplit, settings: object, recipe: Recipe, overwrite: bool = False
) -> None:
    """Write what a run or search was decided to be; the recipe comes last: its presence says that there is one."""
    outputs = Outputs(folder.root, "part of a run", overwrite)
    if not (folder.plan.is_file() and load_plan(folder.plan) == plan):  # the plan that was given may lie there
        Outputs(folder.root, "a plan", overwrite).json(folder.plan.name, to_data(plan))
    outputs.json(folder.splits.name, to_data(split))
    outputs.json(folder.settings.name, to_data(settings))
    outputs.text(folder.recipe.name, dump_recipe(recipe))


def plan_of(
    source: Dataset, recipe: Recipe, ids: Sequence[str], plan: Path | str | None, workers: int, progress: Progress
) -> Plan:
    """The given plan, if it fits the dataset, or one made from the training cases."""
    if plan is None:
        measured = fingerprint(source, ids, workers, counter(progress, "fingerprint"), recipe.preparation.crop_nonzero)
        return make_plan(measured, recipe.preparation)
    decided = load_plan(Path(plan))
    names = tuple(channel.name for channel in decided.channels)
    if decided.labels != source.labels or names != source.channels:
        raise UserError(
            f"{plan} was made for channels {names} and {decided.labels}, but {source.root} has {source.channels} "
            f"and {source.labels}"
        )
    return decided


def split_of(folder: RunFolder, source: Dataset) -> RunSplit:
    """The run's split. Raises ValueError when the dataset no longer has its cases."""
    split = load_json(RunSplit, folder.splits)
    absent = sorted({*split.fit, *split.selection} - {case.id for case in source.cases})
    if absent:
        raise UserError(f"the run in {folder.root} was started on cases that {source.root} lacks, e.g. {absent[:3]}")
    return split


def _finish(folder: RunFolder, source: Dataset, split: RunSplit, device: torch.device, progress: Progress) -> None:
    training_curve(read_log(folder.log), folder.log.with_name("curve.png"))
    settle_postprocess(folder, source, split.selection, device, progress)
