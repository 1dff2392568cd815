"""Files of weights that another tool has pickled, read without running anything that is in them."""

from __future__ import annotations

import errno
import pickle
import struct
import warnings
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from voxward.core.archive import is_archive, refuse_damaged
from voxward.core.errors import UserError

# What torch's reader makes of a damaged pickle.
_DAMAGED = (
    RuntimeError, EOFError, ValueError, LookupError, TypeError, AttributeError, AssertionError, OverflowError,
    struct.error, zipfile.BadZipFile,
)  # fmt: skip
# What distributed and compiled training put before the names of weights.
_PREFIXES = ("module.", "_orig_mod.")
_SHOWN = 5


def read_pickled(path: Path, what: str, allowed: Sequence[Any] = ()) -> Any:
    """Read what a file of torch.save holds: tensors, numbers and texts, never code.

    Args:
        path: The file.
        what: What the file should be, for messages, such as "checkpoint of nnU-Net".
        allowed: Types that may be built besides those that torch allows, as for torch.serialization.safe_globals.

    Raises:
        UserError: The file is damaged, is a program, or names a type that is not allowed; the message lists these.
    """
    with torch.serialization.safe_globals(list(allowed)):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # a pickle of another protocol is refused or read, like any other
                if is_archive(path):  # older versions of torch wrote none
                    refuse_damaged(path)
                return torch.load(path, map_location="cpu", weights_only=True)
        except pickle.UnpicklingError as error:
            raise UserError(f"{path} is not loaded: {_unsafe(path)}") from error
        except (*_DAMAGED, OSError) as error:
            # Only a place before the beginning of the file is a fault of its contents.
            if isinstance(error, OSError) and error.errno != errno.EINVAL:
                raise
            reason = next(iter(str(error).splitlines()), type(error).__name__)
            raise UserError(f"{path} is damaged, or no {what}: {reason}") from error


def refuse_repeated(weights: Mapping[str, Tensor], path: Path) -> None:
    """Refuse weights that are larger than their file: each number of theirs may stand for any number of numbers.

    Args:
        weights: The weights by name.
        path: Their file.

    Raises:
        UserError: There are such weights.
    """
    held = path.stat().st_size
    name = next((name for name, value in weights.items() if value.numel() * value.element_size() > held), None)
    if name is not None:
        raise UserError(f"{path} is damaged: its weight {name!r} claims {weights[name].numel()} numbers")


def without_prefix(name: str) -> str:
    """Return the name of a weight without what distributed and compiled training put before it."""
    for prefix in _PREFIXES:
        name = name.removeprefix(prefix)
    return name


def differing(network: nn.Module, weights: Mapping[str, Tensor]) -> str:
    """Return which weights a network lacks, does not know or has in another shape; empty where all fit.

    Args:
        network: The network.
        weights: The weights by name.
    """
    own = network.state_dict()
    wrong = sorted(name for name in weights.keys() | own.keys() if _differ(weights.get(name), own.get(name)))
    more = f" and {len(wrong) - _SHOWN} more" if len(wrong) > _SHOWN else ""
    return f"{', '.join(wrong[:_SHOWN])}{more}"


def _differ(one: Tensor | None, other: Tensor | None) -> bool:
    return one is None or other is None or one.shape != other.shape


def _unsafe(path: Path) -> str:
    """What the file would need that is not allowed."""
    try:
        names = torch.serialization.get_unsafe_globals_in_checkpoint(str(path))
    except Exception:  # whatever a damaged or hostile file makes of the search, the file stays refused
        names = []
    if not names:
        return "it is damaged, or holds more than numbers"
    return f"it names {', '.join(sorted(names)[:_SHOWN])}, which may run code when it is loaded"
