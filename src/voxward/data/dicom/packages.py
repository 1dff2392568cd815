"""The packages that DICOM needs, which are an extra of the installation."""

from __future__ import annotations

from typing import Any

from voxward.core.errors import MissingPackageError


def pydicom() -> Any:
    """Return the package pydicom.

    Raises:
        MissingPackageError: It is not installed.
    """
    try:
        import pydicom as package
    except ModuleNotFoundError as error:
        raise MissingPackageError("DICOM needs pydicom: pip install 'voxward[dicom]'") from error
    return package
