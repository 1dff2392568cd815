"""voxward from-masks: a dataset from folders with one mask file for each class."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from voxward.core.case import Case
from voxward.core.choices import AFFINE_TOLERANCE, Output
from voxward.core.errors import UserError
from voxward.core.failures import Failures
from voxward.data.made_dataset import DatasetWriter, MadeDataset
from voxward.data.mask_folders import MaskFolder, image_of, mask_folders
from voxward.data.masks import label_of_masks


def from_masks(
    folder: Path | str,
    *,
    out: Path | str | Output,
    classes: Sequence[str] = (),
    channels: Sequence[str] = (),
    fail_fast: bool = False,
) -> MadeDataset:
    """Make a dataset from folders of cases with one mask file for each class, as TotalSegmentator has them.

    Args:
        folder: The folder of the cases: CASE/ct.nii.gz, and the masks in one folder beside it, such as
            CASE/segmentations/liver.nii.gz. A case without masks is unlabelled.
        out: The folder of the dataset, or a `voxward.Output`. It gets imagesTr/, labelsTr/, imagesTs/ and dataset.json.
        classes: The masks that become classes 1, 2, ..., by the names of their files; where they overlap, later ones
            are written over earlier ones. Empty: all, sorted by name, which must not overlap.
        channels: The images that become channels, by the names of their files. Empty: the only one.
        fail_fast: Whether the first case that fails stops the others.

    Returns:
        What was written.

    Raises:
        UserError: There is no case, the channels are not clear, or a file would be replaced; nothing is written then.
        CasesFailed: Cases failed; its `result` is the dataset of the others.
        FileNotFoundError: There is no such folder.

    Example:
        >>> voxward.from_masks("Totalsegmentator_dataset", out="dataset", classes=["liver", "spleen"])
    """
    output, cases = Output.of(out), mask_folders(Path(folder))
    names = tuple(classes) or tuple(sorted({name for case in cases for name in case.masks}))
    if len({*names, "background"}) <= len(names):
        raise UserError(f"classes must be named once each, and none background, got {', '.join(names)}")
    if unknown := [name for name in names if not any(name in case.masks for case in cases)]:
        raise UserError(f"no case has a mask {unknown[0]!r}")
    chosen = _channels(cases, channels)
    writer, failures = DatasetWriter(output, names, chosen), Failures(fail_fast)
    writer.check([(case.id, bool(case.masks)) for case in cases])
    for n, case in enumerate(cases):
        output.progress("from-masks", n, len(cases), running=case.id)
        with failures.of(Case(case.id, tuple(case.images.values()))):
            _write(writer, case, over=bool(classes))
    output.progress("from-masks", len(cases), len(cases))
    result = writer.finish()
    failures.raise_any(len(cases), result if result.cases else None)
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
