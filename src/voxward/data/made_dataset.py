"""A dataset in nnU-Net's raw layout, written case by case from files of another kind."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from voxward.core.case import Scaling
from voxward.core.errors import UserError
from voxward.core.files import name_fault, write_json
from voxward.core.labels import LabelSet
from voxward.data.io import write_image, write_label

ENDING = ".nii.gz"
DESCRIPTION = "dataset.json"
_TAKEN = ("background", "ignore")


@dataclass(frozen=True)
class MadeDataset:
    """A dataset that was made of other files.

    Attributes:
        folder: The folder of the dataset, in nnU-Net's raw layout.
        labelled: The ids of the cases with ground truth, in imagesTr and labelsTr.
        unlabelled: The ids of the others, in imagesTs.
        classes: The names of the classes; the first one has the value 1.
    """

    folder: Path
    labelled: tuple[str, ...]
    unlabelled: tuple[str, ...]
    classes: tuple[str, ...]

    @property
    def cases(self) -> tuple[str, ...]:
        """The ids of all cases."""
        return (*self.labelled, *self.unlabelled)


class DatasetWriter:
    """Writes the cases of a dataset, and at the end what describes it.

    Args:
        folder: The folder, which is empty and takes its name when all is written.
        name: The name of the dataset.
        classes: The names of the classes, the first one with the value 1.
        channels: The names of the channels.
        labels: Classes of a system, whose names and values the dataset gets, also where no case has ground truth; None:
            values from 1 on, and no description without ground truth.
    """

    def __init__(
        self, folder: Path, name: str, classes: tuple[str, ...], channels: tuple[str, ...],
        labels: LabelSet | None = None,
    ) -> None:  # fmt: skip
        self.folder, self.name, self.classes, self.channels, self.labels = folder, name, classes, channels, labels
        self.labelled: list[str] = []
        self.unlabelled: list[str] = []

    def write(
        self, id: str, images: Sequence[tuple[np.ndarray, Scaling | None]], affine: np.ndarray, label: np.ndarray | None
    ) -> None:
        """Write a case.

        Args:
            id: Its id.
            images: For each channel the values (i, j, k) that its file stores, and how they become intensities.
            affine: (4, 4), from voxel indices to mm, RAS+.
            label: The ground truth (i, j, k), of which each class has the number of its place, from 1 on; None without
                one.
        """
        place = self.folder / ("imagesTs" if label is None else "imagesTr")
        for n, (stored, scaling) in enumerate(images):
            write_image(place / f"{id}_{n:04d}{ENDING}", stored, affine, scaling)
        if label is None:
            self.unlabelled.append(id)
        else:
            self.write_truth(id, affine, label)

    def write_truth(self, id: str, affine: np.ndarray, label: np.ndarray) -> None:
        """Write the ground truth of a case whose images are in imagesTr.

        Args:
            id: Its id.
            affine: (4, 4), from voxel indices to mm, RAS+.
            label: As in `write`.
        """
        values = label if self.labels is None else np.asarray(self.labels.values, label.dtype)[label]
        write_label(self.folder / "labelsTr" / (id + ENDING), values, affine)
        self.labelled.append(id)

    @property
    def values(self) -> dict[str, int]:
        """The value of each class by its name, the background first."""
        if self.labels is not None:
            return dict(zip(self.labels.names, self.labels.values, strict=True))
        return {"background": 0, **{name: value for value, name in enumerate(self.classes, 1)}}

    def finish(self, target: Path) -> MadeDataset:
        """Write what describes the dataset, where a case has ground truth, and return it.

        Args:
            target: The name that the folder will have.
        """
        if self.labelled or self.labels is not None:
            write_json(self.folder / DESCRIPTION, {
                "name": self.name, "channel_names": {str(n): one for n, one in enumerate(self.channels)},
                "labels": self.values,
                "numTraining": len(self.labelled), "file_ending": ENDING,
            })  # fmt: skip
        classes = self.classes if self.labelled else ()
        return MadeDataset(target, tuple(self.labelled), tuple(self.unlabelled), classes)


def refuse_classes(names: Sequence[str]) -> None:
    """Refuse names that cannot be the classes of a dataset.

    Args:
        names: The names.

    Raises:
        UserError: A name repeats, or means something else; or two differ in capital letters and blanks only.
    """
    alike: dict[str, str] = {}
    for name in names:
        if plain(name) in _TAKEN:
            raise UserError(f"{name!r} cannot be a class, because the word means something else: choose others")
        if (other := alike.setdefault(plain(name), name)) != name or list(names).count(name) > 1:
            raise UserError(f"{other!r} and {name!r} cannot both be classes: rename one, or choose the classes")


def plain(name: str) -> str:
    """Return a name without what people spell in several ways: capital letters, blanks, hyphens and underscores."""
    return re.sub(r"[\s_-]+", " ", name).strip().casefold()


def refuse_full(target: Path) -> None:
    """Refuse a folder that is there and not empty.

    Raises:
        UserError: It is.
    """
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise UserError(f"{target} is there and not empty: a dataset is made as a whole, in a folder of its own")


def refuse_ids(ids: Sequence[str]) -> None:
    """Refuse ids after which no file can be named.

    Raises:
        UserError: There is one.
    """
    for id in ids:
        if (fault := name_fault(id)) is not None:
            raise UserError(f"{id!r} cannot name a case: {fault}")
