"""Folders of DICOM files where a command takes volumes: they are converted first, as `voxward from-dicom` does it."""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path

from voxward.core.alone import alone
from voxward.core.case import Case, Dataset
from voxward.core.choices import Cases
from voxward.core.errors import CasesFailed, Failure, UserError
from voxward.core.failures import Failures
from voxward.core.files import name_fault
from voxward.data.dicom.cases import DicomCase, case_folders, case_id, open_case
from voxward.data.dicom.dataset import BOOK, refuse_names
from voxward.data.dicom.files import dicom_files, holds_dicom
from voxward.data.dicom.kept import Kept, is_image, made_files
from voxward.data.dicom.make import Entry, opened_cases
from voxward.data.dicom.volumes import Request, saying_where, volumes_of
from voxward.data.dicom.volumes import Wanted as Wanted
from voxward.data.formats import is_dataset, open_dataset
from voxward.data.formats.outside import refuse_outside
from voxward.data.volume_file import volumes_among

FROM_DICOM = "from-dicom"
"""The folder of results that keeps the volumes."""
_SHOWN = 3
_PLANNED = {"series": [{"kind": "image"}, {"kind": "segmentation"}]}


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
        absent: Further cases, which were not chosen: there may be no volumes of them.
    """

    root: Path
    cases: Mapping[str, Path]
    files: Mapping[str, tuple[Path, ...]]
    failures: tuple[Failure, ...]
    kept: bool
    places: tuple[Path, ...] = ()
    absent: tuple[Case, ...] = ()

    def images(self) -> list[Path]:
        """Return the volumes of this call, without the labels."""
        return [path for files in self.files.values() for path in files if is_image(path)]

    def dataset(self) -> Dataset:
        """Open the dataset, with the cases of this call alone, and those that were not chosen.

        Raises:
            CasesFailed: No case is left.
        """
        if not self.cases:
            raise CasesFailed(self.failures, len(self.failures))
        found = open_dataset(self.root)
        cases, unlabelled = (
            tuple(case for case in part if case.id in self.cases) for part in (found.cases, found.unlabelled)
        )
        every = sorted((*cases, *self.absent), key=lambda case: case.id) if self.absent else cases
        return replace(found, cases=tuple(every), unlabelled=unlabelled)

    def asked(self, cases: Cases) -> Cases:
        """Return the cases that are asked for by their ids without those that could not be converted.

        Raises:
            CasesFailed: None is left: no ids would mean all cases.
        """
        failed = {failure.case for failure in self.failures}
        left = [id for id in cases.ids if id not in failed]
        if cases.ids and not left:
            raise CasesFailed(self.failures, len(self.failures))
        return replace(cases, ids=left)

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
        what = "" if is_image(file) else ", ground truth"
        return f"{self.cases[id]}{what}" + (f" ({file})" if self.kept else "")

    def renamed(self, failures: Failures) -> Failures:
        """Call volumes after the folders that they were made of, in the reasons why cases failed.

        Args:
            failures: The cases that failed, whose reasons are changed.

        Returns:
            The same failures.
        """
        failures.found[:] = [replace(one, reason=self.said(one.reason)) for one in failures.found]
        return failures


def is_dicom_folder(path: Path | str) -> bool:
    """Return whether a folder holds DICOM files, itself or in its folders, and neither volumes nor a dataset.

    Args:
        path: The folder, or anything else.

    Raises:
        UserError: It holds volumes and DICOM files, or volumes and folders of DICOM files, so that it is not clear
            which are meant; or it is a single DICOM file.
    """
    folder = Path(path)
    with suppress(OSError):
        if folder.is_file() and not volumes_among([folder]) and holds_dicom(folder):
            raise UserError(f"{folder} is a DICOM file: give the folder that its series lies in")
    if not folder.is_dir() or is_dataset(folder):
        return False
    volumes = volumes_among(one for one in folder.iterdir() if one.is_file())
    inner = [one for one in sorted(folder.iterdir()) if one not in volumes and not one.name.startswith(".")]
    with suppress(OSError):
        if not volumes:
            return not (folder / "recipe.yaml").is_file() and any(map(holds_dicom, inner))
        if (other := next(filter(holds_dicom, inner), None)) is not None:
            raise UserError(
                f"{folder} holds volumes, such as {volumes[0].name}, and DICOM files, such as {other.name}: move the "
                "volumes away, or name either the volumes or the folders of DICOM files"
            )
    return False


def keeps_volumes(out: Path | str) -> Path | None:
    """Return where a folder of results keeps volumes of DICOM files, which are identifiable; None where it keeps none.

    Args:
        out: The folder of the results.
    """
    place = Path(out) / FROM_DICOM
    return place if (place / BOOK).is_file() else None


def failures_before(made: Converted | None, fail_fast: bool) -> Failures:
    """Return the failures that a command begins with: the cases that could not be converted.

    Args:
        made: What was made of DICOM files, if anything was.
        fail_fast: Whether a further failure is raised instead of kept.
    """
    return Failures(fail_fast, [] if made is None else [*made.failures])


def named_out(out: Path | str | None, place: Path | str) -> Path:
    """Return the folder of results, which the user must name where it keeps volumes, because these are identifiable.

    Args:
        out: The folder of the results, as the user gave it.
        place: A folder of DICOM files.

    Raises:
        UserError: No folder was named.
    """
    if out is None:
        raise UserError(f"out must be given: {place} holds DICOM files, whose volumes OUT/{FROM_DICOM} keeps")
    return Path(out)


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
    return [path for id in found for path in kept.files(id) if is_image(path)]


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
    every = [(place, folder) for place in places for folder in case_folders([place])]
    # Names that no case has are refused later, as those of any dataset are.
    any_case = not wanted.ids or wanted.choose is not None
    pairs = [pair for pair in every if any_case or case_id(pair[1]) in wanted.ids] or every
    refuse_names([folder for _, folder in pairs])
    homes = {folder: place for place, folder in pairs}
    if wanted.out is None:
        with tempfile.TemporaryDirectory(prefix="voxward-") as folder:
            yield _made(homes, Path(folder) / FROM_DICOM, wanted)
        return
    _refuse_among(wanted.out, places)
    with alone(wanted.out, "a conversion of DICOM files"):
        found = _made(homes, wanted.out / FROM_DICOM, wanted)
    yield found


def _made(homes: Mapping[Path, Path], target: Path, wanted: Wanted) -> Converted:
    """Convert cases, each of which lies in a folder that was given; where they are chosen, some of them at a time."""
    places = tuple(dict.fromkeys(homes.values()))
    name = places[0].resolve().name
    failures = Failures(wanted.reading.fail_fast)
    request = Request(target, name if name_fault(name) is None else FROM_DICOM, wanted, failures)
    opened, book, left = dict[DicomCase, Sequence[str]](), dict[str, Entry](), [*homes]
    while folders := _next(left, book, request):
        left = [folder for folder in left if folder not in folders]
        fresh = opened_cases(folders, failures, lambda folder: _open(homes[folder], folder, wanted), opened)
        opened |= fresh
        if wanted.choose is None:
            _refuse_bare(opened, wanted)
        # A case without ground truth is never chosen.
        needed = {case: names for case, names in fresh.items() if wanted.choose is None or case.truth is not None}
        book |= volumes_of(needed, request, Kept.read(target))
    if wanted.choose is not None:
        _refuse_bare(opened, wanted)
    found = {case.id: case.folder for case in opened if case.id in book}
    files = {id: made_files(target, id, book[id]) for id in found}
    absent = tuple(_planned(target, folder) for folder in left)
    return Converted(target, found, files, tuple(failures.found), wanted.out is not None, places, absent)


def _next(left: Sequence[Path], book: Mapping[str, Entry], request: Request) -> Sequence[Path]:
    """The folders that are converted next, of those that are left."""
    wanted = request.wanted
    if wanted.choose is None or not left:
        return left
    ids = [id for id in wanted.ids if id not in request.failures.cases]
    if wanted.ids and not ids:
        return ()
    assert wanted.labels is not None
    absent = {case_id(folder): folder for folder in left}
    cases = [_planned(request.target, id) for id in book] + [_planned(request.target, folder) for folder in left]
    every = tuple(sorted(cases, key=lambda case: case.id))
    dataset = Dataset(request.name, request.target, (), wanted.labels.classes, every)
    return [absent[id] for id in wanted.choose(dataset, absent.keys(), ids) if id in absent]


def _planned(target: Path, case: Path | str) -> Case:
    """A case with ground truth, whose files need not be there yet."""
    id = case if isinstance(case, str) else case_id(case)
    image, label = made_files(target, id, _PLANNED)
    return Case(id, (image,), label)


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
    folders = [str(case.folder) for case in cases if wanted.truth and case.truth is None]
    if wanted.labels is None or not folders:
        return
    listed = ", ".join(folders[:_SHOWN]) + (f" and {len(folders) - _SHOWN} more" if folders[_SHOWN:] else "")
    fault = f"there is no segmentation (SEG) and no RTSTRUCT in {listed}"
    if len(folders) == len(cases):
        raise UserError(f"{fault}: ground truth is needed")
    warnings.warn(f"{fault}: of the {len(cases)} cases these are not measured", stacklevel=4)
