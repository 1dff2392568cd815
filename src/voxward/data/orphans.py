"""Volume files of a dataset's folders that belong to no case."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from voxward.core.case import Case, Dataset
from voxward.data.formats import bids
from voxward.data.formats.collisions import volumes_by_stem
from voxward.data.formats.description import read_description

Severity = Literal["error", "warning"]

# The folders of the Decathlon and of nnU-Net, which are looked into even where no case has a file there.
_IMAGES, _LABELS = ("imagesTr", "imagesTs"), ("labelsTr", "labelsTs")


@dataclass(frozen=True)
class Orphan:
    """A file that belongs to no case.

    Attributes:
        file: The file.
        severity: `error` beside the files of cases, `warning` in a folder of which no file is used.
        kind: `orphan image` or `orphan label`.
        reason: Why no case has it.
    """

    file: Path
    severity: Severity
    kind: str
    reason: str


def orphans(dataset: Dataset, cases: Sequence[Case]) -> Iterator[Orphan]:
    """Return the volume files that belong to no case, with the reason.

    Files that mean a case which has another file of the same name are left to `collisions.refused_entries`.

    Args:
        dataset: The dataset.
        cases: All its cases, those that cannot be used included.
    """
    if bids.recognises(dataset.root):
        return  # whose folders hold masks, maps and images of other kinds, too
    images = {_placed(path) for case in cases for path in case.images}
    labels = {_placed(case.label) for case in cases if case.label is not None}
    used = {path.parent for path in images | labels}
    for kind, own, known in (("image", images, _IMAGES), ("label", labels, _LABELS)):
        folders = {path.parent for path in own} | {dataset.root.resolve() / name for name in known}
        for folder in sorted(folders - {dataset.root.resolve()}):
            for stem, files in volumes_by_stem(folder).items():
                left = [] if any(file in images | labels for file in files) else files
                severity: Severity = "error" if folder in used else "warning"
                for file in left:
                    yield Orphan(file, severity, f"orphan {kind}", _reason(dataset, stem, kind))


def _reason(dataset: Dataset, stem: str, kind: str) -> str:
    ending = read_description(dataset.root).get("file_ending")
    if kind == "label":
        return "belongs to no case: no image of its name is declared"
    channel = re.fullmatch(r"(.+)_(\d{4})", stem)
    count = len(dataset.channels)
    if channel is not None and int(channel[2]) >= count and any(case.id == channel[1] for case in dataset.every):
        return f"belongs to no case: it is channel {int(channel[2])}, but the dataset declares {count} channels from 0"
    if ending is not None and channel is None:
        return f"belongs to no case: nnU-Net's images are called CASE_0000{ending}, CASE_0001{ending}, ..."
    if (dataset.root / "dataset.json").is_file():
        return "belongs to no case: dataset.json does not list it, or it is not named like the others"
    return "belongs to no case: no label has its name"


def _placed(path: Path) -> Path:
    """The path with its folder resolved, but not the file: where files are links, the folder of links is meant."""
    return path.parent.resolve() / path.name
