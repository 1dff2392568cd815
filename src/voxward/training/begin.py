"""The beginning or resumption of a run or search: the request, the recipe, the cases, the plan, and their files."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from voxward.core.case import Dataset, Split
from voxward.core.choices import Compute, Fold, Reuse
from voxward.core.document import with_checksum
from voxward.core.errors import UserError
from voxward.core.failures import Failures
from voxward.core.invocation import Invocation
from voxward.core.labels import LabelSet
from voxward.core.outputs import Outputs
from voxward.core.plan import Fingerprint, Plan, load_json, load_plan
from voxward.core.progress import Progress, counter, silent
from voxward.core.recipe import Defence, Recipe, dump_recipe, load_recipe, load_run_recipe
from voxward.core.structure import to_data
from voxward.corruptions.corruption_set import load_corruption_set
from voxward.data.channels import in_order_of
from voxward.data.check_intensities import warn_of_intensities
from voxward.data.fingerprint import fingerprint
from voxward.data.formats.description import warn_of_rewritten
from voxward.data.nan import dataset_reading_nan
from voxward.data.normalization import check_normalization
from voxward.data.places import dataset_within
from voxward.data.planner import check_preparation, make_plan
from voxward.data.splits import load_split, without
from voxward.data.store import prepare_dataset
from voxward.nets.registry import self_contained
from voxward.runs.cases import cases_of_run, refuse_other_images
from voxward.runs.folder import RunFolder, RunSettings, RunSplit
from voxward.training.ledger import read_cases
from voxward.training.patch_corruptions import SET
from voxward.training.setup import check_recipe
from voxward.training.sides import settled_sides, sides_notice


@dataclass(frozen=True)
class Request:
    """A run or a search as it was asked for.

    Args:
        dataset: The dataset, with the labels of its own description.
        out: The folder of the run or search.
        recipe: The name or the path of the recipe; it does not matter for what is resumed.
        overrides: Changes to the recipe, each as `dotted.key=value`.
        minutes: The time budget, or None for the length that the recipe names.
        resume: True goes on with the run in `out`.
        fold: The part of the dataset that is learnt from, and the seed.
        reuse: Results of earlier work.
        compute: Where the work is done.
        overwrite: True replaces files in `out` that voxward did not write.
        call: How the command was called.
    """

    dataset: Dataset
    out: RunFolder
    recipe: str
    overrides: tuple[str, ...] = ()
    minutes: float | None = None
    resume: bool = False
    fold: Fold = Fold()
    reuse: Reuse = Reuse()
    compute: Compute = Compute()
    overwrite: bool = False
    call: Invocation = Invocation("")

    @property
    def prepared(self) -> Path:
        """Return the folder of the prepared cases."""
        return self.out.root / "prepared" if self.reuse.prepared is None else Path(self.reuse.prepared)


def recipe_of(request: Request, what: str = "run") -> Recipe:
    """Return the recipe of a new run, or the recipe that a run was started with which is to be resumed.

    Args:
        request: What was asked for.
        what: The word for it in messages.

    Raises:
        UserError: The folder is not fit for a new run, or holds none that can go on, or the overrides contradict the
            recipe of the run that is to be resumed.
        FileNotFoundError: There is nothing to resume, or no such recipe.
    """
    folder = request.out
    if folder.root.resolve() == request.dataset.root.resolve():
        raise UserError(f"the {what} folder {folder.root} is the dataset's own folder; choose another --out")
    if request.resume:
        _refuse_to_resume(folder, what)
        return _unchanged(request, load_run_recipe(folder.recipe))
    if folder.recipe.exists():
        raise UserError(f"{folder.root} already holds a run: pass --resume to continue it, or another --out")
    if left := (*folder.trained, *([folder.state] if folder.state.exists() else [])):
        raise UserError(f"{folder.root} holds {_listed(left)} of another {what}: choose another --out")
    recipe = load_recipe(request.recipe, request.overrides)
    refuse_unused(recipe, request.overrides)
    return recipe


def refuse_unused(recipe: Recipe, overrides: Sequence[str]) -> None:
    """Refuse overrides of the defence that its method does not use: the run would not be what was asked for.

    Args:
        recipe: The recipe with the overrides.
        overrides: The overrides, each `dotted.key=value`.

    Raises:
        UserError: The method does not use one of them.
    """
    keys = [override.split("=", 1)[0].strip() for override in overrides]
    names = [key.removeprefix("defence.") for key in keys if key.startswith("defence.")]
    if recipe.defence is not None and (unused := recipe.defence.unused(names)):
        raise UserError(
            f"defence.method={recipe.defence.method} does not use {', '.join(unused)}: leave out "
            f"{' and '.join(f'defence.{name}' for name in unused)}, or choose another method"
        )


def refuse_other_channels(defence: Defence | None, channels: Sequence[str]) -> None:
    """Refuse a defence that trains on corrupted patches where its set changes no channel of the data.

    Args:
        defence: The recipe's part on the defence.
        channels: The names of the channels.

    Raises:
        UserError: No channel is of a kind that the set is made for.
    """
    if defence is None or defence.unused(["corruptions"]):
        return
    whole = load_corruption_set(SET)
    if not whole.changes(tuple(channels)):
        raise UserError(
            f"defence.method={defence.method} trains on the corruptions of {SET}, which are of "
            f"{', '.join(whole.channels)}, and the channels are {', '.join(channels)}: choose another "
            "method, such as pgd"
        )


def _refuse_to_resume(folder: RunFolder, what: str) -> None:
    if not folder.recipe.exists():
        raise FileNotFoundError(f"{folder.root} holds no {what} to resume: start it without --resume")
    if (left := folder.trained) and not folder.state.is_file():
        raise UserError(
            f"{folder.root} holds the {what}'s {_listed(left)}, but not its {folder.state}, without which it "
            "cannot go on: use it as it is, or start another one with another --out; nothing was changed"
        )


def _listed(paths: Sequence[Path]) -> str:
    return ", ".join(path.name for path in paths)


def _unchanged(request: Request, kept: Recipe) -> Recipe:
    """Return the recipe of a run that is resumed; a script may repeat its overrides, but not change them.

    The number of background processes may change: it changes no result, and memory may have been too small for them.
    """
    folder, overrides = request.out, request.overrides
    asked = load_run_recipe(folder.recipe, overrides)
    asked = replace(asked, network=self_contained(asked.network))
    kept = replace(kept, training=replace(kept.training, workers=asked.training.workers))
    if asked != kept and settled_sides(asked, with_regions(request.dataset, asked).labels) != kept:
        raise UserError(
            f"{' '.join(overrides)} contradicts the recipe that {folder.root} was started with, {folder.recipe}: "
            "resume without it, or start another run with another --out"
        )
    return kept


def checked_recipe(recipe: Recipe, dataset: Dataset) -> Recipe:
    """Return the recipe of a new run: self-contained, and with its treatment of left and right decided.

    Files that it refers to are replaced by their contents, see also `settled_sides`.

    Args:
        recipe: The recipe as it was read.
        dataset: The dataset that the run is trained on.

    Raises:
        UserError: A name or an option is unknown, or the recipe does not fit the dataset.
        FileNotFoundError: A file that the recipe refers to is not there.
    """
    used = replace(recipe, network=self_contained(recipe.network))
    labels = with_regions(dataset, used).labels
    check_recipe(used, labels)
    refuse_other_channels(used.defence, dataset.channels)
    return settled_sides(used, labels)


def warn_of_sides(before: Recipe, settled: Recipe) -> None:
    """Warn where classes that differ in left and right have changed a recipe, see `sides_notice`."""
    if (notice := sides_notice(before, settled)) is not None:
        warnings.warn(notice, stacklevel=3)


def with_regions(dataset: Dataset, recipe: Recipe) -> Dataset:
    """Return the dataset with the regions and the ignore label of the recipe, where that has any."""
    own = dataset.labels if recipe.regions is None else dataset.labels.with_regions({})
    labels = own.with_ignore(recipe.ignore).with_regions(recipe.regions, recipe.regions_class_order)
    if recipe.regions:
        warn_of_rewritten(labels, f"recipe {recipe.name}")
    return replace(dataset, labels=labels)


def cases_of(dataset: Dataset, fold: Fold) -> Split:
    """Return the training cases of a fold, without those that are left out, and its validation cases.

    Raises:
        UserError: The fold does not exist, or the list of cases to leave out does not fit the dataset.
    """
    excluded = () if fold.exclude is None else read_cases(Path(fold.exclude))
    return without(load_split(dataset, fold.fold, fold.seed, fold.folds), excluded, dataset)


def fold_of(start: RunFolder, asked: Fold) -> Fold:
    """Return the fold of the run that a new one begins with, whose split it takes over.

    Args:
        start: The run.
        asked: The fold that was asked for; 0, the default, asks for none.

    Raises:
        UserError: Another fold was asked for: cases that the run has seen would be held out, or the other way round.
    """
    settings = load_json(RunSettings, start.settings)
    if asked.fold not in (0, settings.fold):
        raise UserError(
            f"fold {asked.fold} contradicts the split of {start.root}, which is that of its fold {settings.fold} and "
            "is taken over: leave --fold out"
        )
    return replace(asked, fold=settings.fold, folds=settings.folds)


def measured_plan(
    dataset: Dataset,
    recipe: Recipe,
    ids: Sequence[str],
    workers: int = 2,
    progress: Progress = silent,
    failures: Failures | None = None,
) -> tuple[Fingerprint, Plan]:
    """Measure training cases, and decide the plan of a recipe for them.

    Args:
        dataset: The dataset, with the regions of the recipe.
        recipe: The recipe, whose part `preparation` decides.
        ids: The ids of the training cases.
        workers: The number of cases that are read at once.
        progress: A function that is told about every case, as the stage `fingerprint`.
        failures: Gets the cases that cannot be measured, which the plan then leaves out; None refuses them.

    Returns:
        What was measured, and the plan.

    Raises:
        UserError: A case cannot be read, or the recipe does not fit the dataset.
    """
    preparation = recipe.preparation
    check_preparation(preparation)
    check_normalization(preparation, dataset.channels)
    read = dataset_within(dataset_reading_nan(dataset, preparation.nan), preparation.affine_tolerance)
    shown = counter(progress, "fingerprint")
    measured = fingerprint(read, ids, workers, shown, preparation.crop_nonzero, failures)
    plan = make_plan(measured, preparation)
    warn_of_intensities(measured, plan)
    return measured, plan


def given_plan(path: Path, dataset: Dataset, recipe: Recipe) -> Plan:
    """Read a plan that may have been edited, and refuse one that was made for another dataset.

    Where the recipe reads NaN as 0, or lets files lie further apart, the plan does so, too.

    Raises:
        UserError: The file is no plan, or its channels or labels are not those of the dataset.
        FileNotFoundError: There is no such file.
    """
    if not path.is_file():
        raise FileNotFoundError(f"there is no plan {path}")
    decided = load_plan(path)
    names = tuple(channel.name for channel in decided.channels)
    if decided.labels != dataset.labels or len(as_planned(dataset, decided).channels) != len(names):
        raise UserError(
            f"{path} was made for {_said(names, decided.labels)}, but {dataset.root} has "
            f"{_said(dataset.channels, dataset.labels)}"
        )
    tolerance = max(decided.affine_tolerance, recipe.preparation.affine_tolerance)
    return replace(decided, nan="zero" if recipe.preparation.nan == "zero" else decided.nan, affine_tolerance=tolerance)


def _said(channels: Sequence[str], labels: LabelSet) -> str:
    """The channels and the labels of a dataset, for a sentence."""
    classes = ", ".join(f"{name} = {value}" for name, value in zip(labels.names, labels.values, strict=True))
    regions = f", regions {', '.join(region.name for region in labels.regions)}" if labels.regions else ""
    ignored = "" if labels.ignore is None else f", the ignore label {labels.ignore}"
    return f"channels {', '.join(channels)} and labels {classes}{regions}{ignored}"


def as_planned(dataset: Dataset, plan: Plan) -> Dataset:
    """Return the dataset with the channels of its cases in the order of a plan.

    Raises:
        UserError: The dataset lacks a channel of the plan.
    """
    return in_order_of(dataset, tuple(channel.name for channel in plan.channels))


def prepare_again(request: Request, dataset: Dataset, progress: Progress) -> None:
    """Prepare those cases of a run that is resumed which are no longer there or have changed.

    Raises:
        UserError: The dataset no longer has a case of the run, or another image for it, or a case cannot be prepared.
    """
    split = split_of(request.out, dataset)
    refuse_other_images(request.out, dataset, request.prepared, request.compute.workers)
    wanted, shown = (*split.fit, *split.selection), counter(progress, "prepare")
    plan = load_plan(request.out.plan)
    source = as_planned(dataset, plan)
    # The run has begun: what its labels lost was accepted, or is worth a warning at most.
    prepare_dataset(source, plan, request.prepared, wanted, request.compute.workers, shown, allow_lost_labels=True)


def split_of(folder: RunFolder, dataset: Dataset) -> RunSplit:
    """Read the cases of a run.

    Raises:
        UserError: The dataset no longer has a case that the run learns from.
    """
    split = load_json(RunSplit, folder.splits)
    absent = sorted({*split.fit, *split.selection} - {case.id for case in dataset.cases})
    if absent:
        raise UserError(f"the run in {folder.root} was started on cases that {dataset.root} lacks, e.g. {absent[:3]}")
    return split


def refuse_decisions(request: Request) -> None:
    """Refuse to begin where a file of the user would be replaced, such as an edited plan.json.

    The plan that was given may be the plan.json of the folder itself. With `overwrite`, nothing is refused.

    Raises:
        UserError: Such a file lies in the folder.
    """
    folder, plan = request.out, request.reuse.plan
    if plan is None or Path(plan).resolve() != folder.plan.resolve():
        Outputs(folder.root, "a plan", request.overwrite).check([folder.plan.name])
    Outputs(folder.root, "part of a run", request.overwrite).check(
        [folder.splits.name, folder.settings.name, folder.cases.name]
    )


def write_decisions(request: Request, plan: Plan, split: RunSplit, settings: object, recipe: Recipe) -> None:
    """Write the plan, the cases, the settings and the recipe of a run or search that begins.

    The recipe is written last: a folder with a recipe holds a run. Cases must be prepared: their images are recorded.

    Args:
        request: What was asked for.
        plan: The plan of the run.
        split: The cases of the run.
        settings: The other settings of the run, a dataclass.
        recipe: The recipe of the run.

    Raises:
        UserError: A file of the user would be replaced.
    """
    folder = request.out
    outputs = Outputs(folder.root, "part of a run", request.overwrite)
    if not (folder.plan.is_file() and load_plan(folder.plan) == plan):  # the plan that was given may lie there
        Outputs(folder.root, "a plan", request.overwrite).json(folder.plan.name, with_checksum(to_data(plan)))
    outputs.json(folder.splits.name, with_checksum(to_data(split)))
    outputs.json(folder.settings.name, with_checksum(to_data(settings)))
    start = None if request.reuse.start is None else RunFolder(Path(request.reuse.start))
    known = cases_of_run(folder, request.dataset, request.prepared, start, request.compute.workers)
    outputs.json(folder.cases.name, with_checksum(to_data(known)))
    outputs.text(folder.recipe.name, dump_recipe(recipe, checksum=True))
