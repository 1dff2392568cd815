"""The packages that corruptions need, which are an extra of the installation."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from voxward.core.errors import MissingPackageError

_HOW = "corruptions need {name}: pip install 'voxward[corruptions]'"


def torchio() -> Any:
    """Return the package TorchIO.

    Raises:
        MissingPackageError: It is not installed.
    """
    return _package("torchio", "TorchIO")


def skimage_transform() -> Any:
    """Return the transforms of scikit-image, among them from a slice to its sinogram and back.

    Raises:
        MissingPackageError: The package is not installed.
    """
    return _package("skimage.transform", "scikit-image")


def refuse_missing() -> None:
    """Refuse to begin where a package is not installed.

    Raises:
        MissingPackageError: One is not installed; the message says how it is.
    """
    torchio()
    skimage_transform()


def _package(module: str, name: str) -> Any:
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        raise MissingPackageError(_HOW.format(name=name)) from error
