"""Folders of DICOM files where a command takes volumes: they are converted first, as `voxward from-dicom` does it."""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path

from voxward.core.alone import alone
from voxward.core.case import Dataset
from voxward.core.errors import CasesFailed, Failure, UserError
from voxward.core.failures import Failures
from voxward.core.files import name_fault
from voxward.data.dicom.cases import DicomCase, case_folders, open_case
from voxward.data.dicom.dataset import refuse_names
from voxward.data.dicom.files import dicom_files, holds_dicom
from voxward.data.dicom.kept import Kept, made_files
from voxward.data.dicom.make import opened_cases
from voxward.data.dicom.volumes import Request, saying_where, volumes_of
from voxward.data.dicom.volumes import Wanted as Wanted
from voxward.data.formats import is_dataset, open_dataset
from voxward.data.formats.outside import refuse_outside
from voxward.data.volume_file import volumes_among

FROM_DICOM = "from-dicom"
"""The folder of results that keeps the volumes."""
_SHOWN = 3


@dataclass(frozen=True, eq=False)
class Converted:
    """The volumes of folders of DICOM files.

    Attributes:
        root: The folder of the dataset, which may hold cases of earlier calls, too.
        cases: For each case of this call its folder of DICOM files, by its id.
        files: For each case of this call its volumes, and its label.
        failures: The cases that could not be converted.
        kept: Whether the volumes stay after the command.
        places: The folders that were given.
    """

    root: Path
    cases: Mapping[str, Path]
    files: Mapping[str, tuple[Path, ...]]
    failures: tuple[Failure, ...]
    kept: bool
    places: tuple[Path, ...] = ()

    def images(self) -> list[Path]:
        """Return the volumes of this call, without the labels."""
        return [path for files in self.files.values() for path in files if path.parent.name.startswith("images")]

    def dataset(self) -> Dataset:
        """Open the dataset, with the cases of this call alone.

        Raises:
            CasesFailed: No case is left.
        """
        if not self.cases:
            raise CasesFailed(self.failures, len(self.failures))
        found = open_dataset(self.root)
        cases, unlabelled = (
            tuple(case for case in part if case.id in self.cases) for part in (found.cases, found.unlabelled)
        )
        return replace(found, cases=cases, unlabelled=unlabelled)

    def labelled(self) -> Dataset:
        """Open the dataset, which must have ground truth.

        Raises:
            CasesFailed: No case with ground truth is left.
        """
        found = self.dataset()
        if not found.cases:
            raise CasesFailed(self.failures, len(self.failures) + len(self.cases))
        return found

    def said(self, text: str) -> str:
        """Return a text in which volumes are called after the folders of DICOM files that they were made of."""
        for id, files in self.files.items():
            for file in files:
                text = text.replace(str(file), self._called(id, file))
        return text if self.kept else text.replace(str(self.root), ", ".join(map(str, self.places)))

    def _called(self, id: str, file: Path) -> str:
        what = "" if file.parent.name.startswith("images") else ", ground truth"
        return f"{self.cases[id]}{what}" + (f" ({file})" if self.kept else "")

    def renamed(self, failures: Failures, total: int) -> int:
        """Put the cases that could not be converted first, and let the others be called after their DICOM folders.

        Args:
            failures: The cases that failed; those that could not be converted may be among them already.
            total: How many cases there were volumes of.

        Returns:
            How many cases there are in all.
        """
        later = [replace(one, reason=self.said(one.reason)) for one in failures.found if one not in self.failures]
        failures.found[:] = [*self.failures, *later]
        return total + len(self.failures)


def is_dicom_folder(path: Path | str) -> bool:
    """Return whether a folder holds DICOM files, itself or in its folders, and is no dataset and no folder of volumes.

    Args:
        path: The folder, or anything else.

    Raises:
        UserError: Volumes lie among the slices of a series, so that it is not clear which are meant; or it is a single
            DICOM file.
    """
    folder = Path(path)
    with suppress(OSError):
        if folder.is_file() and not volumes_among([folder]) and holds_dicom(folder):
            raise UserError(f"{folder} is a DICOM file: give the folder that its series lies in")
    if not folder.is_dir() or is_dataset(folder):
        return False
    files = [one for one in folder.iterdir() if one.is_file()]
    volumes = volumes_among(files)
    with suppress(OSError):
        if not volumes:
            inner = [one for one in folder.iterdir() if not one.name.startswith(".")]
            return not (folder / "recipe.yaml").is_file() and any(map(holds_dicom, inner))
        if any(holds_dicom(one) for one in files if one not in volumes and not one.name.startswith(".")):
            raise UserError(
                f"{folder} holds DICOM files and volumes, such as {volumes[0].name}: move one kind away, or name the "
                "volumes"
            )
        _warn_of_inner(folder, volumes[0])
    return False


def _warn_of_inner(folder: Path, volume: Path) -> None:
    """Warn of DICOM files in the folders of a folder of volumes: they are not read."""
    inner = [one for one in sorted(folder.iterdir()) if one.is_dir() and not one.name.startswith(".")]
    if found := [one.name for one in inner if holds_dicom(one)]:
        more = f" and {len(found) - _SHOWN} more" if found[_SHOWN:] else ""
        warnings.warn(
            f"{folder}: the DICOM files of its folders {', '.join(found[:_SHOWN])}{more} are not read, because it "
            f"holds volumes, such as {volume.name}; name these folders, or move the volumes away",
            stacklevel=4,
        )


def kept_images(out: Path, ids: Collection[str]) -> list[Path]:
    """Return the volumes of some cases that a folder of results keeps, where they were made of DICOM files.

    Args:
        out: The folder of the results.
        ids: The ids of the cases; others are left out.

    Raises:
        UserError: The volumes were edited.
    """
    kept = Kept.read(out / FROM_DICOM)
    if kept is None:
        return []
    found = [id for id in kept.cases if id in ids]
    kept.refuse_edited(found)
    return [path for id in found for path in kept.files(id) if path.parent.name.startswith("images")]


@contextmanager
def converted(inputs: Sequence[Path | str], wanted: Wanted) -> Iterator[Converted]:
    """Make volumes of folders of DICOM files inside the block, or take those that were made of the same files.

    Args:
        inputs: The folders; see `data.dicom.cases.case_folders` for which folder is a case.
        wanted: What the command wants.

    Yields:
        The volumes. A case that could not be converted is among its `failures`.

    Raises:
        UserError: Two cases share a name, the results would lie among the DICOM files, or volumes that are there were
            made of other files and are not to be replaced.
        MissingPackageError: pydicom is not installed.
    """
    places = [Path(one) for one in inputs]
    pairs = [(place, folder) for place in places for folder in case_folders([place])]
    refuse_names([folder for _, folder in pairs])
    failures = Failures(wanted.reading.fail_fast)
    homes = {folder: place for place, folder in pairs}
    cases = opened_cases([*homes], failures, lambda folder: _open(homes[folder], folder, wanted))
    _refuse_bare(cases, wanted)
    if wanted.out is None:
        with tempfile.TemporaryDirectory(prefix="voxward-") as folder:
            yield _made(places, cases, Path(folder) / FROM_DICOM, None, wanted, failures)
        return
    _refuse_among(wanted.out, places)
    with alone(wanted.out, "a conversion of DICOM files"):
        target = wanted.out / FROM_DICOM
        found = _made(places, cases, target, Kept.read(target), wanted, failures)
    yield found


def _open(place: Path, folder: Path, wanted: Wanted) -> DicomCase:
    with saying_where():
        if not wanted.reading.follow_links:
            refuse_outside(place, dicom_files(folder))
        return open_case(folder, truth=wanted.truth)


def _refuse_among(out: Path, places: Sequence[Path]) -> None:
    for place in places:
        if out.resolve().is_relative_to(place.resolve()):
            raise UserError(f"out {out} lies among the DICOM files of {place}: choose another --out")


def _refuse_bare(cases: Collection[DicomCase], wanted: Wanted) -> None:
    """Refuse cases without ground truth where a system is measured by it, and warn where only some have none."""
    measured = wanted.truth and wanted.labels is not None
    folders = [str(case.folder) for case in cases if measured and case.truth is None]
    if not folders:
        return
    listed = ", ".join(folders[:_SHOWN]) + (f" and {len(folders) - _SHOWN} more" if folders[_SHOWN:] else "")
    fault = f"there is no segmentation (SEG) and no RTSTRUCT in {listed}"
    if len(folders) == len(cases):
        raise UserError(f"{fault}: ground truth is needed")
    warnings.warn(f"{fault}: of the {len(cases)} cases these are not measured", stacklevel=4)


def _made(
    places: Sequence[Path],
    cases: Mapping[DicomCase, Sequence[str]],
    target: Path,
    kept: Kept | None,
    wanted: Wanted,
    failures: Failures,
) -> Converted:
    name = places[0].resolve().name
    request = Request(target, name if name_fault(name) is None else FROM_DICOM, wanted, failures)
    book = volumes_of(cases, request, kept)
    folders = {case.id: case.folder for case in cases if case.id in book}
    files = {id: made_files(target, id, book[id]) for id in folders}
    return Converted(target, folders, files, tuple(failures.found), wanted.out is not None, tuple(places))
