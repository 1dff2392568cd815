"""Prepared cases on disk: one folder per case, written as a whole, read by region.

<out>/plan.json
<out>/<id>/case.json        frame, classes, and the digest of the decisions and the source files that prepared it
<out>/<id>/image.b2nd       (c, d, h, w) float32, chunks of half a patch per axis, lossless
<out>/<id>/label.b2nd       (d, h, w) uint8 or uint16, where there is a label
<out>/<id>/locations.npz    per foreground class up to 10,000 of its voxels (n, 3)
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from voxward.core.case import Case, Dataset, Frame, PreparedCase
from voxward.core.document import with_checksum
from voxward.core.errors import UserError
from voxward.core.failures import Failures, files_of
from voxward.core.files import atomic_write, inside, write_json
from voxward.core.labels import IGNORED
from voxward.core.leftovers import remove_leftovers
from voxward.core.plan import Plan, load_plan
from voxward.core.structure import to_data
from voxward.core.types import CaseLabels, Image, Size3
from voxward.data.case_record import CaseRecord, read_record, warn_of_unannotated
from voxward.data.identity import Identity, identity_of
from voxward.data.io import read_case, read_truth
from voxward.data.label_losses import report_losses
from voxward.data.nan import reading_nan
from voxward.data.parallel import for_each_case
from voxward.data.places import within
from voxward.data.preparation_digest import case_digest, preparation_digest
from voxward.data.prepare import prepare
from voxward.data.stored_files import (
    annotated_locations,
    class_locations,
    intact,
    read_locations,
    read_region,
    seals,
    write_array,
)

# All that a prepared case's folder may hold.
_FILES = frozenset(("case.json", "image.b2nd", "label.b2nd", "locations.npz"))
# What annotated voxels are named among the classes' locations.
_ANNOTATED = "annotated"


@dataclass(frozen=True)
class StoredCase:
    """A prepared case on disk.

    It is cheap to create, to copy and to pickle; files are opened by whoever reads a region.

    Attributes:
        folder: The case's folder.
        record: The content of its case.json.
    """

    folder: Path
    record: CaseRecord

    @property
    def id(self) -> str:
        """Return the case's id."""
        return self.record.id

    @property
    def frame(self) -> Frame:
        """Return how the prepared arrays lie in the source file."""
        return self.record.frame

    @property
    def shape(self) -> Size3:
        """Return the prepared spatial shape (d, h, w)."""
        return self.record.frame.shape

    @property
    def classes(self) -> tuple[int, ...]:
        """Return the indices of the foreground classes that the label holds; empty without a label."""
        return self.record.classes

    def image_region(self, start: Size3, stop: Size3) -> Image:
        """Read all channels (c, ...) of a region, float32.

        Args:
            start: The first voxel.
            stop: The voxel after the last one.

        Raises:
            UserError: The region is empty or leaves the volume.
        """
        region, shape = (slice(None), *_region(self, start, stop)), (len(self.frame.low), *self.shape)
        return torch.from_numpy(read_region(self.folder / "image.b2nd", region, shape, "float32"))

    def label_region(self, start: Size3, stop: Size3) -> CaseLabels:
        """Read the class indices of a region, uint8 (int32 beyond 256 classes).

        Args:
            start: The first voxel.
            stop: The voxel after the last one.

        Raises:
            UserError: The case was prepared without a label, or the region is empty or leaves the volume.
        """
        if not self.record.labelled:
            raise UserError(f"case {self.id!r} was prepared without a label")
        region = _region(self, start, stop)
        return _index_tensor(read_region(self.folder / "label.b2nd", region, self.shape, "uint8 uint16"))

    def locations(self, k: int) -> np.ndarray:
        """Return voxels of a foreground class: all of them, or a random choice of 10,000.

        Args:
            k: The class's index.

        Returns:
            Coordinates (n, 3), int32, in index order.

        Raises:
            UserError: The case holds no such class.
        """
        if k not in self.classes:
            raise UserError(f"case {self.id!r} holds no foreground class {k}; present: {list(self.classes)}")
        return self._voxels(str(k))

    @property
    def annotated(self) -> np.ndarray | None:
        """Return annotated voxels (n, 3) of a partly annotated case, at most 10,000; None where all are annotated."""
        return self._voxels(_ANNOTATED) if self.record.unannotated else None

    def _voxels(self, name: str) -> np.ndarray:
        path = self.folder / "locations.npz"
        found = read_locations(path, self.shape).get(name)
        if found is None or not len(found):
            raise UserError(f"{path} does not fit its case.json: it has no voxels of {name!r}")
        return found

    def load(self) -> PreparedCase:
        """Read the whole case."""
        label = self.label_region((0, 0, 0), self.shape) if self.record.labelled else None
        return PreparedCase(self.id, self.image_region((0, 0, 0), self.shape), label, self.frame)


def write_case(
    folder: Path,
    prepared: PreparedCase,
    patch_size: Size3,
    classes: int,
    digest: str = "",
    overwrite: bool = False,
    identity: Identity | None = None,
) -> None:
    """Write a prepared case, replacing a prepared case that is there; nothing is left if it fails.

    Args:
        folder: The case's folder.
        prepared: The case.
        patch_size: The training patch in voxels. Chunks are half of it per axis, so that reading a patch decodes little
            more than the patch.
        classes: The number of classes, background included.
        digest: A short name for what the case was prepared from.
        overwrite: Whether any folder is replaced.
        identity: What the image is recognised by.

    Raises:
        FileExistsError: The folder holds other files than a prepared case, and `overwrite` is False.
    """
    label = None if prepared.label is None else prepared.label.numpy().astype(np.uint8 if classes <= 256 else np.uint16)
    locations = {} if label is None else class_locations(label, classes)
    unannotated = 0.0 if label is None or classes > IGNORED else float((label == IGNORED).mean())
    present = tuple(map(int, locations))
    record = CaseRecord(
        prepared.id, prepared.frame, present, label is not None, digest, unannotated, identity, kept=prepared.kept
    )
    if label is not None and unannotated:
        locations[_ANNOTATED] = annotated_locations(label)
    with atomic_write(folder, lambda there: overwrite or _is_case(there)) as unfinished:
        unfinished.mkdir()
        write_array(unfinished / "image.b2nd", prepared.image.numpy(), patch_size)
        if label is not None:
            write_array(unfinished / "label.b2nd", label, patch_size)
            np.savez(unfinished / "locations.npz", allow_pickle=False, **locations)
        write_json(unfinished / "case.json", with_checksum(to_data(replace(record, files=seals(unfinished)))))


def open_case(folder: Path, id: str) -> StoredCase:
    """Open a prepared case.

    Args:
        folder: The case's folder.
        id: The case's id.

    Raises:
        FileNotFoundError: There is no prepared case.
        UserError: The folder holds another case.
    """
    record = read_record(folder)
    if record.id != id:
        raise UserError(f"{folder} holds case {record.id!r}, not {id!r}")
    return StoredCase(folder, record)


def prepare_dataset(
    dataset: Dataset,
    plan: Plan,
    out: Path,
    ids: Sequence[str] | None = None,
    workers: int = 2,
    progress: Callable[[int, int], None] | None = None,
    overwrite: bool = False,
    failures: Failures | None = None,
    allow_lost_labels: bool = False,
) -> None:
    """Prepare cases of a dataset and write them into a folder.

    A case that is there and was prepared by the same decisions from the same files is kept, so that an interrupted
    preparation goes on where it stopped. A case whose files have changed since (name, size or time of modification) is
    prepared again, and so is one whose prepared files are gone or do not match their checksums. A folder that holds
    files of the dataset is never replaced.

    Args:
        dataset: The dataset.
        plan: The plan.
        out: The folder that gets one folder per case, and plan.json.
        ids: The ids of the cases; None prepares all labelled cases.
        workers: How many volumes are in memory at most.
        progress: A function that is told after each case how many are done, and of how many.
        overwrite: Whether folders that are named like a case but were not written by voxward are replaced.
        allow_lost_labels: Whether a case may lose all voxels of a class.
        failures: Gets the cases that cannot be prepared; None raises them together, at the end.

    Raises:
        UserError: Before anything is written, because `out` holds cases of a plan that prepares differently or folders
            that would be replaced.
        CasesFailed: Cases failed; all others are prepared.
    """
    remove_leftovers(out)
    cases = within(reading_nan(_cases(dataset, ids), plan.nan), plan.affine_tolerance)
    preparation = preparation_digest(plan)
    _refuse_strangers(dataset, [case for case in cases if not is_current(case, out, preparation)], out, overwrite)
    _claim(out, plan)

    def work(case: Case) -> None:
        _prepare_case(case, plan, out, preparation, overwrite)

    for_each_case(work, cases, workers, progress, failures)
    done = cases if failures is None else failures.left(cases)
    records = [read_record(inside(out, case.id)) for case in done]
    warn_of_unannotated(records)
    kept = [(record.id, record.kept) for record in records if record.kept is not None]
    report_losses(kept, plan.labels, allow_lost_labels)


def is_prepared(dataset: Dataset, plan: Plan, out: Path, ids: Sequence[str]) -> bool:
    """Return whether `prepare_dataset` would have nothing to do.

    Args:
        dataset: The dataset.
        plan: The plan.
        out: The folder of prepared cases.
        ids: The ids of the cases.

    Returns:
        Whether every case lies in `out`, prepared by the same decisions from the files that it has now.
    """
    path = out / "plan.json"
    if not path.is_file() or preparation_digest(load_plan(path)) != preparation_digest(plan):
        return False
    preparation = preparation_digest(plan)
    return all(is_current(case, out, preparation) for case in _cases(dataset, ids))


def recorded_identity(case: Case, plan: Plan, out: Path) -> Identity | None:
    """Return what the image of a prepared case is recognised by; None unless it lies in `out` as its files are now."""
    current = is_current(case, out, preparation_digest(plan))
    return read_record(inside(out, case.id)).identity if current else None


def _cases(dataset: Dataset, ids: Sequence[str] | None) -> Sequence[Case]:
    return dataset.cases if ids is None else [dataset.case(id) for id in ids]


def _refuse_strangers(dataset: Dataset, cases: Sequence[Case], out: Path, overwrite: bool) -> None:
    """Raise ValueError where a case's folder would replace anything but a prepared case."""
    folders = [folder for case in cases if os.path.lexists(folder := inside(out, case.id))]
    files = [file for case in dataset.every for file in files_of(case)]
    holding = {parent for file in files for parent in file.resolve().parents} if folders else set[Path]()
    inputs = [str(folder) for folder in folders if folder.resolve() in holding]
    if inputs:
        raise UserError(
            f"{', '.join(inputs[:5])}: holds files of the dataset; choose another folder for prepared cases"
        )
    strangers = [str(folder) for folder in folders if not (_is_empty(folder) or _is_case(folder))]
    if strangers and not overwrite:
        raise UserError(
            f"{', '.join(strangers[:5])}: named like a case, but not a prepared case of voxward's alone; prepare "
            "into another folder, move this one away, or replace it with `voxward prepare --overwrite`"
        )


def _is_empty(folder: Path) -> bool:
    return folder.is_dir() and not any(folder.iterdir())


def _is_case(folder: Path) -> bool:
    """Whether a folder holds a prepared case and nothing else but files that systems leave everywhere."""
    if not folder.is_dir():
        return False
    names = {path.name for path in folder.iterdir() if not path.name.startswith((".DS_Store", "._", ".nfs"))}
    return "case.json" in names and names <= _FILES


def _claim(out: Path, plan: Plan) -> None:
    """Write the plan into `out`, unless one that prepares alike is there; raise ValueError for another one."""
    path = out / "plan.json"
    if not path.exists():
        write_json(path, with_checksum(to_data(plan)))
    elif preparation_digest(load_plan(path)) != preparation_digest(plan):
        raise UserError(
            f"{out} holds cases prepared by another plan ({path}): prepare with that plan, choose another folder, "
            "or delete this one"
        )


def is_current(case: Case, out: Path, preparation: str, whole: bool = False) -> bool:
    """Return whether a case lies prepared in `out`, by the same decisions and from the files that it has now.

    Args:
        case: The case.
        out: The folder of the prepared cases.
        preparation: A short name for the decisions.
        whole: Whether every byte of its arrays is compared with the checksums; otherwise their sizes are.
    """
    folder = inside(out, case.id)
    if not (folder / "case.json").is_file() or not all(file.is_file() for file in files_of(case)):
        return False
    try:
        record = read_record(folder)
    except UserError:  # damaged: it is prepared again
        return False
    needed = {"image.b2nd", *(("label.b2nd", "locations.npz") if record.labelled else ())}
    return record.digest == case_digest(case, preparation) and intact(folder, needed, record.files, whole)


def _prepare_case(case: Case, plan: Plan, out: Path, preparation: str, overwrite: bool) -> None:
    # Taken before the files are read: one that changes meanwhile is prepared again next time.
    digest = case_digest(case, preparation)
    if is_current(case, out, preparation, whole=True):
        return
    volume = read_case(case)
    label = None if case.label is None else read_truth(case, volume)
    prepared = prepare(volume, label, plan, case.id)
    identity = identity_of(volume)
    write_case(inside(out, case.id), prepared, plan.patch_size, plan.labels.count, digest, overwrite, identity)


def _region(case: StoredCase, start: Size3, stop: Size3) -> tuple[slice, slice, slice]:
    if not all(0 <= a < b <= n for a, b, n in zip(start, stop, case.shape, strict=True)):
        raise UserError(f"region {start}..{stop} must be non-empty and within the shape {case.shape} ({case.folder})")
    i, j, k = (slice(a, b) for a, b in zip(start, stop, strict=True))
    return i, j, k


def _index_tensor(array: np.ndarray) -> Tensor:
    return torch.from_numpy(array if array.dtype == np.uint8 else array.astype(np.int32))
