"""voxward demo: the whole way from volumes to metrics and a picture, in a few minutes."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from voxward.core.alone import alone
from voxward.core.case import Dataset
from voxward.core.choices import Fold, Output
from voxward.core.files import inside
from voxward.core.invocation import invocation
from voxward.core.outputs import Outputs
from voxward.core.progress import Progress
from voxward.data.formats import open_dataset
from voxward.data.io import read_case, read_label
from voxward.data.orient import orient, orientation
from voxward.engine.engine import InProcess
from voxward.metrics.score import CaseMetrics
from voxward.phantoms.write import write_phantoms
from voxward.report.attack import KIND, AttackReport, check_reports, write_reports
from voxward.report.figures import overlay_figure
from voxward.report.html.write import check_page, page_of
from voxward.report.metrics import METRICS_FILES, save_metrics
from voxward.report.slices import Picture
from voxward.report.training import draw_curve
from voxward.robustness.bench import Source
from voxward.robustness.measure import measure
from voxward.robustness.protocol import load_protocol
from voxward.robustness.setup import set_up
from voxward.runs.folder import RunFolder
from voxward.runs.unseen import scope_of
from voxward.systems.evaluate import Evaluation
from voxward.systems.open import open_system
from voxward.systems.origin import origin_of
from voxward.systems.score import score_system
from voxward.training.begin import Request
from voxward.training.train import train_run


@dataclass(frozen=True)
class DemoResult:
    """What the demo made.

    Attributes:
        evaluation: The scores of the validation cases.
        run: The run folder.
        picture: A picture of the median case.
        robustness: What the attack found.
    """

    evaluation: Evaluation
    run: Path
    picture: Path
    robustness: AttackReport


def demo(
    *,
    out: Path | str | Output = "demo",
    data: Path | str | None = None,
    recipe: str = "dynunet",
    minutes: float = 4.0,
    seed: int = 0,
    cases: int = 25,
    follow_links: bool = False,
) -> DemoResult:
    """Train on synthetic phantoms or a dataset, evaluate, draw the median case, and attack by the protocol `quick`.

    A demo that was interrupted goes on where it stopped.

    Args:
        out: The folder of everything: the phantoms, the run with its predictions and metrics, a picture with image,
            truth and prediction, the attack's tables and figures, and report.html, a page on all of it. Or a
            `voxward.Output`, which also says what may be replaced there and who is told about every step.
        data: A dataset folder; None: phantoms.
        recipe: The recipe to train.
        minutes: The training time.
        seed: The seed of everything random.
        cases: How many phantoms.
        follow_links: Whether files of `data` may lie outside of that folder, see `voxward.Reading`.

    Returns:
        The scores, the run, the picture and the attack's report.

    Raises:
        UserError: An argument or the dataset is wrong, or a file would be replaced.
    """
    call, output = invocation(demo, locals()), Output.of(out)
    root, overwrite, progress = output.root, output.overwrite, output.progress
    source = Path(data) if data is not None else root / "phantoms"
    if data is None and not source.is_dir():
        write_phantoms(source, cases, seed)
    dataset = open_dataset(source, follow_links)
    name = f"{dataset.name}-{Path(recipe).name.removesuffix('.yaml')}".lower()
    run = RunFolder(inside(root, f"run-{name}"))
    outputs, picture = Outputs(root, "a picture of a demo", overwrite), f"overlay-{name}.png"
    outputs.check([picture])
    check_page(output)
    resume, fold = run.recipe.is_file(), Fold(seed=seed)
    request = Request(dataset, run, recipe, minutes=minutes, resume=resume, fold=fold, call=call)
    train_run(request, draw_curve, progress)
    evaluation = _evaluated(run, dataset, overwrite, progress)
    with outputs.write(picture) as path:
        _picture(run, dataset, evaluation, path)
    target = root / f"attack-{name}"
    worker = set_up(
        [Source(str(run.root))], dataset, load_protocol("quick", [f"seeds=[{seed}]"]), target / "volumes", overwrite
    )
    reports = Outputs(target, KIND, overwrite)
    check_reports(reports, worker)
    with alone(target, "an attack"):
        records = measure(worker, target, InProcess(target), progress, call)
    robustness = write_reports(reports, worker, records)
    page_of(output, (target, run.root))
    worker.failures.raise_any(worker.total)
    return DemoResult(evaluation, run.root, root / picture, robustness)


def _evaluated(run: RunFolder, dataset: Dataset, overwrite: bool, progress: Progress) -> Evaluation:
    outputs = Outputs(run.root, "metrics", overwrite)
    outputs.check(METRICS_FILES)
    scope, output, system = scope_of([run], dataset), Output(run.root, overwrite, progress), open_system(run.root)
    result = replace(score_system(system, dataset, scope.ids, output), origin=origin_of(system, dataset, scope))
    save_metrics(result, outputs)
    return result


def _picture(run: RunFolder, dataset: Dataset, evaluation: Evaluation, path: Path) -> None:
    """Draw the case of median Dice: neither the best nor the worst."""
    ranked = sorted(evaluation.cases, key=_mean_dice)
    chosen = ranked[len(ranked) // 2]
    case = dataset.case(chosen.id)
    assert case.label is not None
    image, truth = read_case(case), read_label(case.label)
    predicted = read_label(next(run.predictions.glob(f"{chosen.id}.*")))
    axes, flips = orientation(image.affine)
    true, found = (orient(dataset.labels.to_index(volume.array), axes, flips) for volume in (truth, predicted))
    i, j, k = (image.spacing[axis] for axis in axes)
    title = f"{chosen.id}: mean foreground Dice {_mean_dice(chosen):.3f} (the median case)"
    picture = Picture(orient(image.array[0], axes, flips), true, found, (i, j, k), dataset.labels)
    overlay_figure(picture, path, title)


def _mean_dice(case: CaseMetrics) -> float:
    return case.mean("dice") or 0.0
