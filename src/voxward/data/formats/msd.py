"""Medical Segmentation Decathlon folders (medicaldecathlon.com): dataset.json lists every image and label file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from voxward.core.case import Case, Dataset
from voxward.core.errors import UserError
from voxward.data.formats.description import channels_of, declared_labels, read_description, splits_of
from voxward.data.volume_file import volume_stem


def recognises(root: Path) -> bool:
    """Return whether a folder has a dataset.json with a "training" list and without nnU-Net's "file_ending"."""
    description = read_description(root)
    return "training" in description and "file_ending" not in description


def open(root: Path) -> Dataset:
    """Return a dataset with the training list as cases and the test list as unlabelled cases.

    A case's id is the name of its image without the suffix.

    Args:
        root: The folder that holds dataset.json.

    Raises:
        UserError: An entry of dataset.json cannot be used; the message names both.
    """
    path, description = root / "dataset.json", read_description(root)
    return Dataset(
        name=str(description.get("name", root.name or root.resolve().name)),
        root=root,
        channels=channels_of(description, path),
        labels=declared_labels(description, path),
        cases=tuple(_case(root, entry, labelled=True) for entry in _list(description, "training", path)),
        unlabelled=tuple(_case(root, entry, labelled=False) for entry in _list(description, "test", path)),
        splits_file=splits_of(root),
    )


def _list(description: Mapping[str, Any], name: str, path: Path) -> list[Any]:
    entries = description.get(name, [])
    if not isinstance(entries, list):
        raise UserError(f'{path}: "{name}" must be a list, got {type(entries).__name__}')
    return entries


def _case(root: Path, entry: Any, labelled: bool) -> Case:
    """One entry: {"image": file, "label": file}; an image may be a list of one file per channel, or all of a test."""
    declared = entry if isinstance(entry, Mapping) else {"image": entry}
    images, label = declared.get("image"), declared.get("label")
    images = images if isinstance(images, list) else [images]
    if not images or not all(isinstance(image, str) for image in images):
        raise UserError(f"{root / 'dataset.json'}: an entry names no image file: {entry!r}")
    if labelled and not isinstance(label, str):
        raise UserError(f"{root / 'dataset.json'}: a training entry names no label file: {entry!r}")
    id = volume_stem(Path(images[0]))
    return Case(id, tuple(root / image for image in images), root / str(label) if labelled else None)
