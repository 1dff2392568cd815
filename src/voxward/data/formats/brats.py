"""Folders of the BraTS challenges: one folder per case, one file per sequence, .nii.gz or .nii.

To 2021:  CASE/CASE_t1, CASE_t1ce, CASE_t2, CASE_flair, CASE_seg (values 1, 2, 4); 2018 and 2019 inside HGG/ and LGG/.
Since:    CASE/CASE-t1n, CASE-t1c, CASE-t2w, CASE-t2f, CASE-seg (values 1, 2, 3; after treatment also 4).

Cases after treatment (2024) are called BraTS-GLI-NNNNN-1NN, those before it BraTS-GLI-NNNNN-0NN. A labels.json beside
the cases says what other values mean: {"background": 0, name: value, ...}.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from voxward.core.case import Case, Dataset, Remark
from voxward.core.errors import UserError
from voxward.core.labels import LabelSet
from voxward.core.names import on_disk
from voxward.data.formats.description import labels_file, splits_of

CHANNELS = ("t1", "t1ce", "t2", "flair")
_GRADES = ("HGG", "LGG")
_SUFFIXES = (".nii.gz", ".nii")
_TREATED = re.compile(r"BraTS-GLI-\d{5}-1\d\d")
_CHILD = re.compile(r"BraTS-PED-.*")

# BraTS 2024, after treatment: the resection cavity is no part of the tumour.
TREATED = LabelSet(("background", "NETC", "SNFH", "ET", "RC"), (0, 1, 2, 3, 4)).with_regions(
    {"WT": (1, 2, 3), "TC": (1, 3), "ET": (3,), "RC": (4,)}, order=(2, 1, 3, 4)
)


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

        Raises:
            UserError: Several files may be the label.
        """
        images = tuple(_file(folder, sequence) for sequence in self.sequences)
        label = _file(folder, self.label)
        # One label of 2020's training set carries another name (W39_1998.09.19_Segm.nii).
        found = [label] if label.is_file() else sorted(folder.glob("*_Segm.nii*"))
        if len(found) > 1:
            raise UserError(f"{folder}: {' and '.join(path.name for path in found)} may both be the label: keep one")
        return Case(folder.name, images, found[0] if found else None)


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
        UserError: Folders are named by both conventions, whose label values mean different things; several files may
            be the label of a case; or labels.json cannot be used.
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
        labels=_labels(root, naming, cases),
        cases=tuple(case for case in cases if case.label is not None),
        unlabelled=tuple(case for case in cases if case.label is None),
        splits_file=splits_of(root),
        remarks=_remarks(root, cases),
    )


def _labels(root: Path, naming: Naming, cases: Sequence[Case]) -> LabelSet:
    """What the values mean: as labels.json says, or else as the names of the cases say."""
    path = root / "labels.json"
    if path.is_file():
        return labels_file(path)
    return TREATED if any(_TREATED.fullmatch(case.id) for case in cases) else naming.labels


def _remarks(root: Path, cases: Sequence[Case]) -> tuple[Remark, ...]:
    children = [case.id for case in cases if _CHILD.fullmatch(case.id)]
    if not children or (root / "labels.json").is_file():
        return ()
    return (
        Remark(
            "labels", f"{root}: {children[0]} is a case of BraTS-PED, in which label values mean other things in 2024 "
            "(1 ET, 2 NET, 3 CC, 4 ED) than in 2023 (1 NCR, 2 ED, 3 ET); 2023's are taken. A file labels.json there "
            "says what they mean",
        ),
    )  # fmt: skip


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
