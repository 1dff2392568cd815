"""A run that is trained again: the decisions of an earlier one in a new folder."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from voxward.core.document import with_checksum
from voxward.core.errors import UserError
from voxward.core.outputs import Outputs
from voxward.core.plan import load_json, load_plan
from voxward.core.recipe import dump_recipe, load_run_recipe
from voxward.core.structure import to_data
from voxward.runs.cases import RunCases
from voxward.runs.folder import RunFolder, RunSettings, RunSplit, read_state, unfinished


def begin_again(before: RunFolder, out: RunFolder, dataset: Path) -> None:
    """Write what a run has decided into a new folder, in which `train --resume` then does all of its steps again.

    A run with a time budget is followed step by step: the new one has its number of steps, and each correction of
    their number comes at the same step.

    Args:
        before: The folder of a run that has ended.
        out: The new folder.
        dataset: The folder of the run's dataset.

    Raises:
        UserError: The run has not ended, its budget cannot be followed, or the new folder holds another run.
    """
    settings = load_json(RunSettings, before.settings)
    if (progress := unfinished(before)) is not None:
        raise UserError(
            f"the training of {before.root} has not ended ({progress}): finish it with voxward train --resume"
        )
    start = settings.start
    if start is not None and not RunFolder(Path(start)).weights("auto").is_file():
        raise UserError(f"{before.root} began with the weights of {start}, which are not there: put that run back")
    lengths, judged = settings.lengths, settings.judged
    if settings.minutes is not None and not lengths:
        lengths, judged = _corrections(before)
    if out.recipe.exists():
        _refuse_another(before, out)
        return
    again = replace(settings, dataset=str(dataset.resolve()), minutes=None, lengths=lengths, judged=judged)
    outputs = Outputs(out.root, "part of a run")
    Outputs(out.root, "a plan").json(out.plan.name, with_checksum(to_data(load_plan(before.plan))))
    outputs.json(out.splits.name, with_checksum(to_data(load_json(RunSplit, before.splits))))
    outputs.json(out.settings.name, with_checksum(to_data(again)))
    if before.cases.is_file():
        outputs.json(out.cases.name, with_checksum(to_data(load_json(RunCases, before.cases))))
    # Last: a folder with a recipe holds a run.
    outputs.text(out.recipe.name, dump_recipe(load_run_recipe(before.recipe), checksum=True))


def _refuse_another(before: RunFolder, out: RunFolder) -> None:
    """Refuse a folder that holds anything but the same run, which was stopped and goes on."""
    one, other = (
        (load_run_recipe(run.recipe), load_plan(run.plan), load_json(RunSplit, run.splits)) for run in (before, out)
    )
    if one != other:
        raise UserError(f"{out.root} already holds another run: choose another --out")


def _corrections(before: RunFolder) -> tuple[tuple[tuple[int, int, int], ...], int | None]:
    """Each correction of the number of steps of a run with a time budget, and what it judged, from its state."""
    state = read_state(before.state)["state"] if before.state.is_file() else {}
    if kept := state.get("lengths"):
        return tuple((int(step), int(left), int(every)) for step, left, every in kept), state.get("judged")
    raise UserError(
        f"{before.root} was trained with a time budget, and how its number of steps was corrected is not known: "
        f"{before.state} is gone, or an older version wrote it. Train it again with voxward train"
    )
