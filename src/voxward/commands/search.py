"""voxward search: from a dataset folder to searched network architectures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from voxward.architecture_search.begin import run_search, search_recipe, settled_paths
from voxward.architecture_search.cost import profile
from voxward.architecture_search.rank import decode_best
from voxward.architecture_search.run import SearchRun, super_net
from voxward.core.alone import alone
from voxward.core.choices import Compute, Fold, Output, Reuse
from voxward.core.document import with_checksum
from voxward.core.genotype import Genotype
from voxward.core.invocation import invocation
from voxward.core.outputs import Outputs
from voxward.core.progress import Progress
from voxward.core.recipe import Choice, dump_recipe
from voxward.core.structure import to_data
from voxward.data.formats import open_dataset
from voxward.engine.choose import engine_for
from voxward.engine.engine import Engine
from voxward.nets.registry import network_for_plan
from voxward.report.architecture_figures import draw_architecture, search_history
from voxward.report.architectures import Architecture, architectures_table
from voxward.report.html.write import check_page, page_of
from voxward.runs.folder import RunFolder
from voxward.training.begin import Request
from voxward.training.log import read_log


@dataclass(frozen=True)
class SearchResult:
    """What a search has found.

    Args:
        out: The folder of the search.
        architectures: The networks that were found, and after them the untrained ones to compare them with.
    """

    out: Path
    architectures: tuple[Architecture, ...]


def search(
    dataset: Path | str,
    *,
    out: Path | str | Output,
    recipe: str = "msnas",
    paths: Sequence[int] = (3, 4, 5),
    overrides: Sequence[str] = (),
    minutes: float | None = None,
    resume: bool = False,
    fold: Fold = Fold(),
    reuse: Reuse = Reuse(),
    compute: Compute = Compute(),
) -> SearchResult:
    """Search a network architecture on the training cases of a dataset.

    Half of the fold's training cases teach the weights, half the architecture; validation cases are never read. Each
    network is written as its genotype (`paths-3.json`), as a recipe that trains it (`paths-3.yaml`), and as a
    drawing. `untrained-3.yaml` is what the super-net decodes to before it has learnt anything.

    Args:
        dataset: The folder of the dataset.
        out: The folder of the search, or an `Output` that also says what may be replaced there and who is told.
        recipe: A packaged recipe, or a `.yaml` file. Its part `search` says how, see `core.recipe.search.Search`.
        paths: The number of paths of each network that is decoded.
        overrides: Changes to the recipe, each as `dotted.key=value`.
        minutes: The time budget of the search itself, which all phases share; None searches the steps of the recipe.
        resume: True goes on with the search in `out` exactly as it would have gone on. `recipe`, `paths`, `minutes`,
            `fold` and `reuse.plan` are then ignored, and contradicting `overrides` refused.
        fold: The part of the dataset to learn from, the seed, and a list of cases to leave out.
        reuse: An edited plan and a folder of prepared cases; a search has no run to begin with.
        compute: The device, how many cases are prepared at once, and the cluster that compares candidates.

    Returns:
        The folder of the search and the networks.

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
    used, wanted = search_recipe(request), settled_paths(request, paths)
    outputs = Outputs(request.out.root, "part of a search", output.overwrite)
    outputs.check(_names(wanted))
    check_page(output)
    with alone(request.out.root, "a search"):
        run = run_search(request, used, wanted, output.progress)
        with engine_for(request.out.root, compute.cluster, output.overwrite) as engine:
            found = _found(run, wanted, engine, output.progress)
        result = SearchResult(request.out.root, _finish(run, outputs, found))
        page_of(output)
    return result


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
