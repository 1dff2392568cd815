"""The packages that corruptions need, which are an extra of the installation."""

from __future__ import annotations

from typing import Any

from voxward.core.errors import MissingPackageError

_HOW = "corruptions need {name}: pip install 'voxward[corruptions]'"


def torchio() -> Any:
    """Return the package TorchIO.

    Raises:
        MissingPackageError: It is not installed.
    """
    try:
        import torchio as package
    except ModuleNotFoundError as error:
        raise MissingPackageError(_HOW.format(name="TorchIO")) from error
    return package


def skimage_transform() -> Any:
    """Return the transforms of scikit-image, among them from a slice to its sinogram and back.

    Raises:
        MissingPackageError: The package is not installed.
    """
    try:
        import skimage.transform as package
    except ModuleNotFoundError as error:
        raise MissingPackageError(_HOW.format(name="scikit-image")) from error
    return package


def refuse_missing() -> None:
    """Refuse to begin where a package is not installed.

    Raises:
        MissingPackageError: One is not installed; the message says how it is.
    """
    torchio()
    skimage_transform()
