"""From a file or the name of a Python function to a network; what would run a program needs the user's trust."""

from __future__ import annotations

import hashlib
import importlib
import re
import sys
import warnings
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from voxward.core.errors import UserError
from voxward.nets.exported import read_exported

_NAMED = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*(\.[A-Za-z_]\w*)*")
_LEGAL = "a .pt2 file of torch.export, an .onnx file, a TorchScript file, or module:function"


@dataclass(frozen=True, eq=False)
class Loaded:
    """A network, and what is known about it.

    Attributes:
        network: From images (b, c, *spatial) to logits.
        identity: What tells it from other networks whose weights are the same, such as a digest of its file.
        shape: The sizes (b, c, *spatial) of the image that it takes; None where a size is free, empty where nothing is
            known.
    """

    network: nn.Module
    identity: str
    shape: tuple[int | None, ...] = ()


class FunctionNetwork(nn.Module):
    """A Python callable as a network; where it is a module, or a method of one, its weights are this network's.

    Args:
        function: From images (b, c, *spatial) to logits.
    """

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        owner = function if isinstance(function, nn.Module) else getattr(function, "__self__", None)
        self.owner = owner if isinstance(owner, nn.Module) else None
        self._call = [function]  # in a list, so that it is no second submodule

    def forward(self, images: Tensor) -> Any:
        """Return what the callable returns, whatever it is."""
        return self._call[0](images)


def load_network(named: str, base: Path, trust: bool, device: torch.device) -> Loaded:
    """Read a network that an entry names.

    Args:
        named: The file, or `module:function`.
        base: The folder that paths start from, in which modules are looked for, too.
        trust: Whether the user allows programs to run.
        device: Where the network goes.

    Raises:
        FileNotFoundError: There is no such file.
        UserError: The file is damaged or of another kind, or a program would run that the user has not allowed.
    """
    path = base / named
    if not path.is_file() and _NAMED.fullmatch(named):
        return _function(named, base, trust)
    if not path.is_file():
        raise FileNotFoundError(f"there is no network {path}: give {_LEGAL}")
    identity = _digest(path)
    if path.suffix == ".onnx":
        raise UserError(f"{path}: ONNX files cannot be read yet")
    if is_torchscript(path):
        return Loaded(_torchscript(path, trust, device), identity)
    if path.suffix == ".pt2":
        exported = read_exported(path)
        return Loaded(exported.to(device), identity, exported.shape)
    raise UserError(f"{path} holds no network that can be run alone: give {_LEGAL}{_hint(path)}")


def is_torchscript(path: Path) -> bool:
    """Return whether a file is a TorchScript archive, by its content and not by its name."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError):
        return False
    inner = [name.partition("/")[2] for name in names]
    return "constants.pkl" in inner and any(name.startswith("code/") for name in inner)


def identity_of(function: Any) -> str:
    """Return what tells a Python callable from others: its name, and the text of the file that it is written in."""
    named = function if hasattr(function, "__qualname__") else type(function)
    module = sys.modules.get(named.__module__)
    file = getattr(module, "__file__", None)
    text = _digest(Path(file)) if file and Path(file).is_file() else ""
    return f"{named.__module__}:{named.__qualname__}:{text}"


def _hint(path: Path) -> str:
    return "; this one may hold weights without a network, which can be exported" if path.suffix != ".pt2" else ""


def _digest(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _torchscript(path: Path, trust: bool, device: torch.device) -> nn.Module:
    if not trust:
        raise UserError(
            f"{path} is TorchScript, a program that can write files of yours while it is loaded or run: if you know "
            "where it comes from, add --trust (in Python: voxward.open_system(..., trust=True))"
        )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # of TorchScript itself
            return cast(nn.Module, torch.jit.load(str(path), map_location=device)).eval()  # type: ignore[no-untyped-call]
    except (RuntimeError, ValueError) as error:
        raise UserError(f"{path} cannot be loaded as TorchScript: {str(error).strip().splitlines()[-1]}") from error


def _function(named: str, base: Path, trust: bool) -> Loaded:
    if not trust:
        raise UserError(
            f"{named} is a Python function, and to import its module is to run it: if the code is yours, add --trust "
            "(in Python: voxward.open_system(..., trust=True))"
        )
    module, _, attribute = named.partition(":")
    found: Any = _imported(module, base)
    for part in attribute.split("."):
        if not hasattr(found, part):
            raise UserError(f"{named}: there is no {part!r} in {module}")
        found = getattr(found, part)
    if not callable(found) or isinstance(found, type):
        raise UserError(f"{named} must be a function or a module of PyTorch, got {type(found).__name__}")
    return Loaded(FunctionNetwork(found), identity_of(found))


def _imported(module: str, base: Path) -> Any:
    """Import a module that lies beside the `system.yaml`, or that is installed."""
    place = str(base.resolve())
    if place not in sys.path:
        sys.path.insert(0, place)
    importlib.invalidate_caches()
    try:
        found = importlib.import_module(module)
    except ImportError as error:
        raise UserError(f"the module {module} cannot be imported from {base}: {error}") from error
    own = Path(place, *module.split("."))
    beside = [path for path in (own.with_suffix(".py"), own / "__init__.py") if path.is_file()]
    if beside and Path(getattr(found, "__file__", "") or "") != beside[0]:
        raise UserError(f"{beside[0]} cannot be imported: another module is already called {module}; rename the file")
    return found
