"""An architecture search from a request to its end, from its beginning or from where it stopped."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import voxward
from voxward.architecture_search.bilevel import ARCHITECTURE_OPTIMIZERS
from voxward.architecture_search.loop import search_architecture
from voxward.architecture_search.paths import SCORES
from voxward.architecture_search.run import SearchRun, set_up_search, super_net
from voxward.architecture_search.supernet import STARTS, SuperNet
from voxward.core.case import Dataset, Split
from voxward.core.choices import FoldNumber
from voxward.core.devices import resolve_device
from voxward.core.errors import UserError
from voxward.core.plan import Plan, load_json, load_plan
from voxward.core.progress import Progress, counter
from voxward.core.provenance import read_provenance
from voxward.core.recipe import Recipe
from voxward.core.recipe.search import Search
from voxward.data.splits import selection_split
from voxward.data.store import prepare_dataset
from voxward.losses.registry import create_loss
from voxward.pipeline.precision import resolve_precision
from voxward.runs.folder import RunSplit
from voxward.training.begin import (
    Request,
    as_planned,
    cases_of,
    given_plan,
    measured_plan,
    prepare_again,
    recipe_of,
    refuse_decisions,
    split_of,
    warn_of_sides,
    with_regions,
    write_decisions,
)
from voxward.training.budget import CLOCK, Clock, check_minutes
from voxward.training.provenance import SEARCH, noted
from voxward.training.setup import TrainingCases
from voxward.training.sides import settled_sides


@dataclass(frozen=True)
class SearchSettings:
    """The settings that a search was started with, beside its recipe, plan and split.

    Args:
        dataset: The folder of the dataset.
        paths: The number of paths of each network that is decoded at the end.
        fold: The fold that is held out.
        seed: The seed of everything that is drawn.
        version: The version of voxward.
        steps_per_epoch: The steps of an epoch, in place of the recipe's, of a search that was begun before a time
            budget was followed as the search goes on; None for all others.
        minutes: The time budget, or None for the steps of the recipe.
    """

    dataset: str
    paths: tuple[int, ...]
    fold: FoldNumber
    seed: int
    version: str
    steps_per_epoch: int | None = None
    minutes: float | None = None


def settled_paths(request: Request, paths: Sequence[int]) -> tuple[int, ...]:
    """Return the numbers of paths of a new search, or those that a search to be resumed was started with."""
    return load_json(SearchSettings, request.out.settings).paths if request.resume else tuple(paths)


def search_recipe(request: Request) -> Recipe:
    """Return the recipe of a search, and refuse what is wrong with the request before any work is done.

    Raises:
        UserError: The recipe, the time budget or the device is wrong, or the folder is not fit for the search.
        FileNotFoundError: There is nothing to resume, or no such recipe.
    """
    if request.reuse.start is not None:
        raise UserError(f"a search begins with random weights: start must be None, got {request.reuse.start}")
    if request.compute.processes != 1:
        raise UserError(f"a search runs in one process: devices must be 1, got {request.compute.processes}")
    recipe = recipe_of(request, "search")
    if not request.resume:
        labels, asked = with_regions(request.dataset, recipe).labels, recipe
        _check_names(recipe.search or Search())
        create_loss(recipe.loss, labels)
        recipe = settled_sides(asked, labels)
        warn_of_sides(asked, recipe)
    resolve_precision(recipe.training.precision, resolve_device(request.compute.device))
    check_minutes(request.minutes)
    return recipe


def run_search(
    request: Request, recipe: Recipe, paths: tuple[int, ...], progress: Progress, clock: Clock = CLOCK
) -> SearchRun:
    """Begin a search or go on with one, until its end.

    Args:
        request: What was asked for.
        recipe: The recipe, from `search_recipe`.
        paths: The number of paths of each network, from `settled_paths`.
        progress: A function that is told about every step.
        clock: A function that returns the time in seconds.

    Returns:
        A search that has ended, from which networks can be decoded.

    Raises:
        UserError: The plan or the dataset is wrong; then nothing but prepared cases was written.
        Interrupted: A signal stopped the search, which can then be resumed.
        FloatingPointError: A loss is not finite.
    """
    folder, dataset = request.out, with_regions(request.dataset, recipe)
    read_provenance(folder.root)  # refuses what is not voxward's
    if request.resume:
        prepare_again(request, dataset, progress)
    else:
        refuse_decisions(request)
        _begin(request, dataset, recipe, paths, progress)
    split, settings = split_of(folder, dataset), load_json(SearchSettings, folder.settings)
    halves = TrainingCases(request.prepared, split.fit, split.selection)
    used, on = _with_steps(recipe, settings.steps_per_epoch), resolve_device(request.compute.device)
    run = set_up_search(folder, used, load_plan(folder.plan), halves, settings.seed, on, max(settings.paths))
    here = noted(request, SEARCH, dataset, settings.seed, device=on, done=lambda: run.bilevel.step)
    search_architecture(run, settings.minutes, progress, clock, around=here)
    return run


def _begin(request: Request, dataset: Dataset, recipe: Recipe, paths: tuple[int, ...], progress: Progress) -> None:
    """Decide everything and prepare the cases; what was decided is written once all of it has worked."""
    if not paths or min(paths) < 1 or len(set(paths)) < len(paths):
        raise UserError(f"paths must hold different numbers from 1 up, got {paths}")
    given, decided = decided_plan(request, dataset, recipe, progress)
    fold, workers = request.fold, request.compute.workers
    split = RunSplit(*selection_split(given.train, 0.5, fold.seed), given.validation)
    _refuse_paths(super_net(recipe, decided, fold.seed), max(paths), recipe.search or Search())
    source = as_planned(dataset, decided)
    prepare_dataset(
        source, decided, request.prepared, given.train, workers, counter(progress, "prepare"),
        allow_lost_labels=recipe.preparation.allow_lost_labels,
    )  # fmt: skip
    settings = SearchSettings(
        dataset=str(dataset.root.resolve()),
        paths=paths,
        fold=fold.fold,
        seed=fold.seed,
        version=voxward.__version__,
        minutes=request.minutes,
    )
    write_decisions(request, decided, split, settings, recipe)


def decided_plan(request: Request, dataset: Dataset, recipe: Recipe, progress: Progress) -> tuple[Split, Plan]:
    """Return which cases a search has, and its plan: the given one, or one that is measured on the training cases.

    Args:
        request: What was asked for.
        dataset: The dataset, with the regions of the recipe.
        recipe: The recipe.
        progress: A function that is told about every case.

    Raises:
        UserError: There are fewer than two training cases, or the plan that is given does not fit.
    """
    given = cases_of(dataset, request.fold)
    if len(given.train) < 2:
        raise UserError(f"a search needs at least 2 training cases, got {len(given.train)}")
    if request.reuse.plan is not None:
        return given, given_plan(Path(request.reuse.plan), dataset, recipe)
    return given, measured_plan(dataset, recipe, given.train, request.compute.workers, progress)[1]


def _check_names(settings: Search) -> None:
    """Refuse names that are in no registry."""
    ARCHITECTURE_OPTIMIZERS[settings.arch_optimizer]
    SCORES[settings.score]
    STARTS[settings.start]


def _with_steps(recipe: Recipe, steps: int | None) -> Recipe:
    if steps is None:
        return recipe
    return replace(recipe, search=replace(recipe.search or Search(), steps_per_epoch=steps))


def _refuse_paths(net: SuperNet, most: int, settings: Search) -> None:
    """Refuse a search that might end with fewer paths than it is to decode."""
    net.decode(most, settings.score)
    # A path uses up at most one new edge per layer, and while there is a new edge there is a path through it.
    certain = -(-len(net.space.edges) // net.space.layers)
    if settings.diverse and most > certain:
        raise UserError(f"paths must be at most {certain}, so many diverse ones are certain to exist, got {most}")
