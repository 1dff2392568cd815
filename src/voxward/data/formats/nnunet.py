"""nnU-Net v2 raw folders: imagesTr/CASE_0000.ext (one file per channel), labelsTr/CASE.ext, and a dataset.json.

Cases of imagesTs with a label in labelsTs are a test set. Layout: nnU-Net's documentation/dataset_format.md.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from voxward.core.case import Case, Dataset, Remark
from voxward.core.errors import UserError
from voxward.core.names import composed, on_disk
from voxward.data.formats.collisions import volumes_by_stem
from voxward.data.formats.datalist import count_remarks, list_remarks
from voxward.data.formats.description import channels_of, declared_labels, read_description, splits_of
from voxward.data.volume_file import PICTURE_SUFFIXES, SUFFIXES, header_path

UNREAD = "unread files"
"""The kind of the remark on files that are not named as nnU-Net names them."""
_LISTED = '{id: {"images": [files], "label": file}}'


def recognises(root: Path) -> bool:
    """Return whether a folder has a dataset.json with "file_ending", which only nnU-Net v2 writes."""
    return "file_ending" in read_description(root)


def open(root: Path) -> Dataset:
    """Return a dataset with the cases of imagesTr, and those of imagesTs with or without a label in labelsTs.

    If the description has its own "dataset" list, its cases replace those of imagesTr. Every declared channel is
    listed, whether or not its file is there.

    Args:
        root: The folder that holds dataset.json.

    Raises:
        UserError: There are regions that are neither nested nor have an order, or a file ending that cannot be read.
    """
    path, description = root / "dataset.json", read_description(root)
    ending = str(description["file_ending"])
    if ending not in SUFFIXES:
        raise UserError(f'{path}: "file_ending" is {ending!r}; legal: {", ".join(SUFFIXES)}')
    ending = header_path(Path(f"x{ending}")).name[1:]
    channels = channels_of(description, path)
    listed = description.get("dataset")
    cases = _listed(root, listed) if listed else _found(root, "imagesTr", "labelsTr", len(channels), ending)
    test = _found(root, "imagesTs", "labelsTs", len(channels), ending)
    searched = ("imagesTs", "labelsTs") if listed else ("imagesTr", "labelsTr", "imagesTs", "labelsTs")
    remarks = (
        *count_remarks(description, path, len(cases), len(test)),
        *list_remarks(description, path, used=()),
        *_unread(root, searched, ending),
    )
    return Dataset(
        name=str(description.get("name", root.name or root.resolve().name)),
        root=root,
        channels=channels,
        labels=declared_labels(description, path),
        cases=cases,
        unlabelled=tuple(replace(case, label=None) for case in test if not _has_label(case)),
        splits_file=splits_of(root),
        test=tuple(case for case in test if _has_label(case)),
        remarks=remarks,
    )


def _has_label(case: Case) -> bool:
    return case.label is not None and case.label.is_file()


def _unread(root: Path, folders: Sequence[str], ending: str) -> Iterator[Remark]:
    """Volumes that are not named as nnU-Net names them are not read."""
    for name in folders:
        legal = re.compile((r".+_\d{4}" if name.startswith("images") else ".+") + re.escape(ending))
        files = [file.name for alike in volumes_by_stem(root / name).values() for file in alike]
        if other := [file for file in files if not legal.fullmatch(file)]:
            form = f"CASE_0000{ending}" if name.startswith("images") else f"CASE{ending}"
            yield Remark(
                UNREAD, f"{root / name}: {len(other)} volumes are not named like {form}, and are not read, "
                f"e.g. {other[0]}",
            )  # fmt: skip


def _found(root: Path, images: str, labels: str, channels: int, ending: str) -> tuple[Case, ...]:
    """One case per name before "_0000"; a case that lacks a channel is found by its others."""
    files = [file for file in (root / images).glob(f"*{ending}") if not file.name.startswith(".")]
    stems = [composed(file.name[: -len(ending)]) for file in files]
    ids = sorted({stem[:-5] for stem in stems if stem[-5:-4] == "_" and stem[-4:].isdigit()})
    return tuple(
        Case(id, _channel_files(root / images, id, channels, ending), on_disk(root / labels / f"{id}{ending}"))
        for id in ids
    )


def _channel_files(folder: Path, id: str, channels: int, ending: str) -> tuple[Path, ...]:
    """A file for each channel; a colour picture holds all channels in the first."""
    files = tuple(on_disk(folder / f"{id}_{channel:04d}{ending}") for channel in range(channels))
    alone = ending in PICTURE_SUFFIXES and files[0].is_file() and not any(file.is_file() for file in files[1:])
    return files[:1] if alone else files


def _listed(root: Path, listed: Any) -> tuple[Case, ...]:
    """The optional "dataset" of a description: {id: {"images": [files], "label": file}}."""
    path = root / "dataset.json"
    if not isinstance(listed, Mapping):
        raise UserError(f'{path}: "dataset" must be {_LISTED}, got {type(listed).__name__}')
    cases = []
    for id, files in listed.items():
        named = files if isinstance(files, Mapping) else {}
        images, label = _names(named.get("images")), named.get("label")
        if not images or not isinstance(label, str):
            raise UserError(f'{path}: "dataset" must be {_LISTED}, got {id!r}: {str(files)[:200]}')
        cases.append(Case(id, tuple(root / image for image in images), root / label))
    return tuple(cases)


def _names(images: Any) -> list[str]:
    """The names of image files, or none where the description holds something else."""
    return images if isinstance(images, list) and all(isinstance(image, str) for image in images) else []
