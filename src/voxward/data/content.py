"""Digests of the contents of files, wherever they lie and whatever they are called."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

from voxward.core.case import Case
from voxward.core.failures import files_of
from voxward.data.parallel import for_each_case

_LENGTH = 16


def digest_of(files: Sequence[Path]) -> str:
    """Return a digest of the contents of some files; `settings.json` of an attack holds that of each case.

    Args:
        files: The image files of a case in their order, and its label.

    Raises:
        OSError: A file cannot be read.
    """
    found = hashlib.sha256()
    for path in files:
        with path.open("rb") as stream:
            found.update(hashlib.file_digest(stream, "sha256").digest())
    return found.hexdigest()[:_LENGTH]


def contents_of(cases: Sequence[Case], workers: int = 2) -> dict[str, str]:
    """Return for each case, by its id, a digest of the contents of its files; empty where they cannot be read.

    Args:
        cases: The cases.
        workers: How many cases are read at once.
    """
    digests = for_each_case(_digest, cases, workers)
    return {case.id: found for case, found in zip(cases, digests, strict=True)}


def _digest(case: Case) -> str:
    try:
        return digest_of(files_of(case))
    except OSError:
        return ""
