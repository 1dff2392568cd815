"""Dataset folder layouts. One file per layout; `open_dataset` tries them in order."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from voxward.core.case import Dataset
from voxward.data.formats import brats, folder, msd, nnunet


class Layout(Protocol):
    """What a layout's file offers."""

    def recognises(self, root: Path) -> bool:
        """Whether the folder is of this layout."""
        ...

    def open(self, root: Path) -> Dataset:
        """The cases as declared, whether or not their files exist. Raises ValueError for a bad description."""
        ...


LAYOUTS: tuple[Layout, ...] = (msd, nnunet, folder, brats)


def open_dataset(root: Path | str) -> Dataset:
    """Open a dataset folder. Only its description is checked; `check_dataset` looks into the files.

    No image voxels are read. A plain folder that describes neither reads an image's header to count the channels, and
    every label to find its values.

    Raises FileNotFoundError when there is no such folder; ValueError when it has none of the known layouts, its
    description is unusable, or two cases share an id.
    """
    root = Path(root)
    if not root.is_dir():
        raise FileNotFoundError(f"no dataset folder {root}")
    for layout in LAYOUTS:
        if layout.recognises(root):
            return _distinct(layout.open(root))
    raise ValueError(
        f"{root} is no dataset folder. It must be one of:\n"
        '  Medical Segmentation Decathlon: dataset.json with a "training" list of image and label files;\n'
        '  nnU-Net raw: dataset.json with "channel_names", "labels" and "file_ending", imagesTr/CASE_0000.nii.gz, '
        "labelsTr/CASE.nii.gz;\n"
        "  plain: images/ and labels/ with one file of the same name in each;\n"
        "  BraTS: CASE/CASE_t1ce.nii.gz or CASE/CASE-t1c.nii.gz and the other sequences."
    )


def _distinct(dataset: Dataset) -> Dataset:
    ids = [case.id for case in (*dataset.cases, *dataset.unlabelled)]
    twice = sorted({id for id in ids if ids.count(id) > 1}) if len(set(ids)) < len(ids) else []
    if twice:
        raise ValueError(f"{dataset.root} declares cases twice: {', '.join(twice[:5])}")
    return dataset
