"""Dataset folder layouts. One file per layout; `open_dataset` tries them in order."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Protocol

from voxward.core.case import Case, Dataset, Split
from voxward.core.errors import UserError
from voxward.core.names import composed, on_disk
from voxward.data.dicom.files import is_dicom
from voxward.data.formats import bids, brats, folder, msd, nnunet
from voxward.data.formats.collisions import Refused, name_remarks, refused_entries
from voxward.data.formats.outside import outside_entries, refuse_linked_descriptions, refuse_outside
from voxward.data.splits import fold_remarks
from voxward.data.volume_file import header_path


class Layout(Protocol):
    """What the file of a layout offers."""

    def recognises(self, root: Path) -> bool:
        """Return whether a folder has this layout."""
        ...

    def open(self, root: Path) -> Dataset:
        """Return the dataset as its folder declares it, whether or not the declared files exist.

        Raises:
            UserError: The description cannot be used.
        """
        ...


LAYOUTS: tuple[Layout, ...] = (msd, nnunet, folder, bids, brats)


def open_dataset(root: Path | str, follow_links: bool = False) -> Dataset:
    """Open a dataset folder.

    Only the description is checked; `check_dataset` looks into the files. No image voxels are read. For a plain folder
    without labels.json or channels.json, the header of an image is read to count the channels, and every label is read
    to find its values.

    Args:
        root: The folder, in one of the known layouts.
        follow_links: Whether its files may lie outside of it, see `core.choices.Reading`.

    Returns:
        The dataset.

    Raises:
        FileNotFoundError: There is no such folder.
        UserError: The folder has none of the known layouts, its description cannot be used, two cases share an id, two
            files mean one case, files lie outside of the folder, or an id or the dataset's name is no plain file name
            (see `core.files.name_fault`): files are named after them. The message names every such entry.
    """
    dataset, refused = declared(root, follow_links)
    raise_refused(refused)
    warn_of_remarks(dataset)
    return dataset


def warn_of_remarks(dataset: Dataset) -> None:
    """Warn of what in a dataset's description deserves a look.

    Args:
        dataset: The dataset.
    """
    for remark in dataset.remarks:
        warnings.warn(remark.message, stacklevel=3)


def refuse_own_folder(out: Path, dataset: Dataset) -> None:
    """Refuse to write results into the folder of a dataset, or into one of its folders of images and labels.

    Raises:
        UserError: `out` is such a folder.
    """
    paths = [path for case in dataset.every for path in (*case.images, case.label) if path]
    if out.resolve() in {dataset.root.resolve(), *(path.parent.resolve() for path in paths)}:
        raise UserError(f"out {out} is the dataset's own folder; choose another --out")


def refuse_dataset_folder(out: Path) -> None:
    """Refuse to write results into any dataset's folder, or into its folders of images and labels.

    Raises:
        UserError: `out` is such a folder.
    """
    folder = out.resolve()
    parts = folder.name.lower().startswith(("images", "labels"))
    root = next((root for root in (folder, *([folder.parent] if parts else [])) if is_dataset(root)), None)
    if root is not None:
        raise UserError(f"out {out} is the folder of a dataset ({root}); choose another --out")


def is_dataset(root: Path) -> bool:
    """Return whether a folder has one of the layouts of a dataset, or a description that cannot be read."""
    try:
        return root.is_dir() and any(layout.recognises(root) for layout in LAYOUTS)
    except UserError:  # a dataset.json that cannot be read
        return True


def raise_refused(refused: Sequence[Refused]) -> None:
    """Raise an error that names every entry of a dataset that cannot be used, if there is one.

    Args:
        refused: The entries, from `declared`.

    Raises:
        UserError: There is such an entry.
    """
    if refused:
        raise UserError("; ".join(dict.fromkeys(entry.message for entry in refused)))


def declared(root: Path | str, follow_links: bool = False) -> tuple[Dataset, tuple[Refused, ...]]:
    """Open a dataset folder without the cases that `open_dataset` refuses.

    Args:
        root: The folder, in one of the known layouts.
        follow_links: Whether its files may lie outside of it, see `core.choices.Reading`.

    Returns:
        The dataset without these cases, and the refused entries with the reason for each. A dataset's name that is
        refused is replaced by the name of its folder.

    Raises:
        FileNotFoundError: There is no such folder.
        UserError: The folder has none of the known layouts, or its description cannot be used.
    """
    dataset = _open(Path(root), follow_links)
    refused = (*refused_entries(dataset), *([] if follow_links else outside_entries(dataset)))
    bad = {entry.case.id for entry in refused if entry.case is not None}
    renamed = any(entry.case is None for entry in refused)
    sound = replace(
        dataset,
        name=dataset.root.resolve().name if renamed else dataset.name,
        cases=_without(dataset.cases, bad),
        unlabelled=_without(dataset.unlabelled, bad),
        test=_without(dataset.test, bad),
        unused=_without(dataset.unused, bad),
        folds=tuple((number, _split_without(split, bad)) for number, split in dataset.folds),
        remarks=(*dataset.remarks, *name_remarks(dataset), *fold_remarks(dataset)),
    )
    return sound, refused


def _without(cases: Sequence[Case], bad: set[str]) -> tuple[Case, ...]:
    return tuple(case for case in cases if case.id not in bad)


def _split_without(split: Split, bad: set[str]) -> Split:
    train, validation = (tuple(id for id in ids if id not in bad) for ids in (split.train, split.validation))
    return Split(train, validation)


def _in_one_form(dataset: Dataset) -> Dataset:
    """Ids with their accents in one form, and files under the names that the disk has."""
    named = dataset.with_cases(_named_in_one_form)
    folds = tuple(
        (number, Split(*(tuple(sorted(map(composed, ids))) for ids in (split.train, split.validation))))
        for number, split in dataset.folds
    )
    return replace(named, folds=folds)


def _named_in_one_form(case: Case) -> Case:
    return replace(
        case,
        id=composed(case.id),
        images=tuple(on_disk(header_path(path)) for path in case.images),
        label=None if case.label is None else on_disk(header_path(case.label)),
    )


def _open(root: Path, follow_links: bool) -> Dataset:
    if not root.is_dir():
        hint = f": give its folder, {root.parent}" if root.is_file() and root.suffix == ".json" else ""
        raise FileNotFoundError(f"no dataset folder {root}{hint}")
    if not follow_links:
        refuse_linked_descriptions(root)
    for layout in LAYOUTS:
        if layout.recognises(root):
            if layout is folder and not follow_links:
                refuse_outside(root, folder.read_at_once(root))
            return _in_one_form(layout.open(root))
    inner = sorted(path.name for path in root.iterdir() if (path / "dataset.json").is_file())
    hint = f" Its folders {', '.join(inner[:3])} may be datasets." if inner else ""
    if (root / "recipe.yaml").is_file():
        hint = " It is the folder of a run."
    elif any(is_dicom(path) for path in (*root.glob("*"), *root.glob("*/*")) if path.is_file()):
        hint = " It holds DICOM files, of which `voxward from-dicom` makes a dataset."
    elif any(layout.recognises(root.resolve().parent) for layout in LAYOUTS):
        hint = f" It is a folder inside the dataset {root.resolve().parent}."
    raise UserError(
        f"{root} is no dataset folder.{hint} It must be one of:\n"
        '  Medical Segmentation Decathlon: dataset.json with a "training" list of image and label files;\n'
        '  nnU-Net raw: dataset.json with "channel_names", "labels" and "file_ending", imagesTr/CASE_0000.nii.gz, '
        "labelsTr/CASE.nii.gz;\n"
        "  plain: images/ and labels/ with one file of the same name in each;\n"
        "  BIDS: dataset_description.json, sub-01/anat/sub-01_T1w.nii.gz, derivatives/NAME/sub-01/anat/"
        "sub-01_dseg.nii.gz;\n"
        "  BraTS: CASE/CASE_t1ce.nii.gz or CASE/CASE-t1c.nii.gz and the other sequences."
    )
