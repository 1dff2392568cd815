"""Does the search pay? `python -m benchmarks.msnas DATASET --out DIR`: the registered experiment, on slices.

Four searches (2D, 4 layers, 3 scales, 3 blocks, 8 filters, k 2, stem of stride 2; 80 steps) and, through the same
training of 120 steps: each searched network twice; random networks of the same cost (multiply-adds within 15 % of the
searched ones' mean); random networks of any cost; what the untrained super-net decodes to; and permutations (searched
cells on random paths, random cells on searched paths). Figure: Dice pooled over all voxels of the validation cases,
mean of the foreground classes; those cases are used for nothing else.

Registered before it was run: H1, searched networks beat random ones of the same cost on average; H2, they beat the
untrained decode. The hard baseline is reported whatever it says: the best, on the selection cases, of as many random
networks as can be trained in the time of one search and one training.

Time is that of the process (one thread), so that other work on the machine does not count. Every network is a job with
a result of its own in DIR/jobs; interrupted, the same command goes on.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

import voxward
from voxward.core.files import write_json, write_text
from voxward.core.genotype import OPERATION_NAMES, CellGenes, Gene, Genotype, load_genotype
from voxward.core.plan import Plan, load_plan
from voxward.core.recipe import Choice, Recipe, load_recipe
from voxward.core.structure import to_data
from voxward.data.formats import open_dataset
from voxward.data.splits import load_split, selection_split
from voxward.data.store import open_case
from voxward.inference.run_folder import RunFolder, load_weights
from voxward.metrics.summary import summarise
from voxward.nas.cost import profile
from voxward.nas.paths import sample_path
from voxward.nas.run import super_net
from voxward.nas.supernet import SuperNet
from voxward.nets.registry import network_for_plan
from voxward.training.log import read_log
from voxward.training.loop import fit
from voxward.training.setup import TrainingCases, set_up, start_fabric
from voxward.training.validate import overlap, pooled_dice

RECIPE = "msnas-2d"
PATHS = 3
SAME_COST = 0.15
OVERRIDES = (
    "preparation.slice_size=null", "preparation.batch_size=8", "training.workers=0", "training.precision=fp32",
    "training.epochs=5", "network.options.filters=8", "network.options.flat_stem=false", "search.layers=4",
    "search.scales=3", "search.part=2", "search.batch_size=8", "search.steps_per_epoch=2", "search.arch_optimizer=adam",
    "search.arch_lr=0.02",
)  # fmt: skip
GROUPS = ("searched", "same cost", "random", "untrained", "searched cells", "searched paths")


@dataclass(frozen=True)
class Job:
    """One network to train. seed: of its training."""

    name: str
    group: str
    genotype: Genotype
    seed: int


@dataclass(frozen=True)
class Setting:
    """What all jobs share."""

    dataset: str
    out: Path
    overrides: tuple[str, ...]

    @property
    def recipe(self) -> Recipe:
        return load_recipe(RECIPE, self.overrides)

    @property
    def plan(self) -> Plan:
        return load_plan(self.out / "plan.json")

    @property
    def prepared(self) -> Path:
        return self.out / "prepared"


def main() -> None:
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
    setting = Setting(given.dataset, given.out, (*OVERRIDES, *given.overrides))
    voxward.plan(given.dataset, RECIPE, given.out, overrides=setting.overrides)
    voxward.prepare(given.dataset, setting.prepared, plan=given.out / "plan.json")
    os.environ["OMP_NUM_THREADS"] = "1"
    with ProcessPoolExecutor(given.processes, mp_context=get_context("spawn")) as pool:
        seeds = range(given.seed, given.seed + given.searches)
        found = list(pool.map(_search, *zip(*((setting, seed) for seed in seeds), strict=True)))
        jobs = _jobs(setting, found, given)
        results = list(pool.map(_train, *zip(*((setting, job) for job in jobs), strict=True)))
    text = _report(setting, found, results, given.searches)
    write_text(given.out / "results.md", text)
    print(text)


def _search(setting: Setting, seed: int) -> dict[str, Any]:
    torch.set_num_threads(1)
    path, out = setting.out / "jobs" / f"search-{seed}.json", setting.out / f"search-{seed}"
    if not path.is_file():
        began, resumed = time.process_time(), RunFolder(out).recipe.is_file()
        voxward.search(
            setting.dataset, out, RECIPE, (PATHS,), resumed, setting.out / "plan.json", setting.prepared, seed=seed,
            device="cpu", overrides=setting.overrides,
        )  # fmt: skip
        write_json(path, {"seed": seed, "seconds": time.process_time() - began, "resumed": resumed})
    return dict(json.loads(path.read_text())) | {"genotype": load_genotype(out / f"paths-{PATHS}.json")}


def _jobs(setting: Setting, found: Sequence[dict[str, Any]], given: argparse.Namespace) -> list[Job]:
    """All networks to train; the random ones are drawn by their number, so that a second call draws the same."""
    net, searched = super_net(setting.recipe, setting.plan, 0), [result["genotype"] for result in found]
    target = statistics.mean(_macs(setting, genotype) for genotype in searched)
    generator = torch.Generator().manual_seed(1000 + given.seed)
    jobs = [
        Job(f"searched-{result['seed']}-{n}", "searched", result["genotype"], 10 * result["seed"] + n)
        for result in found
        for n in range(given.trainings)
    ]

    def draw(group: str, count: int, make: Callable[[int], Genotype]) -> None:
        jobs.extend(Job(f"{group.replace(' ', '-')}-{n}", group, make(n), 100 + n) for n in range(count))

    draw("same cost", given.random, lambda n: _same_cost(setting, net, target, generator))
    draw("random", given.random, lambda n: _genotype(net, generator))
    untrained = net.decode(PATHS)
    draw("untrained", given.searches, lambda n: untrained)
    half = max(1, given.random // 2)
    draw("searched cells", half, lambda n: _with_cells(net, searched[n % len(searched)].cells, generator))
    draw("searched paths", half, lambda n: replace(searched[n % len(searched)], cells=_cells(net, generator)))
    return jobs


def _same_cost(setting: Setting, net: SuperNet, target: float, generator: torch.Generator) -> Genotype:
    while True:
        genotype = _genotype(net, generator)
        if abs(_macs(setting, genotype) / target - 1) <= SAME_COST:
            return genotype


def _genotype(net: SuperNet, generator: torch.Generator) -> Genotype:
    return _with_cells(net, _cells(net, generator), generator)


def _with_cells(net: SuperNet, cells: CellGenes, generator: torch.Generator) -> Genotype:
    """Different paths, each drawn with equal probability among all."""
    paths: set[tuple[int, ...]] = set()
    uniform = SuperNet(1, 2, net.space, net.layout, net.part).edge_weights().detach()
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


def _network(setting: Setting, genotype: Genotype) -> torch.nn.Module:
    options = {**setting.recipe.network.options, "genotype": to_data(genotype)}
    return network_for_plan("searched", setting.plan, options)


def _macs(setting: Setting, genotype: Genotype) -> int:
    return profile(_network(setting, genotype), len(setting.plan.channels), setting.plan.patch_size).macs


def _train(setting: Setting, job: Job) -> dict[str, Any]:
    torch.set_num_threads(1)
    path = setting.out / "jobs" / f"{job.name}.json"
    if path.is_file():
        return dict(json.loads(path.read_text()))
    folder, split = RunFolder(setting.out / "runs" / job.name), load_split(open_dataset(setting.dataset))
    halves = selection_split(split.train, setting.recipe.training.selection)
    options = {**setting.recipe.network.options, "genotype": to_data(job.genotype)}
    recipe = replace(setting.recipe, network=Choice("searched", options))
    cases = TrainingCases(setting.prepared, *halves)
    run = set_up(folder, recipe, setting.plan, cases, job.seed, start_fabric(recipe, "cpu"))
    began = time.process_time()
    fit(run)
    seconds = time.process_time() - began
    network = _network(setting, job.genotype)
    load_weights(network, folder.weights("best"))
    log = read_log(folder.log)
    result = {
        "name": job.name, "group": job.group, "macs": _macs(setting, job.genotype),
        "parameters": sum(p.numel() for p in network.parameters()), "seconds": seconds,
        "selection": max(row["validation_dice"] for row in log),
        "dice": _score(setting, network.eval(), split.validation),
    }  # fmt: skip
    write_json(path, result)
    return result


def _score(setting: Setting, network: torch.nn.Module, ids: Iterable[str]) -> float:
    labels, stride = setting.plan.labels, setting.plan.total_stride
    counts = torch.zeros(3, len(labels.scored), dtype=torch.float64)
    for id in ids:
        case = open_case(setting.prepared / id, id).load()
        assert case.label is not None
        margins = [margin for n, step in zip(reversed(case.image.shape), reversed(stride), strict=False)
                   for margin in (0, -n % step)]  # fmt: skip
        with torch.no_grad():
            logits = network(F.pad(case.image[None], margins, mode="replicate"))
        d, h, w = case.label.shape
        counts += overlap(logits[..., :d, :h, :w], case.label[None], labels)
    return pooled_dice(counts)


def _report(setting: Setting, found: Sequence[dict[str, Any]], results: Sequence[dict[str, Any]], searches: int) -> str:
    dice = {group: [r["dice"] for r in results if r["group"] == group] for group in GROUPS}
    lines = ["| networks | n | pooled Dice [95 % bootstrap] | least | most | MMACs | training CPU s |"]
    lines.append("| --- | ---: | ---: | ---: | ---: | ---: | ---: |")
    for group in GROUPS:
        rows, of = [r for r in results if r["group"] == group], summarise(dice[group])
        assert of is not None
        macs, seconds = (statistics.mean(r[key] for r in rows) for key in ("macs", "seconds"))
        lines.append(
            f"| {group} | {of.n} | {of.mean:.4f} [{of.low:.4f}, {of.high:.4f}] | {of.minimum:.4f} | {of.maximum:.4f} "
            f"| {macs / 1e6:.1f} | {seconds:.1f} |"
        )
    lines.append("")
    for name, group in (("H1, searched - same cost", "same cost"), ("H2, searched - untrained", "untrained")):
        lines.append(f"- {name}: {_difference(dice['searched'], dice[group])}")
    pool = [r for r in results if r["group"] == "random"]
    search = statistics.mean(result["seconds"] for result in found)
    training = statistics.mean(r["seconds"] for r in pool)
    affordable = max(1, int((search + training) / training))
    count = min(affordable, len(pool))
    best = _best_of(pool, count)
    lines.append(
        f"- a search took {search:.1f} CPU s, a training {training:.1f}: in the time of both {affordable} random "
        f"networks are trained; the best of {count} on the selection cases has {best:.4f} on average, "
        f"searched - best of {count}: {statistics.mean(dice['searched']) - best:+.4f}"
    )
    lines.append(f"- settings: {' '.join(setting.overrides)}")
    return "\n".join(lines) + "\n"


def _difference(a: Sequence[float], b: Sequence[float], resamples: int = 10_000) -> str:
    """Of the means, with the interval of resampling both groups."""
    rng = np.random.default_rng(0)
    means = [rng.choice(np.asarray(values), (resamples, len(values))).mean(1) for values in (a, b)]
    low, high = np.percentile(means[0] - means[1], [2.5, 97.5])
    return f"{statistics.mean(a) - statistics.mean(b):+.4f} [{low:+.4f}, {high:+.4f}]"


def _best_of(pool: Sequence[dict[str, Any]], count: int, draws: int = 10_000) -> float:
    """Mean Dice of the network with the best selection score among `count` drawn from the pool, without replacement."""
    rng = np.random.default_rng(0)
    drawn = (rng.choice(len(pool), count, replace=False) for _ in range(draws))
    return statistics.mean(max((pool[n] for n in places), key=lambda r: r["selection"])["dice"] for places in drawn)


if __name__ == "__main__":
    main()
