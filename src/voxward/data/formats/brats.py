"""Folders of the BraTS challenges: one folder per case, one file per sequence, .nii.gz or .nii.

To 2021:  CASE/CASE_t1, CASE_t1ce, CASE_t2, CASE_flair, CASE_seg (values 1, 2, 4); 2018 and 2019 inside HGG/ and LGG/.
Since:    CASE/CASE-t1n, CASE-t1c, CASE-t2w, CASE-t2f, CASE-seg (values 1, 2, 3).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from voxward.core.case import Case, Dataset
from voxward.core.errors import UserError
from voxward.core.labels import LabelSet
from voxward.core.names import on_disk
from voxward.data.formats.description import splits_of

CHANNELS = ("t1", "t1ce", "t2", "flair")
_GRADES = ("HGG", "LGG")
_SUFFIXES = (".nii.gz", ".nii")


@dataclass(frozen=True)
class Naming:
    """How a challenge names the files of a case.

    Attributes:
        sequences: How the names of the image files end, in the order of CHANNELS.
        label: How the name of the label file ends.
        enhancing: The label value of enhancing tumour.
    """

    sequences: tuple[str, str, str, str]
    label: str
    enhancing: int

    @property
    def labels(self) -> LabelSet:
        """Return the classes NCR (with the non-enhancing tumour), ED and ET, and the regions ET in TC in WT."""
        values = (0, 1, 2, self.enhancing)
        regions = {"ET": values[3:], "TC": (1, self.enhancing), "WT": values[1:]}
        return LabelSet(("background", "NCR", "ED", "ET"), values).with_regions(regions)

    def case(self, folder: Path) -> Case:
        """Return the case of a folder; a sequence that is not there is declared all the same.

        Args:
            folder: The folder of the case, whose files are named after it.
        """
        images = tuple(_file(folder, sequence) for sequence in self.sequences)
        label = _file(folder, self.label)
        # One label of 2020's training set carries another name (W39_1998.09.19_Segm.nii).
        found = [label] if label.is_file() else sorted(folder.glob("*_Segm.nii*"))
        return Case(folder.name, images, found[0] if len(found) == 1 else None)


NAMINGS = (
    Naming(("_t1", "_t1ce", "_t2", "_flair"), "_seg", 4),
    Naming(("-t1n", "-t1c", "-t2w", "-t2f"), "-seg", 3),
)


def recognises(root: Path) -> bool:
    """Return whether a folder holds folders of cases with a sequence that is named as in a BraTS challenge."""
    return any(_naming(folder) is not None for folder in _folders(root))


def open(root: Path) -> Dataset:
    """Return a dataset with every folder that holds one of a case's sequences; those without a label are unlabelled.

    Args:
        root: The folder of the challenge.

    Raises:
        UserError: Folders are named by both conventions, whose label values mean different things.
    """
    named = [(folder, naming) for folder in _folders(root) if (naming := _naming(folder)) is not None]
    namings = {naming for _, naming in named}
    if len(namings) > 1:
        raise UserError(f"{root} holds cases named as to 2021 (_t1ce) and as since (-t1c): keep them in two folders")
    (naming,) = namings
    cases = [naming.case(folder) for folder, _ in named]
    return Dataset(
        name=root.resolve().name,
        root=root,
        channels=CHANNELS,
        labels=naming.labels,
        cases=tuple(case for case in cases if case.label is not None),
        unlabelled=tuple(case for case in cases if case.label is None),
        splits_file=splits_of(root),
    )


def _folders(root: Path) -> Iterator[Path]:
    for place in (root, *(root / grade for grade in _GRADES)):
        if place.is_dir():
            yield from sorted(folder for folder in place.iterdir() if folder.is_dir())


def _naming(folder: Path) -> Naming | None:
    """The convention that any of the folder's sequences follows."""
    found = (n for n in NAMINGS if any(_file(folder, sequence).is_file() for sequence in n.sequences))
    return next(found, None)


def _file(folder: Path, ending: str) -> Path:
    """The folder's file of that ending, packed where neither form is there."""
    paths = [on_disk(folder / f"{folder.name}{ending}{suffix}") for suffix in _SUFFIXES]
    return next((path for path in paths if path.is_file()), paths[0])
