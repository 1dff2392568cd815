"""The folder of a search by trainings: how it is begun, and how the winner becomes a run like any other."""

from __future__ import annotations

import voxward
from voxward.architecture_search.begin import decided_plan
from voxward.architecture_search.candidates import candidate_space
from voxward.architecture_search.contest import Contest, ContestSettings
from voxward.architecture_search.trial import trial_folder
from voxward.core.case import Dataset
from voxward.core.devices import resolve_device
from voxward.core.plan import load_json, load_plan
from voxward.core.progress import Progress, counter
from voxward.core.provenance import read_provenance
from voxward.core.recipe import Recipe
from voxward.core.strategy import Strategy
from voxward.data.splits import selection_split
from voxward.data.store import prepare_dataset
from voxward.runs.folder import RunFolder, RunSettings, RunSplit
from voxward.training.begin import (
    Request,
    as_planned,
    prepare_again,
    refuse_decisions,
    split_of,
    with_regions,
    write_decisions,
)
from voxward.training.budget import CLOCK, Clock
from voxward.training.finish import settle_postprocess
from voxward.training.setup import TrainingCases


def begin_contest(
    request: Request, recipe: Recipe, strategy: Strategy, progress: Progress, clock: Clock = CLOCK
) -> Contest:
    """Begin a search by trainings, or read one that is to be resumed.

    Args:
        request: What was asked for.
        recipe: The recipe, from `begin.search_recipe`.
        strategy: The strategy; that of the folder counts where a search is resumed.
        progress: A function that is told about every case.
        clock: A function that returns the time in seconds.

    Returns:
        A search that is ready to go on.

    Raises:
        UserError: The plan or the dataset is wrong; then nothing but prepared cases was written.
    """
    folder, dataset = request.out, with_regions(request.dataset, recipe)
    read_provenance(folder.root)  # refuses what is not voxward's
    if request.resume:
        prepare_again(request, dataset, progress)
    else:
        refuse_decisions(request)
        _begin(request, dataset, recipe, strategy, progress)
    split = split_of(folder, dataset)
    cases = TrainingCases(request.prepared, split.fit, split.selection)
    settings = load_json(ContestSettings, folder.settings)
    return Contest(folder.root, recipe, load_plan(folder.plan), cases, settings, request, clock)


def _begin(request: Request, dataset: Dataset, recipe: Recipe, strategy: Strategy, progress: Progress) -> None:
    """Decide everything and prepare the cases; what was decided is written once all of it has worked."""
    fold, workers = request.fold, request.compute.workers
    given, plan = decided_plan(request, dataset, recipe, progress)
    split = RunSplit(*selection_split(given.train, recipe.training.selection, fold.seed), given.validation)
    prepare_dataset(
        as_planned(dataset, plan), plan, request.prepared, (*split.fit, *split.selection), workers,
        counter(progress, "prepare"), allow_lost_labels=recipe.preparation.allow_lost_labels,
    )  # fmt: skip
    candidate_space(recipe, plan)  # refuses what does not fit
    settings = ContestSettings(
        dataset=str(dataset.root.resolve()),
        strategy=strategy.strategy,
        objective=strategy.objective,
        candidates=strategy.count,
        rungs=strategy.settled_rungs,
        fold=fold.fold,
        seed=fold.seed,
        version=voxward.__version__,
        minutes=request.minutes,
    )
    write_decisions(request, plan, split, settings, recipe)


def finish_contest(contest: Contest, winner: int, progress: Progress) -> RunFolder:
    """Make the folder of the winner, which is trained already, a run like any other, and choose its post-processing.

    Args:
        contest: The search, which has ended.
        winner: The number of the best candidate.
        progress: A function that is told about every case.

    Returns:
        The folder of the run.
    """
    request, folder = contest.request, trial_folder(contest.root, winner)
    recipe, settings = contest.recipe_of(winner), contest.settings
    dataset = with_regions(request.dataset, contest.recipe)
    split = split_of(request.out, dataset)
    run = Request(
        dataset=dataset, out=folder, recipe=str(folder.recipe), fold=request.fold, compute=request.compute,
        overwrite=True, reuse=request.reuse, call=request.call,
    )  # fmt: skip
    kept = RunSettings(
        dataset=settings.dataset, fold=settings.fold, seed=settings.seed, minutes=contest.doer.minutes,
        version=settings.version, folds=request.fold.folds, patches=contest.plan.batch_size,
    )  # fmt: skip
    write_decisions(run, contest.plan, split, kept, recipe)
    device = resolve_device(request.compute.device)
    settle_postprocess(folder, as_planned(dataset, contest.plan), split.selection, device, progress)
    return folder
