"""What a prepared case says of itself, in its case.json."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

from voxward.core.case import Frame, LabelKept
from voxward.core.plan import load_json
from voxward.data.identity import Identity
from voxward.data.stored_files import Seals

# Cases that a warning lists.
_SHOWN = 5


@dataclass(frozen=True)
class CaseRecord:
    """The content of a prepared case's case.json.

    Attributes:
        id: The case's id.
        frame: How the prepared arrays lie in the source file.
        classes: Indices of the foreground classes present.
        labelled: Whether there is a label.
        digest: A short name for the decisions and source files that the case was prepared from.
        unannotated: The share of its voxels that nobody has annotated, in [0, 1].
        identity: What the image is recognised by; None in a case that version 0.2 or an earlier one prepared.
        files: The size and the SHA-256 of each of its other files; empty in a case of version 0.2 or before.
        kept: What the preparation has left of the label; None without a label, or from version 0.2 or an earlier one.
    """

    id: str
    frame: Frame
    classes: tuple[int, ...]
    labelled: bool
    digest: str = ""
    unannotated: float = 0.0
    identity: Identity | None = None
    files: Seals = field(default_factory=dict)
    kept: LabelKept | None = None


def warn_of_unannotated(records: Sequence[CaseRecord]) -> None:
    """Warn of cases from which nothing can be learnt, because no voxel of theirs is annotated.

    Args:
        records: The prepared cases.
    """
    found = [record.id for record in records if record.unannotated == 1]
    if found:
        more = f" and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
        warnings.warn(
            f"no voxel is annotated in {len(found)} of {len(records)} cases ({', '.join(found[:_SHOWN])}{more}): "
            "nothing can be learnt from these",
            stacklevel=3,
        )


def read_record(folder: Path) -> CaseRecord:
    """Read the record of a prepared case; every version of the file is read once.

    Args:
        folder: The case's folder.

    Raises:
        FileNotFoundError: There is no prepared case.
        UserError: The file cannot be used.
    """
    path = folder / "case.json"
    if not path.is_file():
        raise FileNotFoundError(f"no prepared case in {folder}: {path} does not exist")
    return _read_record(path, path.stat().st_mtime_ns)


@lru_cache(maxsize=4096)
def _read_record(path: Path, version: int) -> CaseRecord:
    """Training opens its cases again for every patch: each record is parsed once per version of the file."""
    return load_json(CaseRecord, path)
