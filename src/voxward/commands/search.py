"""voxward search: from a dataset folder to searched network architectures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import voxward
from voxward.architecture_search.cost import profile
from voxward.architecture_search.rank import decode_best
from voxward.architecture_search.run import SearchRun, search_architecture, set_up_search, super_net
from voxward.architecture_search.supernet import SuperNet
from voxward.commands.train import plan_of, recipe_of, refuse_decisions, split_of, write_decisions
from voxward.core.case import Dataset
from voxward.core.errors import UserError
from voxward.core.genotype import Genotype
from voxward.core.outputs import Outputs
from voxward.core.plan import load_json, load_plan
from voxward.core.progress import Progress, counter, silent
from voxward.core.recipe import Choice, Recipe, dump_recipe
from voxward.core.recipe.search import Search
from voxward.core.structure import to_data
from voxward.data.formats import open_dataset
from voxward.data.splits import load_split, selection_split
from voxward.data.store import prepare_dataset
from voxward.losses.registry import create_loss
from voxward.nets.registry import network_for_plan
from voxward.pipeline.precision import resolve_device, resolve_precision
from voxward.report.architecture_figures import draw_architecture, search_history
from voxward.report.architectures import Architecture, architectures_table
from voxward.runs.folder import RunFolder, RunSplit
from voxward.training.budget import check_minutes
from voxward.training.log import read_log
from voxward.training.setup import TrainingCases


@dataclass(frozen=True)
class SearchSettings:
    """What a search was started with, beside recipe, plan and split. paths: in each decoded network.

    minutes: the time budget; None for the recipe's steps. steps_per_epoch: instead of the recipe's, of searches that
    were begun before a budget was followed as it goes; None for all others.
    """

    dataset: str
    paths: tuple[int, ...]
    fold: int
    seed: int
    version: str
    steps_per_epoch: int | None = None
    minutes: float | None = None


@dataclass(frozen=True)
class SearchResult:
    """The folder of a finished search and what it found, the untrained controls last."""

    out: Path
    architectures: tuple[Architecture, ...]


def search(
    dataset: Path | str,
    out: Path | str,
    recipe: str = "msnas",
    paths: Sequence[int] = (3, 4, 5),
    minutes: float | None = None,
    resume: bool = False,
    plan: Path | str | None = None,
    prepared: Path | str | None = None,
    fold: int = 0,
    seed: int = 0,
    device: str = "auto",
    workers: int = 2,
    overrides: Sequence[str] = (),
    progress: Progress = silent,
    overwrite: bool = False,
) -> SearchResult:
    """Search an architecture on a dataset folder's training cases, into the folder `out`.

    Half of the fold's training cases teach the weights, half the architecture; its validation cases are not read.
    paths: one network is decoded for each number of paths. It is written as its genotype (paths-3.json), as a recipe
    that trains it on this or another dataset (paths-3.yaml), and as a drawing (SVG and PNG). minutes: how long
    the search itself may take, instead of the recipe's steps: all phases are as much shorter or longer, and their
    length follows the speed of the machine as the search goes on. resume: continue the search
    in `out` exactly as it would have gone on (recipe, paths, minutes, plan, fold and seed are then ignored, and
    overrides that contradict its recipe are refused). overwrite: replace files in `out`
    that voxward did not write or that were edited since. The other arguments are those of `train`; the recipe's
    `search` says how to search, see core.recipe.search.Search.

    Beside the searched networks stands, as a control, what the super-net decodes to before it has learnt anything.
    Raises ValueError or FileNotFoundError when an argument, the plan or the dataset is wrong, before anything but
    prepared cases is written, and training.interrupt.Interrupted when a signal stopped the search.
    """
    folder, source = RunFolder(Path(out)), open_dataset(dataset)
    used = _recipe_of(folder, source, resume, recipe, overrides)
    source = replace(source, labels=source.labels.with_regions(used.regions))
    on = resolve_device(device)
    resolve_precision(used.training.precision, on)
    check_minutes(minutes)
    cases = Path(prepared) if prepared is not None else folder.root / "prepared"
    outputs = Outputs(folder.root, "part of a search", overwrite)
    outputs.check(_names(load_json(SearchSettings, folder.settings).paths if resume else tuple(paths)))
    if resume:
        split = split_of(folder, source)
        wanted = (*split.fit, *split.selection)
        prepare_dataset(source, load_plan(folder.plan), cases, wanted, workers, counter(progress, "prepare"))
    else:
        refuse_decisions(folder, plan, overwrite)
        settings = SearchSettings(
            str(source.root.resolve()), tuple(paths), fold, seed, voxward.__version__, minutes=minutes
        )
        _start(folder, source, used, settings, plan, cases, workers, overwrite, progress)
    split, settings = split_of(folder, source), load_json(SearchSettings, folder.settings)
    halves = TrainingCases(cases, split.fit, split.selection)
    used = _with_steps(used, settings.steps_per_epoch)
    run = set_up_search(folder, used, load_plan(folder.plan), halves, settings.seed, on, max(settings.paths))
    search_architecture(run, settings.minutes, progress)
    return SearchResult(folder.root, _finish(run, outputs, settings, progress))


def _recipe_of(folder: RunFolder, source: Dataset, resume: bool, recipe: str, overrides: Sequence[str]) -> Recipe:
    used = recipe_of(folder, source, resume, recipe, overrides, "search")
    if not resume:
        create_loss(used.loss, source.labels.with_regions(used.regions))
    return used


def _start(
    folder: RunFolder,
    source: Dataset,
    recipe: Recipe,
    settings: SearchSettings,
    plan: Path | str | None,
    prepared: Path,
    workers: int,
    overwrite: bool,
    progress: Progress,
) -> None:
    """Decide everything and prepare the cases; what was decided is written once all of it has worked."""
    if not settings.paths or min(settings.paths) < 1 or len(set(settings.paths)) < len(settings.paths):
        raise UserError(f"paths must hold different numbers from 1 up, got {settings.paths}")
    given = load_split(source, settings.fold, settings.seed)
    if len(given.train) < 2:
        raise UserError(f"a search needs at least 2 training cases, got {len(given.train)}")
    split = RunSplit(*selection_split(given.train, 0.5, settings.seed), given.validation)
    decided = plan_of(source, recipe, given.train, plan, workers, progress)
    _refuse_paths(super_net(recipe, decided, settings.seed), max(settings.paths), recipe.search or Search())
    prepare_dataset(source, decided, prepared, given.train, workers, counter(progress, "prepare"))
    write_decisions(folder, decided, split, settings, recipe, overwrite)


def _with_steps(recipe: Recipe, steps: int | None) -> Recipe:
    """The recipe, as long as its minutes allow."""
    if steps is None:
        return recipe
    return replace(recipe, search=replace(recipe.search or Search(), steps_per_epoch=steps))


def _refuse_paths(net: SuperNet, most: int, settings: Search) -> None:
    """Raise ValueError where a search might end with fewer paths than it is to decode."""
    net.decode(most, settings.score)
    # A path uses up at most one new edge per layer, and while there is a new edge there is a path through it.
    certain = -(-len(net.space.edges) // net.space.layers)
    if settings.diverse and most > certain:
        raise UserError(f"paths must be at most {certain}, so many diverse ones are certain to exist, got {most}")


def _names(paths: Sequence[int]) -> list[str]:
    """The files that a search ends with."""
    networks = [f"{kind}-{count}" for kind in ("paths", "untrained") for count in paths]
    drawn = [f"{name}{suffix}" for name in networks for suffix in (".json", ".yaml", ".svg", ".png")]
    return [*drawn, "architectures.md", "architectures.json"]


def _finish(run: SearchRun, outputs: Outputs, settings: SearchSettings, progress: Progress) -> tuple[Architecture, ...]:
    found = list[Architecture]()
    for n, count in enumerate(settings.paths):
        genotype, dice = decode_best(run, count)
        found.append(_architecture(run, outputs, f"paths-{count}", genotype, dice))
        progress("decode", n + 1, len(settings.paths))
    fresh = super_net(run.recipe, run.plan, settings.seed)
    for count in settings.paths:
        genotype = fresh.decode(count, run.settings.score, run.settings.diverse)
        found.append(_architecture(run, outputs, f"untrained-{count}", genotype, None))
    search_history(read_log(run.log), run.log.with_name("history.png"))
    outputs.text("architectures.md", architectures_table(found, run.plan.patch_size).markdown())
    outputs.json("architectures.json", to_data(tuple(found)))
    return tuple(found)


def _architecture(run: SearchRun, outputs: Outputs, name: str, genotype: Genotype, dice: float | None) -> Architecture:
    """Write a genotype, the recipe that trains it and its drawing."""
    options = {**run.recipe.network.options, "genotype": to_data(genotype)}
    recipe = replace(run.recipe, name=f"{run.recipe.name}-{name}", network=Choice("searched", options))
    outputs.json(f"{name}.json", to_data(genotype))
    outputs.text(f"{name}.yaml", dump_recipe(recipe))
    for suffix in (".svg", ".png"):
        with outputs.write(f"{name}{suffix}") as path:
            draw_architecture(genotype, path, f"{run.plan.dataset}: {name}")
    network = network_for_plan("searched", run.plan, options)
    return Architecture(name, genotype, profile(network, len(run.plan.channels), run.plan.patch_size), dice)
