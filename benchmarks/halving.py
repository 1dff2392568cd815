"""Does successive halving pay? `python -m benchmarks.halving DATASET --out DIR --setting short`, registered.

Written down before it was run, with seeds from 900 up, three of each. Four ways to spend the same CPU seconds, those of
the search and of everything round it included:

- `halving`: the default rungs, 15 candidates to 1/9, 9 to 1/3 and 4 to the end, which are worth 6.3 whole trainings,
  and an eighth of the time for the super-net; what it really takes (with screening, set-up and scoring) is the budget
  of the others at that seed. The rungs were chosen before the run, by `benchmarks.halving_rungs`, in place of 27, 9 and
  3, and the overhead was halved;
- `random`: the best, by the same score, of as many random candidates as can be trained in that time. Twelve are trained
  and the mean over all choices of so many among them counts, which is less noisy than one choice;
- `bilevel`: the search of MS-NAS, then a whole training of its network of 3 paths;
- `dynunet`: the default recipe, trained for all of the time.

Settings: `short` (hippocampus slices, a whole training of 10 CPU s, about 120 steps), `long` (the same, 50 s, about 600
steps), and `3d` (volumes, a whole training of 340 s: 45 minutes in all, as long as the searched network of
results/msnas was trained). Figure: Dice pooled over all voxels of the validation cases, the mean of the foreground
classes; those cases are used for nothing else. Intervals resample seeds and cases together, in pairs.

`--rungs 12:1/3 4:1`, `--ways halving random` and `--seed` are for further attempts, with other rungs and other seeds.

Goals, registered: halving - random at least +.015 with an interval above 0 (short) and +.005 (long); 3d: halving -
dynunet at least +.005.

Time is the process's, with one thread. Every way at every seed is a job with a result of its own in DIR/jobs;
interrupted, the same command goes on, and begins the unfinished job again.
"""

from __future__ import annotations

import argparse
import json
import math
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

import voxward
from benchmarks.counts import case_counts
from benchmarks.kept import keep_settings
from voxward.architecture_search.begin import run_search, search_recipe
from voxward.architecture_search.book import optuna
from voxward.architecture_search.candidates import DECAY
from voxward.architecture_search.contest import compete
from voxward.architecture_search.contest_folder import begin_contest
from voxward.architecture_search.cost import profile
from voxward.architecture_search.rank import decode_best
from voxward.architecture_search.rungs import SUPER_NET, whole_trainings
from voxward.architecture_search.trial import trial_folder
from voxward.core.case import Split
from voxward.core.choices import Compute, Fold, Reuse
from voxward.core.files import write_json, write_text
from voxward.core.labels import LabelSet
from voxward.core.plan import Plan, load_plan
from voxward.core.progress import silent
from voxward.core.recipe import Averaging, Choice, Recipe, load_recipe
from voxward.core.strategy import RUNGS, Rungs, Strategy, read_rungs
from voxward.core.structure import to_data
from voxward.data.formats import open_dataset
from voxward.data.splits import load_split, selection_split
from voxward.engine.engine import InProcess
from voxward.losses.registry import create_loss
from voxward.nets.registry import create_network, network_for_plan
from voxward.runs.folder import RunFolder, load_weights
from voxward.training.begin import Request
from voxward.training.fabric import start_fabric
from voxward.training.loop import fit
from voxward.training.setup import TrainingCases, set_up
from voxward.training.validate import pooled_dice

POOL, PATHS = 12, 3
RESAMPLES = 2000
WAYS = ("halving", "random", "bilevel", "dynunet")
CPU = ("training.workers=0", "training.precision=fp32")
SLICES = ("preparation.slice_size=null", "preparation.batch_size=8", *CPU)
MSNAS_2D = (
    *SLICES, "network.options.filters=8", "network.options.flat_stem=false", "search.layers=4", "search.scales=3",
    "search.part=2", "search.checkpointing=false", "search.batch_size=8", "search.steps_per_epoch=2",
    "search.arch_optimizer=adam", "search.arch_lr=0.02", "optimizer.options.lr=0.01",
)  # fmt: skip


@dataclass(frozen=True)
class Setting:
    """One size of the experiment: the searched recipe, the default one, and the seconds of a whole training."""

    recipe: str
    overrides: tuple[str, ...]
    beside: tuple[str, ...]
    seconds: float
    rungs: Rungs = RUNGS


SETTINGS = {
    "short": Setting("msnas-2d", MSNAS_2D, ("preparation.planner=slices", *SLICES), 10.0),
    "long": Setting("msnas-2d", MSNAS_2D, ("preparation.planner=slices", *SLICES), 50.0),
    "3d": Setting("msnas", CPU, CPU, 340.0),
}


@dataclass(frozen=True)
class Job:
    """One way at one seed."""

    dataset: str
    out: Path
    setting: Setting
    way: str
    seed: int

    @property
    def name(self) -> str:
        return f"{self.way}-{self.seed}"

    @property
    def folder(self) -> Path:
        return self.out / "runs" / self.name

    @property
    def result(self) -> Path:
        return self.out / "jobs" / f"{self.name}.json"

    @property
    def split(self) -> Split:
        """The same for all ways at one seed."""
        return load_split(open_dataset(self.dataset), 0, self.seed)

    def request(self, folder: Path, seconds: float) -> Request:
        data = _data(self, self.setting.recipe, self.setting.overrides)
        return Request(
            dataset=open_dataset(self.dataset), out=RunFolder(folder), recipe=self.setting.recipe,
            overrides=self.setting.overrides, minutes=seconds / 60, fold=Fold(seed=self.seed),
            reuse=Reuse(plan=data / "plan.json", prepared=data / "prepared"), compute=Compute("cpu"),
        )  # fmt: skip


def main() -> None:
    given = _options()
    torch.set_num_threads(1)
    _import_all()
    setting, out = SETTINGS[given.setting], given.out / given.setting
    if given.seconds is not None:
        setting = replace(setting, seconds=given.seconds)
    if given.rungs is not None:
        setting = replace(setting, rungs=read_rungs(given.rungs))
    keep_settings(out, {"dataset": str(Path(given.dataset).resolve()), "setting": to_data(setting)})
    results = []
    for seed in range(given.seed, given.seed + given.seeds):
        budget = None
        for way in given.ways:
            found = _done(Job(given.dataset, out, setting, way, seed), budget)
            budget = budget or float(found["seconds"])
            results.append(found)
            print(f"{way} {seed}: {found['seconds']:.0f} CPU s, Dice {_value(found):.4f}", flush=True)
    write_json(out / "results.json", results)
    text = report(results)
    write_text(out / "results.md", text)
    print(text)


def _import_all() -> None:
    """Import what is imported where it is first needed: it would count for the way that happens to be the first."""
    optuna()
    create_loss(Choice("dice-ce"), LabelSet(("background", "organ"), (0, 1)))
    with torch.device("meta"):
        profile(create_network("unet-2d", 1, 2, filters=1), 1, (16, 16, 1))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--setting", choices=tuple(SETTINGS), required=True)
    parser.add_argument("--seeds", type=int, default=3, help="how many (default 3)")
    parser.add_argument("--seed", type=int, default=900, help="the first (default 900)")
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=WAYS, help="halving first (default all)")
    parser.add_argument("--rungs", nargs="+", metavar="N:SHARE", help="of halving, in place of the registered ones")
    parser.add_argument("--seconds", type=float, help="of a whole training, in place of the setting's: only to try it")
    return parser.parse_args()


def _done(job: Job, budget: float | None) -> dict[str, Any]:
    if not job.result.is_file():
        shutil.rmtree(job.folder, ignore_errors=True)  # begun, not ended: its time is not known
        base = whole_trainings(job.setting.rungs) / (1 - SUPER_NET) * job.setting.seconds
        found = _RUN[job.way](job, base if budget is None else budget)
        write_json(job.result, {"way": job.way, "seed": job.seed, "budget": budget, **found})
        shutil.rmtree(job.folder, ignore_errors=True)  # what is left of it is in the result
    return dict(json.loads(job.result.read_text()))


def _data(job: Job, recipe: str, overrides: Sequence[str]) -> Path:
    """The folder of the plan and the prepared cases of a recipe, which all seeds share; its time does not count."""
    folder = job.out / "data" / recipe
    if not (folder / "plan.json").is_file():
        voxward.plan(job.dataset, recipe=recipe, out=folder, overrides=overrides)
    voxward.prepare(job.dataset, out=folder / "prepared", plan=folder / "plan.json")
    return folder


def _contest(job: Job, strategy: Strategy, seconds: float) -> dict[str, Any]:
    """The candidates of a search by trainings that were trained to the end: selection score, and counts per case."""
    request = job.request(job.folder, seconds)
    recipe = search_recipe(request)
    began = time.process_time()
    contest = begin_contest(request, recipe, strategy, silent, time.process_time)
    best = compete(contest, InProcess(job.folder), silent)
    spent = time.process_time() - began
    rows = []
    for one in best:
        folder, used = trial_folder(job.folder, one.number), contest.recipe_of(one.number)
        counts = _counts(job, used, contest.plan, contest.cases.folder, folder)
        rows.append({"selection": one.score.dice, "macs": one.macs, "steps": one.score.steps, "counts": counts})
    return {"seconds": spent, "found": rows, "of": 1}


def _halving(job: Job, seconds: float) -> dict[str, Any]:
    found = _contest(job, Strategy("halving", rungs=job.setting.rungs), seconds)
    return {**found, "found": found["found"][:1]}


def _random(job: Job, seconds: float) -> dict[str, Any]:
    found = _contest(job, Strategy("random", candidates=POOL), POOL * job.setting.seconds)
    each = found["seconds"] / POOL
    return {**found, "of": max(1, min(len(found["found"]), round(seconds / each)))}


def _bilevel(job: Job, seconds: float) -> dict[str, Any]:
    request = job.request(job.folder / "search", seconds - job.setting.seconds)
    recipe = search_recipe(request)
    began = time.process_time()
    run = run_search(request, recipe, (PATHS,), silent, time.process_time)
    genotype = decode_best(run, PATHS, InProcess(request.out.root))[0]
    searched = time.process_time() - began
    options = {**recipe.network.options, "genotype": to_data(genotype)}
    used = replace(
        recipe, network=Choice("searched", options), averaging=Averaging(decay=DECAY),
        inference=replace(recipe.inference, checkpoint="swa"), training=replace(recipe.training, min_steps=0),
    )  # fmt: skip
    found = _trained(job, used, _data(job, job.setting.recipe, job.setting.overrides), job.setting.seconds)
    return {**found, "seconds": searched + found["seconds"]}


def _dynunet(job: Job, seconds: float) -> dict[str, Any]:
    recipe = load_recipe("dynunet", job.setting.beside)
    return _trained(job, recipe, _data(job, "dynunet", job.setting.beside), seconds)


def _trained(job: Job, recipe: Recipe, data: Path, seconds: float) -> dict[str, Any]:
    plan, folder = load_plan(data / "plan.json"), RunFolder(job.folder / "run")
    cases = TrainingCases(data / "prepared", *selection_split(job.split.train, recipe.training.selection, job.seed))
    began = time.process_time()
    run = set_up(folder, recipe, plan, cases, job.seed, start_fabric(recipe, Compute("cpu")))
    fit(run, seconds / 60, clock=time.process_time)
    spent = time.process_time() - began
    counts = _counts(job, recipe, plan, cases.folder, folder)
    return {"seconds": spent, "found": [{"selection": 0.0, "steps": run.state.step, "counts": counts}], "of": 1}


_RUN: dict[str, Callable[[Job, float], dict[str, Any]]] = {
    "halving": _halving, "random": _random, "bilevel": _bilevel, "dynunet": _dynunet,
}  # fmt: skip


def _counts(job: Job, recipe: Recipe, plan: Plan, prepared: Path, folder: RunFolder) -> list[list[list[float]]]:
    """What `overlap` counts for every validation case, (cases, 3, classes), with the weights that are deployed."""
    network = network_for_plan(recipe.network.name, plan, recipe.network.options).eval()
    load_weights(network, folder.weights(recipe.inference.checkpoint))
    return [case_counts(network, plan, prepared, id).tolist() for id in job.split.validation]


def report(results: Sequence[dict[str, Any]]) -> str:
    """The table and the differences from halving, with intervals."""
    seeds = sorted({row["seed"] for row in results})
    ways = tuple(dict.fromkeys(row["way"] for row in results))
    by_way = {way: [row for seed in seeds for row in results if (row["way"], row["seed"]) == (way, seed)]
              for way in ways}  # fmt: skip
    lines = [
        "| way | pooled Dice of each seed | mean | CPU s | steps of the best | best of |",
        "| --- | --- | ---: | ---: | ---: | ---: |",
    ]
    for way, rows in by_way.items():
        dice = [_value(row) for row in rows]
        steps = np.mean([row["found"][0]["steps"] for row in rows])
        lines.append(
            f"| {way} | {', '.join(f'{value:.4f}' for value in dice)} | {np.mean(dice):.4f} "
            f"| {np.mean([row['seconds'] for row in rows]):.0f} | {steps:.0f} "
            f"| {', '.join(str(row['of']) for row in rows)} |"
        )
    lines.append("")
    lines += [f"- halving - {way}: {_difference(by_way['halving'], by_way[way])}" for way in ways if way != "halving"]
    return "\n".join(lines) + "\n"


def _difference(ours: Sequence[dict[str, Any]], theirs: Sequence[dict[str, Any]]) -> str:
    """Mean difference of pairs with the 95 % interval of resampling seeds, and cases within each."""
    rng, drawn = np.random.default_rng(0), []
    for _ in range(RESAMPLES):
        picked = []
        for n in rng.integers(len(ours), size=len(ours)):
            cases = rng.integers(len(ours[n]["found"][0]["counts"]), size=len(ours[n]["found"][0]["counts"]))
            picked.append(_value(ours[n], cases) - _value(theirs[n], cases))
        drawn.append(np.mean(picked))
    low, high = np.percentile(drawn, [2.5, 97.5])
    mean = np.mean([_value(a) - _value(b) for a, b in zip(ours, theirs, strict=True)])
    return f"{mean:+.4f} [{low:+.4f}, {high:+.4f}]"


def _value(row: dict[str, Any], cases: Any = None) -> float:
    """Pooled Dice over some cases: the mean over all choices of `of` networks of the one with the best score."""
    dice = []
    for found in sorted(row["found"], key=lambda one: -one["selection"]):
        counts = np.array(found["counts"])
        dice.append(pooled_dice(torch.from_numpy((counts if cases is None else counts[cases]).sum(0))))
    ways = [math.comb(len(dice) - n, row["of"] - 1) for n in range(1, len(dice) + 1)]
    return float(np.dot(dice, ways) / sum(ways))


if __name__ == "__main__":
    main()
