"""Averaged weights and test-time augmentation, on and off, over seeds.

    python benchmarks/averaging.py DATASET OUT [--recipe dynunet] [--minutes 10] [--seeds 0 1 2] [--device cpu]

Per seed two runs of equal length: one as the recipe says, and one whose last three sevenths restart and average. Every
checkpoint is scored on the validation cases with none, 8 mirrored and 16 symmetric copies of each window. Prints and
writes OUT/averaging.md. A call that was interrupted goes on where it stopped.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from voxward.commands.evaluate import evaluate
from voxward.commands.train import train
from voxward.core.choices import Compute, Fold
from voxward.core.files import write_text
from voxward.metrics.summary import summarise
from voxward.pipeline.predictor import Tta
from voxward.runs.folder import Checkpoint, RunFolder

WAYS: dict[str, tuple[Checkpoint, ...]] = {"plain": ("best", "last"), "averaged": ("best", "last", "swa")}
COPIES: tuple[Tta, ...] = ("none", "mirrors", "symmetries")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--recipe", default="dynunet")
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--device", default="auto")
    parser.add_argument("--set", dest="overrides", action="append", default=[])
    options = parser.parse_args()
    dice: dict[tuple[str, str, str], list[float]] = {}
    for seed in options.seeds:
        for way, checkpoints in WAYS.items():
            run = _trained(options, way, seed)
            for checkpoint in checkpoints:
                for tta in COPIES:
                    out = run / f"{checkpoint}-{tta}"
                    found = evaluate(
                        run,
                        out=out,
                        overrides=[f"checkpoint={checkpoint}", f"tta={tta}"],
                        compute=Compute(device=options.device),
                        resume=True,
                    )
                    assert found.foreground is not None
                    dice.setdefault((way, checkpoint, tta), []).append(found.foreground.mean)
    text = _table(dice, options.seeds)
    write_text(options.out / "averaging.md", text)
    print(text)


def _trained(options: argparse.Namespace, way: str, seed: int) -> Path:
    folder = options.out / f"{way}-{seed}"
    extra = ["averaging.restarts=5"] if way == "averaged" else []  # each restart begins with a new optimiser
    begun = RunFolder(folder).recipe.is_file()
    settings = [*options.overrides, *extra]
    return train(
        options.dataset,
        out=folder,
        recipe=options.recipe,
        minutes=options.minutes,
        resume=begun,
        overrides=settings,
        fold=Fold(seed=seed),
        compute=Compute(device=options.device),
    )


def _table(dice: dict[tuple[str, str, str], list[float]], seeds: list[int]) -> str:
    lines = [f"| run | checkpoint | copies | {' | '.join(f'seed {seed}' for seed in seeds)} | mean |"]
    lines.append("|" + "---|" * (len(seeds) + 4))
    for (way, checkpoint, tta), values in dice.items():
        summary = summarise(values)
        assert summary is not None
        cells = " | ".join(f"{value:.4f}" for value in values)
        lines.append(f"| {way} | {checkpoint} | {tta} | {cells} | {summary.mean:.4f} |")
    return "\n".join(lines) + "\n\nmean foreground Dice of the validation cases\n"


if __name__ == "__main__":
    main()
