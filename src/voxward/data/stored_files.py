"""The files of a prepared case: arrays in compressed chunks, and the voxels of every class.

Whatever else such a file may describe (code, other files, addresses) is refused when it is read.
"""

from __future__ import annotations

import lzma
import os
import threading
import tokenize
import zipfile
import zlib
from collections.abc import Iterable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from voxward.core.archive import opened_archive
from voxward.core.errors import UserError
from voxward.core.files import sha256_of, telling_of_a_full_disk
from voxward.core.labels import IGNORED
from voxward.core.types import Size3

_LOCATIONS = 10_000
# The coordinates of a class take 120 kB and a header; a file of a few kB may claim any number of gigabytes.
_MOST_BYTES = 3 * 4 * _LOCATIONS + 10_000

# A chunk of a patch of 256^3 voxels has 8 MiB.
_LARGEST_CHUNK = 1 << 28
# What the readers of arrays and of archives make of a damaged file; NumPy reads a header as a text of Python.
_DAMAGED = (
    ValueError, RuntimeError, TypeError, LookupError, AttributeError, OverflowError, EOFError, SyntaxError,
    NotImplementedError, MemoryError, tokenize.TokenError, zipfile.BadZipFile, zlib.error, lzma.LZMAError,
)  # fmt: skip

Seals = Mapping[str, tuple[int, str]]
"""The size in bytes and the SHA-256 of each file of a prepared case, by name."""


def seals(folder: Path) -> Seals:
    """Return the sizes and checksums of all files of a folder.

    Args:
        folder: The folder.
    """
    return {path.name: (path.stat().st_size, sha256_of(path)) for path in sorted(folder.iterdir())}


def intact(folder: Path, needed: Iterable[str], files: Seals, whole: bool) -> bool:
    """Return whether the files of a prepared case are there and have their sizes.

    Args:
        folder: The case's folder.
        needed: The names of the files that must be there.
        files: What `seals` returned when they were written; files that it does not name must only be there.
        whole: Whether the checksums are compared, too. A file that has not changed since is read once per process.
    """
    for name in {*needed, *files}:
        path = folder / name
        if not path.is_file():
            return False
        size, digest = files.get(name, (None, ""))
        state = path.stat()
        if size is not None and state.st_size != size:
            return False
        if whole and digest and _known(str(path), state.st_mtime_ns, state.st_size) != digest:
            return False
    return True


@lru_cache(maxsize=16384)
def _known(path: str, version: int, size: int) -> str:
    return sha256_of(Path(path))


def write_array(path: Path, array: np.ndarray, patch_size: Size3) -> None:
    """Write an array without loss, in chunks of half a patch per axis.

    Args:
        path: The file.
        array: An array (..., d, h, w).
        patch_size: The training patch in voxels.
    """
    import blosc2  # slow to import, and predictions store nothing

    lead = (1,) * (array.ndim - 3)
    chunks = lead + tuple(min(max(1, -(-p // 2)), n) for p, n in zip(patch_size, array.shape[-3:], strict=True))
    cparams = {"codec": blosc2.Codec.ZSTD, "clevel": 1, "filters": [blosc2.Filter.SHUFFLE], "nthreads": 1}
    with telling_of_a_full_disk(path, array.nbytes):
        blosc2.asarray(np.ascontiguousarray(array), urlpath=str(path), mode="w", chunks=chunks, cparams=cparams)


def class_locations(label: np.ndarray, classes: int) -> dict[str, np.ndarray]:
    """Return voxels of every foreground class present; of more than 10,000 a choice with the class as seed.

    Args:
        label: Class indices (d, h, w). Unannotated voxels, whose index is none of a class, are left out.
        classes: The number of classes, background included.

    Returns:
        For each class index, as text, the coordinates (n, 3) of its voxels, int32, in index order.
    """
    counts = np.zeros(classes, np.int64)
    for plane in label:
        known = plane[plane != IGNORED] if classes <= IGNORED else plane.ravel()
        counts += np.bincount(known, minlength=classes)
    return {str(k): _voxels(label, int(k), int(counts[k])) for k in np.flatnonzero(counts) if k > 0}


def annotated_locations(label: np.ndarray) -> np.ndarray:
    """Return annotated voxels of a partly annotated case; of more than 10,000 a choice with a fixed seed.

    Args:
        label: Class indices (d, h, w), `IGNORED` where nobody has annotated.

    Returns:
        Coordinates (n, 3), int32, in index order.
    """
    known = (label != IGNORED).view(np.uint8)
    return _voxels(known, 1, int(known.sum()))


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


def open_array(path: Path) -> Any:
    """Open a stored array, once per process, thread and version of the file: an open array must not be shared.

    Args:
        path: The file.

    Returns:
        An array whose slices are read when they are asked for.

    Raises:
        FileNotFoundError: There is no such file.
        UserError: The file is damaged, or holds something else.
    """
    if not path.is_file():  # nor a pipe, which may never end
        raise FileNotFoundError(f"no prepared array {path}")
    return _open(str(path), path.stat().st_mtime_ns, os.getpid(), threading.get_ident())


@lru_cache(maxsize=64)
def _open(path: str, version: int, process: int, thread: int) -> Any:
    """Open a stored array; whatever else such a file may describe (code, other files, addresses) is refused."""
    import blosc2  # slow to import, and predictions read none

    try:
        array = blosc2.open(path, mode="r", dparams={"nthreads": 1}, deserialize="safe")
    except _DAMAGED as error:
        raise UserError(f"{path} is not a prepared array, or damaged: {error}") from error
    if type(array) is not blosc2.NDArray:
        raise UserError(f"{path} must hold a plain array, got {type(array).__name__}")
    if array.schunk.chunksize > _LARGEST_CHUNK:  # all of a chunk is unpacked, whatever part of it is read
        raise UserError(f"{path} is damaged: one of its chunks claims {array.schunk.chunksize} bytes")
    return array


def read_region(path: Path, region: tuple[slice, ...], shape: tuple[int | None, ...], kinds: str) -> np.ndarray:
    """Read a region of a stored array.

    Args:
        path: The file.
        region: The region.
        shape: The shape that the array must have; None for an axis of any length.
        kinds: The names of the number types that it may have, separated by blanks.

    Raises:
        FileNotFoundError: There is no such file.
        UserError: The file is damaged, or holds an array of another shape or type.
    """
    array = open_array(path)
    alike = len(array.shape) == len(shape) and all(
        n in (None, held) for n, held in zip(shape, array.shape, strict=True)
    )
    if not alike or array.dtype.name not in kinds.split():
        raise UserError(f"{path} does not fit its case.json: it holds {array.dtype} {array.shape}, and not {shape}")
    try:
        found: np.ndarray = array[region]
    except _DAMAGED as error:
        raise UserError(f"{path} is damaged: {error}") from error
    return found


def read_locations(path: Path, shape: Size3) -> dict[str, np.ndarray]:
    """Read what `class_locations` returned; every version of a file is read once.

    Args:
        path: The file.
        shape: The shape of the case, in which all of the voxels lie.

    Raises:
        FileNotFoundError: There is no such file.
        UserError: The file is damaged, or holds something else.
    """
    if not path.is_file():  # nor a pipe, which may never end
        raise FileNotFoundError(f"no locations of a prepared case {path}")
    return _read_locations(str(path), path.stat().st_mtime_ns, shape)


@lru_cache(maxsize=64)
def _read_locations(path: str, version: int, shape: Size3) -> dict[str, np.ndarray]:
    try:
        with opened_archive(Path(path)) as archive:
            claimed = max((entry.file_size for entry in archive.infolist()), default=0)
            if claimed > _MOST_BYTES:
                raise UserError(f"{path} claims {claimed} bytes for the voxels of one class, more than {_MOST_BYTES}")
            for entry in archive.infolist():
                _check_header(archive, entry)
        with np.load(path, allow_pickle=False) as stored:
            found = dict(stored)
    except UserError:
        raise
    except _DAMAGED as error:
        raise UserError(f"{path} is damaged, or no file of locations: {error}") from error
    if any(len(places) and not (places.min() >= 0 and (places < np.array(shape)).all()) for places in found.values()):
        raise UserError(f"{path} does not fit its case.json: voxels lie outside of the shape {shape}")
    return found


def _check_header(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> None:
    """Refuse an array that is no list of voxels, before memory is taken for the size that it claims."""
    with archive.open(entry) as file:
        version = np.lib.format.read_magic(file)
        if version != (1, 0):
            raise UserError(f"{archive.filename} is damaged: {entry.filename!r} has the version {version}")
        shape, _, kind = np.lib.format.read_array_header_1_0(file)
    if kind.kind not in "iu" or len(shape) != 2 or shape[1] != 3 or not 0 <= shape[0] <= _LOCATIONS:
        raise UserError(f"{archive.filename} is damaged: {entry.filename!r} is no list of voxels but {kind} {shape}")
