"""The packages that DICOM needs, which are an extra of the installation."""

from __future__ import annotations

from typing import Any

from voxward.core.errors import MissingPackageError


def highdicom() -> Any:
    """Return the package highdicom.

    Raises:
        MissingPackageError: It is not installed.
    """
    try:
        import highdicom as package
        import highdicom.seg
        import highdicom.sr
    except ModuleNotFoundError as error:
        raise MissingPackageError("DICOM segmentations need highdicom: pip install 'voxward[dicom]'") from error
    return package


def pydicom() -> Any:
    """Return the package pydicom.

    Raises:
        MissingPackageError: It is not installed.
    """
    try:
        import pydicom as package
        import pydicom.sr.codedict
        import pydicom.uid
    except ModuleNotFoundError as error:
        raise MissingPackageError("DICOM needs pydicom: pip install 'voxward[dicom]'") from error
    return package
