"""voxward from-masks: a dataset from folders with one mask file for each class."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from voxward.core.case import Case
from voxward.core.choices import AFFINE_TOLERANCE
from voxward.core.errors import UserError
from voxward.core.failures import Failures
from voxward.core.files import atomic_write
from voxward.core.progress import Progress, silent
from voxward.data.made_dataset import DatasetWriter, MadeDataset, refuse_classes, refuse_full, refuse_ids
from voxward.data.mask_folders import MaskFolder, image_of, mask_folders
from voxward.data.masks import label_of_masks


def from_masks(
    folder: Path | str,
    *,
    out: Path | str,
    classes: Sequence[str] = (),
    channels: Sequence[str] = (),
    fail_fast: bool = False,
    progress: Progress = silent,
) -> MadeDataset:
    """Make a dataset from folders of cases with one mask file for each class, as TotalSegmentator has them.

    Args:
        folder: The folder of the cases: CASE/ct.nii.gz, and the masks in one folder beside it, such as
            CASE/segmentations/liver.nii.gz. A case without masks is unlabelled.
        out: The folder of the dataset, which must not exist. It appears when all is written, and gets imagesTr/,
            labelsTr/, imagesTs/ and dataset.json.
        classes: The masks that become classes 1, 2, ..., by the names of their files; where they overlap, later ones
            are written over earlier ones. Empty: all, sorted by name, which must not overlap.
        channels: The images that become channels, by the names of their files. Empty: the only one.
        fail_fast: Whether the first case that fails stops the others.
        progress: Told about cases.

    Returns:
        What was written.

    Raises:
        UserError: There is no case, the channels are not clear, or `out` is there; nothing is written then.
        CasesFailed: Cases failed; its `result` is the dataset of the others.
        FileNotFoundError: There is no such folder.

    Example:
        >>> voxward.from_masks("Totalsegmentator_dataset", out="dataset", classes=["liver", "spleen"])
    """
    target = Path(out)
    refuse_full(target)
    cases = mask_folders(Path(folder))
    refuse_ids([case.id for case in cases])
    names = tuple(classes) or tuple(sorted({name for case in cases for name in case.masks}))
    refuse_classes(names)
    if unknown := [name for name in names if not any(name in case.masks for case in cases)]:
        raise UserError(f"no case has a mask {unknown[0]!r}")
    chosen, failures = _channels(cases, channels), Failures(fail_fast)
    with atomic_write(target) as unfinished:
        unfinished.mkdir()
        writer = DatasetWriter(unfinished, target.resolve().name, names, chosen)
        for n, case in enumerate(cases):
            progress("from-masks", n, len(cases), running=case.id)
            with failures.of(Case(case.id, tuple(case.images.values()))):
                _write(writer, case, over=bool(classes))
        progress("from-masks", len(cases), len(cases))
        result = writer.finish(target)
        if not result.cases:
            failures.raise_any(len(cases))
    failures.raise_any(len(cases), result)
    return result


def _channels(cases: Sequence[MaskFolder], given: Sequence[str]) -> tuple[str, ...]:
    if given:
        return tuple(given)
    held = {tuple(case.images) for case in cases}
    if len(held) == 1 and len(next(iter(held))) == 1:
        return next(iter(held))
    raise UserError(f"name the images that are channels with --channels: the cases have {sorted(held)}")


def _write(writer: DatasetWriter, case: MaskFolder, over: bool) -> None:
    image = image_of(case, writer.channels)
    label = None
    if case.masks:
        masks = case.label_masks(writer.classes, image, AFFINE_TOLERANCE)
        label = label_of_masks(masks, writer.classes, image.shape, over, case.id)
    writer.write(case.id, [(channel, None) for channel in image.array], image.affine, label)
