"""A dataset in nnU-Net's raw layout, written case by case from files of another kind."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from voxward.core.case import Scaling
from voxward.core.choices import Output
from voxward.core.errors import UserError
from voxward.core.files import name_fault
from voxward.core.outputs import Outputs
from voxward.data.io import write_image, write_label

KIND = "a volume made of other files"
ENDING = ".nii.gz"


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
        output: The folder of the dataset.
        classes: The names of the classes, the first one with the value 1.
        channels: The names of the channels.
    """

    def __init__(self, output: Output, classes: tuple[str, ...], channels: tuple[str, ...]) -> None:
        self.classes, self.channels, self.root = classes, channels, output.root
        self.parts = {name: Outputs(self.root / name, KIND, output.overwrite)
                      for name in ("imagesTr", "labelsTr", "imagesTs")}  # fmt: skip
        self.top = Outputs(self.root, KIND, output.overwrite)
        self.labelled: list[str] = []
        self.unlabelled: list[str] = []

    def check(self, cases: Sequence[tuple[str, bool]]) -> None:
        """Refuse ids that cannot name files, and to replace files of other origin, before anything is written.

        Args:
            cases: The id of each case, and whether it has ground truth.

        Raises:
            UserError: There is such an id or file.
        """
        self.top.check(["dataset.json"])
        for id, labelled in cases:
            if (fault := name_fault(id)) is not None:
                raise UserError(f"{id!r} cannot name a case: {fault}")
            self.parts["imagesTr" if labelled else "imagesTs"].check(self._names(id))
            if labelled:
                self.parts["labelsTr"].check([id + ENDING])

    def write(
        self, id: str, images: Sequence[tuple[np.ndarray, Scaling | None]], affine: np.ndarray, label: np.ndarray | None
    ) -> None:
        """Write a case.

        Args:
            id: Its id.
            images: For each channel the values (i, j, k) that its file stores, and how they become intensities.
            affine: (4, 4), from voxel indices to mm, RAS+.
            label: The ground truth (i, j, k); None without one.
        """
        folder = self.parts["imagesTs" if label is None else "imagesTr"]
        for name, (stored, scaling) in zip(self._names(id), images, strict=True):
            with folder.write(name) as path:
                write_image(path, stored, affine, scaling)
        if label is not None:
            with self.parts["labelsTr"].write(id + ENDING) as path:
                write_label(path, label, affine)
        (self.unlabelled if label is None else self.labelled).append(id)

    def finish(self) -> MadeDataset:
        """Write what describes the dataset, where a case has ground truth, and return it."""
        if self.labelled:
            self.top.json("dataset.json", {
                "name": self.root.resolve().name, "channel_names": {str(n): one for n, one in enumerate(self.channels)},
                "labels": {"background": 0, **{name: value for value, name in enumerate(self.classes, 1)}},
                "numTraining": len(self.labelled), "file_ending": ENDING,
            })  # fmt: skip
        classes = self.classes if self.labelled else ()
        return MadeDataset(self.root, tuple(self.labelled), tuple(self.unlabelled), classes)

    def _names(self, id: str) -> list[str]:
        return [f"{id}_{n:04d}{ENDING}" for n in range(len(self.channels))]
