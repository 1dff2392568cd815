"""BIDS: sub-01/anat/sub-01_T1w.nii.gz, with segmentations in derivatives/NAME/sub-01/anat/sub-01_dseg.nii.gz.

What the values of a segmentation mean is said by a dseg.tsv with the columns index and name, or a labels.json
{name: value} in the folder. Which images are the channels is said by a channels.json, such as ["T1w", "FLAIR"], where
there is more than one kind. See the BIDS specification, "Derivatives: Imaging data types, segmentations".
"""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from voxward.core.case import Case, Dataset
from voxward.core.errors import UserError
from voxward.core.labels import LabelSet
from voxward.core.reading import read_text
from voxward.data.formats.description import label_set, labels_file, splits_of
from voxward.data.formats.folder import declared_channels

_ENDINGS = (".nii.gz", ".nii")
_TRUTH = "dseg"
_NO_IMAGES = (_TRUTH, "probseg", "mask")
# What tells two forms of one scan apart, and not two scans.
_FORMS = ("space", "res", "den", "desc", "label", "atlas", "seg")
_PLACES = ("anat", "ct", "pet", "")
_ORIGINAL = "orig"


@dataclass(frozen=True)
class Named:
    """A file with what its name says.

    Attributes:
        path: The file.
        entities: The value of each entity, such as `{"sub": "01", "ses": "2"}`, in the order of the name.
        suffix: What it is, such as `T1w` or `dseg`.
    """

    path: Path
    entities: Mapping[str, str]
    suffix: str

    @property
    def scan(self) -> dict[str, str]:
        """The entities that say which scan it is, in whatever form."""
        return {key: value for key, value in self.entities.items() if key not in _FORMS}

    @property
    def space(self) -> str:
        """The coordinates that the file is in; empty for those of the scanner."""
        found = self.entities.get("space", "")
        return "" if found == _ORIGINAL else found


def recognises(root: Path) -> bool:
    """Return whether a folder has a dataset_description.json and folders of subjects."""
    return (root / "dataset_description.json").is_file() and any(root.glob("sub-*"))


def open(root: Path) -> Dataset:
    """Return a dataset with a case for each segmentation; scans without one are unlabelled.

    Images are looked for beside the segmentation, then among the raw ones, in the same coordinates (`space`).

    Args:
        root: The folder with dataset_description.json: a whole BIDS dataset, or one derivative of it.

    Raises:
        UserError: There is no segmentation, or in several derivatives; nothing says what its values or channels are; or
            two images may be a channel of one case.
    """
    truths, home = _segmentations(root)
    images = _files(root) + ([] if home == root else _files(home))
    images = [one for one in images if one.suffix not in _NO_IMAGES]
    channels = _channels(root, truths, images)
    cases = [Case(_id(truth.scan), _images(root, truth, channels, images, home), truth.path) for truth in truths]
    known = [truth.scan for truth in truths]
    return Dataset(
        name=root.resolve().name,
        root=root,
        channels=channels,
        labels=_labels(root, home),
        cases=tuple(sorted(cases, key=lambda case: case.id)),
        unlabelled=_unlabelled(known, channels, images),
        splits_file=splits_of(root),
    )


def _segmentations(root: Path) -> tuple[list[Named], Path]:
    """The segmentations, and the folder of the derivative that they are in."""
    homes = [root, *sorted(path for path in (root / "derivatives").glob("*") if path.is_dir())]
    found = {home: [one for one in _files(home) if one.suffix == _TRUTH] for home in homes}
    held = [home for home, files in found.items() if files]
    if len(held) > 1:
        raise UserError(
            f"{root} holds segmentations in several places ({', '.join(str(home) for home in held)}): move all but one "
            "away"
        )
    if not held:
        raise UserError(
            f"{root} is a BIDS folder without a segmentation: no sub-*/**/*_dseg.nii.gz, nor in derivatives"
        )
    return found[held[0]], held[0]


def _files(home: Path) -> list[Named]:
    """The volumes of all subjects that lie in one derivative, or are raw."""
    found = []
    for subject in sorted(home.glob("sub-*")):
        for session in (subject, *sorted(subject.glob("ses-*"))):
            for place in _PLACES:
                folder = session / place
                if folder.is_dir():
                    found += [one for path in sorted(folder.iterdir()) if (one := _named(path)) is not None]
    return found


def _named(path: Path) -> Named | None:
    ending = next((ending for ending in _ENDINGS if path.name.endswith(ending)), None)
    if ending is None or not path.name.startswith("sub-"):
        return None
    *pairs, suffix = path.name[: -len(ending)].split("_")
    split = [pair.partition("-") for pair in pairs]
    return Named(path, {key: value for key, _, value in split}, suffix) if all(dash for _, dash, _ in split) else None


def _id(scan: Mapping[str, str]) -> str:
    return "_".join(f"{key}-{value}" for key, value in scan.items())


def _fits(scan: Mapping[str, str], image: Named) -> bool:
    """Whether an image is of a scan: a segmentation may leave out what it holds for all images of a session."""
    return all(image.entities.get(key) == value for key, value in scan.items())


def _channels(root: Path, truths: Sequence[Named], images: Sequence[Named]) -> tuple[str, ...]:
    if (declared := declared_channels(root)) is not None:
        return declared
    kinds = [{one.suffix for one in images if _fits(truth.scan, one) and one.space == truth.space} for truth in truths]
    shared = sorted(set.intersection(*kinds))
    if len(shared) == 1:
        return tuple(shared)
    every = sorted(set().union(*kinds))
    raise UserError(
        f"{root}: the channels are not clear, because the segmented scans have {', '.join(every) or 'no images'} "
        f'({", ".join(shared) or "none"} of them in all): name them in {root / "channels.json"}, such as ["T1w"]'
    )


def _images(root: Path, truth: Named, channels: Sequence[str], images: Sequence[Named], home: Path) -> tuple[Path, ...]:
    return tuple(_image(root, truth, channel, images, home) for channel in channels)


def _image(root: Path, truth: Named, channel: str, images: Sequence[Named], home: Path) -> Path:
    fitting = [one for one in images if one.suffix == channel and _fits(truth.scan, one) and one.space == truth.space]
    beside = [one for one in fitting if home in one.path.parents and home != root]
    found = beside or fitting
    exact = [one for one in found if one.scan == truth.scan] or found
    if len(exact) > 1:
        raise UserError(
            f"{exact[0].path} and {exact[1].path} may both be the {channel} of {truth.path}: keep one of them, or name "
            "the segmentation like it"
        )
    if exact:
        return exact[0].path
    return truth.path.with_name(f"{_id(truth.scan)}_{channel}.nii.gz")  # which is missing


def _unlabelled(
    known: Sequence[Mapping[str, str]], channels: Sequence[str], images: Sequence[Named]
) -> tuple[Case, ...]:
    """Scans that have all channels and no segmentation, in the scanner's coordinates."""
    plain = [one for one in images if not one.space and one.entities.get("desc") is None]
    firsts = [one for one in plain if one.suffix == channels[0] and not any(_fits(scan, one) for scan in known)]
    cases = []
    for first in firsts:
        files = [
            [one.path for one in plain if one.suffix == channel and one.scan == first.scan] for channel in channels
        ]
        if all(len(found) == 1 for found in files):
            cases.append(Case(_id(first.scan), tuple(path for (path,) in files)))
    return tuple(sorted(cases, key=lambda case: case.id))


def _labels(root: Path, home: Path) -> LabelSet:
    if (root / "labels.json").is_file():
        return labels_file(root / "labels.json")
    for path in (home / "dseg.tsv", root / "dseg.tsv", *sorted(home.glob("*_dseg.tsv"))):
        if path.is_file():
            return _table(path)
    raise UserError(
        f"{root}: nothing says what the values of the segmentations mean: write {home / 'dseg.tsv'} with the columns "
        f"index and name, or {root / 'labels.json'} with {{name: value}}"
    )


def _table(path: Path) -> LabelSet:
    rows = list(csv.DictReader(read_text(path).splitlines(), delimiter="\t"))
    try:
        pairs = {int(row["index"]): str(row["name"]).strip() for row in rows}
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(
            f"{path} must be a table with the columns index (whole numbers) and name, apart by tabs"
        ) from error
    try:
        return label_set(list({0: "background", **pairs}.items()))
    except UserError as error:
        raise UserError(f"{path}: {error}") from error
