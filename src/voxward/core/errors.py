"""Errors that a user can cause, told apart from bugs."""

from __future__ import annotations


class UserError(ValueError):
    """An argument, a file or a setting is wrong in a way that the user can mend.

    The message says what was wrong, in which file, and what is legal. The command line prints it in one line; every
    other exception is a bug, or the machine's, and keeps its traceback.

    Example:
        >>> raise UserError("overlap must be in [0, 1), got 1.5")
    """


class MissingPackageError(ImportError):
    """An optional package is not installed. The message says what needs it, and how to install it.

    Example:
        >>> raise MissingPackageError("scan.nrrd needs SimpleITK: pip install voxward[sitk]")
    """
