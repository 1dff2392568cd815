"""Which cases of a dataset a trained run has not seen, so that a score on them does not flatter."""

from __future__ import annotations

from collections.abc import Sequence

from voxward.core.case import Dataset
from voxward.core.errors import UserError
from voxward.core.labels import LabelSet
from voxward.core.plan import load_json, load_plan
from voxward.runs.folder import RunFolder, RunSplit


def unseen_by(folder: RunFolder, dataset: Dataset) -> tuple[tuple[str, ...], bool]:
    """Return the cases that may be scored, and whether this is the run's own dataset, wherever it lies.

    Args:
        folder: The run.
        dataset: The dataset.

    Returns:
        The ids of the run's validation cases in its own dataset, or of all labelled cases in another one; and whether
        it is its own.

    Raises:
        UserError: The labels are not the model's, or cases of the run's training would be scored.
    """
    plan, split = load_plan(folder.plan), load_json(RunSplit, folder.splits)
    if dataset.labels.with_ignore(plan.labels.ignore).classes != plan.labels.classes:
        raise UserError(f"the model predicts {_named(plan.labels)}, but {dataset.root} has {_named(dataset.labels)}")
    ids = tuple(case.id for case in dataset.cases)
    if dataset.name != plan.dataset:
        return ids, False
    if set(split.validation) <= set(ids):
        return split.validation, True
    shared = sorted({*split.fit, *split.selection} & set(ids))
    if shared:
        raise UserError(
            f"{dataset.root} has cases the model was trained on, e.g. {shared[:3]}, and not all of the run's "
            f"validation cases: a score on it would flatter"
        )
    return ids, False


def unseen_by_all(folders: Sequence[RunFolder], dataset: Dataset) -> tuple[str, ...]:
    """Return the labelled cases that none of the runs was trained on, in the order of the first run's validation list.

    Args:
        folders: The runs; without any, all labelled cases are returned.
        dataset: The dataset.

    Raises:
        UserError: There is no such case, or the labels are not the models'.
    """
    if not folders:
        return tuple(case.id for case in dataset.cases)
    first, *others = (unseen_by(folder, dataset)[0] for folder in folders)
    left = tuple(id for id in first if all(id in other for other in others))
    if not left:
        if full := [str(folder.root) for folder in folders if not load_json(RunSplit, folder.splits).validation]:
            raise UserError(
                f"{', '.join(full)} trained on every case of its dataset (--fold all), so that none of {dataset.root} "
                "is unseen: give another dataset"
            )
        raise UserError(
            "the runs have no validation case in common: every case was in the training of one of them. Train them "
            "with the same --fold and --seed, or give another dataset"
        )
    return left


def _named(labels: LabelSet) -> str:
    return ", ".join(f"{value} = {name}" for value, name in zip(labels.values, labels.names, strict=True))
