"""The packages that DICOM needs, which are an extra of the installation."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from voxward.core.errors import MissingPackageError


def pydicom() -> Any:
    """Return the package pydicom.

    Raises:
        MissingPackageError: It is not installed.
    """
    with _needing("pydicom"):
        import pydicom as package
        import pydicom.sr.codedict
        import pydicom.uid
    return package


def highdicom() -> Any:
    """Return the package highdicom, which writes segmentations.

    Raises:
        MissingPackageError: It is not installed.
    """
    with _needing("highdicom"):
        import highdicom as package
        import highdicom.seg
        import highdicom.sr
    return package


@contextmanager
def _needing(name: str) -> Iterator[None]:
    try:
        yield
    except ModuleNotFoundError as error:
        raise MissingPackageError(f"DICOM needs {name}: pip install 'voxward[dicom]'") from error
