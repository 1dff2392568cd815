"""nnU-Net v2 raw folders: imagesTr/CASE_0000.ext (one file per channel), labelsTr/CASE.ext, and a dataset.json.

Layout: nnU-Net's documentation/dataset_format.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from voxward.core.case import Case, Dataset
from voxward.core.errors import UserError
from voxward.data.formats.description import channels_of, declared_labels, read_description, splits_of
from voxward.data.volume_file import SUFFIXES


def recognises(root: Path) -> bool:
    """Return whether a folder has a dataset.json with "file_ending", which only nnU-Net v2 writes."""
    return "file_ending" in read_description(root)


def open(root: Path) -> Dataset:
    """Return a dataset with the cases of imagesTr, and those of imagesTs as unlabelled cases.

    If the description has its own "dataset" list, its cases replace those of imagesTr. Every declared channel is
    listed, whether or not its file is there.

    Args:
        root: The folder that holds dataset.json.

    Raises:
        UserError: There are regions that are neither nested nor have an order, an ignore label, or a file ending that
            cannot be read.
    """
    path, description = root / "dataset.json", read_description(root)
    ending = str(description["file_ending"])
    if ending not in SUFFIXES:
        raise UserError(f'{path}: "file_ending" is {ending!r}; legal: {", ".join(SUFFIXES)}')
    channels = channels_of(description, path)
    listed = description.get("dataset")
    return Dataset(
        name=str(description.get("name", root.name or root.resolve().name)),
        root=root,
        channels=channels,
        labels=declared_labels(description, path),
        cases=_listed(root, listed) if listed else _found(root, "imagesTr", "labelsTr", len(channels), ending),
        unlabelled=_found(root, "imagesTs", None, len(channels), ending),
        splits_file=splits_of(root),
    )


def _found(root: Path, images: str, labels: str | None, channels: int, ending: str) -> tuple[Case, ...]:
    """One case per name before "_0000"; a case that lacks a channel is found by its others."""
    stems = [file.name[: -len(ending)] for file in (root / images).glob(f"*{ending}") if not file.name.startswith(".")]
    ids = sorted({stem[:-5] for stem in stems if stem[-5:-4] == "_" and stem[-4:].isdigit()})
    return tuple(
        Case(
            id,
            tuple(root / images / f"{id}_{channel:04d}{ending}" for channel in range(channels)),
            None if labels is None else root / labels / f"{id}{ending}",
        )
        for id in ids
    )


def _listed(root: Path, listed: Any) -> tuple[Case, ...]:
    """The optional "dataset" of a description: {id: {"images": [files], "label": file}}."""
    try:
        return tuple(
            Case(str(id), tuple(root / image for image in files["images"]), root / files["label"])
            for id, files in dict(listed).items()
        )
    except (KeyError, TypeError, ValueError) as error:
        shape = type(listed).__name__ if not isinstance(listed, Mapping) else f"one without {error}"
        raise UserError(
            f'{root / "dataset.json"}: "dataset" must be {{id: {{"images": [...], "label": ...}}}}, got {shape}'
        ) from error
