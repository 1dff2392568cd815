"""Does the search pay? `python -m benchmarks.msnas DATASET --out DIR`: the registered experiment, on slices.

Four searches (2D, 4 layers, 3 scales, 3 blocks, 8 filters, k 2, stem of stride 2; 80 steps) and, through the same
training (5 epochs, on the hippocampus 120 steps): each searched network twice; random networks of the same cost
(multiply-adds within 15 % of a searched one's, each searched network in turn); random networks of any cost; what
super-nets decode to that learnt nothing, chance breaking the ties; and permutations (searched cells on random paths,
random cells on searched paths). Figure: Dice pooled over all voxels of the validation cases, mean of the foreground
classes; those cases are used for nothing else.

Registered before it was run: H1, searched networks beat random ones of the same cost on average; H2, they beat the
untrained decode. The hard baseline is reported whatever it says: the best, on the selection cases, of as many random
networks as can be trained in the time of one search and one training. Intervals resample networks; the two trainings
of one network count as one, their mean.

The architecture's Adam has 0.02, not the recipe's 0.003: over the 30 and 40 steps that alpha, p and beta have, 0.003
could move none of them by more than 0.12, and every softmax would end where it began.

Time is the process's (one thread), so that other work on the machine counts little. Every network is a job with a
result of its own in DIR/jobs; interrupted, the same command goes on, and begins unfinished jobs again.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import shutil
import statistics
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch

import voxward
from benchmarks.counts import case_counts
from benchmarks.kept import keep_settings
from voxward.architecture_search.cost import profile
from voxward.architecture_search.loop import search_architecture
from voxward.architecture_search.paths import edge_weights, sample_path, uniform_path_scores
from voxward.architecture_search.rank import decode_best
from voxward.architecture_search.run import SearchRun, set_up_search, super_net
from voxward.architecture_search.supernet import SuperNet
from voxward.core.case import Split
from voxward.core.choices import Compute
from voxward.core.files import write_json, write_text
from voxward.core.genotype import OPERATION_NAMES, CellGenes, Gene, Genotype
from voxward.core.plan import Plan, load_plan
from voxward.core.recipe import Choice, Recipe, load_recipe
from voxward.core.structure import from_data, to_data
from voxward.data.formats import open_dataset
from voxward.data.splits import load_split, selection_split
from voxward.engine.engine import InProcess
from voxward.metrics.summary import summarise
from voxward.nets.registry import network_for_plan
from voxward.runs.folder import RunFolder, load_weights
from voxward.training.fabric import start_fabric
from voxward.training.loop import fit
from voxward.training.setup import TrainingCases, set_up
from voxward.training.validate import pooled_dice

RECIPE = "msnas-2d"
PATHS = 3
SAME_COST = 0.15
OVERRIDES = (
    "preparation.slice_size=null", "preparation.batch_size=8", "training.workers=0", "training.precision=fp32",
    "training.epochs=5", "network.options.filters=8", "network.options.flat_stem=false", "search.layers=4",
    "search.scales=3", "search.part=2", "search.checkpointing=false", "search.batch_size=8",
    "search.steps_per_epoch=2", "search.arch_optimizer=adam", "search.arch_lr=0.02",
)  # fmt: skip
GROUPS = ("searched", "same cost", "random", "untrained", "searched cells", "searched paths")
RESAMPLES = 10_000
_TRIES = 10_000
_UNTRAINED_SPREAD = 1e-3  # as DARTS starts alpha


@dataclass(frozen=True)
class Job:
    """One network to train. network: its name among those of its group; seed: of its training."""

    name: str
    group: str
    network: str
    genotype: Genotype
    seed: int


@dataclass(frozen=True)
class Setting:
    """What all jobs share."""

    dataset: str
    out: Path
    recipe: Recipe

    @property
    def plan(self) -> Plan:
        return load_plan(self.out / "plan.json")

    @property
    def prepared(self) -> Path:
        return self.out / "prepared"

    @property
    def split(self) -> Split:
        """The same for every search and training, whatever its seed."""
        return load_split(open_dataset(self.dataset))

    def result(self, name: str) -> Path:
        return self.out / "jobs" / f"{name}.json"


def main() -> None:
    given = _options()
    overrides = (*OVERRIDES, *given.overrides)
    setting = Setting(given.dataset, given.out, load_recipe(RECIPE, overrides))
    _keep_settings(setting, given)
    if not (given.out / "plan.json").is_file():
        voxward.plan(given.dataset, recipe=RECIPE, out=given.out, overrides=overrides)
    voxward.prepare(given.dataset, out=setting.prepared, plan=given.out / "plan.json")
    os.environ["OMP_NUM_THREADS"] = "1"
    with ProcessPoolExecutor(given.processes, mp_context=get_context("spawn")) as pool:
        seeds = range(given.seed, given.seed + given.searches)
        found = _shown(pool.map(partial(_search, setting), seeds), given.searches)
        jobs = _jobs(setting, found, given)
        results = _shown(pool.map(partial(_train, setting), jobs), len(jobs))
    write_json(given.out / "results.json", [*found, *results])
    text = report(found, results) + f"- settings: {' '.join(overrides)}\n"
    write_text(given.out / "results.md", text)
    print(text)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--searches", type=int, default=4)
    parser.add_argument("--trainings", type=int, default=2, help="of each searched network (default 2)")
    parser.add_argument("--random", type=int, default=16, help="networks of each random group (default 16)")
    parser.add_argument("--seed", type=int, default=0, help="of the first search; the others follow (default 0)")
    parser.add_argument("--processes", type=int, default=2, help="of one thread each (default 2)")
    parser.add_argument("--set", dest="overrides", action="append", default=[], metavar="KEY=VALUE")
    given = parser.parse_args()
    for name in ("searches", "trainings", "random", "processes"):
        if getattr(given, name) < 1:
            parser.error(f"--{name} must be at least 1, got {getattr(given, name)}")
    return given


def _keep_settings(setting: Setting, given: argparse.Namespace) -> None:
    """Raise ValueError where the folder's results are of other settings than these."""
    now = {name: getattr(given, name) for name in ("searches", "trainings", "random", "seed")}
    now |= {"dataset": str(open_dataset(given.dataset).root.resolve()), "recipe": to_data(setting.recipe)}
    keep_settings(given.out, now)


def _shown(results: Iterable[dict[str, Any]], count: int) -> list[dict[str, Any]]:
    done = []
    for result in results:
        done.append(result)
        dice = f", Dice {result['dice']:.4f}" if "dice" in result else ""
        print(f"{len(done)}/{count} {result['name']}: {result['seconds']:.1f} CPU s{dice}", flush=True)
    return done


def _search(setting: Setting, seed: int) -> dict[str, Any]:
    torch.set_num_threads(1)
    name = f"search-{seed}"
    path, folder = setting.result(name), RunFolder(setting.out / "searches" / name)
    if not path.is_file():
        shutil.rmtree(folder.root, ignore_errors=True)  # begun, not ended: its time is not known
        halves = selection_split(setting.split.train, 0.5, seed)
        began = time.process_time()
        run = set_up_search(
            folder, setting.recipe, setting.plan, TrainingCases(setting.prepared, *halves), seed, torch.device("cpu"),
            PATHS,
        )  # fmt: skip
        search_architecture(run)
        genotype = _decoded(run.bilevel.net, setting) if not run.settings.candidates else _best(run, folder.root)
        seconds = time.process_time() - began
        write_json(path, {"name": name, "seed": seed, "seconds": seconds, "genotype": to_data(genotype)})
    return dict(json.loads(path.read_text()))


def _best(run: SearchRun, folder: Path) -> Genotype:
    return decode_best(run, PATHS, InProcess(folder))[0]


def _decoded(net: SuperNet, setting: Setting) -> Genotype:
    settings = setting.recipe.search
    assert settings is not None
    return net.decode(PATHS, settings.score, settings.diverse)


def _jobs(setting: Setting, found: Sequence[dict[str, Any]], given: argparse.Namespace) -> list[Job]:
    """All networks to train; the random ones are drawn by their number, so that a second call draws the same."""
    net = super_net(setting.recipe, setting.plan, 0)
    searched = [from_data(Genotype, result["genotype"], "genotype") for result in found]
    macs = [_macs(setting, genotype) for genotype in searched]
    generator = torch.Generator().manual_seed(1000 + given.seed)
    jobs = [
        Job(f"searched-{result['seed']}-{n}", "searched", result["name"], genotype, 10 * result["seed"] + n)
        for result, genotype in zip(found, searched, strict=True)
        for n in range(given.trainings)
    ]

    def draw(group: str, count: int, make: Callable[[int], Genotype]) -> None:
        for n in range(count):
            name = f"{group.replace(' ', '-')}-{n}"
            jobs.append(Job(name, group, name, make(n), 100 + n))

    draw("same cost", given.random, lambda n: _same_cost(setting, net, macs[n % len(macs)], generator))
    draw("random", given.random, lambda n: _genotype(net, generator))
    draw("untrained", given.searches, lambda n: _untrained(setting, given.seed + n))
    half = max(1, given.random // 2)
    draw("searched cells", half, lambda n: _with_cells(net, searched[n % len(searched)].cells, generator))
    draw("searched paths", half, lambda n: replace(searched[n % len(searched)], cells=_cells(net, generator)))
    return jobs


def _same_cost(setting: Setting, net: SuperNet, target: int, generator: torch.Generator) -> Genotype:
    for _ in range(_TRIES):
        genotype = _genotype(net, generator)
        if abs(_macs(setting, genotype) / target - 1) <= SAME_COST:
            return genotype
    raise ValueError(f"none of {_TRIES} random networks has {target / 1e6:.1f} million multiply-adds")


def _untrained(setting: Setting, seed: int) -> Genotype:
    """What a super-net decodes to that learnt nothing."""
    net, generator = super_net(setting.recipe, setting.plan, seed), torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in (*net.cell_parameters(), *net.network_parameters()):
            parameter.normal_(0.0, _UNTRAINED_SPREAD, generator=generator)
    return _decoded(net, setting)


def _genotype(net: SuperNet, generator: torch.Generator) -> Genotype:
    return _with_cells(net, _cells(net, generator), generator)


def _with_cells(net: SuperNet, cells: CellGenes, generator: torch.Generator) -> Genotype:
    """Different paths, each drawn with equal probability among all."""
    paths: set[tuple[int, ...]] = set()
    uniform = edge_weights(net.space, uniform_path_scores(net.space))
    while len(paths) < PATHS:
        paths.add(sample_path(net.space, uniform, generator))
    return net.genotype_of(sorted(paths), cells)


def _cells(net: SuperNet, generator: torch.Generator) -> CellGenes:
    def below(n: int) -> int:
        return int(torch.randint(n, (), generator=generator))

    def genes() -> tuple[Gene, ...]:
        blocks = range(net.layout.blocks)
        return tuple(Gene(below(block + 1), OPERATION_NAMES[below(len(OPERATION_NAMES))]) for block in blocks)

    return CellGenes(genes(), genes(), genes())


def _options_of(setting: Setting, genotype: Genotype) -> dict[str, Any]:
    return {**setting.recipe.network.options, "genotype": to_data(genotype)}


def _macs(setting: Setting, genotype: Genotype) -> int:
    plan = setting.plan
    network = network_for_plan("searched", plan, _options_of(setting, genotype))
    return profile(network, len(plan.channels), plan.patch_size).macs


def _train(setting: Setting, job: Job) -> dict[str, Any]:
    torch.set_num_threads(1)
    path, folder = setting.result(job.name), RunFolder(setting.out / "runs" / job.name)
    if path.is_file():
        return dict(json.loads(path.read_text()))
    shutil.rmtree(folder.root, ignore_errors=True)  # begun, not ended: its time is not known
    split, options = setting.split, _options_of(setting, job.genotype)
    recipe = replace(setting.recipe, network=Choice("searched", options))
    cases = TrainingCases(setting.prepared, *selection_split(split.train, recipe.training.selection))
    began = time.process_time()
    run = set_up(folder, recipe, setting.plan, cases, job.seed, start_fabric(recipe, Compute("cpu")))
    fit(run)
    seconds = time.process_time() - began
    network = network_for_plan("searched", setting.plan, options).eval()
    load_weights(network, folder.weights("best"))
    result = {
        "name": job.name, "group": job.group, "network": job.network, "macs": _macs(setting, job.genotype),
        "parameters": sum(p.numel() for p in network.parameters()), "steps": run.state.step, "seconds": seconds,
        "selection": score(setting, network, cases.selection), "dice": score(setting, network, split.validation),
        "genotype": to_data(job.genotype),
    }  # fmt: skip
    write_json(path, result)
    return result


def score(setting: Setting, network: torch.nn.Module, ids: Iterable[str]) -> float:
    counts = [case_counts(network, setting.plan, setting.prepared, id) for id in ids]
    return pooled_dice(torch.stack(counts).sum(0))


def report(found: Sequence[dict[str, Any]], results: Sequence[dict[str, Any]]) -> str:
    """The table and what it says of the hypotheses. found: of the searches; results: of the trainings."""
    groups = {name: [r for r in results if r["group"] == name] for name in GROUPS}
    dice = {name: _per_network(rows) for name, rows in groups.items()}
    lines = ["| networks | n | trainings | pooled Dice [95 % bootstrap] | least | most | MMACs | training CPU s |"]
    lines.append("| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |")
    for name, rows in groups.items():
        of = summarise(dice[name])
        assert of is not None
        lines.append(
            f"| {name} | {of.n} | {len(rows)} | {of.mean:.4f} [{of.low:.4f}, {of.high:.4f}] | {of.minimum:.4f} "
            f"| {of.maximum:.4f} | {_mean(rows, 'macs') / 1e6:.1f} | {_mean(rows, 'seconds'):.1f} |"
        )
    lines.append("")
    for name, group in (("H1, searched - same cost", "same cost"), ("H2, searched - untrained", "untrained")):
        lines.append(f"- {name}: {_difference(dice['searched'], dice[group])}")
    lines += [_against_best(found, groups[name], dice["searched"], name) for name in ("random", "same cost")]
    lines.append(f"- steps of a training: {results[0]['steps']}")
    return "\n".join(lines) + "\n"


def _mean(rows: Sequence[dict[str, Any]], key: str) -> float:
    return statistics.mean(row[key] for row in rows)


def _per_network(rows: Sequence[dict[str, Any]]) -> list[float]:
    networks = dict.fromkeys(row["network"] for row in rows)
    return [_mean([row for row in rows if row["network"] == network], "dice") for network in networks]


def _against_best(
    found: Sequence[dict[str, Any]], pool: Sequence[dict[str, Any]], searched: Sequence[float], name: str
) -> str:
    """The hard baseline: a random search in the same time."""
    search, training = _mean(found, "seconds"), _mean(pool, "seconds")
    affordable = max(1, int((search + training) / training))
    count = min(affordable, len(pool))
    best = _best_of(_pairs(pool), count)
    return (
        f"- a search took {search:.1f} CPU s, a training of `{name}` {training:.1f}: in the time of both {affordable} "
        f"such networks are trained; the best of {count} on the selection cases has {best:.4f} on average; searched - "
        f"best of {count}: {_difference(searched, pool, lambda rows: _best_of(_pairs(rows), count))}"
    )


def _pairs(rows: Iterable[dict[str, Any]]) -> np.ndarray[Any, Any]:
    return np.array([[row["selection"], row["dice"]] for row in rows])


def _difference(a: Sequence[float], b: Sequence[Any], of_b: Callable[[Sequence[Any]], float] = statistics.fmean) -> str:
    """Mean of `a` less `of_b` of b, with the 95 % interval of resampling both."""
    rng, drawn = np.random.default_rng(0), []
    for _ in range(RESAMPLES):
        first, second = ([values[n] for n in rng.integers(len(values), size=len(values))] for values in (a, b))
        drawn.append(statistics.fmean(first) - of_b(second))
    low, high = np.percentile(drawn, [2.5, 97.5])
    return f"{statistics.fmean(a) - of_b(b):+.4f} [{low:+.4f}, {high:+.4f}]"


def _best_of(pool: np.ndarray[Any, Any], count: int) -> float:
    """Mean Dice of the network with the best selection score among `count` of the pool, over all such choices.

    pool: (networks, 2), the selection score and Dice. Exact: the n-th best of all is the best of those chosen where
    the other count - 1 are among those after it.
    """
    ranked = pool[np.argsort(-pool[:, 0], kind="stable"), 1]
    ways = [math.comb(len(ranked) - n, count - 1) for n in range(1, len(ranked) + 1)]
    return float(np.dot(ranked, ways) / sum(ways))


if __name__ == "__main__":
    main()
