"""The same image under several names in one dataset: two parts of a split must not share it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import count

from voxward.core.case import Dataset, Split
from voxward.core.errors import UserError
from voxward.data.check_geometry import Fault
from voxward.data.identity import Identity, KnownImages
from voxward.data.splits import load_split

_MOST_FOLDS = 100


def duplicates(dataset: Dataset, identities: Mapping[str, Identity]) -> Iterator[tuple[str, Fault]]:
    """Find cases that show the same image, whatever they are called.

    Args:
        dataset: The dataset.
        identities: For the id of each case that could be read its identity.

    Yields:
        The first case of every set of equal images, and the fault: an error if a fold trains on one of them and
        validates on another, or if one of them is a test case, else a warning.
    """
    images, told, folds = KnownImages(identities.items()), set[str](), list(_folds(dataset))
    for id, identity in identities.items():
        others = [other for other in images.find_all(identity) if other != id]
        if id in told or not others:
            continue
        told |= {id, *others}
        found, reason = (id, *others), _leak(dataset, folds, (id, *others))
        message = f"{' and '.join(found)} show the same image" + (f": {reason}" if reason else "")
        yield id, ("error" if reason else "warning", "duplicate", message)


def _leak(dataset: Dataset, folds: list[Split], ids: tuple[str, ...]) -> str:
    """How equal images get to both sides of a split; empty if they do not."""
    labelled, tested = ({case.id for case in cases} & set(ids) for cases in (dataset.cases, dataset.test))
    if labelled and tested:
        return f"{min(labelled)} is trained on, and {min(tested)} is a test case"
    for number, fold in enumerate(folds):
        train, validation = set(fold.train) & set(ids), set(fold.validation) & set(ids)
        if train and validation:
            return f"fold {number} trains on {min(train)} and validates on {min(validation)}"
    return ""


def _folds(dataset: Dataset) -> Iterator[Split]:
    """The folds that the dataset declares, or those that it is divided into with the seed 0."""
    for fold in count():
        try:
            if fold == _MOST_FOLDS:
                return
            yield load_split(dataset, fold)
        except UserError:
            return
