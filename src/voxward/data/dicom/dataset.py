"""A dataset in nnU-Net's raw layout, written from cases of DICOM files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from voxward.core.choices import Output
from voxward.core.errors import UserError
from voxward.core.files import name_fault
from voxward.core.outputs import Outputs
from voxward.data.content import digest_of
from voxward.data.dicom.cases import DicomCase, case_id
from voxward.data.dicom.image import DicomImage, read_series
from voxward.data.dicom.labels import Masks, read_masks
from voxward.data.io import write_image, write_label
from voxward.data.places import apart

KIND = "a volume made of DICOM files"
BOOK = "dicom.json"
"""The file of a dataset that says which DICOM files each case was made of."""
# Series of one case may lie so far apart, in mm.
_BEYOND = 1e-3


@dataclass(frozen=True)
class FromDicom:
    """A dataset that was made of DICOM files.

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


def refuse_names(folders: Sequence[Path]) -> None:
    """Refuse folders after which no case can be named, or two of which would be one case.

    Args:
        folders: The folder of each case.

    Raises:
        UserError: There are such folders.
    """
    ids = [case_id(folder) for folder in folders]
    for id, folder in zip(ids, folders, strict=True):
        if (fault := name_fault(id)) is not None:
            raise UserError(f"{folder} cannot name a case: {fault}")
    if twice := sorted({id for id in ids if ids.count(id) > 1}):
        alike = [str(folder) for id, folder in zip(ids, folders, strict=True) if id == twice[0]]
        raise UserError(f"{' and '.join(alike)} would be the same case {twice[0]!r}: rename one of them")


def fitting(case: DicomCase, others: Sequence[DicomCase]) -> DicomCase:
    """Return a case, where its channels are those of the cases before it.

    Raises:
        UserError: It has others.
    """
    if others and case.channels != others[0].channels:
        raise UserError(
            f"{case.folder} is {', '.join(case.channels)}, and {others[0].folder} {', '.join(others[0].channels)}: the "
            "cases of a dataset have the same channels"
        )
    return case


class DatasetWriter:
    """Writes the cases of a dataset, and at the end what describes it.

    Args:
        output: The folder of the dataset.
        classes: The names of the classes, the first one with the value 1.
        chosen: Whether the user named them: then later ones are written over earlier ones, and may overlap them.
    """

    def __init__(self, output: Output, classes: tuple[str, ...], chosen: bool) -> None:
        self.classes, self.chosen, self.root = classes, chosen, output.root
        self.parts = {name: Outputs(self.root / name, KIND, output.overwrite)
                      for name in ("imagesTr", "labelsTr", "imagesTs")}  # fmt: skip
        self.top = Outputs(self.root, KIND, output.overwrite)
        self.book: dict[str, Any] = {}
        self.labelled: list[str] = []

    def check(self, cases: Sequence[DicomCase]) -> None:
        """Refuse to replace files of other origin, before anything is written."""
        self.top.check(["dataset.json", BOOK])
        for case in cases:
            images = "imagesTs" if case.truth is None else "imagesTr"
            self.parts[images].check(_image_names(case))
            if case.truth is not None:
                self.parts["labelsTr"].check([f"{case.id}.nii.gz"])

    def write(self, case: DicomCase) -> None:
        """Read a case whole, then write it: a case that fails leaves nothing."""
        images = [read_series(series) for series in case.images]
        _refuse_apart(images)
        label = None if case.truth is None else self._label(case, images[0])
        folder = self.parts["imagesTs" if label is None else "imagesTr"]
        for name, image in zip(_image_names(case), images, strict=True):
            with folder.write(name) as path:
                write_image(path, image.stored, image.grid.affine, image.scaling)
        if label is not None:
            with self.parts["labelsTr"].write(f"{case.id}.nii.gz") as path:
                write_label(path, label, images[0].grid.affine)
            self.labelled.append(case.id)
        self.book[case.id] = _source(case)

    def _label(self, case: DicomCase, image: DicomImage) -> np.ndarray:
        assert case.truth is not None
        masks = read_masks(case.truth, image.grid)
        if not set(masks) & set(self.classes):
            held = ", ".join(sorted(masks)) or "nothing"
            raise UserError(
                f"{case.truth.paths[0]} marks none of the classes {', '.join(self.classes)}; it marks {held}"
            )
        if not self.chosen:
            _refuse_overlap(case, masks)
        label = np.zeros(image.grid.shape, np.int32)
        for value, name in enumerate(self.classes, 1):
            if name in masks:
                label[masks[name]] = value
        return label

    def finish(self, channels: Sequence[str]) -> FromDicom:
        """Write what describes the dataset."""
        unlabelled = tuple(id for id in self.book if id not in self.labelled)
        if self.labelled:
            self.top.json("dataset.json", {
                "name": self.root.resolve().name, "channel_names": {str(n): name for n, name in enumerate(channels)},
                "labels": {"background": 0, **{name: value for value, name in enumerate(self.classes, 1)}},
                "numTraining": len(self.labelled), "file_ending": ".nii.gz",
            })  # fmt: skip
        if self.book:
            self.top.json(BOOK, {"format": 1, "cases": self.book})
        return FromDicom(self.root, tuple(self.labelled), unlabelled, self.classes if self.labelled else ())


def _image_names(case: DicomCase) -> list[str]:
    return [f"{case.id}_{n:04d}.nii.gz" for n in range(len(case.images))]


def _refuse_apart(images: Sequence[DicomImage]) -> None:
    first = images[0]
    for other in images[1:]:
        found = apart(other.grid.affine, first.grid.affine, first.grid.shape)
        if other.grid.shape != first.grid.shape or found.mm > _BEYOND:
            raise UserError(
                f"the series {first.series.title} and {other.series.title} lie on different grids ({first.grid.shape} "
                f"and {other.grid.shape} voxels): resample one to the other first"
            )


def _refuse_overlap(case: DicomCase, masks: Masks) -> None:
    names = sorted(masks)
    for n, one in enumerate(names):
        for other in names[n + 1 :]:
            if shared := int(np.count_nonzero(masks[one] & masks[other])):
                raise UserError(
                    f"{case.id}: {one!r} and {other!r} share {shared} voxels, and a voxel has one class: name the "
                    "classes with --classes, of which later ones are written over earlier ones"
                )


def _source(case: DicomCase) -> Mapping[str, Any]:
    """What a case was made of, without what the files say about the patient."""
    every = (*case.images, *([] if case.truth is None else [case.truth]))
    return {
        "folder": str(case.folder.resolve()),
        "series": [{"uid": one.uid, "kind": one.kind, "modality": one.modality, "description": one.description,
                    "files": len(one.paths),
                    "sha256": digest_of(one.paths)} for one in every],
    }  # fmt: skip
