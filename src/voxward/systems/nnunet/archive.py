"""The zip file of nnUNetv2_export_model_to_zip, unpacked with care into a folder that is deleted afterwards."""

from __future__ import annotations

import lzma
import shutil
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory

from voxward.core.archive import opened_archive
from voxward.core.errors import UserError
from voxward.systems.nnunet.results import is_results

_WANTED = (".json", ".pth")
# Checkpoints pack to about their own size; far more than that would be made to fill the disk.
_MOST_INFLATED = 100


@contextmanager
def unpacked(path: Path) -> Iterator[Path]:
    """Yield a results folder: the path itself, or what its zip file holds.

    Only JSON files and checkpoints are unpacked, and nothing outside the temporary folder is written.

    Args:
        path: The results folder, or the zip file.

    Raises:
        UserError: The file is no zip file, names a place outside itself, or holds no results folder, or several.
        FileNotFoundError: There is no such file.
    """
    if path.is_dir():
        yield path
        return
    if not path.is_file():
        raise FileNotFoundError(f"there is no results folder or zip file {path}")
    with TemporaryDirectory(prefix="voxward-") as place:
        _unpack(path, Path(place))
        found = sorted({plans.parent for plans in Path(place).rglob("plans.json") if is_results(plans.parent)})
        if len(found) != 1:
            names = ", ".join(folder.name for folder in found) or "none"
            raise UserError(f"{path} must hold one results folder of nnU-Net, got {len(found)}: {names}")
        try:
            yield found[0]
        except UserError as error:
            if place not in str(error):
                raise
            # The folder is gone when this is read: the file that the user knows is the archive.
            raise UserError(str(error).replace(place, str(path))) from error


def _unpack(path: Path, place: Path) -> None:
    try:
        with opened_archive(path) as archive:
            entries = archive.infolist()
            _refuse_outside(path, entries)
            wanted = [entry for entry in entries if entry.filename.endswith(_WANTED)]
            _refuse_inflated(path, wanted)
            for entry in wanted:
                target = place / entry.filename
                target.parent.mkdir(parents=True, exist_ok=True)
                with archive.open(entry) as source, target.open("wb") as file:
                    shutil.copyfileobj(source, file)
    except (zipfile.BadZipFile, zlib.error, lzma.LZMAError, RuntimeError, NotImplementedError, EOFError) as error:
        raise UserError(f"{path} is damaged, or no zip file: {error}") from error


def _refuse_outside(path: Path, entries: list[zipfile.ZipInfo]) -> None:
    for entry in entries:
        name = PurePosixPath(entry.filename.replace("\\", "/"))
        if not name.parts or name.is_absolute() or ".." in name.parts or ":" in name.parts[0]:
            raise UserError(f"{path} names a place outside itself, {entry.filename!r}: nothing was unpacked")


def _refuse_inflated(path: Path, entries: list[zipfile.ZipInfo]) -> None:
    claimed = sum(entry.file_size for entry in entries)  # no entry yields more than it claims
    if claimed > _MOST_INFLATED * max(path.stat().st_size, 1 << 20):
        raise UserError(f"{path}: its {len(entries)} files claim {claimed} bytes: nothing was unpacked")
