"""The layouts in which phantoms are written: that of the Medical Segmentation Decathlon, and that of BraTS."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

from voxward.core.case import Volume
from voxward.core.files import write_json
from voxward.data.formats.brats import NAMINGS
from voxward.data.io import write_image, write_label

NAMING = NAMINGS[0]
"""The names and label values of BraTS up to 2021, in which brain phantoms are written."""


@runtime_checkable
class Layout(Protocol):
    """The arrangement of the files of a dataset."""

    def write_case(self, folder: Path, number: int, image: Volume, label: Volume) -> None:
        """Write the files of a case.

        Args:
            folder: The folder of the dataset.
            number: The number of the case, from 0.
            image: The image (c, i, j, k).
            label: The ground truth (i, j, k), in the values of the files.
        """
        ...

    def finish(self, folder: Path, cases: int) -> None:
        """Write what describes the whole dataset.

        Args:
            folder: The folder of the dataset.
            cases: The number of cases.
        """
        ...


@dataclass(frozen=True)
class Decathlon:
    """The layout of the Medical Segmentation Decathlon: imagesTr, labelsTr and dataset.json.

    Args:
        prefix: The first part of the names of all cases.
        name: The name of the dataset.
        description: What the dataset is.
        modality: The name of the only channel.
        labels: The names of the classes with the background, in the order of their values from 0.
    """

    prefix: str
    name: str
    description: str
    modality: str
    labels: tuple[str, ...]

    def write_case(self, folder: Path, number: int, image: Volume, label: Volume) -> None:
        """Write the image and the label of a case into imagesTr and labelsTr.

        Args:
            folder: The folder of the dataset.
            number: The number of the case, from 0.
            image: The image (c, i, j, k).
            label: The ground truth (i, j, k), in the values of the files.
        """
        write_image(folder / "imagesTr" / self._file(number), image.array, image.affine)
        write_label(folder / "labelsTr" / self._file(number), label.array, label.affine)

    def finish(self, folder: Path, cases: int) -> None:
        """Write dataset.json, which lists the classes and the cases.

        Args:
            folder: The folder of the dataset.
            cases: The number of cases.
        """
        files = [self._file(number) for number in range(cases)]
        content = {
            "name": self.name,
            "description": self.description,
            "reference": "voxward",
            "licence": "CC0",
            "release": "1.0",
            "tensorImageSize": "3D",
            "modality": {"0": self.modality},
            "labels": {str(value): name for value, name in enumerate(self.labels)},
            "numTraining": cases,
            "numTest": 0,
            "training": [{"image": f"./imagesTr/{file}", "label": f"./labelsTr/{file}"} for file in files],
            "test": [],
        }
        write_json(folder / "dataset.json", content)

    def _file(self, number: int) -> str:
        return f"{self.prefix}_{number:03d}.nii.gz"


@dataclass(frozen=True)
class Brats:
    """The layout of BraTS up to 2021: a folder for each case, with a file for each sequence and one for the label."""

    def write_case(self, folder: Path, number: int, image: Volume, label: Volume) -> None:
        """Write the four sequences and the label of a case into a folder of its own.

        Args:
            folder: The folder of the dataset.
            number: The number of the case, from 0.
            image: The image (4, i, j, k).
            label: The ground truth (i, j, k), in the values of the files.
        """
        name = f"Phantom_{number:03d}"
        for ending, sequence in zip(NAMING.sequences, image.array, strict=True):
            write_image(folder / name / f"{name}{ending}.nii.gz", sequence[None], image.affine)
        write_label(folder / name / f"{name}{NAMING.label}.nii.gz", label.array, label.affine)

    def finish(self, folder: Path, cases: int) -> None:
        """Write nothing, because the names of the files say everything."""
