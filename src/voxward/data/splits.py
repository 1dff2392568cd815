"""The split of a dataset into cases for training, for choosing the best weights, and for the evaluation."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from voxward.core.case import Dataset, Remark, Split
from voxward.core.choices import FoldNumber
from voxward.core.errors import UserError
from voxward.core.names import composed
from voxward.core.reading import read_json

FOLDS = 5


def load_split(dataset: Dataset, fold: FoldNumber = 0, seed: int = 0, folds: int = FOLDS) -> Split:
    """Return a fold: of the dataset's own list of folds, or else of a seeded partition of its labelled cases.

    The dataset's own list is its splits file, or else what its description declares. The partition has as many parts as
    folds, but no more than there are cases. One part validates, the others train. It does not depend on the order of
    the cases.

    Args:
        dataset: The dataset.
        fold: The number of the fold, from 0; or `all`, where all labelled cases train and none validates.
        seed: The seed of the partition.
        folds: The number of folds of the partition; the dataset's own list has its own number.

    Raises:
        UserError: There is no such fold, the dataset's list names unknown cases or one case twice, or there are fewer
            than two cases.
    """
    known = sorted(case.id for case in dataset.cases)
    if fold == "all":
        return _all(known, dataset)
    if dataset.splits_file is not None:
        return _declared(dataset.splits_file, known, fold)
    if dataset.folds:
        return _described(dataset, fold)
    if len(known) < 2:
        raise UserError(f"{dataset.root}: a split needs at least 2 labelled cases, got {len(known)}")
    if folds < 2:
        raise UserError(f"folds must be at least 2, got {folds}")
    folds = min(folds, len(known))
    _refuse_fold(fold, folds, str(dataset.root))
    validation = _shuffled(known, seed)[fold::folds]
    return Split(tuple(id for id in known if id not in set(validation)), tuple(sorted(validation)))


def declared_folds(dataset: Dataset) -> int | None:
    """Return how many folds the dataset itself declares, in its splits file or else its description; None for none.

    Args:
        dataset: The dataset.

    Raises:
        UserError: The splits file cannot be read.
    """
    if dataset.splits_file is not None:
        folds = read_json(dataset.splits_file)
        return len(folds) if isinstance(folds, list) else None
    return len(dataset.folds) or None


def fold_remarks(dataset: Dataset) -> Iterator[Remark]:
    """Say so where the splits file of a dataset and its description declare other folds.

    Args:
        dataset: The dataset.
    """
    path = dataset.splits_file
    if path is None or not dataset.folds:
        return
    try:
        given = read_json(path)
        known = [case.id for case in dataset.cases]
        same = {n: _declared(path, known, n) for n in range(len(given))} == dict(dataset.folds)
    except UserError:  # whoever asks for a fold of the file is told
        same = False
    if not same:
        yield Remark("folds", f"{path} declares other folds than {dataset.root / 'dataset.json'}: the former are used")


def without(split: Split, ids: Sequence[str], dataset: Dataset) -> Split:
    """Return a split without some of its training cases. Validation cases stay: a user must not choose what is scored.

    Args:
        split: The split.
        ids: The ids of the cases that are left out of the training.
        dataset: The dataset of the split.

    Raises:
        UserError: The dataset has no such case, or no training case is left.
    """
    left_out = {composed(id) for id in ids}
    unknown = sorted(left_out - {composed(case.id) for case in dataset.cases})
    if unknown:
        raise UserError(f"the excluded cases {', '.join(unknown[:5])} are not in {dataset.root}")
    left = tuple(id for id in split.train if composed(id) not in left_out)
    if not left:
        raise UserError("every training case is excluded")
    return Split(left, split.validation)


def selection_split(
    train: Sequence[str], fraction: float = 0.1, seed: int = 0
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Set aside a share of the training cases, on which the best weights are chosen.

    At least one case is set aside if there are two or more and `fraction` is above 0, and at least one is left to train
    on. The result does not depend on the order of the cases.

    Args:
        train: The ids of the training cases.
        fraction: The share that is set aside, in [0, 1).
        seed: The seed of the choice.

    Returns:
        The ids to train on, and the ids that were set aside; each sorted.

    Raises:
        UserError: The fraction is out of range, or an id is repeated.
    """
    if not 0 <= fraction < 1:
        raise UserError(f"fraction must lie in [0, 1), got {fraction}")
    known = sorted(train)
    if len(set(known)) < len(known):
        raise UserError("training ids must differ, some are repeated")
    count = min(max(1, round(fraction * len(known))), len(known) - 1) if fraction > 0 and known else 0
    selection = set(_shuffled(known, seed)[:count])
    return tuple(id for id in known if id not in selection), tuple(sorted(selection))


def _shuffled(ids: Sequence[str], seed: int) -> list[str]:
    return [ids[n] for n in np.random.default_rng(seed).permutation(len(ids))]


def _all(known: Sequence[str], dataset: Dataset) -> Split:
    if not known:
        raise UserError(f"{dataset.root} has no labelled case to train on")
    return Split(tuple(known), ())


def _described(dataset: Dataset, fold: int) -> Split:
    folds, source = dict(dataset.folds), dataset.root / "dataset.json"
    if fold not in folds:
        raise UserError(f"{source} declares the folds {', '.join(map(str, folds))}, and has no fold {fold}")
    split = folds[fold]
    if not split.train or not split.validation:
        part = "training" if not split.train else "validation"
        raise UserError(f"{source}: fold {fold} has no {part} case")
    return split


def _refuse_fold(fold: int, folds: int, source: str) -> None:
    if not 0 <= fold < folds:
        raise UserError(f"fold must be 0 to {folds - 1} for {source}, got {fold}")


def _declared(path: Path, known: Sequence[str], fold: int) -> Split:
    folds = read_json(path)
    if not isinstance(folds, list):
        raise UserError(f'{path} must hold a list of {{"train": [ids], "val": [ids]}}, got {type(folds).__name__}')
    _refuse_fold(fold, len(folds), str(path))
    train, validation = (_ids(folds[fold], part, path) for part in ("train", "val"))
    unknown = sorted({*train, *validation} - set(known))
    if unknown:
        raise UserError(f"{path}, fold {fold}: no labelled case {', '.join(unknown[:5])} ({len(unknown)} unknown)")
    both = sorted({*train} & {*validation})
    if both:
        raise UserError(f"{path}, fold {fold}: {', '.join(both[:5])} in both train and val ({len(both)} in all)")
    return Split(train, validation)


def _ids(fold: Any, part: str, path: Path) -> tuple[str, ...]:
    ids = fold.get(part) if isinstance(fold, dict) else None
    if not isinstance(ids, list) or not ids or not all(isinstance(id, str) for id in ids):
        raise UserError(f'{path}: every fold needs a "{part}" list of at least one id, got {ids!r}')
    same = {composed(id) for id in ids}
    if len(same) < len(ids):
        raise UserError(f'{path}: a "{part}" list repeats an id')
    return tuple(sorted(same))
