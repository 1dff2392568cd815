"""The BraTS 2020 system end to end: pipelines A and B, their ensemble, and the two-step merge, region by region.

    python benchmarks/brats.py OUT                        # brain phantoms, small networks: 25 minutes of a CPU core
    python benchmarks/brats.py OUT --full --device cuda   # the paper's width, crops and epochs: a GPU
    python benchmarks/brats.py OUT --data Task01_BrainTumour_slabs --regions '{ET: [3], TC: [2, 3], WT: [1, 2, 3]}' \
        --owned-by-first 2 3 --owned-by-second 1 --patch 64 64 24 --epochs 350
    voxward attack OUT/together.yaml --dataset OUT/phantoms --attacks ifgsm-dice --set budget.steps=5 \
        --eps 4/255 8/255 --cases 2 --out OUT/attack      # both through 16 symmetries; OUT/attack/classes.md: by region

Prints and writes OUT/brats.md: mean Dice, HD95, sensitivity and specificity per region of the validation cases of fold
0 as in the paper's Tables 3 and 4, whether ET and TC of the merge are bitwise A's, and what it does to WT. A call that
was interrupted goes on where it stopped.

At the size of a CPU a step costs 0.15 s (A) and 0.37 s (B, three patches), and the brain is 45 x 54 x 36 voxels, so
that a patch of 32 sees as much of it as the paper's 128 does. The learning rate is 30 times the paper's, for a
twenty-fifth of its steps; with 10 times the loss falls more slowly from the first steps on.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from voxward.commands.compose import compose
from voxward.commands.evaluate import evaluate
from voxward.commands.merge import merge
from voxward.commands.train import train
from voxward.core.choices import Compute, Fold
from voxward.core.files import write_text
from voxward.core.plan import load_plan
from voxward.data.formats import open_dataset
from voxward.data.io import read_label
from voxward.metrics.policies import Scoring
from voxward.metrics.summary import Summary, summarise
from voxward.phantoms.write import write_phantoms
from voxward.runs.folder import RunFolder
from voxward.systems.evaluate import Evaluation, evaluate_folder

COLUMNS = {"dice": "Dice", "hd95_mm": "HD95 mm", "sensitivity": "sensitivity", "specificity": "specificity"}
POLICY = "brats"


def main() -> None:
    options = _options()
    out: Path = options.out
    data = options.data or out / "phantoms"
    if options.data is None and not data.is_dir():
        write_phantoms(data, options.cases, options.seed, "brain", size=options.size)
    runs = {name: _trained(out / name, f"brats-{name}", data, options) for name in ("a", "b")}
    results = _systems(out, data, runs, options)
    text = _table(results) + _merge_text(out, data, runs["a"], results, options)
    write_text(out / "brats.md", text)
    print(text)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("out", type=Path)
    add("--data", type=Path, help="dataset folder (default: brain phantoms)")
    add("--regions", help="of a dataset that declares none")
    add("--owned-by-first", nargs="+", type=int, default=[1, 4])
    add("--owned-by-second", nargs="+", type=int, default=[2])
    add("--cases", type=int, default=40, help="phantoms")
    add("--size", type=int, default=64, help="voxels of a phantom's longest axis")
    add("--width", type=int, default=8)
    add("--patch", nargs=3, type=int, default=[32, 32, 32])
    add("--epochs", type=int, default=140)
    add("--rate", type=float, default=3e-3, help="learning rate: few epochs need more than the paper's 1e-4")
    add("--tta", choices=("none", "mirrors", "symmetries"))
    add("--full", action="store_true", help="the recipes as they are")
    add("--seed", type=int, default=0)
    add("--device", default="auto")
    return parser.parse_args()


def _trained(folder: Path, recipe: str, data: Path, options: argparse.Namespace) -> Path:
    settings = [] if options.regions is None else [f"regions={options.regions}"]
    if not options.full:
        settings += [
            f"network.options.width={options.width}", f"preparation.patch_size={options.patch}",
            f"training.epochs={options.epochs}", f"optimizer.options.lr={options.rate}", "sampling.foreground=0.5",
        ]  # fmt: skip
    begun = RunFolder(folder).recipe.is_file()
    return train(
        data,
        out=folder,
        recipe=recipe,
        resume=begun,
        overrides=settings,
        fold=Fold(seed=options.seed),
        compute=Compute(device=options.device),
    )


def _systems(out: Path, data: Path, runs: dict[str, Path], options: argparse.Namespace) -> dict[str, Evaluation]:
    together = compose("ensemble", [runs["a"], runs["b"]], out=out / "together.yaml")
    found = {name.upper(): _scored(run, data, out / f"alone-{name}", options) for name, run in runs.items()}
    found["A + B"] = _scored(together, data, out / "together", options)
    merge(
        out / "alone-a" / "predictions",
        out / "alone-b" / "predictions",
        out=out / "merged",
        owned_by_first=options.owned_by_first,
        owned_by_second=options.owned_by_second,
    )
    source = replace(open_dataset(data), labels=load_plan(RunFolder(runs["a"]).plan).labels)
    ids = [case.id for case in found["A"].cases]
    found["merged"] = evaluate_folder(source, out / "merged", ids, Scoring(POLICY))
    return found


def _scored(system: Path, data: Path, out: Path, options: argparse.Namespace) -> Evaluation:
    return evaluate(
        system,
        data,
        out=out,
        overrides=[] if options.tta is None else [f"tta={options.tta}"],
        scoring=Scoring(POLICY),
        compute=Compute(device=options.device),
        resume=True,
    )


def _table(results: dict[str, Evaluation]) -> str:
    regions = list(next(iter(results.values())).classes)
    heads = ["system", *(f"{region} {name}" for name in COLUMNS.values() for region in regions)]
    lines = ["| " + " | ".join(heads) + " |", "|" + "---|" * len(heads)]
    for name, result in results.items():
        cells = [_cell(result.classes[region][metric]) for metric in COLUMNS for region in regions]
        lines.append("| " + " | ".join([name, *cells]) + " |")
    count = len(next(iter(results.values())).cases)
    return "\n".join(lines) + f"\n\n{count} cases, empty masks by the rule `{POLICY}`; mean [95 % interval], n cases\n"


def _cell(summary: Summary | None) -> str:
    if summary is None:
        return "n/a"
    return f"{summary.mean:.4f} [{summary.low:.3f}, {summary.high:.3f}] {summary.n}"


def _merge_text(out: Path, data: Path, run: Path, results: dict[str, Evaluation], options: argparse.Namespace) -> str:
    labels = load_plan(RunFolder(run).plan).labels
    inner = [set(region.values) for region in labels.regions[:-1]]
    same = all(
        _same(out / "merged" / path.name, path, values)
        for path in (out / "alone-a" / "predictions").glob("*.nii*")
        for values in inner
    )
    outermost = labels.scored[-1]
    merged, first = ({case.id: case.classes[outermost].dice for case in results[n].cases} for n in ("merged", "A"))
    pairs = [(merged[id], first[id]) for id in merged]
    change = summarise([a - b for a, b in pairs if a is not None and b is not None])
    assert change is not None
    return (
        f"\n{', '.join(labels.scored[:-1])} of the merge are{'' if same else ' NOT'} bitwise A's; "
        f"{outermost} Dice, merged minus A: {change.mean:+.4f} [{change.low:+.4f}, {change.high:+.4f}]\n"
    )


def _same(one: Path, other: Path, values: Sequence[int] | set[int]) -> bool:
    a, b = (np.isin(read_label(path).array, list(values)) for path in (one, other))
    return bool((a == b).all())


if __name__ == "__main__":
    main()
