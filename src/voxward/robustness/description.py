"""What an attack folder says about itself: which files were attacked, by which protocol, and how it is made again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeVar

from voxward.core.case import Case
from voxward.core.document import with_checksum
from voxward.core.errors import UserError
from voxward.core.invocation import Invocation
from voxward.core.labels import LabelSet
from voxward.core.outputs import Outputs
from voxward.core.plan import load_json
from voxward.core.structure import to_data
from voxward.robustness.bench import Bench
from voxward.robustness.protocol import Protocol
from voxward.robustness.trials.attack import ensembles

T = TypeVar("T")

CASES, PROTOCOL = "cases.json", "protocol.json"
DESCRIPTION = "a description of attacks"
"""What both files are called in the list of a folder's outputs."""


@dataclass(frozen=True)
class CaseFiles:
    """The files of a case.

    Attributes:
        images: The image files, one with all channels or one per channel; absolute paths.
        label: The file of the truth.
        order: For every channel that is read, its number in the files; None: as they are stored.
    """

    images: tuple[str, ...]
    label: str
    order: tuple[int, ...] | None = None


@dataclass(frozen=True)
class SystemFiles:
    """How a system reads the cases, and what its segmentations hold.

    Attributes:
        labels: The classes and regions, with the values that stand for them in the truth and in segmentations.
        channels: The names of its channels.
        orders: Of the cases whose channels it reads in an order of its own, that order.
    """

    labels: LabelSet
    channels: tuple[str, ...] = ()
    orders: Mapping[str, tuple[int, ...]] = field(default_factory=dict)


@dataclass(frozen=True)
class AttackedCases:
    """The file cases.json: what was attacked.

    Attributes:
        dataset: The folder of the dataset; empty where it is not known.
        cases: The files of every case.
        systems: How each system reads them.
    """

    dataset: str
    cases: Mapping[str, CaseFiles]
    systems: Mapping[str, SystemFiles]


@dataclass(frozen=True)
class AttackProtocol:
    """The file protocol.json: how it was attacked.

    Attributes:
        protocol: The whole protocol, with its requirements and the limits of the checks.
        ensembles: The attacks of every ensemble, also of those that are not the protocol's own.
        command: The command line that worked on the folder last, or the call from Python; empty where it is not known.
        python: Whether it is a call.
        started_in: The folder that relative paths in it start from.
    """

    protocol: Protocol
    ensembles: Mapping[str, tuple[str, ...]]
    command: str = ""
    python: bool = False
    started_in: str = ""


def described_by(outputs: Outputs, bench: Bench, channels: Mapping[str, tuple[str, ...]], call: Invocation) -> None:
    """Write both files.

    Args:
        outputs: The folder.
        bench: The benchmark.
        channels: The channels of each system.
        call: What was called.

    Raises:
        UserError: A file there is not voxward's, or was edited.
    """
    classes = max(bench.target(model).classes for model in bench.sources)
    groups = ensembles(bench.protocol, classes, bench.surrogate is not None)
    outputs.json(CASES, with_checksum(to_data(attacked_cases(bench, channels))))
    surrogate = bench.surrogate.system if bench.surrogate is not None else None
    protocol = replace(bench.protocol.settled, surrogate=surrogate if isinstance(surrogate, str) else None)
    outputs.json(
        PROTOCOL, with_checksum(to_data(AttackProtocol(protocol, groups, call.text, call.python, call.folder)))
    )


def attacked_cases(bench: Bench, channels: Mapping[str, tuple[str, ...]]) -> AttackedCases:
    """Return what a benchmark attacks; `channels` are those of each system."""
    systems = {
        model: SystemFiles(
            bench.labels[model],
            channels.get(model, ()),
            {id: case.order for id, case in bench.ordered.get(model, {}).items() if case.order is not None},
        )
        for model in bench.sources
    }
    return AttackedCases(bench.dataset, {id: _files(case) for id, case in bench.cases.items()}, systems)


def read_cases(folder: Path) -> AttackedCases | None:
    """Read cases.json of an attack folder; None where there is none, as in folders of older versions.

    Raises:
        UserError: The file is damaged.
    """
    return _read(AttackedCases, folder / CASES)


def read_protocol(folder: Path) -> AttackProtocol | None:
    """Read protocol.json of an attack folder; None where there is none, as in folders of older versions.

    Raises:
        UserError: The file is damaged.
    """
    return _read(AttackProtocol, folder / PROTOCOL)


def _read(cls: type[T], path: Path) -> T | None:
    return load_json(cls, path) if path.is_file() else None


def _files(case: Case) -> CaseFiles:
    if case.label is None:
        raise UserError(f"case {case.id!r} has no label: an attack needs the truth")
    return CaseFiles(tuple(str(path.absolute()) for path in case.images), str(case.label.absolute()), case.order)
