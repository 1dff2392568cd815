"""voxward harden: from a trained run to one that is harder to attack."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from voxward.core.choices import Change, Compute, Fold
from voxward.core.plan import load_json
from voxward.core.progress import Progress, silent
from voxward.data.formats import open_dataset
from voxward.report.training import draw_curve
from voxward.runs.folder import RunFolder, RunSettings
from voxward.systems.open import run_of
from voxward.training.begin import Request
from voxward.training.harden import hardening
from voxward.training.train import train_run


def harden(
    run: Path | str,
    *,
    out: Path | str,
    method: str = "free",
    eps: float = 8 / 255,
    overrides: Sequence[str] = (),
    minutes: float | None = None,
    resume: bool = False,
    change: Change = Change(),
    compute: Compute = Compute(),
    progress: Progress = silent,
) -> Path:
    """Train a run further on adversarial patches, into a new run folder.

    The new run begins with the weights that the first run deploys, and at half its learning rate. It has the recipe,
    the plan and the split of the first run, so that its validation cases stay unseen. Nothing is written into the
    first run: its prepared cases are shared where they are those of the dataset, and otherwise prepared again.

    Args:
        run: The folder of a trained run, or a `system.yaml` of a single run.
        out: The folder of the hardened run.
        method: The defence: `free`, `pgd` or `trades`, see `core.recipe.Defence`.
        eps: The largest change of a voxel, as a share (0 to 1) of the intensity range of a case.
        overrides: Changes to the recipe, each as `dotted.key=value`, such as `defence.steps=5`.
        minutes: The time budget of the training; None trains the epochs of the recipe.
        resume: True goes on with the run in `out`, with its own method and eps.
        change: Where the dataset lies now if it was moved, and the seed.
        compute: The device, the number of processes that train together, and how many cases are prepared at once.
        progress: A function that is told about every step.

    Returns:
        The folder of the hardened run.

    Raises:
        UserError: An argument is wrong, or what is to be resumed is not a hardening of `run`.
        FileNotFoundError: `run` is no trained run, or the dataset is not there.
        Interrupted: A signal stopped the run, which can then be resumed.
        FloatingPointError: The loss is not finite.

    Example:
        >>> import voxward
        >>> hardened = voxward.harden("run", out="hardened", method="pgd", eps=4 / 255)  # doctest: +SKIP
    """
    before = run_of(run)
    dataset = load_json(RunSettings, before.settings).dataset if change.dataset is None else change.dataset
    asked = Request(
        dataset=open_dataset(dataset),
        out=RunFolder(Path(out)),
        recipe=str(before.recipe),
        overrides=tuple(overrides),
        minutes=minutes,
        resume=resume,
        fold=Fold(seed=change.seed),
        compute=compute,
    )
    return train_run(hardening(before, asked, method, eps), draw_curve, progress).root
