"""Tables 5 to 8 of the ResDSN paper at the size of a CPU: `python benchmarks/resdsn.py OUT [--tables 6 5]`.

Width / 4 and patches of 32 on abdomen phantoms, or on --data DATASET with --set for what is not CT. --full is for a
GPU (`--device cuda`): the paper's width, patches and batches on abdomens of 256 voxels in plane, half an hour a run.
--tiny tries all of it in minutes, and measures nothing. Runs and rows that lie in OUT are kept: an interrupted call
goes on, and one with another size, data or --set needs another OUT.

    6  coarse, fine-whole and coarse-to-fine: Dice, seconds and windows per case; by the paper's counts, and by step;
       below it both of coarse-to-fine as shares of fine-whole's
    5  residual types, coarse stage, one run per seed
    7  deep supervision on and off, coarse-to-fine, one run per seed
    8  clean / FGSM / I-FGSM at 10.2 HU, natural and hardened: the network on the patch around the organ, its whole
       deployed pipeline with the exact gradient and the paper's, and the cascade, by stage. The hardened recipe's rule
       about small parts for both: --set postprocessing.fraction_of=largest

At the size of a CPU the learning rate is ten times the paper's, for a three-hundredth of its patches. The phantoms'
coarse stage finds nothing by cross-entropy in 780 steps (4 minutes of a core): --set loss.name=dice-ce

The hippocampus, by dice-ce too: --data DIR --tables 5 7 --set preparation.normalization=mr --set preparation.clip=null
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, get_args

import numpy as np
import torch

import voxward
from voxward.attacks.base import Attack
from voxward.attacks.registry import create
from voxward.attacks.threat import ThreatModel
from voxward.core.case import Case, Volume
from voxward.core.choices import Compute, Fold, Reuse
from voxward.core.files import write_json, write_text
from voxward.core.labels import LabelSet
from voxward.core.plan import load_json
from voxward.core.structure import to_data
from voxward.data.formats import open_dataset
from voxward.data.io import read_image, read_label
from voxward.metrics.score import score_case
from voxward.metrics.summary import summarise
from voxward.phantoms.abdomen import SIZES
from voxward.phantoms.write import write_phantoms
from voxward.pipeline.model import Gradient
from voxward.pipeline.predictor import Predictor
from voxward.robustness.subject import Subject, patch_subject, volume_subject
from voxward.runs.components import drop_small_parts
from voxward.runs.folder import RunFolder, RunSplit, load_run
from voxward.runs.postprocess import PostProcess
from voxward.systems.cascade import CascadeSystem
from voxward.systems.cascade_model import Stage
from voxward.systems.region import Region
from voxward.systems.run import RunSystem
from voxward.systems.system import Freeze, System

Row = dict[str, Any]
# Table 5's networks, all of which the paper's own figures are known for.
RESIDUALS = ("resdsn", "fresdsn", "sresdsn", "dsn")
WHOLE = "fine whole, counts"
FRACTION = 0.2
REGION = Region(margin=20.0, margin_unit="voxels", fraction=FRACTION)
EPS_HU, ALPHA_HU, STEPS = 10.2, 3.4, 5
WINDOW_HU = 340.0  # of the recipes: -100 to 240


@dataclass(frozen=True)
class Size:
    """What a measurement costs. size: of the phantoms, abdomens from 64 on. patch: its edge. batch: the natural one, a
    hardened run's is `scale` times as large, and so is its learning rate. minutes: of training.
    """

    cases: int = 24
    size: int = 128
    patch: int = 32
    channels: tuple[int, ...] = (8, 16, 32, 64)
    batch: int = 4
    scale: int = 1
    rate: float = 0.1
    minutes: float = 5.0
    seeds: int = 3


FULL = Size(24, 256, 64, (32, 64, 128, 256), 16, 8, 0.01, 30.0)
TINY = Size(8, 24, 16, (8, 8, 16, 16), 2, 2, 0.1, 0.1, 1)


@dataclass(frozen=True)
class Study:
    """A folder of runs and rows. device: of training and prediction. attacked: so many cases of table 8."""

    out: Path
    data: Path
    size: Size
    device: str
    overrides: tuple[str, ...]
    attacked: int | None = None

    def run(self, name: str, recipe: str, seed: int = 0, extra: Sequence[str] = (), minutes: float = 1.0) -> Path:
        """A trained run, where it is not there yet; minutes: in those of a natural one."""
        folder = RunFolder(self.out / "runs" / f"{name}-{seed}")
        if not folder.postprocess.is_file():
            edge, size = self.size.patch, self.size
            chosen = (
                f"preparation.patch_size=[{edge},{edge},{edge}]", f"network.options.channels={list(size.channels)}",
                f"preparation.batch_size={size.batch}", f"optimizer.options.lr={size.rate}", *extra, *self.overrides,
            )  # fmt: skip
            print(f"training {folder.root}", flush=True)
            voxward.train(
                self.data, out=folder.root, recipe=recipe, minutes=minutes * size.minutes, overrides=chosen,
                resume=folder.recipe.is_file(), reuse=Reuse(prepared=self.out / "prepared"), fold=Fold(seed=seed),
                compute=Compute(device=self.device),
            )  # fmt: skip
        return folder.root

    def stage(self, stage: str, seed: int = 0) -> Path:
        """The plain coarse or fine stage."""
        return self.run(stage, f"resdsn-c2f-{stage}", seed)

    def system(self, run: Path, **inference: Any) -> RunSystem:
        """Open a run, with other entries of the recipe's part `inference`. In float32: seconds are compared."""
        device = torch.device("cuda" if self.device == "cuda" else "cpu")
        model = load_run(run, "best", device)
        changed = replace(model, inference=replace(model.inference, **inference))
        return RunSystem(Predictor(changed, device, "fp32"), RunFolder(run))

    def cases(self) -> tuple[Case, ...]:
        """The validation cases, which no run has seen."""
        split = load_json(RunSplit, RunFolder(self.stage("coarse")).splits)
        return tuple(open_dataset(self.data).case(id) for id in split.validation)

    def rows(self, table: str, keys: Mapping[str, Callable[[Case], Row]], most: int | None = None) -> list[Row]:
        """One row per key and case, of the first `most` cases; those that lie in OUT are not measured again."""
        found = []
        for key, measure in keys.items():
            for case in self.cases()[:most]:
                path = self.out / table / key.replace(" ", "_") / f"{case.id}.json"
                if not path.is_file():
                    print(f"{table}: {key}, {case.id}", flush=True)
                    write_json(path, {"row": key, "case": case.id, **measure(case)})
                found.append(json.loads(path.read_text()))
        return found


def dice_of(case: Case, mask: np.ndarray, labels: LabelSet) -> float | None:
    """Return the mean foreground Dice of a mask in the file's geometry."""
    assert case.label is not None
    truth = read_label(case.label)
    scored = score_case(case.id, labels.to_index(truth.array), mask, truth.spacing, labels)
    return scored.mean("dice")


def timed(case: Case, labels: LabelSet, segment: Callable[[Volume], tuple[np.ndarray, int]]) -> Row:
    """Dice, seconds and windows of one prediction; small parts are dropped as in the paper, outside the clock."""
    volume = read_image(case.images)
    began = time.perf_counter()
    mask, windows = segment(volume)
    seconds = time.perf_counter() - began
    classes = range(1, labels.count)
    return {
        "dice": dice_of(case, drop_small_parts(mask, FRACTION, tuple(classes)), labels),
        "seconds": seconds, "windows": windows,
    }  # fmt: skip


def alone(system: RunSystem) -> Callable[[Case], Row]:
    """One stage on the whole volume."""
    windows = system.predictor.windows
    return lambda case: timed(case, system.labels, lambda v: (system.segment(v).label, windows(v.shape).count))


def cascaded(coarse: RunSystem, fine: RunSystem) -> Callable[[Case], Row]:
    """Both stages. The plan keeps the voxels, so that a box has as many as the file; it may be turned."""

    cascade = CascadeSystem(coarse, fine, REGION)

    def segment(volume: Volume) -> tuple[np.ndarray, int]:
        result = cascade.refine(volume)
        count = coarse.predictor.windows(volume.shape).count
        if result.box is not None:
            i, j, k = (side.stop - side.start for side in result.box)
            count += fine.predictor.windows((i, j, k)).count
        return result.label, count

    return lambda case: timed(case, cascade.labels, segment)


def table_6(study: Study) -> list[Row]:
    """Counts as in the paper; then fine-whole's step along its longest axis, as an overlap, in the box and whole."""
    coarse, fine = (study.system(study.stage(stage)) for stage in ("coarse", "fine"))
    shape = read_image(study.cases()[0].images).shape
    axis = int(np.argmax(shape))
    starts, edge = fine.predictor.windows(shape).starts[axis], study.size.patch
    overlap = max(0.0, 1 - (starts[-1] / max(len(starts) - 1, 1)) / edge)
    stepped = study.system(study.stage("fine"), placement="step", overlap=overlap)
    for system in (coarse, fine, stepped):
        warm_up(system.predictor)
    print(f"table 6: fine-whole has {len(starts)} windows along its longest axis: overlap {overlap:.3f}")
    keys = {
        "coarse": alone(coarse), WHOLE: alone(fine), "C2F, counts": cascaded(coarse, fine),
        "fine whole, step": alone(stepped), "C2F, step in the box": cascaded(coarse, stepped),
    }  # fmt: skip
    return study.rows("table-6", keys)


def warm_up(predictor: Predictor) -> None:
    """A forward pass outside the clock: the first of a process also chooses and loads its kernels."""
    plan = predictor.model.plan
    predictor.forward(torch.zeros(predictor.batch, len(plan.channels), *plan.window_size))


def shares(rows: Sequence[Row]) -> Iterator[str]:
    """Of table 6: the means of each cascade as shares of fine-whole's, and their Dice beside it."""

    def mean(key: str, figure: str) -> float:
        values = [row[figure] for row in rows if row["row"] == key and row[figure] is not None]
        return float(np.mean(values)) if values else float("nan")

    yield f"\n| of {WHOLE} | seconds | windows | seconds by windows | Dice above it |"
    yield "|---" * 5 + "|"
    for key in dict.fromkeys(row["row"] for row in rows if row["row"].startswith("C2F")):
        time_share, count_share = (mean(key, figure) / mean(WHOLE, figure) for figure in ("seconds", "windows"))
        more = mean(key, "dice") - mean(WHOLE, "dice")
        yield f"| {key} | {time_share:.3f} | {count_share:.3f} | {time_share / count_share:.3f} | {more:+.4f} |"


def table_5(study: Study) -> list[Row]:
    """The coarse stage of each type, by seed."""
    keys = {}
    for name in RESIDUALS:
        extra = () if name == "resdsn" else (f"network.name={name}",)
        for seed in range(study.size.seeds):
            run = study.stage("coarse", seed) if not extra else study.run(name, "resdsn-c2f-coarse", seed, extra)
            keys[f"{name} seed {seed}"] = alone(study.system(run))
    return study.rows("table-5", keys)


def table_7(study: Study) -> list[Row]:
    """Both stages with auxiliary losses, and without."""
    off = ("training.auxiliary=[]", "network.options.auxiliary=false")
    keys = {}
    for seed in range(study.size.seeds):
        plain = [study.run(f"{stage}-no-aux", f"resdsn-c2f-{stage}", seed, off) for stage in ("coarse", "fine")]
        for name, runs in (("with", [study.stage(stage, seed) for stage in ("coarse", "fine")]), ("without", plain)):
            keys[f"{name} deep supervision seed {seed}"] = cascaded(*map(study.system, runs))
    return study.rows("table-7", keys)


def table_8(study: Study) -> list[Row]:
    """The paper attacks the coarse network; the rows of the cascade are ours."""
    size = study.size
    scaled = (f"preparation.batch_size={size.scale * size.batch}", f"optimizer.options.lr={size.scale * size.rate}")
    # About twice the steps of a natural run: with as many, the coarse stage found a third of the organ.
    hardened = study.run("hardened", "resdsn-c2f-hardened", 0, scaled, minutes=2.0 * (STEPS + 1))
    keys: dict[str, Callable[[Case], Row]] = {}
    patches: dict[str, Callable[[Case], Row]] = {}
    gradients: tuple[Gradient, ...] = ("exact", "window_mean")
    for name, run in (("natural", study.stage("coarse")), ("hardened", hardened)):
        system = study.system(run)
        for attack, found in attacks("ce", 1 / WINDOW_HU).items():
            patches[f"{name} {attack} ce patch"] = struck_patch(system, found)
        for gradient in gradients:
            for attack, found in attacks("ce").items():
                keys[f"{name} {attack} ce {gradient}"] = struck(system, found, Freeze(gradient))
        for attack, found in attacks("dice").items():
            keys[f"{name} {attack} dice exact"] = struck(system, found)
        keys[f"{name} ifgsm ce exact, all parts kept"] = struck(unprocessed(system), attacks("ce")["ifgsm"])
    coarse, fine = (study.system(study.stage(stage)) for stage in ("coarse", "fine"))
    for stage in get_args(Stage):
        # An attack holds the box of the clean scan; the deployed cascade finds its own, which may have moved.
        cascade = CascadeSystem(coarse, fine, replace(REGION, stage=stage))
        keys[f"C2F {stage} ifgsm dice exact"] = struck(cascade, attacks("dice")["ifgsm"])
    return [*study.rows("table-8", patches), *study.rows("table-8", keys, study.attacked)]


def attacks(objective: str, unit: float = 1.0) -> dict[str, Attack]:
    """FGSM, and I-FGSM of five steps of 3.4 HU; unit: of the threat's eps, in one HU."""
    steps = {"steps": STEPS, "alpha": ALPHA_HU * unit}
    return {"fgsm": create(f"fgsm-{objective}"), "ifgsm": create(f"ifgsm-{objective}", **steps)}


THREAT = ThreatModel(0.0, "linf", "native", "window")


def struck_patch(system: RunSystem, attack: Attack) -> Callable[[Case], Row]:
    """The network alone, on the one patch around the organ's centre."""

    def measure(case: Case) -> Row:
        subject = patch_subject(system, case, ThreatModel(0.0, "linf", "range", "window"))
        result = attack(subject.model, subject.volume, subject.target, subject.threat.with_eps(EPS_HU / WINDOW_HU))
        return {"clean": float(result.clean_dice[0]), "dice": float(result.dice[0]), "seconds": result.seconds}

    return measure


def unprocessed(system: RunSystem) -> RunSystem:
    """Return the run without post-processing: no part of a mask is dropped."""
    model = replace(system.predictor.model, postprocess=PostProcess())
    return replace(system, predictor=replace(system.predictor, model=model))


def struck(system: System, attack: Attack, how: Freeze = Freeze()) -> Callable[[Case], Row]:
    """The whole pipeline of a run or a cascade under an attack."""
    return lambda case: booked(case, system.labels, attack, volume_subject(system, case, THREAT, how))


def booked(case: Case, labels: LabelSet, attack: Attack, subject: Subject) -> Row:
    """Dice of the tensor before and after, and of the written file."""
    result = attack(subject.model, subject.volume, subject.target, subject.threat.with_eps(EPS_HU))
    assert subject.deploy is not None
    before, after = (
        subject.deploy(x[0].cpu().numpy(), None)
        for x in (subject.threat.ball(subject.volume).reference, result.adversarial)
    )
    return {
        "clean": float(result.clean_dice[0]), "dice": float(result.dice[0]), "seconds": result.seconds,
        "deployed_clean": dice_of(case, before.mask, labels), "deployed": dice_of(case, after.mask, labels),
        **after.notes,
    }  # fmt: skip


def table(rows: Sequence[Row]) -> Iterator[str]:
    """A line per key: Dice (mean, sd, max, min over the cases), and the means of the other figures."""
    figures = dict.fromkeys(
        name for row in rows for name, value in row.items() if name != "dice" and isinstance(value, int | float)
    )
    yield f"| | cases | Dice | sd | max | min | {' | '.join(figures)} |"
    yield "|---" * (6 + len(figures)) + "|"
    for key in dict.fromkeys(row["row"] for row in rows):
        mine = [row for row in rows if row["row"] == key]
        found = summarise([row["dice"] for row in mine])
        dice = "- | - | - | -"
        if found is not None:
            dice = " | ".join(f"{x:.4f}" for x in (found.mean, found.std, found.maximum, found.minimum))
        others = [[row[name] for row in mine if row.get(name) is not None] for name in figures]
        means = " | ".join(f"{np.mean(values):.4g}" if values else "-" for values in others)
        yield f"| {key} | {len(mine)} | {dice} | {means} |"


TABLES = {"6": table_6, "5": table_5, "7": table_7, "8": table_8}


def make_data(out: Path, size: Size) -> Path:
    """Phantoms with one fixed split: the last fifth of the cases is for validation."""
    folder = out / "data"
    if not folder.exists():
        if size.size < SIZES[0]:
            write_phantoms(folder, size.cases, modality="ct", size=size.size)
        else:
            write_phantoms(folder, size.cases, kind="abdomen", size=size.size)
        ids = [case.id for case in open_dataset(folder).cases]
        held = max(2, size.cases // 5)
        write_json(folder / "splits.json", [{"train": ids[:-held], "val": ids[-held:]}])
    return folder


def settle(out: Path, settings: Mapping[str, Any]) -> None:
    """Raise ValueError where OUT was begun with other settings: its runs and rows are not theirs."""
    path = out / "settings.json"
    if path.is_file() and (begun := json.loads(path.read_text())) != settings:
        raise ValueError(f"{out} was begun with {begun}, got {dict(settings)}: choose another OUT")
    write_json(path, settings)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--tables", nargs="+", default=list(TABLES), choices=TABLES)
    among = parser.add_mutually_exclusive_group()
    among.add_argument("--tiny", action="store_true")
    among.add_argument("--full", action="store_true")
    parser.add_argument("--data", type=Path, help="a dataset instead of the phantoms")
    parser.add_argument("--minutes", type=float, help=f"of a natural run's training (default {Size.minutes:g})")
    parser.add_argument("--seeds", type=int, help=f"of tables 5 and 7 (default {Size.seeds})")
    parser.add_argument("--attacked", type=int, help="cases of table 8 (default: all)")
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--set", dest="overrides", action="append", default=[], metavar="KEY=VALUE")
    given = parser.parse_args()
    changed = {name: value for name in ("minutes", "seeds") if (value := getattr(given, name)) is not None}
    size = replace(TINY if given.tiny else FULL if given.full else Size(), **changed)
    kept = {name: value for name, value in to_data(size).items() if name != "seeds"}
    source = None if given.data is None else str(given.data.resolve())
    settle(given.out, {**kept, "data": source, "overrides": given.overrides, "device": given.device})
    data = make_data(given.out, size) if given.data is None else given.data
    study = Study(given.out, data, size, given.device, tuple(given.overrides), given.attacked)
    for name in given.tables:
        rows = TABLES[name](study)
        text = "\n".join([*table(rows), *(shares(rows) if name == "6" else ())]) + "\n"
        write_text(given.out / f"table-{name}.md", text)
        print(f"table {name}\n{text}", flush=True)


if __name__ == "__main__":
    main()
