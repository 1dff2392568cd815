"""Folders whose dataset.json lists every image and label file.

The Medical Segmentation Decathlon (medicaldecathlon.com) has the lists "training" and "test". MONAI's Auto3DSeg adds a
"fold" to each training entry, or a "validation" list, and calls the test list "testing". In nnU-Net v1 an entry
CASE.nii.gz stands for the files CASE_0000.nii.gz, CASE_0001.nii.gz, ...
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from voxward.core.case import Case, Dataset, Remark, Split
from voxward.data.formats.datalist import Entry, cases_of, count_remarks, entries_of, list_remarks
from voxward.data.formats.description import channels_of, declared_labels, read_description, splits_of


def recognises(root: Path) -> bool:
    """Return whether a folder has a dataset.json with a "training" list and without nnU-Net's "file_ending"."""
    description = read_description(root)
    return "training" in description and "file_ending" not in description


def open(root: Path) -> Dataset:
    """Return a dataset with the training list as cases, and those of the test list with or without a label.

    A case's id is the name of its image without the suffix, see `datalist.distinct_ids`. A "validation" list validates
    in the only fold; where training entries have a "fold", these decide, and the list is ignored.

    Args:
        root: The folder that holds dataset.json.

    Raises:
        UserError: An entry of dataset.json cannot be used; the message names both.
    """
    path, description = root / "dataset.json", read_description(root)
    channels = channels_of(description, path)
    lists = _lists(description, path)
    training, validation, test = cases_of(root, (lists.training, lists.validation, lists.test), len(channels))
    validating = _labelled(validation) if lists.validate else ()
    further = () if lists.folds else _unlabelled(validation)
    return Dataset(
        name=str(description.get("name", root.name or root.resolve().name)),
        root=root,
        channels=channels,
        labels=declared_labels(description, path),
        cases=(*training, *validating),
        unlabelled=(*_unlabelled(test), *further),
        splits_file=splits_of(root),
        test=_labelled(test),
        unused=validation if lists.folds else (),
        folds=_numbered(training, lists) if lists.folds else _given(training, validating),
        remarks=(*lists.remarks, *list_remarks(description, path)),
    )


@dataclass(frozen=True)
class _Lists:
    """The lists of a description, in which every image is once.

    Attributes:
        training: The entries that train.
        validation: The entries of the validation list.
        test: The entries of the test list.
        folds: Whether training entries have a fold, so that the validation list is ignored.
        validate: Whether the validation list is what validates.
        remarks: What is missing in the lists that should be there, or there that is ignored.
    """

    training: tuple[Entry, ...]
    validation: tuple[Entry, ...]
    test: tuple[Entry, ...]
    folds: bool
    validate: bool
    remarks: tuple[Remark, ...]


def _lists(description: Mapping[str, Any], path: Path) -> _Lists:
    training = entries_of(description, "training", path, labelled=True)
    validation = entries_of(description, "validation", path)
    test = (*entries_of(description, "test", path), *entries_of(description, "testing", path))
    folds = any(entry.fold is not None for entry in training)
    validate = not folds and any(entry.label is not None for entry in validation)
    own = {entry.key for entry in training}
    held = {entry.key for entry in validation}
    remarks = (
        *_counts(description, path, training, validation, test),
        *_fold_remarks(training, validation, folds, path),
        *_overlap(path, "training", "validation", own & held, "validate" if validate else "train"),
        *_overlap(path, "test", "training or validation", {entry.key for entry in test} & (own | held), "do not test"),
    )
    return _Lists(
        tuple(entry for entry in training if not (validate and entry.key in held)),
        tuple(entry for entry in validation if validate or entry.key not in own),
        tuple(dict.fromkeys(entry for entry in test if entry.key not in own | held)),
        folds,
        validate,
        remarks,
    )


def _counts(
    description: Mapping[str, Any], path: Path, training: Sequence[Entry], validation: Sequence[Entry],
    test: Sequence[Entry],
) -> Iterator[Remark]:  # fmt: skip
    # Some writers count the validation list among the training cases.
    both = len(training) + len(validation)
    count = both if description.get("numTraining") in (both, str(both)) else len(training)
    return count_remarks(description, path, count, len(test))


def _fold_remarks(training: Sequence[Entry], validation: Sequence[Entry], folds: bool, path: Path) -> Iterator[Remark]:
    without = [entry for entry in training if entry.fold is None]
    if folds and without:
        yield Remark(
            "folds", f'{path}: entries of "training" have no "fold" ({_named(without)}; {len(training)} in all): '
            "they train in every fold",
        )  # fmt: skip
    unlabelled = [entry for entry in validation if entry.label is None]
    if folds and validation:
        yield Remark(
            "folds", f'{path}: the list "validation" is ignored ({_named(validation)}), because entries of "training" '
            'have a "fold"; its cases neither train nor validate',
        )  # fmt: skip
    elif unlabelled:
        yield Remark(
            "folds", f'{path}: entries of "validation" name no label ({_named(unlabelled)}): they do not validate'
        )


def _overlap(path: Path, one: str, other: str, keys: set[tuple[str, ...]], use: str) -> Iterator[Remark]:
    if keys:
        named = _some(sorted(key[0] for key in keys))
        yield Remark("listed twice", f'{path}: the same images stand in "{one}" and in {other} ({named}): they {use}')


def _named(entries: Sequence[Entry]) -> str:
    return _some([entry.images[0] for entry in entries])


def _some(names: Sequence[str]) -> str:
    return f"{len(names)} {'entry' if len(names) == 1 else 'entries'}, for example {names[0]}"


def _labelled(cases: Sequence[Case]) -> tuple[Case, ...]:
    return tuple(case for case in cases if case.label is not None)


def _unlabelled(cases: Sequence[Case]) -> tuple[Case, ...]:
    return tuple(case for case in cases if case.label is None)


def _numbered(training: Sequence[Case], lists: _Lists) -> tuple[tuple[int, Split], ...]:
    """A fold validates on the entries that have its number, and trains on all others, as in Auto3DSeg."""
    numbers = {case.id: entry.fold for case, entry in zip(training, lists.training, strict=True)}
    return tuple(
        (fold, _split([id for id in numbers if numbers[id] != fold], [id for id in numbers if numbers[id] == fold]))
        for fold in sorted({number for number in numbers.values() if number is not None})
    )


def _given(training: Sequence[Case], validating: Sequence[Case]) -> tuple[tuple[int, Split], ...]:
    if not validating:
        return ()
    return ((0, _split([case.id for case in training], [case.id for case in validating])),)


def _split(train: Sequence[str], validation: Sequence[str]) -> Split:
    return Split(tuple(sorted(train)), tuple(sorted(validation)))
