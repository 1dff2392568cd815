"""Tables 1 and 2 of the MS-NAS paper: `python -m benchmarks.msnas_tables DATASET ... --out DIR --slices 64 96`.

UNet, NAS-UNet, AutoDeepLab and MS-NAS with 3, 4 and 5 paths, each trained for the same CPU seconds on each of five
folds: mean IoU and Dice (DSC), parameters and multiply-adds. The architecture is searched on the first dataset and
transferred to the others, as the paper does from one set of CHAOS to the others. A seventh of the first dataset is set
aside for that, and is in none of the five folds; on the same cases each network's learning rate is chosen, by trainings
of a third of the time (MS-NAS with 3 paths stands for all three). The time of the search is told and does not count, as
in the paper.

The super-net has 6 layers and 4 scales, 10 and 5 with --full, and works at half the size of a slice, because its steps
are slow: with 10, 5 and whole slices there was one in 23 CPU seconds.

Widths: UNet has --filters channels, and every other network the width at which its multiply-adds are to UNet's as in
the paper, 31.01 G to 28.43, 33.06 and 21.33. MS-NAS with 4 and 5 paths has the width of 3. The same rule at 256 x 256
gives the costs that stand beside the paper's.

Figures are of whole volumes, on slices of the size at which networks see them: the mean over the foreground classes of
a case, then over the cases of a fold; mean and standard deviation over folds. Differences are paired over the cases of
all folds, with 95 % bootstrap intervals, which know nothing of another training's luck.

`--full --device cuda` is the paper's size: slices of 256 x 256, UNet with 64 filters, the epochs of the recipe and its
search; written for whoever has such a GPU, and not run. Every piece of work has a result of its own in DIR/jobs;
interrupted, the same command goes on, and begins the unfinished one again.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import cached_property, partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch

import voxward
from benchmarks.counts import case_counts
from benchmarks.kept import keep_settings
from benchmarks.msnas_report import report
from benchmarks.msnas_widths import PAPER, PATHS, WIDTHS, Sized, sizes_of
from voxward.architecture_search.loop import search_architecture
from voxward.architecture_search.run import set_up_search
from voxward.core.choices import Compute
from voxward.core.files import write_json, write_text
from voxward.core.genotype import Genotype
from voxward.core.plan import Plan, load_plan
from voxward.core.recipe import Recipe, load_recipe
from voxward.core.structure import from_data, to_data
from voxward.data.formats import open_dataset
from voxward.data.splits import selection_split
from voxward.nets.registry import network_for_plan
from voxward.runs.folder import RunFolder, load_weights
from voxward.training.fabric import start_fabric
from voxward.training.loop import fit
from voxward.training.setup import TrainingCases, set_up
from voxward.training.validate import pooled_dice

RECIPE, FOLDS, APART = "msnas-2d", 5, 7
RATES = (0.001, 0.003, 0.01)
FULL_SLICES, FULL_FILTERS = 256, 64
SEARCH = (
    "search.checkpointing=false", "search.batch_size=4", "search.steps_per_epoch=2", "search.arch_optimizer=adam",
    "search.arch_lr=0.02", "search.layers=6", "search.scales=4", "network.options.filters=8",
    "network.options.flat_stem=false",
)  # fmt: skip
SMALL = ("preparation.batch_size=8", "training.workers=0", "training.precision=fp32", "training.min_steps=0")


@dataclass(frozen=True)
class Experiment:
    """What every piece of work shares.

    Attributes:
        out: The folder of the results.
        datasets: The datasets; the first is searched on.
        slices: The pixels per axis of a slice of each dataset.
        filters: The channels of UNet.
        seconds: The CPU seconds of a training; None: the epochs of the recipe.
        search_seconds: The CPU seconds of the search; None: the steps of the recipe.
        device: `cpu` or `cuda`.
        processes: How many trainings go on at once on a CPU.
        seed: The seed of everything that is drawn.
    """

    out: Path
    datasets: tuple[str, ...]
    slices: tuple[int, ...]
    filters: int
    seconds: float | None
    search_seconds: float | None
    device: str
    processes: int
    seed: int

    @cached_property
    def tasks(self) -> tuple[Task, ...]:
        """The datasets, with their folders."""
        return tuple(
            Task(self, Path(given).name, Path(given), size)
            for given, size in zip(self.datasets, self.slices, strict=True)
        )

    def recipe(self, *overrides: str) -> Recipe:
        """The recipe of all trainings and, with `SEARCH`, of the search."""
        return load_recipe(RECIPE, (*(SMALL if self.seconds is not None else ()), *overrides))

    def kept(self, name: str, work: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """The result of a piece of work, which is done where there is none."""
        path = self.out / "jobs" / f"{name}.json"
        if not path.is_file():
            shutil.rmtree(self.run(name).root, ignore_errors=True)  # begun, not ended
            write_json(path, work())
            shutil.rmtree(self.run(name).root, ignore_errors=True)
            print(name, flush=True)
        return dict(json.loads(path.read_text()))

    def all_kept(self, works: Mapping[str, Callable[[], dict[str, Any]]]) -> list[dict[str, Any]]:
        """The results of several pieces of work, done by processes of one thread each."""
        if self.device != "cpu" or self.processes == 1:
            return [self.kept(name, work) for name, work in works.items()]
        os.environ["OMP_NUM_THREADS"] = "1"
        with ProcessPoolExecutor(self.processes, mp_context=get_context("spawn")) as pool:
            return list(pool.map(self.kept, works.keys(), works.values()))

    def run(self, name: str) -> RunFolder:
        """The folder of a search or a training."""
        return RunFolder(self.out / "runs" / name)


@dataclass(frozen=True)
class Task:
    """A dataset, its plan, and its cases: those set aside for the search, and those of each fold."""

    of: Experiment
    name: str
    dataset: Path
    size: int

    @property
    def prepared(self) -> Path:
        return self.of.out / "data" / self.name / "prepared"

    @cached_property
    def plan(self) -> Plan:
        """The plan; all labelled cases are prepared by it."""
        folder, overrides = self.prepared.parent, self.overrides(self.size)
        if not (folder / "plan.json").is_file():
            voxward.plan(self.dataset, recipe=RECIPE, out=folder, overrides=overrides)
        voxward.prepare(self.dataset, out=self.prepared, plan=folder / "plan.json")
        return load_plan(folder / "plan.json")

    @cached_property
    def full_plan(self) -> Plan:
        """The plan at the paper's size, of which only costs are counted."""
        folder = self.of.out / "data" / f"{self.name}-full"
        if not (folder / "plan.json").is_file():
            voxward.plan(self.dataset, recipe=RECIPE, out=folder, overrides=self.overrides(FULL_SLICES))
        return load_plan(folder / "plan.json")

    @staticmethod
    def overrides(size: int) -> tuple[str, ...]:
        return (f"preparation.slice_size=[{size}, {size}]",)

    @cached_property
    def cases(self) -> tuple[tuple[str, ...], tuple[tuple[str, ...], ...]]:
        """The cases set aside, and the folds."""
        ids = sorted(case.id for case in open_dataset(self.dataset).cases)
        order = [ids[n] for n in np.random.default_rng(self.of.seed).permutation(len(ids))]
        apart = len(ids) // APART if self.of.tasks[0].name == self.name else 0
        return tuple(order[:apart]), tuple(tuple(order[apart + n :: FOLDS]) for n in range(FOLDS))


def main() -> None:
    experiment = _experiment()
    torch.set_num_threads(1)
    keep_settings(experiment.out, {**to_data(experiment), "out": None, "device": None, "processes": None})
    genotypes = _searched(experiment)
    sizes = {task.name: sizes_of(experiment.filters, task.plan, genotypes) for task in experiment.tasks}
    full = sizes_of(FULL_FILTERS, experiment.tasks[0].full_plan, genotypes)
    rates = _rates(experiment, sizes[experiment.tasks[0].name])
    rows = experiment.all_kept({
        f"{task.name}-{name}-{fold}": partial(_fold, task, sizes[task.name][name], rates, fold)
        for task in experiment.tasks for fold in range(FOLDS) for name in PAPER
    })  # fmt: skip
    write_json(experiment.out / "results.json", rows)
    searched = experiment.kept("search", dict)["seconds"]
    text = report(rows, sizes, full, rates) + f"\nThe search took {searched:.0f} CPU s, a training "
    text += "the epochs of the recipe.\n" if experiment.seconds is None else f"{experiment.seconds:g}.\n"
    write_text(experiment.out / "results.md", text)
    print(text)


def _experiment() -> Experiment:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("datasets", nargs="+", metavar="DATASET")
    add("--out", type=Path, required=True)
    add("--slices", type=int, nargs="+", help="pixels per axis for each dataset (default 64, with --full 256)")
    add("--filters", type=int, default=16, help="of UNet, without --full (default 16)")
    add("--seconds", type=float, default=150.0, help="CPU seconds of a training, without --full (default 150)")
    add("--search-seconds", type=float, default=360.0, help="CPU seconds of the search, without --full (default 360)")
    add("--full", action="store_true", help="the paper's size")
    add("--processes", type=int, default=2, help="trainings at once on a CPU, of one thread each (default 2)")
    add("--device", default="cpu")
    add("--seed", type=int, default=0)
    given = parser.parse_args()
    count = len(given.datasets)
    slices = given.slices or [FULL_SLICES if given.full else 64] * count
    if len(slices) != count:
        parser.error(f"--slices must give one size for each of the {count} datasets, got {len(slices)}")
    paper = (FULL_FILTERS, None, None)
    filters, seconds, search = paper if given.full else (given.filters, given.seconds, given.search_seconds)
    return Experiment(
        given.out,
        tuple(given.datasets),
        tuple(slices),
        filters,
        seconds,
        search,
        given.device,
        given.processes,
        given.seed,
    )


def _searched(experiment: Experiment) -> dict[str, Genotype]:
    """The networks that the search on the first dataset finds."""
    found = experiment.kept("search", lambda: _search(experiment.tasks[0]))["genotypes"]
    return {name: from_data(Genotype, found[name], "genotype") for name in PATHS}


def _search(task: Task) -> dict[str, Any]:
    experiment, (apart, _) = task.of, task.cases
    recipe = experiment.recipe(*(SEARCH if experiment.search_seconds is not None else ()))
    halves = TrainingCases(task.prepared, *selection_split(apart, 0.5, experiment.seed))
    settings, began = recipe.search, time.process_time()
    assert settings is not None
    run = set_up_search(
        experiment.run("search"), recipe, task.plan, halves, experiment.seed, torch.device(experiment.device),
        max(PATHS.values()),
    )  # fmt: skip
    search_architecture(run, _minutes(experiment.search_seconds), clock=time.process_time)
    decoded = {name: run.bilevel.net.decode(n, settings.score, settings.diverse) for name, n in PATHS.items()}
    return {
        "seconds": time.process_time() - began, "steps": run.bilevel.step,
        "genotypes": {name: to_data(one) for name, one in decoded.items()},
    }  # fmt: skip


def _minutes(seconds: float | None) -> float | None:
    return None if seconds is None else seconds / 60


def _rates(experiment: Experiment, sizes: Mapping[str, Sized]) -> dict[str, float]:
    """The best learning rate of each network, on the cases that were set aside for the search."""
    task, names = experiment.tasks[0], ("unet-2d", *WIDTHS)
    tried = experiment.all_kept(
        {f"rate-{name}-{rate}": partial(_tried, task, sizes[name], rate) for name in names for rate in RATES}
    )
    dice = iter([one["dice"] for one in tried])
    found = {name: max(((next(dice), rate) for rate in RATES), key=lambda pair: pair[0])[1] for name in names}
    return found | dict.fromkeys(PATHS, found["msnas-3"])


def _tried(task: Task, sized: Sized, rate: float) -> dict[str, Any]:
    """Train on three quarters of the cases that were set aside, and score the others."""
    fitted, held = selection_split(task.cases[0], 0.25, task.of.seed)
    seconds = task.of.seconds
    short = replace(task, of=replace(task.of, seconds=None if seconds is None else seconds / 3))
    found = _trained(short, sized, rate, fitted, held, f"rate-{sized.name}-{rate}")
    return {"dice": pooled_dice(torch.tensor(found["counts"]).sum(0)), "steps": found["steps"]}


def _fold(task: Task, sized: Sized, rates: Mapping[str, float], fold: int) -> dict[str, Any]:
    folds = task.cases[1]
    train = [id for n, ids in enumerate(folds) if n != fold for id in ids]
    found = _trained(task, sized, rates[sized.name], train, folds[fold], f"{task.name}-{sized.name}-{fold}")
    return {"task": task.name, "network": sized.name, "fold": fold, "cases": folds[fold], **found}


def _trained(
    task: Task, sized: Sized, rate: float, train: Sequence[str], scored: Sequence[str], name: str
) -> dict[str, Any]:
    """Train a network, and count what it finds in other cases."""
    experiment = task.of
    recipe = replace(experiment.recipe(f"optimizer.options.lr={rate}"), network=sized.choice)
    halves = selection_split(train, recipe.training.selection, experiment.seed)
    folder, cases = experiment.run(name), TrainingCases(task.prepared, *halves)
    fabric = start_fabric(recipe, Compute(experiment.device))
    run = set_up(folder, recipe, task.plan, cases, experiment.seed, fabric)
    fit(run, _minutes(experiment.seconds), clock=time.process_time)
    network = network_for_plan(sized.choice.name, task.plan, sized.choice.options).eval()
    load_weights(network, folder.weights("best"))
    counts = [case_counts(network, task.plan, task.prepared, id).tolist() for id in scored]
    return {"steps": run.state.step, "counts": counts}


if __name__ == "__main__":
    main()
