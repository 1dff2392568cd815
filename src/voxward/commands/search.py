"""voxward search: from a dataset folder to searched network architectures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from voxward.architecture_search.begin import run_search, search_recipe, settled_paths
from voxward.architecture_search.book import optuna
from voxward.architecture_search.contest import compete, strategy_of
from voxward.architecture_search.contest_folder import begin_contest, finish_contest
from voxward.architecture_search.cost import profile
from voxward.architecture_search.rank import decode_best
from voxward.architecture_search.run import SearchRun, super_net
from voxward.core.alone import alone
from voxward.core.choices import Compute, Fold, Output, Reuse
from voxward.core.devices import resolve_device
from voxward.core.document import with_checksum
from voxward.core.genotype import Genotype
from voxward.core.invocation import invocation
from voxward.core.outputs import Outputs
from voxward.core.progress import Progress
from voxward.core.recipe import Choice, Recipe, dump_recipe
from voxward.core.strategy import Strategy
from voxward.core.structure import to_data
from voxward.data.formats import open_dataset
from voxward.engine.choose import engine_for
from voxward.engine.engine import Engine
from voxward.nets.registry import network_for_plan
from voxward.report.architecture_figures import draw_architecture, search_history
from voxward.report.architectures import Architecture, architectures_table
from voxward.report.candidates import Contender, candidates_table, contenders, importance_note, rungs_figure
from voxward.report.html.write import check_page, page_of
from voxward.runs.folder import RunFolder
from voxward.training.begin import Request, with_regions
from voxward.training.log import read_log
from voxward.training.provenance import SEARCH, noted

_CANDIDATES = ("best.yaml", "candidates.md", "candidates.csv", "candidates.json", "rungs.png", "rungs.svg")


@dataclass(frozen=True)
class SearchResult:
    """What a search has found.

    Args:
        out: The folder of the search.
        architectures: Of `bilevel`: the networks that were found, and after them the untrained ones to compare them
            with.
        candidates: Of `halving` and `random`: all candidates, the winner first.
        run: Of `halving` and `random`: the folder of the winner's run, which is trained already.
    """

    out: Path
    architectures: tuple[Architecture, ...] = ()
    candidates: tuple[Contender, ...] = ()
    run: Path | None = None


def search(
    dataset: Path | str,
    *,
    out: Path | str | Output,
    recipe: str = "msnas",
    strategy: str | Strategy = "bilevel",
    overrides: Sequence[str] = (),
    minutes: float | None = None,
    resume: bool = False,
    fold: Fold = Fold(),
    reuse: Reuse = Reuse(),
    compute: Compute = Compute(),
) -> SearchResult:
    """Search a network architecture on the training cases of a dataset.

    With `bilevel`, half of the fold's training cases teach the weights, half the architecture. Each network is written
    as its genotype (`paths-3.json`), as a recipe that trains it (`paths-3.yaml`), and as a drawing. `untrained-3.yaml`
    is what the super-net decodes to before it has learnt anything.

    With `halving`, candidates are trained to a ninth of a whole training, a third of them on to a third of it, and a
    third of these to its end. With `random`, a few random candidates are trained to the end. The best candidate is a
    run that is trained already (`trials/07`), and `best.yaml` is its recipe. Validation cases are never read.

    Args:
        dataset: The folder of the dataset.
        out: The folder of the search, or an `Output` that also says what may be replaced there and who is told.
        recipe: A packaged recipe, or a `.yaml` file. Its part `search` says how, see `core.recipe.search.Search`.
        strategy: How it is searched: `bilevel`, `halving` or `random`, or a `Strategy` that also says what counts.
        overrides: Changes to the recipe, each as `dotted.key=value`.
        minutes: The time budget of the search itself, which all phases and all trainings share; None searches the
            steps of the recipe, and trains its epochs.
        resume: True goes on with the search in `out` exactly as it would have gone on. `recipe`, `strategy`, `minutes`,
            `fold` and `reuse.plan` are then ignored, and contradicting `overrides` refused.
        fold: The part of the dataset to learn from, the seed, and a list of cases to leave out.
        reuse: An edited plan and a folder of prepared cases; a search has no run to begin with.
        compute: The device, how many cases are prepared at once, and the cluster that compares or trains candidates.

    Returns:
        The folder of the search and the networks or candidates.

    Raises:
        UserError: An argument, the plan or the dataset is wrong; then nothing but prepared cases was written.
        FileNotFoundError: The dataset, the recipe or another file is not there.
        Interrupted: A signal stopped the search, which can then be resumed.

    Example:
        >>> found = voxward.search("Task04_Hippocampus", out="found", minutes=120)  # doctest: +SKIP
    """
    call, output = invocation(search, locals()), Output.of(out)
    request = Request(
        dataset=open_dataset(dataset, fold.follow_links), out=RunFolder(output.root), recipe=recipe,
        overrides=tuple(overrides), minutes=minutes, resume=resume, fold=fold, reuse=reuse, compute=compute,
        overwrite=output.overwrite, call=call,
    )  # fmt: skip
    used, chosen = search_recipe(request), Strategy.of(strategy)
    outputs = Outputs(request.out.root, "part of a search", output.overwrite)
    if strategy_of(request.out, chosen.strategy, resume) != "bilevel":
        return _by_trainings(request, used, chosen, outputs, output.progress)
    return _bilevel(request, used, settled_paths(request, chosen.paths), outputs, output)


def _bilevel(
    request: Request, recipe: Recipe, paths: tuple[int, ...], outputs: Outputs, output: Output
) -> SearchResult:
    """Search with the strategy `bilevel`."""
    root = request.out.root
    outputs.check(_names(paths))
    check_page(output)
    with alone(root, "a search"):
        run = run_search(request, recipe, paths, output.progress)
        with engine_for(root, request.compute.cluster, output.overwrite) as engine:
            found = _found(run, paths, engine, output.progress)
        result = SearchResult(root, _finish(run, outputs, found))
        page_of(output)
    return result


def _by_trainings(
    request: Request, recipe: Recipe, strategy: Strategy, outputs: Outputs, progress: Progress
) -> SearchResult:
    """Search with the strategy `halving` or `random`."""
    optuna()  # refuses before any work
    outputs.check(_CANDIDATES)
    root, seed, dataset = request.out.root, request.fold.seed, with_regions(request.dataset, recipe)
    with alone(root, "a search"):
        contest = begin_contest(request, recipe, strategy, progress)
        device = resolve_device(request.compute.device)
        here = noted(request, SEARCH, dataset, seed, device=device, done=lambda: len(contest.book))
        with here, engine_for(root, request.compute.cluster, request.overwrite) as engine:
            best = compete(contest, engine, progress)
        run = finish_contest(contest, best[0].number, progress)
        found, shares = contenders(contest), [share for _, share in contest.rungs]
        outputs.text("best.yaml", dump_recipe(contest.recipe_of(best[0].number), checksum=True))
        table = candidates_table(found, shares, importance_note(contest.book.importances()))
        outputs.text("candidates.md", table.markdown())
        outputs.text("candidates.csv", table.csv())
        outputs.json("candidates.json", with_checksum({"candidates": to_data(found)}))
        for name in ("rungs.png", "rungs.svg"):
            with outputs.write(name) as path:
                rungs_figure(found, shares, path)
    return SearchResult(root, candidates=found, run=run.root)


def _names(paths: Sequence[int]) -> list[str]:
    """Return the names of the files that a search ends with."""
    networks = [f"{kind}-{count}" for kind in ("paths", "untrained") for count in paths]
    drawn = [f"{name}{suffix}" for name in networks for suffix in (".json", ".yaml", ".svg", ".png")]
    return [*drawn, "architectures.md", "architectures.json"]


def _found(
    run: SearchRun, paths: Sequence[int], engine: Engine, progress: Progress
) -> dict[int, tuple[Genotype, float]]:
    """The best network of each number of paths, and its score."""
    found = dict[int, tuple[Genotype, float]]()
    for n, count in enumerate(paths):
        found[count] = decode_best(run, count, engine, progress)
        progress("decode", n + 1, len(paths))
    return found


def _finish(run: SearchRun, outputs: Outputs, best: dict[int, tuple[Genotype, float]]) -> tuple[Architecture, ...]:
    found = [_architecture(run, outputs, f"paths-{count}", *of) for count, of in best.items()]
    fresh = super_net(run.recipe, run.plan, run.seed)
    for count in best:
        genotype = fresh.decode(count, run.settings.score, run.settings.diverse)
        found.append(_architecture(run, outputs, f"untrained-{count}", genotype, None))
    search_history(read_log(run.log), run.log.with_name("history.png"))
    outputs.text("architectures.md", architectures_table(found, run.plan.patch_size).markdown())
    outputs.json("architectures.json", with_checksum({"architectures": to_data(tuple(found))}))
    return tuple(found)


def _architecture(run: SearchRun, outputs: Outputs, name: str, genotype: Genotype, dice: float | None) -> Architecture:
    """Write a genotype, the recipe that trains it, and its drawing."""
    options = {**run.recipe.network.options, "genotype": to_data(genotype)}
    recipe = replace(run.recipe, name=f"{run.recipe.name}-{name}", network=Choice("searched", options))
    outputs.json(f"{name}.json", with_checksum(to_data(genotype)))
    outputs.text(f"{name}.yaml", dump_recipe(recipe, checksum=True))
    for suffix in (".svg", ".png"):
        with outputs.write(f"{name}{suffix}") as path:
            draw_architecture(genotype, path, f"{run.plan.dataset}: {name}")
    network = network_for_plan("searched", run.plan, options)
    return Architecture(name, genotype, profile(network, len(run.plan.channels), run.plan.patch_size), dice)
