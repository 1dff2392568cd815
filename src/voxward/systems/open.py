"""From a path to a System: run folders, and `system.yaml` files that combine systems, nested as deep as one likes."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, overload

from voxward.core.choices import Trusted
from voxward.core.devices import resolve_device
from voxward.core.document import with_format, without_format
from voxward.core.errors import UserError
from voxward.core.reading import read_text
from voxward.core.registry import Registry, unknown_name
from voxward.core.structure import from_data
from voxward.core.yaml import dump_yaml, override, read_yaml
from voxward.runs.folder import RunFolder
from voxward.systems.blackbox import BlackBoxEntry, blackbox_entries, open_blackbox
from voxward.systems.bundle.system import BundleEntry, bundle_alone, bundle_entries, open_bundle
from voxward.systems.cascade import CascadeEntry, cascade_entries, open_cascade
from voxward.systems.deployment import Deployment
from voxward.systems.ensemble import EnsembleEntry, ensemble_entries, open_ensemble
from voxward.systems.network.entry import NetworkEntry
from voxward.systems.network.system import network_alone, network_entries, open_network
from voxward.systems.nnunet.system import NnUNetEntry, nnunet_alone, nnunet_entries, open_nnunet
from voxward.systems.opening import Opening
from voxward.systems.run import RunEntry, open_run, run_entries
from voxward.systems.system import System

_SUFFIXES = (".yaml", ".yml")
_LEGAL = "give a run folder of voxward train, a results folder of nnU-Net, a bundle of MONAI, or a system.yaml"
# Entries that name systems.
_SYSTEMS = ("kind", "run", "members", "coarse", "fine", "results", "bundle", "network", "function")

Given = Path | str | Trusted | System
"""What names a system: a path, a path whose programs may run, or a system that is open already."""


@dataclass(frozen=True)
class Kind:
    """One kind of system in a `system.yaml`.

    Attributes:
        entry: The dataclass that its entry is read into.
        open: Makes the system from such an entry.
        entries: The entries that name the systems which `voxward compose` was given.
        alone: Returns the entries of a folder or file that is such a system by itself; None if it is none.
        trained: Whether it may consist of runs of voxward train.
    """

    entry: type[Any]
    open: Callable[[Any, Opening], System]
    entries: Callable[[Sequence[str]], Mapping[str, Any]]
    alone: Callable[[Path], Mapping[str, Any] | None] = lambda path: None
    trained: bool = True


KINDS: Registry[Kind] = Registry(
    "kind of system",
    {
        "run": Kind(RunEntry, open_run, run_entries),
        "ensemble": Kind(EnsembleEntry, open_ensemble, ensemble_entries),
        "cascade": Kind(CascadeEntry, open_cascade, cascade_entries),
        "nnunet": Kind(NnUNetEntry, open_nnunet, nnunet_entries, nnunet_alone, trained=False),
        "bundle": Kind(BundleEntry, open_bundle, bundle_entries, bundle_alone, trained=False),
        "network": Kind(NetworkEntry, open_network, network_entries, network_alone, trained=False),
        "blackbox": Kind(BlackBoxEntry, open_blackbox, blackbox_entries, trained=False),
    },
)


def open_system(system: Given, overrides: Sequence[str] = (), device: str = "auto", trust: bool = False) -> System:
    """Open a run folder, a model of another tool or a `system.yaml`.

    Args:
        system: A run folder of `voxward train`, a folder or file of another tool, or a YAML file that describes a
            system. A system that is open already is returned as it is.
        overrides: Changes of its entries, each `key=value` with a YAML value, such as `tta=mirrors` or `margin=5`.
        device: `auto`, `cpu`, `cuda`, `mps` or `xpu`.
        trust: Whether programs that the system consists of may run: TorchScript, or a Python function that its file
            names.

    Returns:
        The system, with its weights loaded.

    Raises:
        FileNotFoundError: There is no such folder or file, or a run is not complete.
        UserError: The path is no system, an entry is wrong, or its parts do not fit each other.

    Example:
        >>> system = open_system("runs/liver", ["tta=mirrors"])
        >>> system.segment(read_image(["case.nii.gz"])).label
    """
    if not isinstance(system, Path | str | Trusted):
        if overrides:
            raise UserError(f"{system.name} is open already, and cannot be changed: {', '.join(overrides)}")
        return system
    path = Path(path_of(system) or "")
    data, base = _read(path)
    _change(data, overrides)
    trusted = trust or (isinstance(system, Trusted) and system.trust)
    return _open_entry(data, _top(str(path), path, base, device, trusted))


@overload
def path_of(system: Path | str | Trusted) -> Path: ...


@overload
def path_of(system: Given) -> Path | None: ...


def path_of(system: Given) -> Path | None:
    """Return the path of a system; None for one that is open already."""
    if isinstance(system, Trusted):
        return Path(system.system)
    return Path(system) if isinstance(system, Path | str) else None


def is_system(path: Path) -> bool:
    """Return whether a path is a `system.yaml`, or a folder that holds one or a run."""
    if path.is_file() and path.suffix in _SUFFIXES:
        return True
    if path.is_dir() and (RunFolder(path).recipe.is_file() or (path / "system.yaml").is_file()):
        return True
    return _alone(path) is not None


def run_of(path: Path | str) -> RunFolder:
    """Return the one run that a path stands for: a run folder, or a `system.yaml` of a single run.

    Raises:
        UserError: The system is another one; its runs can be named one by one.
        FileNotFoundError: There is no such folder or file, or the run is not complete.
    """
    kind = str(_read(Path(path))[0].get("kind"))
    if kind in KINDS and not KINDS[kind].trained:
        raise UserError(
            f"{path} is of the kind {kind}, which cannot be hardened: only a run of voxward train and a results folder "
            "of nnU-Net can be trained further"
        )
    runs = open_system(path, device="cpu").runs
    if not runs:
        raise UserError(f"{path} must be a run of voxward, got a model of another kind")
    if len(runs) != 1:
        listed = ", ".join(str(run.root) for run in runs)
        raise UserError(f"{path} must be a single run, got a system of {len(runs)} runs: name one of {listed}")
    return runs[0]


def results_of(path: Path | str) -> tuple[Path, NnUNetEntry] | None:
    """Return the nnU-Net results folder, or its zip file, that a path stands for, and how it is deployed.

    Args:
        path: A folder, a zip file or a `system.yaml`.

    Returns:
        The folder or the zip file, and its entry; None for a system of another kind.

    Raises:
        UserError: The path is no system, or an entry is wrong.
        FileNotFoundError: There is no such folder or file.
    """
    data, base = _read(Path(path))
    if data.pop("kind", None) != "nnunet":
        return None
    entry = from_data(NnUNetEntry, data, str(path))
    return base / entry.results, entry


def compose_system(
    kind: str, systems: Sequence[Path], out: Path, overrides: Sequence[str] = (), trust: bool = False
) -> str:
    """Return the text of a `system.yaml` at `out` that combines systems; paths in it are relative to that file.

    Args:
        kind: `ensemble`, `cascade` (the coarse system, then the fine one), or `run`.
        systems: Run folders or `system.yaml` files.
        out: Where the file will be written.
        overrides: Further entries, `key=value`.
        trust: Whether programs that the systems consist of may run.

    Raises:
        UserError: The number of systems is wrong, an entry is unknown, or the systems do not fit each other.
        FileNotFoundError: A system is missing.
    """
    entries = KINDS[kind].entries([os.path.relpath(path.resolve(), out.parent.resolve()) for path in systems])
    data = {"kind": kind, **entries}
    _change(data, overrides)
    # What is written can be opened.
    _open_entry(data, _top(str(out), out, out.parent.resolve(), "cpu", trust))
    return dump_yaml(with_format(data))


def _change(data: dict[str, Any], overrides: Sequence[str]) -> None:
    """Change entries, but not which systems they are about."""
    for change in overrides:
        key = change.partition("=")[0].strip().split(".")[0]
        if key in _SYSTEMS:
            raise UserError(f"{change!r}: {key} says which systems these are, and cannot be changed: name other ones")
        override(data, change)


def _top(source: str, path: Path, base: Path, device: str, trust: bool) -> Opening:
    on, files = resolve_device(device), (path.resolve(),)
    return Opening(source, _name(path), base, on, Deployment(), files, _open_inner, trust=trust)


def _read(path: Path) -> tuple[dict[str, Any], Path]:
    """The entry that a path stands for, and the folder that its own paths start from."""
    if path.is_file() and path.suffix in _SUFFIXES:
        data = without_format(read_yaml(read_text(path), str(path)), str(path))
        if not isinstance(data, Mapping):
            raise UserError(f"{path} must be a mapping with the entry kind, got {data!r}")
        return dict(data), path.parent
    if path.is_dir() and (path / "system.yaml").is_file() and not RunFolder(path).plan.is_file():
        return _read(path / "system.yaml")
    if (found := _alone(path)) is not None:
        return found, path if path.is_dir() else path.parent
    if path.is_dir():
        run = RunFolder(path)
        if not run.recipe.is_file() and not run.plan.is_file():
            raise FileNotFoundError(f"{path} is not a trained run, and no model of another tool: {_LEGAL}")
        return {"kind": "run", "run": "."}, path
    if path.is_file():
        raise UserError(f"{path} is no system: {_LEGAL}")
    raise FileNotFoundError(f"there is no system {path}: {_LEGAL}")


def _alone(path: Path) -> dict[str, Any] | None:
    """The entry of a folder or file that is a system by itself, such as a model of another tool."""
    if not path.exists():
        return None
    found = ((name, kind.alone(path)) for name, kind in KINDS.items())
    return next(({"kind": name, **entries} for name, entries in found if entries is not None), None)


def _name(path: Path) -> str:
    """A file called system.yaml is known by its folder."""
    path = path.resolve()
    return path.name if path.is_dir() else path.parent.name if path.stem == "system" else path.stem


def _open_inner(entry: str | Mapping[str, Any], opening: Opening) -> System:
    if isinstance(entry, Mapping):
        return _open_entry(entry, opening)
    path = opening.path(entry)
    if not path.exists():
        raise FileNotFoundError(
            f"{opening.source}: there is no system {path}; paths in a system.yaml start from the file's folder"
        )
    if path.resolve() in opening.files:
        raise UserError(f"{opening.source}: a system cannot be inside itself, got {entry!r}")
    data, base = _read(path)
    files = (*opening.files, path.resolve())
    return _open_entry(data, replace(opening, source=str(path), name=_name(path), base=base, files=files))


def _open_entry(entry: Mapping[str, Any], opening: Opening) -> System:
    data = dict(entry)
    if "kind" not in data:
        raise UserError(f"{opening.source}: kind is missing; it must be one of {', '.join(KINDS)}")
    name = data.pop("kind")
    if name not in KINDS:
        raise UserError(f"{opening.source}: {unknown_name(KINDS.family, name, KINDS)}")
    kind = KINDS[name]
    return kind.open(from_data(kind.entry, data, opening.source), opening)
