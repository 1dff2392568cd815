"""voxward train: from a dataset folder to a trained run folder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from voxward.core.choices import Compute, Fold, Reuse
from voxward.core.invocation import invocation
from voxward.core.progress import Progress, silent
from voxward.data.formats import open_dataset
from voxward.report.training import draw_curve
from voxward.runs.folder import RunFolder
from voxward.training.begin import Request
from voxward.training.train import train_run


def train(
    dataset: Path | str,
    *,
    out: Path | str,
    recipe: str = "rog",
    overrides: Sequence[str] = (),
    minutes: float | None = None,
    resume: bool = False,
    fold: Fold = Fold(),
    reuse: Reuse = Reuse(),
    compute: Compute = Compute(),
    progress: Progress = silent,
) -> Path:
    """Train a network by a recipe on the training cases of a dataset.

    The dataset is measured, planned and prepared first, unless `reuse` names results of earlier work. The validation
    cases of the fold are only read to be recognised later. A run that was stopped with Ctrl-C can be resumed, and ends
    like one that was never stopped.

    Args:
        dataset: The folder of the dataset: Decathlon, nnU-Net, or plain `images` and `labels`.
        out: The folder of the run, which must not hold another one.
        recipe: The name of a packaged recipe, or the path of a `.yaml` file.
        overrides: Changes to the recipe, each as `dotted.key=value`, such as `training.epochs=100`. Adversarial
            or noisy training is switched on by `defence.method=free` (or `pgd`, `trades`, `noise`, `mixed`), and its
            numbers are set likewise.
        minutes: The time budget of the training itself; None trains the epochs of the recipe.
        resume: True goes on with the run in `out` exactly as it would have gone on. Its recipe, plan, split and length
            are its own; `recipe`, `minutes`, `fold` and `reuse.plan` are ignored, and `overrides` that contradict its
            recipe are refused.
        fold: The part of the dataset to learn from, the seed, and a list of cases to leave out.
        reuse: An edited plan, a folder of prepared cases, and a run to begin with.
        compute: The device, the number of processes that train together, and how many cases are prepared at once.
        progress: A function that is told about every step, such as `voxward.ShowProgress()`.

    Returns:
        The folder of the run.

    Raises:
        UserError: An argument, the recipe, the plan or the dataset is wrong. Then there is no run folder yet, at most
            prepared cases.
        FileNotFoundError: The dataset, the recipe or another file is not there.
        Interrupted: A signal stopped the run, which can then be resumed.
        FloatingPointError: The loss is not finite.

    Example:
        >>> import voxward
        >>> run = voxward.train("Task04_Hippocampus", out="run", recipe="dynunet", minutes=60)  # doctest: +SKIP
    """
    call = invocation(train, locals())
    request = Request(
        dataset=open_dataset(dataset, fold.follow_links), out=RunFolder(Path(out)), recipe=recipe,
        overrides=tuple(overrides), minutes=minutes, resume=resume, fold=fold, reuse=reuse, compute=compute, call=call,
    )  # fmt: skip
    return train_run(request, draw_curve, progress).root
