"""voxward harden: from a trained run to one that is harder to attack."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from voxward.core.choices import Change, Compute, Fold, FoldNumber, Output
from voxward.core.errors import UserError
from voxward.core.invocation import invocation
from voxward.core.plan import load_json
from voxward.data.formats import open_dataset
from voxward.report.html.write import check_page, page_of
from voxward.report.training import draw_curve
from voxward.runs.folder import RunFolder, RunSettings
from voxward.systems.nnunet.system import NnUNetEntry
from voxward.systems.open import results_of, run_of
from voxward.training.begin import Request
from voxward.training.harden import hardening
from voxward.training.nnunet.harden import NnSource, harden_nnunet
from voxward.training.train import train_run


def harden(
    run: Path | str,
    *,
    out: Path | str | Output,
    method: str = "free",
    eps: float | None = None,
    overrides: Sequence[str] = (),
    minutes: float | None = None,
    resume: bool = False,
    change: Change = Change(),
    compute: Compute = Compute(),
) -> Path:
    """Train a run, or an nnU-Net, further on attacked, noisy or corrupted patches, into a new folder of the same kind.

    The new run begins with the weights that the first run deploys, and at half its learning rate. It has the recipe,
    the plan and the split of the first run, so that its validation cases stay unseen. Nothing is written into the
    first run: its prepared cases are shared where they are those of the dataset, and otherwise prepared again.

    A results folder of nnU-Net becomes a results folder that nnU-Net loads: one fold of it in a call, prepared as
    nnU-Net does, trained on its last output. The fold's validation cases stay unseen.

    Args:
        run: The folder of a trained run, or a `system.yaml` of a single run; or a results folder of nnU-Net, or its zip
            file.
        out: The folder of the hardened run, or of the hardened results folder; or a `voxward.Output`, which also says
            who is told about every step, and whether a report is written into it.
        method: The defence: `free`, `pgd`, `trades`, `noise` or `mixed`, see `core.recipe.Defence`.
        eps: The largest change of a voxel, a share (0 to 1) of the intensity range; None: 8/255 (`noise` has none).
        overrides: Changes to the recipe, each as `dotted.key=value`, such as `defence.steps=5`.
        minutes: The time budget of the training; None trains the epochs of the recipe.
        resume: True goes on with the run in `out`, with its own method and eps.
        change: Where the dataset lies now if it was moved, and the seed. For a results folder of nnU-Net, where the
            dataset lies, and which fold is hardened if there are several.
        compute: The device, the number of processes that train together, and how many cases are prepared at once.

    Returns:
        The folder that was written.

    Raises:
        UserError: An argument is wrong, or what is to be resumed is not a hardening of `run`.
        FileNotFoundError: `run` is no trained run, or the dataset is not there.
        Interrupted: A signal stopped the run, which can then be resumed.
        FloatingPointError: The loss is not finite.

    Example:
        >>> import voxward
        >>> hardened = voxward.harden("run", out="hardened", method="pgd", eps=4 / 255)  # doctest: +SKIP
    """
    call, output = invocation(harden, locals()), Output.of(out)
    start, dataset = _start(run, change)
    asked = Request(
        open_dataset(dataset, change.follow_links), RunFolder(output.root), recipe="", overrides=tuple(overrides),
        minutes=minutes, resume=resume, fold=Fold(seed=change.seed), compute=compute, call=call,
    )  # fmt: skip
    if isinstance(start, NnSource):
        return harden_nnunet(start, asked, method, eps, draw_curve, output.progress)
    check_page(output)
    found = train_run(hardening(start, asked, method, eps), draw_curve, output.progress).root
    page_of(output)
    return found


def _start(run: Path | str, change: Change) -> tuple[RunFolder | NnSource, Path | str]:
    """What is hardened, and where its dataset lies."""
    if (results := results_of(run)) is None:
        if change.fold is not None:
            raise UserError(f"fold {change.fold} says which network of an nnU-Net is hardened, but {run} is a run")
        before = run_of(run)
        return before, change.dataset or load_json(RunSettings, before.settings).dataset
    if change.dataset is None:
        raise UserError(
            f"dataset must be given: the results folder {run} does not say where its images lie (--dataset)"
        )
    path, entry = results
    return NnSource(path, _fold_of(entry, change), entry.checkpoint), change.dataset


def _fold_of(entry: NnUNetEntry, change: Change) -> FoldNumber | None:
    """The fold that was asked for, or the only one that a `system.yaml` deploys."""
    if change.fold is not None or entry.folds is None or len(entry.folds) != 1:
        return change.fold
    fold = str(entry.folds[0])
    return int(fold) if fold.isdecimal() else "all"
