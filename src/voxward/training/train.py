"""A training from a request to a finished run: what `voxward train` and `voxward harden` have in common."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import voxward
from voxward.core.alone import alone
from voxward.core.case import Dataset
from voxward.core.devices import resolve_device
from voxward.core.errors import UserError
from voxward.core.files import sha256_of
from voxward.core.launcher import refuse_launcher
from voxward.core.plan import Plan, load_json, load_plan
from voxward.core.progress import Progress, counter, silent
from voxward.core.provenance import read_provenance
from voxward.core.recipe import Recipe
from voxward.data.splits import selection_split
from voxward.data.store import prepare_dataset
from voxward.nets.registry import network_for_plan
from voxward.pipeline.precision import resolve_precision
from voxward.runs.folder import RunFolder, RunSettings, RunSplit, load_run, load_weights
from voxward.training.begin import (
    Request,
    as_planned,
    cases_of,
    checked_recipe,
    fold_of,
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
from voxward.training.budget import check_minutes
from voxward.training.fabric import start_fabric
from voxward.training.finish import settle_postprocess
from voxward.training.loop import fit
from voxward.training.peers import Peers, refuse_unshared
from voxward.training.provenance import TRAIN, noted
from voxward.training.setup import TrainingCases, TrainingRun, check_auxiliary, set_up
from voxward.training.share import check_processes, patches_of
from voxward.training.transfer import is_own_dataset, transferred

if TYPE_CHECKING:
    from lightning_fabric import Fabric


def train_run(request: Request, trained: Callable[[RunFolder], object], progress: Progress = silent) -> RunFolder:
    """Train a new run, or go on with one, and choose its post-processing.

    Args:
        request: What was asked for.
        trained: A function that is called once, by the first process, after the last step.
        progress: A function that is told about every step.

    Returns:
        The folder of the run.

    Raises:
        UserError: The request, the plan or the dataset is wrong. Then there is no run yet, at most prepared cases.
        FileNotFoundError: The dataset, the recipe or another file is not there.
        Interrupted: A signal stopped the run, which can be resumed.
        FloatingPointError: The loss is not finite.
    """
    if request.reuse.start is not None and not request.resume:
        load_run(request.reuse.start)  # refuses what is no trained run
    asked = recipe = recipe_of(request)
    if not request.resume:
        recipe = checked_recipe(asked, request.dataset)
    dataset = with_regions(request.dataset, recipe)
    check_minutes(request.minutes)
    resolve_precision(recipe.training.precision, resolve_device(request.compute.device))
    if request.compute.cluster is not None:
        raise UserError("one training does not run on a Dask cluster: give devices, or start it with a launcher")
    refuse_launcher(request.compute.devices, request.compute.nodes)
    read_provenance(request.out.root)  # refuses what is not voxward's
    if request.resume:
        plan, processes = load_plan(request.out.plan), request.compute.processes
        check_processes(patches_of(request.out, plan, processes), plan, processes)
    fabric = start_fabric(recipe, request.compute)
    # From here on there may be several processes. The first one writes.
    shown = progress if fabric.is_global_zero else silent
    with Peers(fabric) as peers, alone(request.out.root, "a training") if fabric.is_global_zero else nullcontext():
        if fabric.is_global_zero:
            if request.resume:
                prepare_again(request, dataset, shown)
            else:
                recipe_of(request)  # again: another process may have begun a run here meanwhile
                refuse_decisions(request)
                warn_of_sides(asked, recipe)
                _begin(request, dataset, recipe, shown)
        peers.after_first("prepared")
        refuse_unshared(request.out.recipe, "the run folder")
        run = _set_up(request, dataset, recipe, fabric)
        settings = load_json(RunSettings, request.out.settings)
        run.state.judged = run.state.judged or settings.judged
        here = noted(
            request, TRAIN, dataset, settings.seed, device=fabric.device, done=lambda: run.state.step
        )  # fmt: skip
        with here if fabric.is_global_zero else nullcontext():
            fit(run, settings.minutes, shown, lengths=settings.lengths)
        if fabric.is_global_zero:
            trained(request.out)
            dataset = as_planned(dataset, run.plan)
            settle_postprocess(request.out, dataset, run.cases.selection, fabric.device, shown)
        peers.after_first("finished")  # a scheduler may end a job soon after the first of its processes
    return request.out


def _begin(request: Request, dataset: Dataset, recipe: Recipe, progress: Progress) -> None:
    """Decide everything and prepare the cases; what was decided is written once all of it has worked."""
    start = None if request.reuse.start is None else RunFolder(Path(request.reuse.start))
    own = start is not None and is_own_dataset(start, dataset)
    fold = fold_of(start, request.fold) if own and start is not None else request.fold
    if own and start is not None:
        split = split_of(start, dataset)
    else:
        given = cases_of(dataset, fold)
        split = RunSplit(*selection_split(given.train, recipe.training.selection, fold.seed), given.validation)
    decided, new = _decided(request, dataset, recipe, (start, own), progress)
    shown = counter(progress, "prepare")
    source = as_planned(dataset, decided)
    prepare_dataset(
        source, decided, request.prepared, (*split.fit, *split.selection), request.compute.workers, shown,
        allow_lost_labels=recipe.preparation.allow_lost_labels,
    )  # fmt: skip
    settings = RunSettings(
        dataset=str(dataset.root.resolve()),
        fold=fold.fold,
        seed=fold.seed,
        minutes=request.minutes,
        version=voxward.__version__,
        start=None if start is None else str(start.root.resolve()),
        folds=fold.folds,
        new_layers=new,
        patches=decided.batch_size * request.compute.processes,
        start_weights="" if start is None else sha256_of(start.weights("auto")),
    )
    write_decisions(request, decided, split, settings, recipe)


def _decided(
    request: Request, dataset: Dataset, recipe: Recipe, origin: tuple[RunFolder | None, bool], progress: Progress
) -> tuple[Plan, tuple[str, ...]]:
    """The plan, and the tensors of the network that do not begin with the weights of the run to begin with.

    `origin` is that run, and whether it was trained on the same dataset.
    """
    plan, (start, own), workers = request.reuse.plan, origin, request.compute.workers
    if plan is None and own and start is not None:
        plan = start.plan
    if plan is not None:
        decided, new = given_plan(Path(plan), dataset, recipe), tuple[str, ...]()
    else:
        decided = measured_plan(dataset, recipe, cases_of(dataset, request.fold).train, workers, progress)[1]
        new = ()
        if start is not None:
            found = transferred(start, dataset, recipe, decided)
            decided, new = found.plan, found.new
    network = network_for_plan(recipe.network.name, decided, recipe.network.options)  # refuses what does not fit
    check_auxiliary(recipe, network)
    if start is not None:
        load_weights(network, start.weights("auto"), new)
    return decided, new


def _set_up(request: Request, dataset: Dataset, recipe: Recipe, fabric: Fabric) -> TrainingRun:
    folder = request.out
    settings, split = load_json(RunSettings, folder.settings), split_of(folder, dataset)
    cases = TrainingCases(request.prepared, split.fit, split.selection)
    first = None if settings.start is None else RunFolder(Path(settings.start)).weights("auto")
    # A run that goes on has weights of its own: the ones it started from may be gone by then.
    weights = None if folder.state.is_file() else first
    plan = load_plan(folder.plan)
    patches = patches_of(folder, plan, int(fabric.world_size))
    run = set_up(
        folder, recipe, plan, cases, settings.seed, fabric, weights, new_layers=settings.new_layers, patches=patches
    )
    hardened = recipe.defence is not None and settings.start is not None and not settings.new_layers
    return replace(run, judges_start=hardened)
