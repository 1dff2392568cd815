"""Plain folders: images/ and labels/ with files of the same name, and nothing else needed.

Optional beside them: labels.json {name: value}, or nnU-Net's regions with "regions_class_order", and channels.json
[name, ...] (name a channel "CT" to have it normalised as CT). Several channels: one 4D file, or files CASE_0000,
CASE_0001, ... for the label CASE.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from voxward.core.case import Case, Dataset
from voxward.core.errors import UserError
from voxward.core.labels import LabelSet
from voxward.core.reading import read_json
from voxward.data.formats.description import label_set, labels_file, splits_of
from voxward.data.io import SUFFIXES, read_header, read_label, volume_stem
from voxward.data.volume_file import volumes_among


def recognises(root: Path) -> bool:
    """Return whether a folder has an images/ and a labels/ folder."""
    return (root / "images").is_dir() and (root / "labels").is_dir()


def open(root: Path) -> Dataset:
    """Return a dataset with one case per image.

    An image without a label declares a label of its own name, so that `check_dataset` reports it as missing. Without
    labels.json every label file is read, and its values become "class 1", "class 2", ...

    Args:
        root: The folder that holds images/ and labels/.

    Raises:
        UserError: There is no image, or no label file has a foreground value.
    """
    cases = _cases(root)
    if not cases:
        raise UserError(f"{root / 'images'} holds no volume; legal types: {', '.join(SUFFIXES)}")
    return Dataset(
        name=root.resolve().name,
        root=root,
        channels=_channels(root, cases),
        labels=_labels(root),
        cases=cases,
        splits_file=splits_of(root),
    )


def read_at_once(root: Path) -> list[Path]:
    """Return the files that `open` looks into, because nothing beside them says what they hold.

    Args:
        root: The folder that holds images/ and labels/.
    """
    images = [] if (root / "channels.json").is_file() else _files(root / "images")
    return images + ([] if (root / "labels.json").is_file() else _files(root / "labels"))


def _files(folder: Path) -> list[Path]:
    return volumes_among(folder.iterdir())


def _cases(root: Path) -> tuple[Case, ...]:
    labels = {volume_stem(file): file for file in _files(root / "labels")}
    groups: dict[str, list[Path]] = {}
    for image in _files(root / "images"):
        stem = volume_stem(image)
        # "_0000" numbers a channel only where the label is named without it: many plain names end in four digits.
        numbered = stem not in labels and stem[-5:-4] == "_" and stem[-4:].isdigit() and stem[:-5] in labels
        groups.setdefault(stem[:-5] if numbered else stem, []).append(image)
    return tuple(
        Case(id, tuple(images), labels.get(id, root / "labels" / images[0].name)) for id, images in groups.items()
    )


def declared_channels(root: Path) -> tuple[str, ...] | None:
    """Return the names of the channels in the folder's channels.json; None without such a file.

    Args:
        root: The folder that holds images/ and labels/.

    Raises:
        UserError: The file holds no list of names.
    """
    path = root / "channels.json"
    if not path.is_file():
        return None
    names = read_json(path)
    if not isinstance(names, list) or not names:
        raise UserError(f"{path} must hold a list of channel names, got {names!r}")
    return tuple(map(str, names))


def _channels(root: Path, cases: tuple[Case, ...]) -> tuple[str, ...]:
    return declared_channels(root) or tuple(f"channel {n}" for n in range(_channel_count(cases)))


def _channel_count(cases: tuple[Case, ...]) -> int:
    """Channels of the first case whose files can be read: which case is at fault is for `check_dataset` to say."""
    for case in cases:
        if len({volume_stem(image) for image in case.images}) < len(case.images):
            continue  # two files that mean one channel: `collisions` names them
        try:
            return sum(read_header(image).channels for image in case.images)
        except (UserError, OSError):
            continue
    return 1


def _labels(root: Path) -> LabelSet:
    path = root / "labels.json"
    if path.is_file():
        return labels_file(path)
    values = sorted(set().union(*map(_values, _files(root / "labels"))) - {0})
    if not values:
        raise UserError(f"no file in {root / 'labels'} has a value other than 0, so there is no class to learn")
    return label_set([(0, "background"), *((value, f"class {value}") for value in values)])


def _values(path: Path) -> set[int]:
    try:
        return {int(value) for value in np.unique(read_label(path).array)}
    except UserError:  # a broken file declares nothing, and `check_dataset` names it
        return set()
