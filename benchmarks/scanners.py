"""What scanners do, what an attack does and what can be proven: `python -m benchmarks.scanners DATASET OUT`.

A clean run, and from it runs that are hardened by PGD, with noise, and by `mixed`, all on the same held-out cases:

- the mean Dice under corruptions, the gap to the clean one, and the worst corruption (`--corruptions`, one protocol);
- the worst case of `strong` at 8/255, on the first --attacked cases;
- certified medians within 1 and 2 sigma, and the bound of the certified mask (sigma .25, 200 runs; for the run with
  noise also 1000 runs, because 200 say little about 2 sigma).

Written down before it was run: `mixed` is to have a gap of at most .05, clean Dice that is not lower (the interval of
the paired difference holds 0), and robust Dice within .02 of PGD's; `noise` certified medians of at least .80 at 1
sigma and .70 at 2 sigma, and a mask bound of at least .70.

Writes OUT/corruptions.md and OUT/certificate.md; every part is an ordinary folder of voxward, so that the same command
goes on where it was interrupted. PGD has the settings of results/hardening, the other two are the defaults.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

import torch
from rich.console import Console

import voxward
from voxward.core.choices import Change, Compute, Fold, Output
from voxward.core.files import write_text
from voxward.core.progress import Progress
from voxward.metrics.summary import summarise
from voxward.report.certificate import Certified, certified
from voxward.report.progress import ShowProgress
from voxward.report.text import interval_text, signed_text
from voxward.robustness.certified import read_certificates
from voxward.robustness.corruption_figures import CorruptionView
from voxward.robustness.record import Record
from voxward.robustness.summary import View
from voxward.runs.folder import RunFolder

CLEAN, PGD, NOISE, MIXED = "clean", "pgd", "noise", "mixed"
HARDENED: Mapping[str, tuple[float | None, tuple[str, ...]]] = {
    PGD: (10 / 255, (
        "defence.objective=dice-sharp", "defence.warmup=0.6", "defence.steps=2", "optimizer.options.lr=0.002",
    )),
    NOISE: (None, ()),
    MIXED: (None, ()),
}  # fmt: skip
"""The radius and the settings of each method; None: the default radius, or none."""
EPS = 8 / 255
MANY = 1000
"""The runs under noise of the second certificate."""


@dataclass(frozen=True)
class Study:
    """What is measured, and where."""

    dataset: Path
    out: Path
    recipe: str
    minutes: float
    hardening: float
    corruptions: str
    attacked: int
    samples: int
    device: str
    overrides: tuple[str, ...]
    progress: Progress

    def run(self, name: str) -> Path:
        return self.out / "runs" / name

    def trained(self) -> Path:
        """The clean run."""
        folder = self.run(CLEAN)
        return voxward.train(
            self.dataset, out=folder, recipe=self.recipe, minutes=self.minutes, fold=Fold(),
            overrides=(*self.overrides, "training.workers=0"), resume=RunFolder(folder).recipe.is_file(),
            compute=Compute(device=self.device), progress=self.progress,
        )  # fmt: skip

    def hardened(self, name: str) -> Path:
        """A run that was hardened from the clean one."""
        folder, (eps, changes) = self.run(name), HARDENED[name]
        return voxward.harden(
            self.run(CLEAN), out=Output(folder, progress=self.progress, report=False), method=name, eps=eps,
            minutes=self.hardening, overrides=(*changes, "training.workers=0"),
            resume=RunFolder(folder).recipe.is_file(), change=Change(dataset=self.dataset),
            compute=Compute(device=self.device),
        )  # fmt: skip

    def measured(self, part: str, names: Sequence[str], protocol: str, *overrides: str) -> Sequence[Record]:
        """What a protocol finds on runs."""
        found = voxward.attack(
            [str(self.run(name)) for name in names], self.dataset,
            out=Output(self.out / part, progress=self.progress), protocol=protocol, overrides=overrides,
            device=self.device,
        )  # fmt: skip
        if not found.trustworthy:
            print(f"NOT trustworthy: {part}, see {found.out / 'sanity.json'}", flush=True)
        return found.records


def main() -> None:
    given = _options()
    if given.device == "cpu":
        torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    with ShowProgress(Console(stderr=True)) as progress:
        study = Study(
            given.dataset, given.out, given.recipe, given.minutes, given.hardening, given.corruptions, given.attacked,
            given.samples, given.device, tuple(given.overrides), progress,
        )  # fmt: skip
        study.trained()
        for name in HARDENED:
            study.hardened(name)
        names = [CLEAN, *HARDENED]
        scanned = study.measured("corruptions", names, study.corruptions)
        attacked = study.measured(
            "strong", names, "strong", "attacks=[strong]", f"threat.eps=[{EPS}]", "controls=[clean]", "keep=none",
            f"cases={study.attacked}",
        )  # fmt: skip
        study.measured("certificate", names, "certificate", f"certificate.samples={study.samples}")
        many = (f"certificate.samples={MANY}", "certificate.radii=[1, 2]")
        study.measured("certificate-many", [NOISE], "certificate", *many)
    for name, text in (
        ("corruptions.md", corruptions_table(names, scanned, attacked)),
        ("certificate.md", certificate_table(
            [*certified(read_certificates(study.out / "certificate")),
             *certified(read_certificates(study.out / "certificate-many"))]
        )),
    ):  # fmt: skip
        write_text(study.out / name, text)
        print(text)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("dataset", type=Path)
    add("out", type=Path)
    add("--recipe", default="dynunet")
    add("--minutes", type=float, default=25.0, help="of the clean training (default 25)")
    add("--hardening", type=float, default=15.0, help="minutes of each hardening (default 15)")
    add("--corruptions", default="corruptions-mri", help="the protocol of corruptions (default corruptions-mri)")
    add("--attacked", type=int, default=13, help="how many cases strong attacks (default 13)")
    add("--samples", type=int, default=200, help="runs under noise for each case (default 200)")
    add("--device", default="cpu")
    add("--set", dest="overrides", action="append", default=[], metavar="KEY=VALUE", help="of the recipe")
    return parser.parse_args()


def corruptions_table(names: Sequence[str], scanned: Sequence[Record], attacked: Sequence[Record]) -> str:
    """Corruptions and the attack, a row for each run, and the paired differences from the clean run."""
    found, view = CorruptionView(scanned), View(attacked, deployed=True)
    heads = ("run", "clean", "corrupted", "gap", "worst corruption", "strong, 8/255", "clean of the attacked")
    lines = [f"| {' | '.join(heads)} |", f"| --- |{' ---: |' * (len(heads) - 1)}"]
    for name in names:
        worst = found.worst(name)
        assert worst is not None
        robust = view.robust_dice(name, EPS)
        cells = (
            name, _summary(found.clean(name)), _summary(found.corrupted(name)), _summary(found.gap(name)),
            f"{worst[0]} {worst[1].mean:.3f}", interval_text(robust),
            f"{fmean(view.clean_dice(name).values()):.3f}",
        )  # fmt: skip
        lines.append(f"| {' | '.join(cells)} |")
    lines.append("")
    for name in names[1:]:
        lines.append(
            f"- {name} - {names[0]}: clean {_paired(found.clean, name, names[0])}, "
            f"corrupted {_paired(found.corrupted, name, names[0])}"
        )
    return "\n".join(lines) + "\n"


def certificate_table(groups: Sequence[Certified]) -> str:
    """Certificates, a row for each run and number of runs under noise."""
    heads = ("run", "runs under noise", "clean", "median under noise", "R = 1 sigma", "R = 2 sigma", "mask, tau .75")
    lines = [f"| {' | '.join(heads)} |", f"| --- |{' ---: |' * (len(heads) - 1)}"]
    for group in groups:
        figures = (
            group.mean(lambda one: one.clean), group.mean(lambda one: one.median), group.certified(1.0),
            group.certified(2.0), group.masked(0.75),
        )  # fmt: skip
        cells = ["too few runs" if one is None else interval_text(one) for one in figures]
        lines.append(f"| {group.model} | {group.cases[0].runs} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _summary(per_case: Mapping[str, float]) -> str:
    return interval_text(summarise(list(per_case.values())))


def _paired(figure: Callable[[str], Mapping[str, float]], one: str, other: str) -> str:
    ours, theirs = figure(one), figure(other)
    return signed_text(summarise([ours[case] - theirs[case] for case in ours if case in theirs]))


if __name__ == "__main__":
    main()
