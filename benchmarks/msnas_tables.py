"""Tables 1 and 2 of MS-NAS: `python -m benchmarks.msnas_tables HIPPOCAMPUS SARCOMA --out DIR [--full --device cuda]`.

U-Net, NAS-UNet, AutoDeepLab and MS-NAS with 3, 4 and 5 paths, five-fold cross-validation, the same minutes each, with
mean IoU, Dice, parameters and multiply-adds. Two datasets of slices: a small organ (64 x 64) and a tumour (96 x 96). As
in the paper, the architecture is searched on another dataset than the one on which it is scored: that of each dataset
on the other one, so that no scored case was seen by the search. The space is the paper's: 10 layers, 5 scales, 3
blocks.

Nobody can train the published widths on a CPU. There, U-Net has a quarter of its filters, and each other network the
number of filters at which its multiply-adds are to U-Net's as in the paper (a network whose stem has a fixed width, as
AutoDeepLab's, comes as near as it can). `--full` takes slices of 256 x 256, the widths nearest to the published sizes,
and a GPU. A second table counts every network at that size, beside the paper's figures, in both cases.

Dice and IoU are those of each case at the size of the slices, over the foreground classes that it has; every case is
scored once, by the fold that did not train on it. Intervals resample folds, and cases within them, in pairs. Time is
the process's, or the clock's on a GPU.

Every search and every training is a job with a result of its own in DIR/jobs; interrupted, the same command goes on,
and begins the unfinished job again.
"""

from __future__ import annotations

import argparse
import json
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F

import voxward
from benchmarks.msnas_report import report
from benchmarks.msnas_sizes import NETWORKS, SEARCHED, fitted, published
from voxward.architecture_search.begin import run_search
from voxward.architecture_search.rank import decode_best
from voxward.core.case import Split
from voxward.core.choices import Compute, Fold, Reuse
from voxward.core.files import write_json, write_text
from voxward.core.plan import Plan, load_plan
from voxward.core.progress import silent
from voxward.core.recipe import Choice, Recipe, load_recipe
from voxward.core.structure import to_data
from voxward.data.formats import open_dataset
from voxward.data.splits import load_split, selection_split
from voxward.data.store import open_case
from voxward.engine.engine import InProcess
from voxward.nets.registry import network_for_plan
from voxward.runs.folder import RunFolder, load_weights
from voxward.training.begin import Request
from voxward.training.loop import fit
from voxward.training.setup import TrainingCases, set_up, start_fabric
from voxward.training.validate import overlap

PATHS = (3, 4, 5)
_AT_ONCE = 16  # slices of a case that are predicted at once


@dataclass(frozen=True)
class Size:
    """How large everything is.

    Args:
        slices: The edge of the slices of each dataset.
        minutes: Of each training.
        search: Minutes of each search.
        overrides: Of every recipe.
        searched: Of the recipe of the search.
    """

    slices: tuple[int, int]
    minutes: float
    search: float
    overrides: tuple[str, ...]
    searched: tuple[str, ...] = ()


COMMON = ("training.min_steps=0", "search.min_steps=0", "preparation.batch_size=8")
SMALL = Size(
    slices=(64, 96), minutes=1.0, search=6.0,
    overrides=(*COMMON, "training.workers=0", "training.precision=fp32", "optimizer.options.lr=0.003"),
    searched=(
        "network.options.filters=8", "search.part=2", "search.checkpointing=false", "search.batch_size=8",
        "search.arch_optimizer=adam", "search.arch_lr=0.02",
    ),
)  # fmt: skip
FULL = Size(slices=(256, 256), minutes=120.0, search=720.0, overrides=COMMON)


@dataclass(frozen=True)
class Study:
    """Two datasets in one folder of results."""

    out: Path
    datasets: tuple[str, str]
    size: Size
    full: bool
    device: str
    folds: int

    @property
    def clock(self) -> Callable[[], float]:
        """The process's time on a CPU, which other work on the machine does not change."""
        return time.perf_counter if self.device == "cuda" else time.process_time

    def recipe(self, network: str, place: int) -> Recipe:
        name = "msnas-2d" if network in SEARCHED else network
        edge = self.size.slices[place]
        extra = self.size.searched if network in SEARCHED else ()
        overrides = [o for o in self.size.overrides if network in SEARCHED or not o.startswith("search.")]
        return load_recipe(name, (*overrides, f"preparation.slice_size=[{edge},{edge}]", *extra))

    def folder(self, place: int) -> Path:
        return self.out / "data" / str(place)

    def plan(self, place: int) -> Plan:
        return load_plan(self.folder(place) / "plan.json")

    def split(self, place: int, fold: int) -> Split:
        return load_split(open_dataset(self.datasets[place]), fold, 0, self.folds)


def main() -> None:
    given = _options()
    size = FULL if given.full else SMALL
    size = replace(
        size, minutes=given.minutes or size.minutes, search=given.search_minutes or size.search,
        overrides=(*size.overrides, *given.overrides),
    )  # fmt: skip
    study = Study(given.out, (given.first, given.second), size, given.full, given.device, given.folds)
    text = measure(study)
    print(text)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("first", help="the dataset of the smaller slices, such as Task04_Hippocampus")
    add("second", help="the dataset of the larger slices, such as Task20_SoftTissueSarcoma")
    add("--out", type=Path, required=True)
    add("--minutes", type=float, help="of each training (default 1; with --full 120)")
    add("--search-minutes", type=float, help="of each search (default 6; with --full 720)")
    add("--folds", type=int, default=5)
    add("--full", action="store_true", help="slices of 256 x 256 and the published widths")
    add("--device", default="cpu", choices=("cpu", "cuda"))
    add("--set", dest="overrides", action="append", default=[], metavar="KEY=VALUE")
    return parser.parse_args()


def measure(study: Study) -> str:
    """Do what is not done yet, and write the tables."""
    _keep_settings(study)
    torch.set_num_threads(1 if study.device == "cpu" else torch.get_num_threads())
    for place in (0, 1):
        prepare(study, place)
    jobs, results = list(_jobs(study)), list[dict[str, Any]]()
    names = [study.plan(place).dataset for place in (0, 1)]
    classes = [list(study.plan(place).labels.scored) for place in (0, 1)]
    searches = [_job(study, f"search-{place}", lambda place=place: search(study, place)) for place in (0, 1)]
    for n, (place, network, fold) in enumerate(jobs, 1):
        other = searches[1 - place]
        found = _job(
            study, f"{place}-{network}-{fold}",
            lambda of=(place, network, fold), other=other: train(study, *of, genotypes=other["genotypes"]),
        )  # fmt: skip
        results.append({"place": place, "network": network, "fold": fold, **found})
        print(f"{n}/{len(jobs)} {network} on {names[place]}, fold {fold}: {found['steps']} steps", flush=True)
    genotypes = [one["genotypes"] for one in searches]
    write_json(study.out / "results.json", {"datasets": names, "searches": searches, "trainings": results})
    text = report(results, names, classes, published(genotypes))
    text += f"\nSettings: {json.dumps(to_data(study.size))}, {study.folds} folds, {study.device}\n"
    write_text(study.out / "results.md", text)
    return text


def _jobs(study: Study) -> Iterator[tuple[int, str, int]]:
    """All trainings; a fold is whole before the next one begins."""
    for fold in range(study.folds):
        for place in (0, 1):
            for network in NETWORKS:
                yield place, network, fold


def _keep_settings(study: Study) -> None:
    path = study.out / "settings.json"
    now = {"datasets": [str(Path(dataset).resolve()) for dataset in study.datasets], "size": to_data(study.size),
           "full": study.full, "device": study.device, "folds": study.folds}  # fmt: skip
    now = json.loads(json.dumps(now))
    if not path.is_file():
        write_json(path, now)
    elif json.loads(path.read_text()) != now:
        raise ValueError(f"{study.out} holds results of other settings, see {path}: choose another --out")


def _job(study: Study, name: str, do: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    path = study.out / "jobs" / f"{name}.json"
    if not path.is_file():
        write_json(path, do())
    return dict(json.loads(path.read_text()))


def _emptied(study: Study, name: str) -> RunFolder:
    """A run folder in which nothing is; what was begun there did not end, and its time is not known."""
    folder = study.out / "runs" / name
    shutil.rmtree(folder, ignore_errors=True)
    return RunFolder(folder)


def prepare(study: Study, place: int) -> None:
    """Plan and prepare a dataset once for all networks, whose recipes prepare it alike; the time does not count."""
    folder, recipe = study.folder(place), study.recipe(SEARCHED[0], place)
    if any(study.recipe(network, place).preparation != recipe.preparation for network in NETWORKS):
        raise ValueError("the recipes prepare the slices in different ways")
    if not (folder / "plan.json").is_file():
        edge = study.size.slices[place]
        overrides = (*study.size.overrides, f"preparation.slice_size=[{edge},{edge}]")
        voxward.plan(study.datasets[place], recipe="msnas-2d", out=folder, overrides=overrides)
    voxward.prepare(study.datasets[place], out=folder / "prepared", plan=folder / "plan.json")


def search(study: Study, place: int) -> dict[str, Any]:
    """Search once for all numbers of paths, on the training cases of the first fold."""
    folder, recipe = study.folder(place), study.recipe(SEARCHED[0], place)
    request = Request(
        dataset=open_dataset(study.datasets[place]), out=_emptied(study, "search"), recipe="msnas-2d",
        overrides=(), minutes=study.size.search, fold=Fold(folds=study.folds),
        reuse=Reuse(plan=folder / "plan.json", prepared=folder / "prepared"), compute=Compute(study.device),
    )  # fmt: skip
    began = study.clock()
    run = run_search(request, recipe, PATHS, silent, study.clock)
    found = {f"msnas-{count}": to_data(decode_best(run, count, InProcess(request.out.root))[0]) for count in PATHS}
    return {"genotypes": found, "seconds": study.clock() - began, "steps": run.bilevel.step}


def train(study: Study, place: int, network: str, fold: int, *, genotypes: dict[str, Any]) -> dict[str, Any]:
    """Train a network on a fold, and count what it predicts for each case that is held out."""
    plan, base = study.plan(place), study.recipe(network, place)
    size = _job(study, f"size-{place}-{network}", lambda: to_data(fitted(network, plan, genotypes, study.full)))
    recipe = replace(base, network=Choice(base.network.name, size["options"]))
    split = study.split(place, fold)
    cases = TrainingCases(study.folder(place) / "prepared", *selection_split(split.train, recipe.training.selection))
    folder = _emptied(study, "training")
    began = study.clock()
    run = set_up(folder, recipe, plan, cases, fold, start_fabric(recipe, Compute(study.device)))
    fit(run, study.size.minutes, clock=study.clock)
    seconds = study.clock() - began
    found = network_for_plan(recipe.network.name, plan, recipe.network.options).eval()
    load_weights(found, folder.weights(recipe.inference.checkpoint))
    counts = [case_counts(found, plan, cases.folder, id) for id in split.validation]
    return {"cases": list(split.validation), "counts": counts, "steps": run.state.step, "seconds": seconds,
            **{key: size[key] for key in ("filters", "parameters", "macs")}}  # fmt: skip


def case_counts(network: torch.nn.Module, plan: Plan, prepared: Path, id: str) -> list[list[float]]:
    """What `overlap` counts for a case, (3, classes): voxels that agree, that are predicted, that are true."""
    case = open_case(prepared / id, id).load()
    assert case.label is not None
    margins = [margin for n, step in zip(reversed(case.image.shape), reversed(plan.total_stride), strict=False)
               for margin in (0, -n % step)]  # fmt: skip
    d, h, _ = case.label.shape
    counts = torch.zeros(3, len(plan.labels.scored), dtype=torch.float64)
    image = F.pad(case.image[None], margins, mode="replicate")
    for part, truth in zip(image.split(_AT_ONCE, -1), case.label.split(_AT_ONCE, -1), strict=True):
        with torch.no_grad():
            logits = network(part)
        counts += overlap(logits[..., :d, :h, :], truth[None], plan.labels)
    found: list[list[float]] = counts.tolist()
    return found


if __name__ == "__main__":
    main()
