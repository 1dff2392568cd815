"""Does the ledger find planted label errors? `python -m benchmarks.planted OUT [--ablation]`.

40 brain phantoms, 5 of them with a bad label: moved by half the tumour's extent, two classes swapped, or none, in turn.
All 40 are trained on with pipeline A of BraTS 2020 at the size of a CPU; then the rules of `voxward suspects` are asked
which cases to look at, and what they say is compared with what was planted. Written to OUT/planted.md: precision and
recall of each rule, and at which place of all 40, the highest loss first, each planted case comes. Two of the four
thresholds are what a user gets, the other two are for comparison, see the table.

--ablation trains again: without the suspects of the rule `mad`, without the planted cases (what perfect suspects would
give), and on all cases with attention (the paper's third model). All are scored on 8 further phantoms, whose labels are
sound and which no run has seen. --tiny tries all of it in minutes, and measures nothing. An interrupted call goes on
where it stopped; one with other settings needs another OUT.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from voxward.commands.evaluate import evaluate
from voxward.commands.train import train
from voxward.core.choices import Compute, Fold
from voxward.core.errors import UserError
from voxward.core.files import atomic_write, write_json, write_text
from voxward.core.reading import read_json
from voxward.core.structure import to_data
from voxward.data.formats import open_dataset
from voxward.data.io import read_label, write_label
from voxward.metrics.policies import Scoring
from voxward.phantoms.write import write_phantoms
from voxward.runs.folder import RunFolder
from voxward.training.ledger import RULES, read_ledger, suspects, suspects_text

KINDS = ("shifted", "swapped", "missing")
PLANTED = "planted.json"


@dataclass(frozen=True)
class Study:
    """What is measured. cases: trained on, `bad` of them planted. held: sound ones. last: so many epochs count."""

    cases: int = 40
    bad: int = 5
    held: int = 8
    size: int = 64
    width: int = 8
    patch: int = 32
    epochs: int = 140
    last: int = 10
    seed: int = 0
    device: str = "cpu"
    overrides: tuple[str, ...] = ()

    @property
    def settings(self) -> tuple[str, ...]:
        """Those of benchmarks/brats.py; no case is held out to choose a checkpoint, or its label could not be found."""
        return (
            f"network.options.width={self.width}", f"preparation.patch_size={[self.patch] * 3}",
            f"training.epochs={self.epochs}", "optimizer.options.lr=0.003", "sampling.foreground=0.5",
            "training.selection=0", "training.best=loss", *self.overrides,
        )  # fmt: skip


TINY = Study(cases=6, bad=3, held=2, size=24, patch=16, epochs=3, last=2)


def bad_label(label: np.ndarray, kind: str) -> np.ndarray:
    """Return a label with an error that annotators make, of the same values.

    Raises:
        UserError: There is nothing to move, or there are no two classes to swap.
    """
    values, counts = np.unique(label[label > 0], return_counts=True)
    if len(values) < (2 if kind == "swapped" else 1):
        raise UserError(f"a label with the values {values.tolist()} cannot be {kind}")
    if kind == "missing":
        return np.zeros_like(label)
    if kind == "swapped":
        first, second = values[np.argsort(-counts, kind="stable")[:2]]
        return np.select([label == first, label == second], [second, first], label).astype(label.dtype)
    found = np.argwhere(label > 0)
    extent = np.ptp(found, axis=0) + 1
    axis = int(extent.argmax())
    step = max(1, int(extent[axis]) // 2)
    # Towards the side on which there is more room, so that most of the tumour stays in the volume.
    towards_end = found[:, axis].min() + found[:, axis].max() < label.shape[axis]
    moved = np.zeros_like(label)
    kept, placed = (slice(None, -step), slice(step, None)) if towards_end else (slice(step, None), slice(None, -step))
    before = (slice(None),) * axis
    moved[(*before, placed)] = label[(*before, kept)]
    return moved


def plant(folder: Path, study: Study) -> dict[str, str]:
    """Write the phantoms, unless they are there, and return what was planted; the last `held` are sound."""
    if not folder.is_dir():
        with atomic_write(folder) as unfinished:
            write_phantoms(unfinished, study.cases + study.held, study.seed, "brain", size=study.size)
            ids = [case.id for case in open_dataset(unfinished).cases]
            fit = ids[: study.cases]
            chosen = sorted(np.random.default_rng(study.seed).choice(study.cases, study.bad, replace=False).tolist())
            planted = {fit[n]: KINDS[place % len(KINDS)] for place, n in enumerate(chosen)}
            for id, kind in planted.items():
                path = open_dataset(unfinished).case(id).label
                assert path is not None
                label = read_label(path)
                write_label(path, bad_label(label.array, kind), label.affine)
            write_json(unfinished / "splits.json", [{"train": fit, "val": ids[study.cases :]}])
            write_json(folder.with_name(PLANTED), planted)  # before the folder appears, which says that both are there
    known: dict[str, str] = read_json(folder.with_name(PLANTED))
    return known


def trained(folder: Path, data: Path, study: Study, extra: Sequence[str] = (), exclude: Path | None = None) -> Path:
    """Train a run, or go on with it."""
    begun = RunFolder(folder).recipe.is_file()
    return train(
        data, out=folder, recipe="brats-a", overrides=(*study.settings, *extra), resume=begun,
        fold=Fold(seed=study.seed, exclude=exclude), compute=Compute(device=study.device),
    )  # fmt: skip


def precision_and_recall(found: Sequence[str], planted: Mapping[str, str]) -> tuple[float | None, float | None]:
    """Return which share of what was found was planted, and which share of what was planted was found."""
    hits = len(set(found) & set(planted))
    return (hits / len(found) if found else None), (hits / len(planted) if planted else None)


def ledger_table(ledger: Mapping[str, Mapping[int, float]], planted: Mapping[str, str], last: int) -> Iterator[str]:
    """Yield the rows of both tables."""
    yield "| rule | suspects | of them planted | precision | recall |\n|---|---:|---:|---:|---:|"
    told = 1 - len(planted) / len(ledger)
    quantiles = (RULES["quantile"].threshold, *([told] if 0 < told < 1 else []))
    for rule, thresholds in {"mad": (RULES["mad"].threshold, 2.0), "quantile": quantiles}.items():
        for threshold in thresholds:
            found = [one.case for one in suspects(ledger, rule, threshold, last)]
            shares = ["-" if x is None else f"{x:.2f}" for x in precision_and_recall(found, planted)]
            yield f"| {rule} {threshold:g} | {len(found)} | {len(set(found) & set(planted))} | {' | '.join(shares)} |"
    yield (
        f"\n`mad {RULES['mad'].threshold:g}` and `quantile {quantiles[0]:g}` are what `voxward suspects` takes by "
        "default; the others are for comparison, and the last one knows how many cases were planted, which nobody does"
    )
    # The lowest threshold that is legal lists every case but the one with the lowest loss, the highest loss first.
    order = [one.case for one in suspects(ledger, "quantile", 1e-9, last)]
    places = {case: place for place, case in enumerate(order, start=1)}
    yield f"\n| planted | error | place of {len(ledger)} by loss |\n|---|---|---:|"
    for case, kind in planted.items():
        yield f"| {case} | {kind} | {places.get(case, len(ledger))} |"


def ablation(out: Path, data: Path, study: Study, planted: Mapping[str, str]) -> Iterator[str]:
    """Yield the rows of the runs with all cases, without some, and with attention, on cases that no run has seen."""
    found = suspects(read_ledger(RunFolder(out / "all").ledger), "mad", None, study.last)
    lists = {"without suspects": suspects_text(found), "without planted": "\n".join(["case", *planted]) + "\n"}
    runs = {"all cases": out / "all"}
    for name, text in lists.items():
        if len(text.splitlines()) > 1:
            path = out / f"{name.replace(' ', '-')}.csv"
            write_text(path, text)
            runs[name] = trained(path.with_suffix(""), data, study, exclude=path)
    runs["all cases, attention"] = trained(out / "attention", data, study, ["network.options.attention=true"])
    scores = {
        name: evaluate(run, data, out=out / "scores" / run.name, resume=True, scoring=Scoring("brats"),
                       compute=Compute(device=study.device)).classes
        for name, run in runs.items()
    }  # fmt: skip
    regions = list(next(iter(scores.values())))
    yield f"\n| Dice | {' | '.join(regions)} |\n|---{'|---:' * len(regions)}|"
    for name, classes in scores.items():
        dice = (classes[region]["dice"] for region in regions)
        cells = ["-" if x is None else f"{x.mean:.4f} [{x.low:.3f}, {x.high:.3f}]" for x in dice]
        yield f"| {name} | {' | '.join(cells)} |"
    if "without suspects" not in runs:
        yield "\nThere are no suspects, so that no run is without them."


def settle(out: Path, study: Study) -> None:
    """Refuse a folder that was begun with other settings.

    Raises:
        UserError: OUT holds another study.
    """
    path, data = out / "settings.json", to_data(study)
    if path.is_file() and read_json(path) != data:
        raise UserError(f"{out} was begun with {read_json(path)}, got {data}: choose another OUT")
    write_json(path, data)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("out", type=Path)
    add("--ablation", action="store_true", help="train without suspects, without planted cases, and with attention")
    add("--tiny", action="store_true")
    for name in ("cases", "bad", "held", "size", "width", "patch", "epochs", "last", "seed"):
        add(f"--{name}", type=int, help=f"default {getattr(Study(), name)}")
    add("--device", default="cpu", choices=("cpu", "cuda"))
    add("--set", dest="overrides", action="append", default=[], metavar="KEY=VALUE")
    given = vars(parser.parse_args())
    out, more, start = given.pop("out"), given.pop("ablation"), TINY if given.pop("tiny") else Study()
    given["overrides"] = tuple(given["overrides"])
    measure(out, replace(start, **{name: value for name, value in given.items() if value is not None}), more)


def measure(out: Path, study: Study, more: bool) -> None:
    """Do the study, and print and write its tables."""
    settle(out, study)
    planted = plant(out / "phantoms", study)
    run = trained(out / "all", out / "phantoms", study)
    lines = list(ledger_table(read_ledger(RunFolder(run).ledger), planted, study.last))
    if more:
        lines += ablation(out, out / "phantoms", study, planted)
    text = f"{study.cases} phantoms, {len(planted)} with a planted error\n\n" + "\n".join(lines) + "\n"
    write_text(out / "planted.md", text)
    print(text)


if __name__ == "__main__":
    main()
