"""Does the first rung tell who wins? `python -m benchmarks.halving_rank DATASET --out DIR`.

The 56 different networks of the 60 registered trainings of results/msnas are trained to the end, at the rate at which
such a training gets somewhere (0.01), and scored where the rungs of successive halving end: at 1/9, at
1/3 and at the end of one whole schedule. A second training has a whole schedule of its own that is as short as the
first rung. Figure: Spearman's rank correlation over the networks, of the Dice on the selection patches with the
exponential mean of the weights (and with the last weights) with the Dice of the whole training on the validation cases.

Written down before it was run: by simulation, at a spread of .045, halving gains +.014, +.024 and +.027 over the best
of 7 for correlations of .3, .5 and .7 at the first rung, and nothing below .3.

Every network is a job with a result of its own in DIR/jobs; interrupted, the same command goes on.
"""

from __future__ import annotations

import argparse
import json
import shutil
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.stats import spearmanr

import voxward
from benchmarks.msnas import OVERRIDES, RECIPE, Setting, score
from voxward.architecture_search import trial
from voxward.architecture_search.candidates import DECAY
from voxward.core.choices import Compute
from voxward.core.files import write_json, write_text
from voxward.core.recipe import Averaging, Choice, Recipe, load_recipe
from voxward.data.splits import selection_split
from voxward.nets.registry import network_for_plan
from voxward.runs.folder import RunFolder, load_weights
from voxward.training.fabric import start_fabric
from voxward.training.loop import fit
from voxward.training.setup import TrainingCases, TrainingRun, set_up
from voxward.training.validate import validate

REGISTERED = Path(__file__).parents[1] / "results" / "msnas" / "registered" / "results.json"
RATE = "optimizer.options.lr=0.01"
RESAMPLES = 2000
SHARES = (1 / 9, 1 / 3, 1.0)


def main() -> None:
    given = _options()
    overrides = (*OVERRIDES, RATE, *given.overrides)
    setting = Setting(given.dataset, given.out, load_recipe(RECIPE, overrides))
    if not (given.out / "plan.json").is_file():
        voxward.plan(given.dataset, recipe=RECIPE, out=given.out, overrides=overrides)
    voxward.prepare(given.dataset, out=setting.prepared, plan=given.out / "plan.json")
    torch.set_num_threads(1)
    results = []
    for n, network in enumerate(networks := registered(given.networks), 1):
        results.append(job(setting, network))
        found = results[-1]
        print(
            f"{n}/{len(networks)} {found['name']}: {found['seconds']:.1f} CPU s, Dice {found['dice']:.4f}", flush=True
        )
    write_json(given.out / "results.json", results)
    text = report(results) + f"\nSettings: {' '.join(overrides)}\n"
    write_text(given.out / "results.md", text)
    print(text)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--networks", type=int, default=56, help="the first so many (default 56: all)")
    parser.add_argument("--set", dest="overrides", action="append", default=[], metavar="KEY=VALUE")
    return parser.parse_args()


def registered(count: int, path: Path = REGISTERED) -> list[dict[str, Any]]:
    """The first different networks of the registered trainings."""
    rows = [row for row in json.loads(path.read_text()) if "dice" in row]
    different = {json.dumps(row["genotype"], sort_keys=True): row for row in reversed(rows)}
    return [row for row in rows if different[json.dumps(row["genotype"], sort_keys=True)] is row][:count]


def job(setting: Setting, network: dict[str, Any]) -> dict[str, Any]:
    """Train and score a network, or read what is there."""
    path, folder = setting.result(network["name"]), RunFolder(setting.out / "runs" / network["name"])
    if path.is_file():
        return dict(json.loads(path.read_text()))
    shutil.rmtree(folder.root, ignore_errors=True)  # begun, not ended
    options = {**setting.recipe.network.options, "genotype": network["genotype"]}
    recipe = replace(setting.recipe, network=Choice("searched", options), averaging=Averaging(decay=DECAY))
    began, rungs = time.process_time(), list[dict[str, Any]]()
    run = _opened(setting, recipe, folder)
    for share in SHARES:
        fit(run, until=share)
        rungs.append(
            {
                "share": share,
                "step": run.state.step,
                "ema": trial.score(run).dice,
                "last": validate(run, run.validation).dice,
            }
        )
    final = network_for_plan("searched", setting.plan, options).eval()
    load_weights(final, folder.weights("swa"))
    dice = score(setting, final, setting.split.validation)
    short = _short(setting, recipe, folder, rungs[0]["step"])
    seconds = time.process_time() - began
    result = {"name": network["name"], "group": network["group"], "rungs": rungs, "short": short, "dice": dice,
              "macs": network["macs"], "seconds": seconds}  # fmt: skip
    write_json(path, result)
    shutil.rmtree(folder.root)
    return result


def _opened(setting: Setting, recipe: Recipe, folder: RunFolder) -> TrainingRun:
    cases = TrainingCases(setting.prepared, *selection_split(setting.split.train, recipe.training.selection))
    return set_up(folder, recipe, setting.plan, cases, 0, start_fabric(recipe, Compute("cpu")))


def _short(setting: Setting, recipe: Recipe, folder: RunFolder, steps: int) -> float:
    """Dice on the selection patches after as many steps with a whole schedule of their own."""
    run = _opened(setting, recipe, RunFolder(folder.root / "short"))
    run.state.total_steps, run.state.validate_every = steps, steps
    fit(run)
    return trial.score(run).dice


def report(results: Sequence[dict[str, Any]]) -> str:
    """The table of correlations, with 95 % intervals of resampling the networks."""
    final = [row["dice"] for row in results]
    of: list[tuple[str, list[float]]] = []
    for n, share in enumerate(SHARES):
        for name, words in (("ema", "exponential mean"), ("last", "last weights")):
            of.append((f"{share:.2f} of the schedule, {words}", [row["rungs"][n][name] for row in results]))
    of.append(
        (f"a whole schedule of {SHARES[0]:.2f} of the steps, exponential mean", [row["short"] for row in results])
    )
    of.append(("multiply-adds", [row["macs"] for row in results]))
    lines = ["| ranked by | rank correlation with the final Dice [95 % bootstrap] |", "| --- | ---: |"]
    lines += [f"| {name} | {correlation(values, final)} |" for name, values in of]
    seconds = sum(row["seconds"] for row in results)
    lines.append("")
    lines.append(
        f"{len(results)} networks, final Dice {np.mean(final):.4f} (sd {np.std(final, ddof=1):.4f}), rungs end at "
        f"{', '.join(str(rung['step']) for rung in results[0]['rungs'])}; {seconds / 60:.1f} CPU minutes"
    )
    return "\n".join(lines) + "\n"


def correlation(values: Sequence[float], final: Sequence[float]) -> str:
    """Spearman's rank correlation with its interval."""
    pairs, rng = np.array([values, final]), np.random.default_rng(0)
    picked = (pairs[:, rng.integers(len(final), size=len(final))] for _ in range(RESAMPLES))
    drawn = [spearmanr(*few)[0] for few in picked if (few.max(1) > few.min(1)).all()]
    if not drawn:
        return "not defined: all are equal"
    low, high = np.percentile(drawn, [2.5, 97.5])
    return f"{spearmanr(*pairs)[0]:+.2f} [{low:+.2f}, {high:+.2f}]"


if __name__ == "__main__":
    main()
