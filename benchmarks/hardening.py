"""Networks before and after hardening, over seeds, attacked with the strong ensemble: a table and a figure per recipe.

    python -m benchmarks.hardening DATASET OUT --device cuda         # the headline: 2 recipes, 3 seeds, 3 methods
    python -m benchmarks.hardening DATASET OUT --frontier --runs runs/dynunet --attacks apgd-dice apgd-jsd-radii
        # instead of methods: PGD at training eps 2, 4 and 8/255 by three inner objectives, from a trained run

Per recipe and seed a clean run of --minutes; from it a run of --minutes by each method; all of them attacked by one
call of `voxward.attack`, in which what the attacks find on the clean run is tried on the hardened ones, too. Prints and
writes OUT/hardening.md and OUT/RECIPE-curves.png: worst-case Dice per eps, of the written files, over the cases of all
seeds. A call that was interrupted goes on where it stopped.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from rich.console import Console

import voxward
from voxward.core.choices import Change, Compute, Fold, Output
from voxward.core.files import write_text
from voxward.core.progress import Progress
from voxward.core.wording import eps_text
from voxward.report.attack import AttackReport
from voxward.report.progress import ShowProgress
from voxward.report.robustness_figures import curves_figure
from voxward.robustness.record import Record
from voxward.robustness.summary import View
from voxward.runs.folder import RunFolder, load_run
from voxward.training.log import read_log

CLEAN = "clean"


@dataclass(frozen=True)
class Defence:
    """One way to harden a run."""

    name: str
    method: Literal["free", "pgd", "trades"]
    eps: float = 8 / 255
    overrides: tuple[str, ...] = ()


@dataclass(frozen=True)
class Family:
    """A clean run and those hardened from it, by name. group: the families that are averaged."""

    group: str
    seed: int
    runs: dict[str, Path]
    attacked: AttackReport
    dice: dict[str, float]


METHODS = (Defence("free", "free"), Defence("pgd", "pgd"), Defence("trades", "trades"))
FRONTIER = tuple(
    Defence(f"{objective}-{eps}", "pgd", eps / 255, (f"defence.objective={objective}",))
    for eps in (2, 4, 8)
    for objective in ("dice", "ce", "balanced-ce")
)


def main() -> None:
    given = _options()
    for run in given.runs:
        load_run(run)  # refuses what is no trained run before hours of work
    begun = [(run.resolve().name, 0, run) for run in given.runs]
    if len({name for name, _, _ in begun}) < len(begun):
        raise ValueError(f"--runs must have different folder names, got {', '.join(map(str, given.runs))}")
    begun = begun or [(recipe, seed, None) for recipe in given.recipes for seed in given.seeds]
    with ShowProgress(Console(stderr=True)) as progress:
        families = [_family(given, *first, progress) for first in begun]
    groups = {group: [family for family in families if family.group == group] for group, _, _ in begun}
    records = {group: pooled(members) for group, members in groups.items()}
    text = "\n".join(table(group, members, records[group]) for group, members in groups.items())
    for group, found in records.items():
        curves_figure(given.out / f"{group}-curves.png", found, deployed=True)
    write_text(given.out / "hardening.md", text)
    print(text)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("dataset")
    add("out", type=Path)
    add("--recipes", nargs="+", default=["dynunet", "rog"])
    add("--seeds", nargs="+", type=int, default=[0, 1, 2])
    add("--runs", nargs="+", type=Path, default=[], metavar="RUN", help="trained runs to begin with, read only")
    add("--frontier", action="store_true", help="training eps and inner objectives instead of methods")
    add("--minutes", type=float, default=10.0, help="of each training (default 10)")
    add("--attacks", nargs="+", default=["strong"])
    add("--eps", nargs="+", type=int, default=[1, 2, 4, 8, 16], help="in 255ths (default 1 2 4 8 16)")
    add("--cases", type=int, help="that are attacked (default: all validation cases)")
    add("--steps", type=int, default=20, help="of APGD (default 20)")
    add("--queries", type=int, default=500, help="of Square (default 500)")
    add("--device", default="auto")
    add("--set", dest="overrides", action="append", default=[], metavar="KEY=VALUE", help="of the recipes")
    return parser.parse_args()


def _family(given: argparse.Namespace, group: str, seed: int, trained: Path | None, progress: Progress) -> Family:
    """Train what is not there yet, attack and score all of it."""
    out = given.out / f"{group}-{seed}"
    run = trained or voxward.train(
        given.dataset,
        out=out / CLEAN,
        recipe=group,
        minutes=given.minutes,
        resume=RunFolder(out / CLEAN).recipe.is_file(),
        overrides=given.overrides,
        progress=progress,
        fold=Fold(seed=seed),
        compute=Compute(device=given.device),
    )
    runs = {CLEAN: run}
    for defence in FRONTIER if given.frontier else METHODS:
        folder = out / defence.name
        runs[defence.name] = voxward.harden(
            run,
            out=Output(folder, progress=progress),
            method=defence.method,
            eps=defence.eps,
            minutes=given.minutes,
            resume=RunFolder(folder).recipe.is_file(),
            overrides=defence.overrides,
            change=Change(dataset=given.dataset, seed=seed),
            compute=Compute(device=given.device),
        )
    attacked = voxward.attack(
        list(runs.values()),
        given.dataset,
        out=Output(out / "attacks", progress=progress),
        protocol="strong",
        overrides=protocol_entries(given, run, seed),
        device=given.device,
    )
    dice = {}
    for name, one in runs.items():
        score = voxward.evaluate(
            one,
            given.dataset,
            out=out / "scores" / name,
            compute=Compute(device=given.device),
            resume=True,
            progress=progress,
        )
        assert score.foreground is not None  # the recipes' selection has refused data without foreground
        dice[name] = score.foreground.mean
    return Family(group, seed, runs, attacked, dice)


def protocol_entries(given: argparse.Namespace, surrogate: Path, seed: int) -> list[str]:
    """What is changed in the protocol `strong`: what the clean run's attacks find is tried on the others, too."""
    sizes = ", ".join(f"{eps}/255" for eps in given.eps)
    entries = [
        f"attacks=[{', '.join(given.attacks)}]",
        f"threat.eps=[{sizes}]",
        f"budget.steps={given.steps}",
        f"budget.queries={given.queries}",
        f"surrogate={json.dumps(str(surrogate))}",
        f"seeds=[{seed}]",
    ]
    return entries if given.cases is None else [*entries, f"cases={given.cases}"]


def pooled(families: Sequence[Family]) -> list[Record]:
    """The records of a group: models by the names that all its families share, a case once per seed."""
    pooled = []
    for family in families:
        names = {run.resolve().name: name for name, run in family.runs.items()}
        pooled += [
            replace(record, model=names[record.model], case=f"{record.case} {family.seed}")
            for record in family.attacked.records
        ]
    return pooled


def table(group: str, families: Sequence[Family], records: Sequence[Record]) -> str:
    sizes = View(records).eps
    heads = ["run", "minutes", "steps", "clean, all cases", "clean", *(eps_text(eps, "range") for eps in sizes)]
    rows = [heads, ["---"] + ["---:"] * (len(heads) - 1)]
    rows += [_row(name, families, records, sizes) for name in families[0].runs]
    lines = ["| " + " | ".join(cells) + " |" for cells in rows]
    cases = len(View(records, deployed=True).clean_dice(CLEAN))
    trusted = all(family.attacked.trustworthy for family in families)
    lines += [
        "",
        f"- worst case over the attacks and clean, mean over {cases} pairs of case and seed; in brackets its gain over"
        " the clean run with the 95 % bootstrap interval over the pairs",
        f"- seeds {' '.join(str(family.seed) for family in families)}; minutes and steps are those of one training",
        f"- checks of the attacks: {'passed' if trusted else 'NOT passed, see attacks/sanity.json'}",
    ]
    return f"## {group}\n\n" + "\n".join(lines) + "\n"


def _row(name: str, families: Sequence[Family], records: Sequence[Record], sizes: Sequence[float]) -> list[str]:
    logs = [read_log(RunFolder(family.runs[name]).log)[-1] for family in families]
    minutes, steps, dice = (
        sum(values) / len(families)
        for values in (
            [log["seconds"] / 60 for log in logs],
            [log["step"] for log in logs],
            [family.dice[name] for family in families],
        )
    )
    robust = [_robust(records, name, eps) for eps in sizes]
    own = View(records, deployed=True).clean_dice(name).values()
    return [name, f"{minutes:.1f}", f"{steps:.0f}", f"{dice:.3f}", f"{sum(own) / len(own):.3f}", *robust]


def _robust(records: Sequence[Record], name: str, eps: float) -> str:
    view = View(records, deployed=True)
    found, gain = view.robust_dice(name, eps), view.difference(name, CLEAN, eps)
    if found is None or gain is None:
        return "n/a"
    gained = "" if name == CLEAN else f" ({gain.mean:+.3f} [{gain.low:+.2f}, {gain.high:+.2f}])"
    return f"{found.mean:.3f}{gained}"


if __name__ == "__main__":
    main()
