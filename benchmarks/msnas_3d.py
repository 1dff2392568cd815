"""A searched 3D network beside others: `python -m benchmarks.msnas_3d DATASET --out DIR --minutes M --beside RUN...`

Searches with the recipe `msnas` on the training cases of the fold, trains the network of --paths paths for M minutes,
scores it and the runs beside it on the validation cases, counts parameters and multiply-adds, and attacks all of them
with the same settings (apgd-dice on the deployed pipelines, whole volumes, the first --cases validation cases). Writes
DIR/msnas_3d.md, one table. The runs beside it are read only: train them with the same `--minutes`, e.g.
`voxward train DATASET --recipe rog --minutes M --out runs/rog`.

Interrupted, the same command goes on where it stopped.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

import voxward
from voxward.architecture_search.cost import profile
from voxward.core.choices import Compute, Fold, Output, Reuse
from voxward.core.files import write_text
from voxward.core.plan import load_json
from voxward.core.progress import Progress
from voxward.metrics.summary import Summary
from voxward.report.progress import ShowProgress
from voxward.robustness.record import Record
from voxward.robustness.summary import View
from voxward.runs.folder import RunFolder, RunSettings, load_run
from voxward.systems.evaluate import Evaluation
from voxward.training.log import read_log

ATTACK = "apgd-dice"
EPS = (4 / 255, 8 / 255, 16 / 255)
HEADS = (
    "network", "Dice [95 % interval]", "parameters M", "patch", "GMACs per patch", "kMACs per voxel", "minutes",
    "steps", "Dice, attacked cases", *(f"robust Dice {round(eps * 255)}/255" for eps in EPS),
)  # fmt: skip


def main() -> None:
    given = _options()
    names = [run.resolve().name for run in (given.out / f"msnas-{given.paths}", *given.beside)]
    if len(set(names)) < len(names):
        raise ValueError(f"--beside must name runs with different folder names, got {', '.join(names)}")
    for run in given.beside:
        load_run(run)  # refuses what is no trained run before hours of work
    with ShowProgress(Console(stderr=True)) as progress:
        runs = [_trained(given, progress), *given.beside]
        scores = [_scored(given, run, progress) for run in runs]
        attacked = voxward.attack(
            runs,
            given.dataset,
            out=voxward.Output(given.out / "attacks", progress=progress),
            overrides=_protocol_entries(given),
            device=given.device,
        )
    rows = [_row(run, score, attacked.records) for run, score in zip(runs, scores, strict=True)]
    text = "\n".join(f"| {' | '.join(cells)} |" for cells in (HEADS, ["---"] * len(HEADS), *rows))
    text += f"\n\n{ATTACK}, {given.steps} steps, whole volumes; checks of the attack: "
    text += "passed\n" if attacked.trustworthy else f"NOT passed, see {attacked.out / 'sanity.json'}\n"
    write_text(given.out / "msnas_3d.md", text)
    print(text)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("dataset")
    add("--out", type=Path, required=True)
    add("--minutes", type=float, required=True, help="of the searched network's training")
    add("--search-minutes", type=float, help="of the search (default: those of the training)")
    add("--paths", type=int, default=3, help="of the decoded network (default 3)")
    add("--beside", nargs="+", type=Path, default=[], metavar="RUN", help="trained runs on the same split")
    add("--cases", type=int, help="that are attacked (default: all validation cases)")
    add("--steps", type=int, default=20, help="of the attack (default 20)")
    add("--seed", type=int, default=0)
    add("--device", default="auto")
    add("--set", dest="overrides", action="append", default=[], metavar="KEY=VALUE", help="of the recipe msnas")
    given = parser.parse_args()
    for name in ("minutes", "search_minutes", "paths", "cases", "steps"):
        value = getattr(given, name)
        if value is not None and value <= 0:
            parser.error(f"--{name.replace('_', '-')} must be positive, got {value}")
    return given


def _trained(given: argparse.Namespace, progress: Progress) -> Path:
    """The searched network's run, where it is not there yet."""
    search, run = RunFolder(given.out / "search"), RunFolder(given.out / f"msnas-{given.paths}")
    if not (search.root / "architectures.json").is_file():
        voxward.search(
            given.dataset,
            out=Output(search.root, progress=progress),
            recipe="msnas",
            strategy=voxward.Strategy(paths=(given.paths,)),
            minutes=given.search_minutes or given.minutes,
            resume=search.recipe.is_file(),
            overrides=given.overrides,
            fold=Fold(seed=given.seed),
            compute=Compute(device=given.device),
        )
    if not run.postprocess.is_file():
        voxward.train(
            given.dataset,
            out=run.root,
            recipe=str(search.root / f"paths-{given.paths}.yaml"),
            minutes=given.minutes,
            resume=run.recipe.is_file(),
            progress=progress,
            reuse=Reuse(plan=search.plan, prepared=search.root / "prepared"),
            fold=Fold(seed=given.seed),
            compute=Compute(device=given.device),
        )
    return run.root


def _scored(given: argparse.Namespace, run: Path, progress: Progress) -> Evaluation:
    out = given.out / "scores" / run.resolve().name
    return voxward.evaluate(
        run, given.dataset, out=out, compute=Compute(device=given.device), resume=True, progress=progress
    )


def _protocol_entries(given: argparse.Namespace) -> list[str]:
    """What is changed in the protocol `autoattack`."""
    entries = [
        f"attacks=[{ATTACK}]",
        f"threat.eps={list(EPS)}",
        f"budget.steps={given.steps}",
        f"seeds=[{given.seed}]",
    ]
    return entries if given.cases is None else [*entries, f"cases={given.cases}"]


def _row(run: Path, score: Evaluation, records: Sequence[Record]) -> list[str]:
    model, folder, name = load_run(run), RunFolder(run), run.resolve().name
    patch = model.plan.patch_size
    cost = profile(model.network, len(model.plan.channels), patch)
    last, minutes = read_log(folder.log)[-1], load_json(RunSettings, folder.settings).minutes
    view = View(records, attacks=(ATTACK,))
    cases = len(view.case_dice(name, EPS[0]))
    return [
        name, _interval(score.foreground), f"{cost.parameters / 1e6:.3f}", " x ".join(map(str, patch)),
        f"{cost.macs / 1e9:.3f}", f"{cost.macs / (patch[0] * patch[1] * patch[2]) / 1e3:.1f}",
        f"{last['seconds'] / 60:.1f} of {'no budget' if minutes is None else f'{minutes:g}'}", f"{last['step']:.0f}",
        f"{view.mu(name):.3f} ({cases})",
        *(_interval(view.robust_dice(name, eps)) for eps in EPS),
    ]  # fmt: skip


def _interval(summary: Summary | None) -> str:
    return "n/a" if summary is None else f"{summary.mean:.3f} [{summary.low:.3f}, {summary.high:.3f}]"


if __name__ == "__main__":
    main()
