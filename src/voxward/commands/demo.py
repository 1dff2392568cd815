"""voxward demo: the whole way from volumes to metrics and a picture, in a few minutes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from voxward.commands.attack import attack
from voxward.commands.benchmark import BenchmarkResult
from voxward.commands.evaluate import evaluate
from voxward.commands.train import train
from voxward.core.choices import Fold
from voxward.core.files import inside
from voxward.core.outputs import Outputs
from voxward.core.progress import Progress, silent
from voxward.data.formats import open_dataset
from voxward.data.io import read_image, read_label
from voxward.data.orient import orient, orientation
from voxward.metrics.score import CaseMetrics
from voxward.phantoms.organ import write_phantoms
from voxward.report.figures import overlay_figure
from voxward.report.slices import Picture
from voxward.runs.folder import RunFolder
from voxward.systems.evaluate import Evaluation

ATTACKS = ("apgd-ce", "apgd-dice")
EPS = (4 / 255, 8 / 255)


@dataclass(frozen=True)
class DemoResult:
    """What the demo made."""

    evaluation: Evaluation
    run: Path
    picture: Path
    robustness: BenchmarkResult


def demo(
    out: Path | str = "demo",
    data: Path | str | None = None,
    recipe: str = "dynunet",
    minutes: float = 4.0,
    seed: int = 0,
    cases: int = 25,
    progress: Progress = silent,
    overwrite: bool = False,
) -> DemoResult:
    """Train on `cases` synthetic phantoms (or the dataset folder `data`), evaluate, draw the median case, and attack.

    Everything goes into the folder `out`: the phantoms, the run, its predictions and metrics, a picture with image,
    truth and prediction, and the attack's tables and figures. The attack is a small one: 10 steps on 2
    cases. A demo that was interrupted goes on where it stopped. overwrite: replace results in `out` that voxward did
    not write or that were edited since.
    """
    root = Path(out)
    source = Path(data) if data is not None else root / "phantoms"
    if data is None and not source.is_dir():
        write_phantoms(source, cases, seed)
    name = f"run-{open_dataset(source).name}-{Path(recipe).name.removesuffix('.yaml')}".lower()
    run = RunFolder(inside(root, name))
    outputs, picture = Outputs(root, "a picture of a demo", overwrite), f"overlay-{name.removeprefix('run-')}.png"
    outputs.check([picture])
    train(
        source, out=run.root, recipe=recipe, minutes=minutes, resume=run.recipe.is_file(), fold=Fold(seed=seed),
        progress=progress,
    )  # fmt: skip
    evaluation = evaluate(run.root, progress=progress, overwrite=overwrite)
    with outputs.write(picture) as path:
        _picture(run, source, evaluation, path)
    robustness = attack(
        run.root, source, root / f"attack-{name.removeprefix('run-')}", ATTACKS, EPS, steps=10, cases=2, seed=seed,
        progress=progress, overwrite=overwrite,
    )  # fmt: skip
    return DemoResult(evaluation, run.root, root / picture, robustness)


def _picture(run: RunFolder, source: Path, evaluation: Evaluation, path: Path) -> None:
    """Draw the case of median Dice: neither the best nor the worst."""
    ranked = sorted(evaluation.cases, key=_mean_dice)
    chosen = ranked[len(ranked) // 2]
    dataset = open_dataset(source)
    case = dataset.case(chosen.id)
    assert case.label is not None
    image, truth = read_image(case.images), read_label(case.label)
    predicted = read_label(next(run.predictions.glob(f"{chosen.id}.*")))
    axes, flips = orientation(image.affine)
    true, found = (orient(dataset.labels.to_index(volume.array), axes, flips) for volume in (truth, predicted))
    i, j, k = (image.spacing[axis] for axis in axes)
    title = f"{chosen.id}: mean foreground Dice {_mean_dice(chosen):.3f} (the median case)"
    picture = Picture(orient(image.array[0], axes, flips), true, found, (i, j, k), dataset.labels)
    overlay_figure(picture, path, title)


def _mean_dice(case: CaseMetrics) -> float:
    return case.mean("dice") or 0.0
