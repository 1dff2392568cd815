"""From a file or the name of a Python function to a network; what would run a program needs the user's trust."""

from __future__ import annotations

import warnings
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from voxward.core.errors import UserError
from voxward.core.files import sha256_of
from voxward.nets.exported import read_exported
from voxward.nets.onnx.network import read_onnx
from voxward.nets.onnx.runtime import blackbox_onnx
from voxward.nets.onnx.uncovered import Uncovered
from voxward.systems.code import function_of, names_function
from voxward.systems.code_digest import code_digest
from voxward.systems.network.entry import NetworkEntry

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


def load_network(entry: NetworkEntry, base: Path, trust: bool, device: torch.device) -> Loaded:
    """Read the network that an entry names.

    Args:
        entry: The entry.
        base: The folder that paths start from, in which modules are looked for, too.
        trust: Whether the user allows programs to run.
        device: Where the network goes.

    Raises:
        FileNotFoundError: There is no such file.
        UserError: The file is damaged or of another kind, or a program would run that the user has not allowed.
    """
    named, path = entry.network, base / entry.network
    if not entry.gradient and path.suffix != ".onnx":
        raise UserError(f"gradient: false is for .onnx files, which onnxruntime can run, got {named!r}")
    if not path.is_file() and names_function(named):
        return _function(named, base, trust)
    if not path.is_file():
        raise FileNotFoundError(f"there is no network {path}: give {_LEGAL}")
    if path.suffix == ".onnx":
        return _onnx(entry, path, device)
    identity = sha256_of(path)
    if is_torchscript(path):
        return Loaded(_torchscript(path, trust, device), identity)
    if path.suffix == ".pt2":
        exported = read_exported(path, entry.result if isinstance(entry.result, int) else None)
        return Loaded(exported.to(device), identity, exported.shape)
    raise UserError(f"{path} holds no network that can be run alone: give {_LEGAL}{_hint(path)}")


def read_network(path: Path) -> nn.Module:
    """Read a .pt2 or .onnx file as data, with the size of windows free where the file leaves it free.

    Raises:
        UserError: The file is damaged, or uses operators that are not known.
    """
    return read_onnx(path, None) if path.suffix == ".onnx" else read_exported(path, None)


def _onnx(entry: NetworkEntry, path: Path, device: torch.device) -> Loaded:
    read, name = read_onnx if entry.gradient else blackbox_onnx, None if entry.result is None else str(entry.result)
    try:
        network = read(path, name)
    except Uncovered as error:
        hint = "; gradient: false runs it by onnxruntime, for attacks that need no gradient" if entry.gradient else ""
        raise UserError(f"{error}{hint}") from error
    return Loaded(network.to(device), network.identity, (None, *network.shape))


def is_torchscript(path: Path) -> bool:
    """Return whether a file is a TorchScript archive, by its content and not by its name."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError):
        return False
    inner = [name.partition("/")[2] for name in names]
    return "constants.pkl" in inner and any(name.startswith("code/") for name in inner)


def _hint(path: Path) -> str:
    return "; this one may hold weights without a network, which can be exported" if path.suffix != ".pt2" else ""


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
    found = function_of(named, base, trust)
    return Loaded(FunctionNetwork(found), code_digest(found))
