"""What a report is written from: the folders of attacks, trainings, searches and cross-validations, as they lie there.

Nothing here raises for what one folder or file lacks. Each fault is a sentence among the problems, which the page
shows, and the other folders are read all the same.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from voxward.core.document import without_format
from voxward.core.errors import Failure, UserError
from voxward.core.reading import read_json
from voxward.core.registry import Registry
from voxward.core.structure import from_data
from voxward.robustness.protocol import Protocol
from voxward.robustness.record import Record
from voxward.robustness.require import Verdict, judge_requirements
from voxward.robustness.sanity import Finding, sanity
from voxward.robustness.store import RecordStore
from voxward.robustness.trials.attack import ensembles
from voxward.runs.folder import RunFolder
from voxward.training.log import read_log

_LISTED = 3


@dataclass(frozen=True)
class AttackSource:
    """The folder of `voxward attack`.

    Attributes:
        folder: The folder.
        records: All records that could be read; none where no unit is finished.
        protocol: How robustness was measured; None where the folder does not say.
        systems: What is known of each system, by its name: its fingerprint and options.
        case_ids: The ids of the cases that were to be attacked.
        findings: The checks of the records.
        verdicts: Whether each system meets each requirement.
        failed: The cases that failed; no figure is over them.
        command: The command or the call that wrote the folder; empty where it is not known.
        digests: The fingerprint of each case's files, by its id.
        dataset: The name of the dataset's folder; empty where it is not known.
        seen: The ids of the cases that a system was trained on.
        left_out: The ids of cases that were left out, because a system was trained on them.
    """

    folder: Path
    records: tuple[Record, ...]
    protocol: Protocol | None = None
    systems: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    case_ids: tuple[str, ...] = ()
    findings: tuple[Finding, ...] = ()
    verdicts: tuple[Verdict, ...] = ()
    failed: tuple[Failure, ...] = ()
    command: str = ""
    digests: Mapping[str, str] = field(default_factory=dict)
    dataset: str = ""
    seen: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """The name of the folder."""
        return self.folder.resolve().name

    @property
    def deployed(self) -> bool:
        """Whether the Dice of every attack is also known for the written file, as the ordinary predictor reads it."""
        return all(r.deployed is not None for r in self.records if r.kind == "attack")

    @property
    def models(self) -> tuple[str, ...]:
        """The names of the systems that there are records of."""
        return tuple(sorted({record.model for record in self.records}))

    @property
    def ensembles(self) -> dict[str, tuple[str, ...]]:
        """The groups of attacks by name, each with the attacks that were run; the strongest group is the last one."""
        if self.protocol is None:
            return {}
        run = {record.attack for record in self.records if record.kind == "attack"}
        classes = max((len(record.classes) for record in self.records), default=1) + 1
        groups = ensembles(self.protocol, classes, "transfer" in run)
        return {name: members for name, members in groups.items() if set(members) & run}


@dataclass(frozen=True)
class RunSource:
    """The folder of a training, of a hardening or of an architecture search.

    Attributes:
        folder: The folder.
        log: The rows of the training's log, or of the search's.
        metrics: What metrics.json holds; None where the run was not evaluated.
    """

    folder: RunFolder
    log: tuple[Mapping[str, float], ...] = ()
    metrics: Mapping[str, Any] | None = None

    @property
    def name(self) -> str:
        """The name of the folder."""
        return self.folder.root.resolve().name


@dataclass(frozen=True)
class ValidationSource:
    """The folder of `voxward cv`.

    Attributes:
        folder: The folder.
        runs: The runs of all folds that were begun.
        metrics: What metrics.json over all cases holds; None where the cross-validation is not finished.
    """

    folder: Path
    runs: tuple[RunSource, ...] = ()
    metrics: Mapping[str, Any] | None = None

    @property
    def name(self) -> str:
        """The name of the folder."""
        return self.folder.resolve().name


@dataclass(frozen=True)
class Sources:
    """All that a page is written from.

    Attributes:
        attacks: The folders of attacks.
        runs: The folders of trainings, also of hardened runs.
        searches: The folders of architecture searches.
        validations: The folders of cross-validations.
        problems: What is missing, damaged or unknown, one whole sentence each.
    """

    attacks: tuple[AttackSource, ...] = ()
    runs: tuple[RunSource, ...] = ()
    searches: tuple[RunSource, ...] = ()
    validations: tuple[ValidationSource, ...] = ()
    problems: tuple[str, ...] = ()


def read_sources(folders: Sequence[Path]) -> Sources:
    """Read the folders that a report is written from.

    Args:
        folders: Folders of attacks, runs, searches and cross-validations, in any mix.

    Returns:
        What they hold, and what is wrong with them.

    Raises:
        UserError: A folder does not exist.
    """
    if missing := [folder for folder in folders if not folder.is_dir()]:
        raise UserError(f"{missing[0]} is no folder: name the folders that voxward attack, train, search or cv wrote")
    found: dict[str, list[Any]] = {name: [] for name in KINDS}
    problems = list[str]()
    for folder in folders:
        kinds = [name for name, kind in KINDS.items() if kind.holds(folder)]
        if not kinds:
            problems.append(
                f"{folder} holds nothing that a report can show. It must be a folder of voxward attack, train, harden, "
                "search or cv."
            )
        for name in kinds[:1]:
            found[name].append(KINDS[name].read(folder, problems))
    return Sources(**{name: tuple(values) for name, values in found.items()}, problems=tuple(problems))


def _read_attack(folder: Path, problems: list[str]) -> AttackSource:
    settings = _read(folder / "settings.json", problems) or {}
    protocol, command = _protocol(folder, settings, problems)
    checked = _read_if_there(folder / "sanity.json", problems) or {}
    failed = tuple(Failure(str(one["id"]), str(one["reason"])) for one in checked.get("failed", ()))
    records = tuple(r for r in _records(folder, problems) if r.case not in {failure.case for failure in failed})
    case_ids = tuple(settings.get("cases", ())) or tuple(sorted({record.case for record in records}))
    if not records:
        problems.append(f"{folder} has no finished unit of work yet: there is nothing to report on. Run it again.")
    elif without := [id for id in case_ids if id not in {r.case for r in records} | {f.case for f in failed}]:
        problems.append(f"{folder} has no results for {len(without)} of {len(case_ids)} cases: {_few(without)}.")
    models = tuple(sorted({record.model for record in records}))
    volume = all(r.deployed is not None for r in records if r.kind == "attack")
    return AttackSource(
        folder, records, protocol, settings.get("systems", {}), case_ids,
        findings=sanity(records, protocol.sanity) if protocol is not None else sanity(records),
        verdicts=() if protocol is None else judge_requirements(
            protocol.require, records, models, volume, len(failed)
        ),
        failed=failed, command=command, digests=dict(settings.get("cases") or {}),
        dataset=_dataset(folder, problems), seen=tuple(checked.get("seen", ())),
        left_out=tuple(checked.get("left_out", ())),
    )  # fmt: skip


def _protocol(folder: Path, settings: Mapping[str, Any], problems: list[str]) -> tuple[Protocol | None, str]:
    """The protocol and the command; folders of before have only a part of the protocol, among the settings."""
    path = folder / "protocol.json"
    found = _read(path, problems) if path.is_file() else None
    before = {"name": "", **settings.get("protocol", {}), "require": _required(folder, problems)}
    data: Mapping[str, Any] = (found or {}).get("protocol", before)
    try:
        return from_data(Protocol, data, str(path)), str((found or {}).get("command", ""))
    except UserError as error:
        problems.append(f"{folder} does not say how robustness was measured: {error}")
        return None, ""


def _required(folder: Path, problems: list[str]) -> list[str]:
    """What was required in a folder of before, whose settings do not say it."""
    found = _read_if_there(folder / "requirements.json", problems) or {}
    return list(dict.fromkeys(str(one["requirement"]) for one in found.get("requirements", ())))


def _dataset(folder: Path, problems: list[str]) -> str:
    found = _read_if_there(folder / "cases.json", problems) or {}
    return Path(str(found.get("dataset", ""))).name


def _records(folder: Path, problems: list[str]) -> tuple[Record, ...]:
    records, faults = RecordStore(folder).read_each()
    problems += [f"A result is left out, because its file cannot be read: {fault}" for fault in faults]
    return records


def _read_run(folder: Path, problems: list[str]) -> RunSource:
    run = RunFolder(folder)
    return RunSource(run, _log(run.log, problems), _read_if_there(folder / "metrics.json", problems))


def _read_search(folder: Path, problems: list[str]) -> RunSource:
    run = RunFolder(folder)
    return RunSource(run, _log(run.search_log, problems))


def _read_validation(folder: Path, problems: list[str]) -> ValidationSource:
    places = sorted(path.parent for path in folder.glob("fold-*/*/recipe.yaml"))
    runs = tuple(_read_run(place, problems) for place in places)
    return ValidationSource(folder, runs, _read_if_there(folder / "metrics.json", problems))


def _log(path: Path, problems: list[str]) -> tuple[Mapping[str, float], ...]:
    try:
        return tuple(read_log(path))
    except (UserError, OSError) as error:
        problems.append(f"The log {path} cannot be read: {error}.")
        return ()


def _read_if_there(path: Path, problems: list[str]) -> Mapping[str, Any] | None:
    return _read(path, problems) if path.is_file() else None


def _read(path: Path, problems: list[str]) -> Mapping[str, Any] | None:
    """The mapping in a JSON file; None where it cannot be read, which is a problem."""
    try:
        found: Any = without_format(read_json(path), str(path))
    except (UserError, OSError) as error:
        problems.append(f"A file is left out: {error}.")
        return None
    if isinstance(found, dict):
        return found
    problems.append(f"A file is left out: {path} must hold a JSON object, got {type(found).__name__}.")
    return None


def _few(names: Sequence[str]) -> str:
    return ", ".join(names[:_LISTED]) + (", ..." if len(names) > _LISTED else "")


def _holds_attack(folder: Path) -> bool:
    settings = folder / "settings.json"
    return (folder / "records").is_dir() or (settings.is_file() and "protocol" in (_read(settings, []) or {}))


@dataclass(frozen=True)
class Kind:
    """A kind of folder.

    Attributes:
        holds: Returns whether a folder is of this kind.
        read: Reads it, and adds what is wrong with it to a list.
    """

    holds: Callable[[Path], bool]
    read: Callable[[Path, list[str]], Any]


KINDS: Registry[Kind] = Registry(
    "kind of folder",
    {
        "attacks": Kind(_holds_attack, _read_attack),
        "validations": Kind(lambda folder: (folder / "cv.json").is_file(), _read_validation),
        "searches": Kind(lambda folder: RunFolder(folder).search_log.is_file(), _read_search),
        "runs": Kind(lambda folder: RunFolder(folder).recipe.is_file(), _read_run),
    },
)
"""The kinds of folders by the name of their field in `Sources`; the first one that fits is taken."""
