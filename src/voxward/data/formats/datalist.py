"""The lists of cases in a dataset.json, as the Decathlon, nnU-Net v1 and MONAI's Auto3DSeg write them."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any

from voxward.core.case import Case, Remark
from voxward.core.errors import UserError
from voxward.core.names import on_disk
from voxward.data.volume_file import SUFFIXES, volume_stem, volume_suffix

LISTS = ("training", "validation", "test", "testing")
"""The lists that are read; `testing` is Auto3DSeg's word for `test`."""


@dataclass(frozen=True)
class Entry:
    """One case as a list names it.

    Attributes:
        images: The image files, relative to the dataset's folder: one with all channels, or one per channel.
        label: The label file; None if the entry names none.
        fold: The number of the fold that the case validates in; None if the entry names none.
    """

    images: tuple[str, ...]
    label: str | None = None
    fold: int | None = None

    @property
    def key(self) -> tuple[str, ...]:
        """Return what two entries of the same images have in common."""
        return tuple(os.path.normpath(image) for image in self.images)


def entries_of(description: Mapping[str, Any], name: str, path: Path, labelled: bool = False) -> tuple[Entry, ...]:
    """Return the entries of one list.

    An entry is a file name, a list of file names (one per channel), or {"image": either of these, "label": file,
    "fold": number}.

    Args:
        description: The content of dataset.json.
        name: The name of the list; one that is not there is empty.
        path: The file, for messages.
        labelled: Whether every entry must name a label.

    Raises:
        UserError: An entry has another form; the message shows it.
    """
    given = description.get(name, [])
    if not isinstance(given, list):
        raise UserError(f'{path}: "{name}" must be a list, got {type(given).__name__}')
    return tuple(_entry(each, name, path, labelled) for each in given)


def _entry(given: Any, name: str, path: Path, labelled: bool) -> Entry:
    declared = given if isinstance(given, Mapping) else {"image": given}
    images, label = declared.get("image"), declared.get("label") or None
    images = images if isinstance(images, list) else [images]
    if not images or not all(_is_file_name(image) for image in images):
        raise UserError(f'{path}: an entry of "{name}" names no image file: {_shown(given)}')
    if label is None and labelled:
        raise UserError(f'{path}: an entry of "{name}" names no label file: {_shown(given)}')
    if label is not None and not _is_file_name(label):
        raise UserError(f'{path}: "label" must be one file, got {_shown(given)}')
    more = [str(key) for key in declared if str(key).startswith("image") and key != "image"]
    if more:
        raise UserError(
            f'{path}: an entry of "{name}" has {", ".join(more)} beside "image"; list the files of all channels under '
            f'"image": {_shown(given)}'
        )
    return Entry(tuple(images), label, _fold(declared.get("fold"), given, path))


def _is_file_name(value: Any) -> bool:
    return isinstance(value, str) and value != "" and "\0" not in value


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 200 else f"{text[:200]}..."


def _fold(given: Any, entry: Any, path: Path) -> int | None:
    if given is None:
        return None
    if isinstance(given, str) and given.isascii() and given.isdecimal():
        given = int(given)
    if isinstance(given, bool) or not isinstance(given, int) or given < 0:
        raise UserError(f'{path}: "fold" must be a whole number from 0, got {_shown(entry)}')
    return given


def cases_of(root: Path, lists: Sequence[Sequence[Entry]], channels: int) -> tuple[tuple[Case, ...], ...]:
    """Return the cases of several lists, whose ids differ as far as the paths of their images do.

    Args:
        root: The folder that the file names are relative to.
        lists: The entries of each list.
        channels: How many channels the dataset declares. Where IMAGE.nii.gz is not there, but IMAGE_0000.nii.gz is, the
            list is one of nnU-Net v1, and IMAGE stands for one file per channel.

    Returns:
        The cases of each list.

    Raises:
        UserError: An image file has a type that cannot be read.
    """
    every = [entry for entries in lists for entry in entries]
    try:
        ids = iter(distinct_ids([entry.images[0] for entry in every]))
    except UserError as error:
        raise UserError(f"{root / 'dataset.json'}: {error}") from error
    numbered = any(_stands_for_channels(root, entry, channels) for entry in every)
    return tuple(
        tuple(_case(root, _of_channels(root, entry, channels) if numbered else entry, next(ids)) for entry in entries)
        for entries in lists
    )


def _case(root: Path, entry: Entry, id: str) -> Case:
    images = tuple(root / image for image in entry.images)
    return Case(id, images, _label_beside(images[0], id) if entry.label is None else root / entry.label)


def _label_beside(image: Path, id: str) -> Path | None:
    """nnU-Net keeps the labels of imagesTs in a folder labelsTs beside it."""
    if image.parent.name != "imagesTs":
        return None
    found = [
        path for suffix in SUFFIXES if (path := on_disk(image.parent.with_name("labelsTs") / f"{id}{suffix}")).is_file()
    ]
    return found[0] if found else None


def _stands_for_channels(root: Path, entry: Entry, channels: int) -> bool:
    """Whether an image is not there, but a file of one of its channels is."""
    if len(entry.images) != 1 or on_disk(root / entry.images[0]).is_file():
        return False
    return any(on_disk(root / image).is_file() for image in _of_channels(root, entry, channels).images)


def _of_channels(root: Path, entry: Entry, channels: int) -> Entry:
    image = entry.images[0]
    if len(entry.images) != 1 or on_disk(root / image).is_file():
        return entry
    end = len(str(image)) - len(volume_suffix(Path(image)))
    return replace(entry, images=tuple(f"{image[:end]}_{n:04d}{image[end:]}" for n in range(channels)))


def distinct_ids(images: Sequence[str]) -> list[str]:
    """Return the id of each case: the name of its image without the suffix.

    Where several images have the same name, as in caseA/image.nii.gz and caseB/image.nii.gz, the folders above them
    come before it, as many as it takes to tell these images apart: caseA_image and caseB_image.

    Args:
        images: The first image file of each case.

    Raises:
        UserError: A file has a type that cannot be read.
    """
    stems = [volume_stem(Path(image)) for image in images]
    groups: dict[str, list[tuple[str, ...]]] = {}
    for image, stem in zip(images, stems, strict=True):
        groups.setdefault(stem, []).append(_folders(image))
    depths = {stem: _depth(folders) for stem, folders in groups.items()}
    return ["_".join((*_last(_folders(image), depths[stem]), stem)) for image, stem in zip(images, stems, strict=True)]


def _folders(image: str) -> tuple[str, ...]:
    return tuple(part for part in PurePosixPath(os.path.normpath(image)).parts[:-1] if part not in ("/", "//", ".."))


def _depth(folders: Sequence[tuple[str, ...]]) -> int:
    """How many folders above the files tell them apart; all of them where none do."""
    most = max(map(len, folders))
    return next((n for n in range(most) if len({_last(each, n) for each in folders}) == len(folders)), most)


def _last(parts: tuple[str, ...], count: int) -> tuple[str, ...]:
    return parts[max(0, len(parts) - count) :]


def count_remarks(description: Mapping[str, Any], path: Path, training: int, test: int) -> Iterator[Remark]:
    """Compare the counts that a description declares with the cases that are there.

    Args:
        description: The content of dataset.json.
        path: The file, for messages.
        training: The number of training cases.
        test: The number of test cases.
    """
    for key, count, what in (("numTraining", training, "training"), ("numTest", test, "test")):
        declared = description.get(key)
        if declared is not None and declared not in (count, str(count)):
            yield Remark("count", f'{path}: "{key}" is {_shown(declared)}, but there are {count} {what} cases')


def list_remarks(description: Mapping[str, Any], path: Path, used: Sequence[str] = LISTS) -> Iterator[Remark]:
    """Name the lists of cases that are not read, and the files in entries that are not read.

    Args:
        description: The content of dataset.json.
        path: The file, for messages.
        used: The names of the lists that are read.
    """
    for name, value in description.items():
        if isinstance(value, list) and name not in used and (cases := sum(map(_is_case, value))):
            yield Remark(
                "ignored list", f'{path}: the list "{name}" ({cases} {"case" if cases == 1 else "cases"}) is ignored'
            )
    listed = [entry for name in used for entry in description.get(name, []) if isinstance(entry, Mapping)]
    files = Counter(key for entry in listed for key, value in entry.items() if key != "label" and _is_volume(value))
    for key, count in files.items():
        if key != "image":
            yield Remark("ignored file", f'{path}: the file "{key}" of {count} entries is ignored')


def _is_case(entry: Any) -> bool:
    return _is_volume(entry) or (isinstance(entry, Mapping) and "image" in entry)


def _is_volume(value: Any) -> bool:
    return isinstance(value, str) and value.lower().endswith(SUFFIXES)
