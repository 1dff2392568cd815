"""Folders with one mask file for each class, as TotalSegmentator has them.

CASE/ct.nii.gz is the image, CASE/segmentations/liver.nii.gz a mask.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from voxward.core.case import Volume
from voxward.core.errors import UserError
from voxward.core.names import composed
from voxward.data.io import read_header, read_image, read_label
from voxward.data.places import label_fault
from voxward.data.volume_file import volume_stem, volumes_among

_CHANNELS = {"ct": "CT", "pet": "PET"}


@dataclass(frozen=True)
class MaskFolder:
    """The files of a case.

    Attributes:
        id: The name of its folder.
        images: The image of each channel, by the channel's name.
        masks: The file of each class, by its name; none where the case has no ground truth.
    """

    id: str
    images: dict[str, Path]
    masks: dict[str, Path]

    def label_masks(self, classes: Sequence[str], image: Volume, tolerance: float) -> Iterator[tuple[str, np.ndarray]]:
        """Yield the mask of each class that the case has, in the order of the classes, as booleans (i, j, k).

        Args:
            classes: The classes.
            image: The image of the case.
            tolerance: How far the corners of a mask may lie from the image's, in the smallest voxel edge.

        Raises:
            UserError: A file is no mask, or lies elsewhere than the image.
        """
        for name in classes:
            if (path := self.masks.get(name)) is None:
                continue
            mask = read_label(path)
            if (fault := label_fault(image, mask, tolerance)) is not None:
                raise UserError(f"{fault} ({path})")
            values = np.unique(mask.array)
            if len(values) > 2 or (len(values) == 2 and values[0] != 0):
                raise UserError(f"{path} must hold 0 and one other value, got {values[:5].tolist()}")
            yield name, mask.array != 0


def mask_folders(root: Path) -> tuple[MaskFolder, ...]:
    """Return the cases of a folder, each with its image files and the only folder of masks beside them.

    Args:
        root: The folder of the cases.

    Raises:
        FileNotFoundError: There is no such folder.
        UserError: It holds no case, or a case has several folders of volumes.
    """
    if not root.is_dir():
        raise FileNotFoundError(f"no folder {root}")
    found = [case for folder in sorted(root.iterdir()) if folder.is_dir() and (case := _case(folder)) is not None]
    if not any(case.masks for case in found):
        raise UserError(
            f"{root} holds no folder of a case with an image and a folder of masks, such as CASE/ct.nii.gz and "
            "CASE/segmentations/liver.nii.gz"
        )
    return tuple(found)


def _case(folder: Path) -> MaskFolder | None:
    images = _volumes(folder)
    inner = [(path, masks) for path in sorted(folder.iterdir()) if path.is_dir() and (masks := _volumes(path))]
    if not images:
        return None
    if len(inner) > 1:
        raise UserError(
            f"{folder} holds several folders of volumes ({', '.join(path.name for path, _ in inner)}): keep the one "
            "with the masks"
        )
    named = {_CHANNELS.get(name.lower(), name): path for name, path in images.items()}
    return MaskFolder(composed(folder.name), named, inner[0][1] if inner else {})


def _volumes(folder: Path) -> dict[str, Path]:
    files = volumes_among(path for path in folder.iterdir() if path.is_file())
    return {volume_stem(path): path for path in files}


def image_of(case: MaskFolder, channels: Sequence[str]) -> Volume:
    """Read the channels of a case.

    Raises:
        UserError: One is missing, cannot be read, or holds several volumes.
    """
    if missing := [name for name in channels if name not in case.images]:
        raise UserError(f"has no image {missing[0]!r}; it has {', '.join(case.images)}")
    paths = [case.images[name] for name in channels]
    for path in paths:
        if (count := read_header(path).channels) != 1:
            raise UserError(f"{path} holds {count} volumes, and must hold one channel")
    return read_image(paths)
