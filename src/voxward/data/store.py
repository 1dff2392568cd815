"""Prepared cases on disk: one folder per case, written as a whole, read by region.

<out>/plan.json
<out>/<id>/case.json        frame, classes, and the digest of the decisions and the source files that prepared it
<out>/<id>/image.b2nd       (c, d, h, w) float32, chunks of half a patch per axis, lossless
<out>/<id>/label.b2nd       (d, h, w) uint8 or uint16, where there is a label
<out>/<id>/locations.npz    per foreground class up to 10,000 of its voxels (n, 3)
"""

from __future__ import annotations

import hashlib
import json
import os
import threading
import zipfile
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import blosc2
import numpy as np
import torch
from torch import Tensor

from voxward.core.case import Case, Dataset, Frame, PreparedCase
from voxward.core.errors import UserError
from voxward.core.files import atomic_write, inside, write_json
from voxward.core.plan import ChannelPlan, Plan, load_json, load_plan
from voxward.core.structure import to_data
from voxward.core.types import CaseLabels, Image, Size3
from voxward.data.io import read_image, read_label
from voxward.data.normalization import normalization_of
from voxward.data.parallel import for_each_case
from voxward.data.prepare import prepare

_LOCATIONS = 10_000
# All that a prepared case's folder may hold.
_FILES = frozenset(("case.json", "image.b2nd", "label.b2nd", "locations.npz"))
# The decisions of a plan that change prepared voxels; the others (batch size, window, ...) may change freely.
_PREPARING = ("labels", "channels", "spacing", "spline_order", "crop_nonzero", "resample")


@dataclass(frozen=True)
class CaseRecord:
    """What case.json holds: the frame, the foreground classes present, whether there is a label, and the digest."""

    id: str
    frame: Frame
    classes: tuple[int, ...]
    labelled: bool
    digest: str = ""


@dataclass(frozen=True)
class StoredCase:
    """A prepared case on disk. Cheap to create, to copy and to pickle; files are opened by whoever reads a region."""

    folder: Path
    record: CaseRecord

    @property
    def id(self) -> str:
        """Name of the case."""
        return self.record.id

    @property
    def frame(self) -> Frame:
        """How the prepared arrays lie in the source file."""
        return self.record.frame

    @property
    def shape(self) -> Size3:
        """Prepared spatial shape (d, h, w)."""
        return self.record.frame.shape

    @property
    def classes(self) -> tuple[int, ...]:
        """Indices of the foreground classes that the label holds; empty without a label."""
        return self.record.classes

    def image_region(self, start: Size3, stop: Size3) -> Image:
        """Voxels start:stop (within the volume) of all channels, float32 (c, ...). Raises ValueError when outside."""
        region = _region(self, start, stop)
        return torch.from_numpy(_opened(self.folder / "image.b2nd")[(slice(None), *region)])

    def label_region(self, start: Size3, stop: Size3) -> CaseLabels:
        """Class indices of start:stop, uint8 (int32 beyond 256 classes). Raises ValueError without a label."""
        if not self.record.labelled:
            raise UserError(f"case {self.id!r} was prepared without a label")
        return _index_tensor(_opened(self.folder / "label.b2nd")[_region(self, start, stop)])

    def locations(self, k: int) -> np.ndarray:
        """Up to 10,000 voxels of the foreground class `k`, int32 (n, 3) in index order; a random choice of more."""
        if k not in self.classes:
            raise UserError(f"case {self.id!r} holds no foreground class {k}; present: {list(self.classes)}")
        path = self.folder / "locations.npz"
        return _read_locations(str(path), path.stat().st_mtime_ns)[str(k)]

    def load(self) -> PreparedCase:
        """The whole case."""
        label = self.label_region((0, 0, 0), self.shape) if self.record.labelled else None
        return PreparedCase(self.id, self.image_region((0, 0, 0), self.shape), label, self.frame)


def write_case(
    folder: Path,
    prepared: PreparedCase,
    patch_size: Size3,
    classes: int,
    digest: str = "",
    overwrite: bool = False,
) -> None:
    """Write a prepared case, replacing a prepared case that is there; nothing is left behind when it fails.

    overwrite: replace any folder; else one that holds other files raises FileExistsError.
    patch_size: chunks are half of it per axis, so that a patch read decodes little more than itself. classes: of the
    label set, background included. digest: what `open_case` can be checked against.
    """
    label = None if prepared.label is None else prepared.label.numpy().astype(np.uint8 if classes <= 256 else np.uint16)
    locations = {} if label is None else _locations(label, classes)
    record = CaseRecord(prepared.id, prepared.frame, tuple(map(int, locations)), label is not None, digest)
    with atomic_write(folder, lambda there: overwrite or _is_case(there)) as unfinished:
        unfinished.mkdir()
        _write_array(unfinished / "image.b2nd", prepared.image.numpy(), patch_size)
        if label is not None:
            _write_array(unfinished / "label.b2nd", label, patch_size)
            np.savez(unfinished / "locations.npz", allow_pickle=False, **locations)
        write_json(unfinished / "case.json", to_data(record))


def open_case(folder: Path, id: str) -> StoredCase:
    """The prepared case `id` that `write_case` put into `folder`.

    Raises FileNotFoundError when there is none, ValueError when it is another case.
    """
    record = _record(folder)
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
) -> None:
    """Prepare the cases `ids` (all labelled ones when None) into `out`, with at most `workers` volumes in memory.

    Resumable: a case that is there and was prepared by the same decisions from the same files is kept; one whose files
    have changed since (name, size or time of modification) is prepared again. overwrite: replace folders named like a
    case that voxward did not write; one that holds files of the dataset is never replaced.

    Raises ValueError, before anything is written, when `out` holds cases of a plan that prepares differently, or such
    folders of others, and, after all others are done, one naming every case that failed.
    """
    cases = _cases(dataset, ids)
    preparation = preparation_digest(plan)
    _refuse_strangers(dataset, [case for case in cases if not _is_current(case, out, preparation)], out, overwrite)
    _claim(out, plan)
    for_each_case(lambda case: _prepare_case(case, plan, out, preparation, overwrite), cases, workers, progress)


def is_prepared(dataset: Dataset, plan: Plan, out: Path, ids: Sequence[str]) -> bool:
    """Whether `prepare_dataset` would have nothing to do: every case lies in `out`, prepared so, from these files."""
    path = out / "plan.json"
    if not path.is_file() or preparation_digest(load_plan(path)) != preparation_digest(plan):
        return False
    preparation = preparation_digest(plan)
    return all(_is_current(case, out, preparation) for case in _cases(dataset, ids))


def _cases(dataset: Dataset, ids: Sequence[str] | None) -> Sequence[Case]:
    return dataset.cases if ids is None else [dataset.case(id) for id in ids]


def _refuse_strangers(dataset: Dataset, cases: Sequence[Case], out: Path, overwrite: bool) -> None:
    """Raise ValueError where a case's folder would replace anything but a prepared case."""
    folders = [folder for case in cases if os.path.lexists(folder := inside(out, case.id))]
    every = (*dataset.cases, *dataset.unlabelled)
    files = [file for case in every for file in _files(case)]
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


def preparation_digest(plan: Plan) -> str:
    """A short name for the decisions of a plan that change prepared voxels."""
    # Numbers that a normalisation does not read may differ: other folds of an MR dataset may share a folder.
    channels = tuple(
        channel if normalization_of(channel).reads_plan else ChannelPlan(channel.name, channel.normalization)
        for channel in plan.channels
    )
    data = to_data(replace(plan, channels=channels))
    del data["labels"]["regions"]  # prepared labels hold classes
    return _digest({name: value for name, value in data.items() if name in _PREPARING})


def _case_digest(case: Case, preparation: str) -> str:
    """A short name for a preparation and the state of a case's files; raises FileNotFoundError when one is gone."""
    states = [(file.name, file.stat().st_size, file.stat().st_mtime_ns) for file in _files(case)]
    return _digest([preparation, len(case.images), states])


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]


def _claim(out: Path, plan: Plan) -> None:
    """Write the plan into `out`, unless one that prepares alike is there; raise ValueError for another one."""
    path = out / "plan.json"
    if not path.exists():
        plan.save(path)
    elif preparation_digest(load_plan(path)) != preparation_digest(plan):
        raise UserError(
            f"{out} holds cases prepared by another plan ({path}): prepare with that plan, choose another folder, "
            "or delete this one"
        )


def _is_current(case: Case, out: Path, preparation: str) -> bool:
    """Whether a case lies prepared in `out`, as the plan says, from the files that it has now."""
    folder = inside(out, case.id)
    if not (folder / "case.json").is_file() or not all(file.is_file() for file in _files(case)):
        return False
    return _record(folder).digest == _case_digest(case, preparation)


def _files(case: Case) -> tuple[Path, ...]:
    return (*case.images, *([] if case.label is None else [case.label]))


def _prepare_case(case: Case, plan: Plan, out: Path, preparation: str, overwrite: bool) -> None:
    # Taken before the files are read: one that changes meanwhile is prepared again next time.
    digest = _case_digest(case, preparation)
    if _is_current(case, out, preparation):
        return
    label = None if case.label is None else read_label(case.label)
    prepared = prepare(read_image(case.images), label, plan, case.id)
    write_case(inside(out, case.id), prepared, plan.patch_size, plan.labels.count, digest, overwrite)


def _record(folder: Path) -> CaseRecord:
    path = folder / "case.json"
    if not path.is_file():
        raise FileNotFoundError(f"no prepared case in {folder}: {path} does not exist")
    return _read_record(path, path.stat().st_mtime_ns)


@lru_cache(maxsize=4096)
def _read_record(path: Path, version: int) -> CaseRecord:
    """Training opens its cases again for every patch: each record is parsed once per version of the file."""
    return load_json(CaseRecord, path)


def _write_array(path: Path, array: np.ndarray, patch_size: Size3) -> None:
    lead = (1,) * (array.ndim - 3)
    chunks = lead + tuple(min(max(1, -(-p // 2)), n) for p, n in zip(patch_size, array.shape[-3:], strict=True))
    cparams = {"codec": blosc2.Codec.ZSTD, "clevel": 1, "filters": [blosc2.Filter.SHUFFLE], "nthreads": 1}
    blosc2.asarray(np.ascontiguousarray(array), urlpath=str(path), mode="w", chunks=chunks, cparams=cparams)


def _locations(label: np.ndarray, classes: int) -> dict[str, np.ndarray]:
    """Voxels of every foreground class present, drawn with the class as seed where there are too many."""
    counts = np.zeros(classes, np.int64)
    for plane in label:
        counts += np.bincount(plane.ravel(), minlength=classes)
    return {str(k): _voxels(label, int(k), int(counts[k])) for k in np.flatnonzero(counts) if k > 0}


def _voxels(label: np.ndarray, k: int, count: int) -> np.ndarray:
    """Plane by plane, because the indices of a large class would take more memory than the volume."""
    ranks = np.sort(np.random.default_rng(k).choice(count, min(count, _LOCATIONS), replace=False))
    found, before = [], 0
    for d, plane in enumerate(label):
        places = np.argwhere(plane == k)
        chosen = places[ranks[np.searchsorted(ranks, before) : np.searchsorted(ranks, before + len(places))] - before]
        found.append(np.insert(chosen, 0, d, axis=1))
        before += len(places)
    return np.concatenate(found).astype(np.int32)


def _region(case: StoredCase, start: Size3, stop: Size3) -> tuple[slice, slice, slice]:
    if not all(0 <= a < b <= n for a, b, n in zip(start, stop, case.shape, strict=True)):
        raise UserError(f"region {start}..{stop} must be non-empty and within the shape {case.shape} of {case.id!r}")
    i, j, k = (slice(a, b) for a, b in zip(start, stop, strict=True))
    return i, j, k


def _index_tensor(array: np.ndarray) -> Tensor:
    return torch.from_numpy(array if array.dtype == np.uint8 else array.astype(np.int32))


def _opened(path: Path) -> Any:
    """The array, opened once per process, thread and version of the file: an open array must not be shared."""
    if not path.is_file():  # nor a pipe, which may never end
        raise FileNotFoundError(f"no prepared array {path}")
    return _open(str(path), path.stat().st_mtime_ns, os.getpid(), threading.get_ident())


@lru_cache(maxsize=64)
def _open(path: str, version: int, process: int, thread: int) -> Any:
    """Open a stored array; whatever else such a file may describe (code, other files, addresses) is refused."""
    try:
        array = blosc2.open(path, mode="r", dparams={"nthreads": 1}, deserialize="safe")
    except (ValueError, RuntimeError) as error:
        raise UserError(f"{path} is not a prepared array, or damaged: {error}") from error
    if type(array) is not blosc2.NDArray:
        raise UserError(f"{path} must hold a plain array, got {type(array).__name__}")
    return array


@lru_cache(maxsize=64)
def _read_locations(path: str, version: int) -> dict[str, np.ndarray]:
    try:
        with np.load(path, allow_pickle=False) as stored:
            return dict(stored)
    except (ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise UserError(f"{path} is damaged, or no file of locations: {error}") from error
