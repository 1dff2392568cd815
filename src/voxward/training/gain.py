"""What a training notes of its best weights, and what a hardening gained over the weights that it began with."""

from __future__ import annotations

import warnings
from collections.abc import Iterable

from voxward.data.loader import PatchBatch
from voxward.runs.folder import save_weights
from voxward.runs.kept import Kept, PatchScores, read_kept, write_kept
from voxward.training.selection import Validation
from voxward.training.setup import TrainingRun
from voxward.training.validate import validate


def note_start(run: TrainingRun, batches: Iterable[PatchBatch]) -> None:
    """Validate the weights that a hardening begins with, and write down what they score.

    Args:
        run: The run, before its first step.
        batches: Which of its validation patches are judged.
    """
    start = _scores(validate(run, batches))
    if run.fabric.is_global_zero:
        write_kept(run.folder.kept, Kept(0, start, start))


def keep_best(run: TrainingRun, found: Validation) -> None:
    """Write the weights as the best of a run, and what they score."""
    save_weights(run.network, run.folder.weights("best"))
    before = read_kept(run.folder.kept)
    write_kept(run.folder.kept, Kept(run.state.step, _scores(found), None if before is None else before.start))


def warn_of_no_gain(run: TrainingRun) -> None:
    """Warn where a hardened network is no better on perturbed patches than the one that it began with."""
    kept = read_kept(run.folder.kept) if run.fabric.is_global_zero else None
    if kept is not None and not kept.gained:
        warnings.warn(
            f"the hardening gained nothing on perturbed patches: {kept.text}; the result is poor: give it more minutes "
            "or epochs, or a smaller eps",
            stacklevel=2,
        )


def _scores(found: Validation) -> PatchScores:
    return PatchScores(found.dice, found.robust)
