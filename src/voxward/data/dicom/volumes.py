"""The volumes that a command needs of cases of DICOM files: made, or taken where they were made before."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import voxward
from voxward.core.case import Case, Dataset
from voxward.core.choices import Reading
from voxward.core.errors import CasesFailed, UserError
from voxward.core.failures import Failures
from voxward.core.files import atomic_write, write_json
from voxward.core.labels import LabelSet
from voxward.core.progress import Progress, silent
from voxward.core.wording import counted
from voxward.data.content import digest_of
from voxward.data.dicom.cases import DicomCase
from voxward.data.dicom.classes import refuse_together, refuse_unclear, warn_of_others
from voxward.data.dicom.dataset import BOOK, Over, source_entry, write_case, write_truth
from voxward.data.dicom.kept import Kept, is_image, made_files
from voxward.data.dicom.make import Entry, write_cases
from voxward.data.formats.description import read_description
from voxward.data.made_dataset import DESCRIPTION, DatasetWriter

_OPTIONS = ("--series", "--truth", "--classes")
_UNKNOWN = LabelSet(("background", "unknown"), (0, 1))
"""Classes of a dataset without ground truth, where no system says which there are."""
_SHOWN = 3
# What volumes depend on, in words.
_IN_WORDS = {"labels": "classes", "channels": "channels"}
_ELSEWHERE = "choose another --out"


Choose = Callable[[Dataset, Collection[str], Sequence[str]], Sequence[str]]
"""Chooses cases of a dataset, some of which have no volumes yet: of the dataset, the ids of those, and the ids that are
asked for (empty: any), it returns the ids of the cases that are needed, at first those that the choice depends on. The
choice is made where all of these have volumes. A case that cannot be converted is in the dataset no longer."""


@dataclass(frozen=True)
class Wanted:
    """What a command wants of folders of DICOM files.

    Attributes:
        out: The folder of the results, which keeps the volumes in `from-dicom`; None: they are removed afterwards.
        labels: The classes of the system; None: those that the files describe, sorted by name.
        system: The name of the system, for messages.
        truth: Whether ground truth is read.
        again: Whether volumes that were made of other files are made again, with a warning. Otherwise they are refused,
            then and by later calls that would make them again, because records are kept of them.
        reading: Whether links are followed, and whether the first case that fails stops the others.
        progress: Told about cases.
        ids: The cases that are converted, by the names of their folders; empty: all.
        choose: Chooses which cases with ground truth are converted, and where `labels` are given; None: all.
    """

    out: Path | None = None
    labels: LabelSet | None = None
    system: str = ""
    truth: bool = True
    again: bool = False
    reading: Reading = Reading()
    progress: Progress = silent
    ids: Sequence[str] = ()
    choose: Choose | None = None


@dataclass(frozen=True, eq=False)
class Request:
    """Where volumes go.

    Attributes:
        target: The folder of the dataset.
        name: The name of the dataset.
        wanted: What the command wants.
        failures: Gets the cases that fail.
    """

    target: Path
    name: str
    wanted: Wanted
    failures: Failures


@dataclass(frozen=True)
class _Changes:
    """Cases whose volumes are kept and are not all that is wanted.

    Attributes:
        again: The ids of those that are made again, because they were made of other files.
        truth: The ids of those whose images serve, and whose ground truth was not read.
    """

    again: tuple[str, ...] = ()
    truth: tuple[str, ...] = ()

    @property
    def every(self) -> tuple[str, ...]:
        return (*self.again, *self.truth)


def volumes_of(
    cases: Mapping[DicomCase, Sequence[str]], request: Request, kept: Kept | None = None
) -> Mapping[str, Entry]:
    """Make the volumes of cases, or take those that are kept where they were made of the same files.

    Args:
        cases: The cases, each with the names that its ground truth describes.
        request: Where the volumes go.
        kept: What an earlier call has left there.

    Returns:
        For each case of which there are volumes, by its id, what they were made of.

    Raises:
        UserError: What is kept was made of other files, or edited, and must not be replaced.
    """
    clear = _clear(cases, request)
    if not clear:
        return {}
    labels = _labels([cases[case] for case in clear], request.wanted)
    how = {
        "labels": dict(zip(labels.names, labels.values, strict=True)), "channels": list(clear[0].channels),
        "version": voxward.__version__,
    }  # fmt: skip
    if kept is None:
        return _written(clear, request, labels, how)
    changes = _changes(clear, kept, how, request)
    if changes.again or changes.truth or any(case.id not in kept.cases for case in clear):
        return _written(clear, request, labels, how, kept=kept, changes=changes)
    return _found_again(clear, kept, kept.fixed or not request.wanted.again)


def _labels(described: Sequence[Sequence[str]], wanted: Wanted) -> LabelSet:
    """The classes of the system, in its order; without one those of the files, in that of their names."""
    if wanted.labels is not None:
        return wanted.labels.classes
    names = tuple(sorted({name for held in described for name in held}))
    return LabelSet(("background", *names), tuple(range(len(names) + 1))) if names else _UNKNOWN


def _clear(cases: Mapping[DicomCase, Sequence[str]], request: Request) -> list[DicomCase]:
    """The cases whose names are clear to the system; without one, those that can be classes beside each other."""
    wanted, found = request.wanted, dict[DicomCase, Sequence[str]]()
    for case, names in cases.items():
        with request.failures.of(Case(case.id, (case.folder,))):
            if wanted.labels is not None:
                refuse_unclear(case, names, wanted.labels.classes, wanted.system)
            else:
                refuse_together(case, names, found.values())
            found[case] = names
    if wanted.labels is not None:
        warn_of_others(found, wanted.labels.classes, wanted.system)
    return [*found]


def _changes(cases: Sequence[DicomCase], kept: Kept, how: Mapping[str, Any], request: Request) -> _Changes:
    """What cannot be used of what is kept: all, where it was made in another way."""
    if any(kept.how.get(name) != how[name] for name in how):
        others = [id for id in kept.cases if id not in {case.id for case in cases}]
        differing = " and ".join(_made_how(name, kept.how) for name in how if kept.how.get(name) != how[name])
        what = f"the volumes in {kept.folder} were made {differing}"
        if others:  # they cannot be made again, because their files are not in this call
            raise UserError(f"{what}, and {counted(len(others), 'case')} of them are not in this call: {_ELSEWHERE}")
        _tell(what, request, kept)
        return _Changes(tuple(kept.cases))
    known = [case for case in cases if case.id in kept.cases]
    made_of = {case: source_entry(case) for case in known}
    other = [case for case in known if not kept.serves(case.id, made_of[case], request.wanted.truth)]
    bare = [case for case in other if kept.lacks_truth(case.id, made_of[case])]
    changed = [case for case in other if case not in bare]
    if changed:
        folders = ", ".join(str(case.folder) for case in changed[:_SHOWN]) + (", ..." if changed[_SHOWN:] else "")
        _tell(f"the volumes in {kept.folder} were made of other files than {folders} holds now", request, kept)
    kept.refuse_edited(case.id for case in known)
    return _Changes(tuple(case.id for case in changed), tuple(case.id for case in bare))


def _made_how(name: str, how: Mapping[str, Any]) -> str:
    """What volumes depend on, in words, as they were made."""
    return f"by voxward {how.get(name)}" if name == "version" else f"with other {_IN_WORDS[name]}"


def _tell(what: str, request: Request, kept: Kept) -> None:
    if not request.wanted.again or kept.fixed:
        raise UserError(f"{what}: choose another --out, or move {kept.folder} and the results away")
    warnings.warn(f"{what}: they are made again", stacklevel=5)


def _found_again(cases: Sequence[DicomCase], kept: Kept, fixed: bool) -> Mapping[str, Entry]:
    """What is kept, with the folders that the same files lie in now."""
    moved = {case.id: str(case.folder.resolve()) for case in cases}
    book = {id: {**entry, "folder": moved.get(id, entry["folder"])} for id, entry in kept.cases.items()}
    if (book, fixed) != (kept.cases, kept.fixed):
        write_json(kept.folder / BOOK, {"format": 1, "fixed": fixed, "how": kept.how, "cases": book})
    return {case.id: book[case.id] for case in cases}


def _written(
    cases: Sequence[DicomCase],
    request: Request,
    labels: LabelSet,
    how: Mapping[str, Any],
    *,
    kept: Kept | None = None,
    changes: _Changes = _Changes(),
) -> Mapping[str, Entry]:
    """The folder is written as a whole, with the cases that are kept."""
    old = {} if kept is None else {id: entry for id, entry in kept.cases.items() if id not in changes.every}
    fixed = not request.wanted.again or (kept is not None and kept.fixed)
    try:
        with atomic_write(
            request.target, replaceable=lambda folder: kept is not None and kept.replaceable(changes.every)
        ) as unfinished:
            unfinished.mkdir()
            writer = DatasetWriter(unfinished, request.name, labels.foreground, cases[0].channels, labels)
            book = {id: entry for id, entry in old.items() if kept is not None and kept.take_over(id, unfinished)}
            new = [case for case in cases if case.id not in book]
            progress = request.wanted.progress
            over = Over.WARNED if request.wanted.labels is None else Over.REFUSED
            images = kept if changes.truth else None
            made = write_cases(
                new,
                lambda case: _with_digest(writer, case, over, images if case.id in changes.truth else None),
                request.failures,
                progress,
            )
            if not made:
                request.failures.raise_any(len(cases))
            book |= made
            if images is not None:  # a prediction may be of images whose ground truth cannot be read
                lost = [id for id in changes.truth if id not in made and images.take_over(id, unfinished)]
                book |= {id: images.cases[id] for id in lost}
            _describe(writer, request.target, book, kept)
            write_json(unfinished / BOOK, {"format": 1, "fixed": fixed, "how": how, "cases": book})
    except CasesFailed:
        known = [case for case in cases if case.id in old]
        return _found_again(known, kept, fixed) if kept is not None and known else {}
    return {case.id: book[case.id] for case in cases if case.id in old or case.id in made}


def _with_digest(writer: DatasetWriter, case: DicomCase, over: Over, images: Kept | None) -> Entry:
    """Write a case; with its ground truth alone, where its images are kept."""
    with saying_where():
        if images is None:
            entry = write_case(writer, case, over)
        else:
            entry = write_truth(writer, case, over)
            images.take_images(case.id, filter(is_image, made_files(writer.folder, case.id, entry)))
    return {**entry, "volumes": digest_of(made_files(writer.folder, case.id, entry))}


def _describe(writer: DatasetWriter, target: Path, book: Mapping[str, Entry], kept: Kept | None) -> None:
    """Write the description, with the codes that the user has put into the one before."""
    writer.labelled = [id for id, entry in book.items() if any(one["kind"] != "image" for one in entry["series"])]
    writer.finish(target)
    codes = {} if kept is None else read_description(kept.folder).get("codes")
    if codes:
        write_json(writer.folder / DESCRIPTION, {**read_description(writer.folder), "codes": codes})


@contextmanager
def saying_where() -> Iterator[None]:
    """Say of options of `voxward from-dicom` that it has them.

    Raises:
        UserError: The block raised one; where its message names such an option, the message says so.
    """
    try:
        yield
    except UserError as error:
        if any(option in str(error) for option in _OPTIONS):
            where = "It is `voxward from-dicom` that has this option: make a dataset with it"
            raise UserError(f"{error}. {where}") from error
        raise
