"""What a report reads of a folder of `voxward attack`."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from voxward.attacks.ensemble import ENSEMBLES
from voxward.attacks.registry import ATTACKS
from voxward.core.errors import Failure, UserError
from voxward.core.provenance import Work, read_provenance
from voxward.core.structure import from_data
from voxward.core.wording import counted
from voxward.report.benchmark import of_files
from voxward.report.source_files import attempt, command_of, few, read_mapping, read_mapping_if_there, sentence
from voxward.report.unfinished import Planned, planned, unfinished_text
from voxward.robustness.asked import NOTHING_ASIDE, Aside, asked_for
from voxward.robustness.case_certificate import CaseCertificate
from voxward.robustness.certified import certificates_asked_for
from voxward.robustness.description import PROTOCOL, SystemFiles, read_cases
from voxward.robustness.eps import eps_texts
from voxward.robustness.finding import Finding
from voxward.robustness.protocol import AttackEntry, Protocol, may_be_left_out
from voxward.robustness.provenance import ATTACK
from voxward.robustness.record import CLEAN, Record, without_noisy
from voxward.robustness.require import Measured, Verdict, judge_what_is_there
from voxward.robustness.sanity import STANDARD, sanity
from voxward.robustness.skipped import Skipped
from voxward.robustness.store import RecordStore
from voxward.robustness.summary import View
from voxward.robustness.trials.attack import ensembles


@dataclass(frozen=True)
class AttackSource:
    """The folder of `voxward attack`.

    Attributes:
        folder: The folder.
        records: All records that could be read, but those of cases that failed; none where no unit is finished.
        protocol: How robustness was measured; None where the folder does not say.
        systems: What is known of each system, by its name: its fingerprint and options.
        case_ids: The ids of the cases that were to be attacked.
        findings: The checks of the records.
        verdicts: Whether each system meets each requirement.
        failed: The cases that failed; no figure is over them.
        command: The command or the call that wrote the folder; empty where it is not known, or cannot be given again.
        groups: The groups of attacks by name, as the folder lists them; None where it does not.
        digests: The fingerprint of each case's files, by its id, where the folder holds them.
        dataset: The name of the dataset's folder; empty where it is not known.
        seen: The ids of the cases that a system was trained on.
        left_out: The ids of cases that were left out, because a system was trained on them.
        known: The names of the systems that say which scans of the dataset they were trained on.
        name: What the page calls it; empty: the name of the folder.
        skipped: The trials that mean nothing on a case, each with the reason.
        checked: Whether the folder says which scans a system was trained on; it does once the attack has ended.
        plan: All units of work, as the protocol asks for them; None where the folder does not say enough.
        work: Which calls, data, versions and machines made the records; None where the folder does not say.
        aside: What earlier calls attacked that the last one did not ask for; it is in no figure.
        certificates: What was certified by runs under noise.
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
    groups: Mapping[str, tuple[str, ...]] | None = None
    digests: Mapping[str, str] = field(default_factory=dict)
    dataset: str = ""
    seen: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()
    known: tuple[str, ...] = ()
    name: str = ""
    skipped: tuple[Skipped, ...] = ()
    checked: bool = False
    plan: Planned | None = None
    work: Work | None = None
    aside: Aside = NOTHING_ASIDE
    certificates: tuple[CaseCertificate, ...] = ()

    def __post_init__(self) -> None:
        if not self.name:
            object.__setattr__(self, "name", self.folder.resolve().name)

    @property
    def deployed(self) -> bool:
        """Whether every Dice is also known for the written file, as the ordinary predictor reads it."""
        return of_files(self.records)

    @property
    def models(self) -> tuple[str, ...]:
        """The names of the systems that there are records of."""
        return _models(self.records)

    @property
    def ensembles(self) -> dict[str, tuple[str, ...]]:
        """The groups of attacks by name, each with the attacks that were run; the strongest group is the last one."""
        run = {record.attack for record in self.records if record.kind == "attack"}
        return {name: members for name, members in self.asked.items() if set(members) & run}

    @property
    def asked(self) -> dict[str, tuple[str, ...]]:
        """The groups of attacks by name that the protocol asks for, also those that were not run yet."""
        if self.groups is not None:
            return dict(self.groups)
        if self.protocol is None:
            return {}
        classes = max((len(record.classes) for record in self.records), default=1) + 1
        return ensembles(self.protocol, classes, any(record.attack == "transfer" for record in self.records))


def is_attack_folder(folder: Path) -> bool:
    """Return whether a folder holds records, or was begun by `voxward attack`."""
    settings = folder / "settings.json"
    if (folder / "records").is_dir():
        return True
    found = read_mapping(settings, []) if settings.is_file() else None
    return found is not None and {"protocol", "systems", "cases"} <= found.keys()


def read_attack(folder: Path, problems: list[str]) -> AttackSource:
    """Read the folder of an attack.

    Args:
        folder: The folder.
        problems: Gets a sentence for everything that is missing, damaged or unknown.
    """
    settings = _settings(folder, problems)
    description = read_mapping_if_there(folder / PROTOCOL, problems) or {}
    protocol = _protocol(folder, settings, description, problems)
    checked = read_mapping_if_there(folder / "sanity.json", problems) or {}
    described = read_mapping_if_there(folder / "cases.json", problems) or {}
    failed = _failed(folder, checked, problems)
    left_out = {failure.case for failure in failed}
    every = tuple(record for record in _records(folder, problems) if record.case not in left_out)
    cases = settings.get("cases", {})
    case_ids = _asked(described, cases) or tuple(sorted({record.case for record in every}))
    # Records of cases that no call asked for are no earlier call's, and a problem.
    wanted = {*case_ids, *(one.case for one in every if one.case not in cases)}
    found = asked_for(every, wanted, protocol if description else None)
    records = without_noisy(found)
    source = AttackSource(
        folder, records, protocol, _systems(settings), case_ids,
        findings=sanity(found, STANDARD if protocol is None else protocol.sanity),
        failed=failed, command=command_of(description),
        groups=_groups(description),
        digests={id: str(cases[id]) for id in case_ids if id in cases} if isinstance(cases, Mapping) else {},
        # What cannot be read is among the problems already.
        skipped=attempt(partial(RecordStore(folder).skipped, may_be_left_out(protocol)), []) or (),
        dataset=Path(str(described.get("dataset", ""))).name, seen=_ids(checked, "seen"),
        left_out=_ids(checked, "left_out"), known=_ids(checked, "known"), checked=bool(checked),
        work=_work(folder, problems),
        aside=Aside.of(without_noisy(every), records),
        certificates=attempt(partial(certificates_asked_for, folder, protocol, wanted), problems) or (),
    )  # fmt: skip
    plan = _plan(replace(source, records=found), settings, description)
    source = replace(source, plan=plan, verdicts=_verdicts(source))
    problems += map(sentence, _not_kept(source, description))
    missing = list(map(sentence, _missing(source)))
    problems += missing
    return _unjudged(source) if missing else source


def _asked(described: Mapping[str, Any], cases: Mapping[str, Any] | list[Any]) -> tuple[str, ...]:
    """The ids of the cases that the last call asked for; folders of before name them among the settings alone."""
    found = described.get("cases")
    return tuple(map(str, found if isinstance(found, Mapping) and found else cases))


def _work(folder: Path, problems: list[str]) -> Work | None:
    found = attempt(partial(read_provenance, folder), problems, "Where the results come from is not known: ")
    return None if found is None else found.works.get(ATTACK)


def _plan(source: AttackSource, settings: Mapping[str, Any], description: Mapping[str, Any]) -> Planned | None:
    """All units of work, where the folder says which attacks and controls there are, and what the systems segment."""
    protocol, systems = source.protocol, _segmented(source.folder)
    told = any({"attacks", "controls"} <= _entries(one) for one in (settings, description))
    if protocol is None or not systems or not told:
        return None
    failed = {failure.case for failure in source.failed}
    cases = [id for id in source.case_ids if id not in failed]
    return planned(_as_then(protocol, source.groups or {}), systems, cases, source.records, source.skipped)


def _as_then(protocol: Protocol, groups: Mapping[str, tuple[str, ...]]) -> Protocol:
    """The protocol with the members of what was an ensemble when the folder was filled, as `strong` was once."""
    found = dict[str, AttackEntry]()
    for entry in protocol.entries:
        members = groups.get(entry.attack, ())
        if entry.attack in ENSEMBLES or entry.attack in members:
            members = ()
        for one in [AttackEntry(name) for name in members if name in ATTACKS] or [entry]:
            found.setdefault(one.name or one.attack, one)
    return replace(protocol, attacks=tuple(found.values()))


def _entries(data: Mapping[str, Any]) -> set[str]:
    """The names of the entries of a protocol that a file spells out."""
    found = data.get("protocol")
    return {*found} if isinstance(found, Mapping) else set()


def _segmented(folder: Path) -> Mapping[str, SystemFiles]:
    described = attempt(partial(read_cases, folder), [])
    return {} if described is None else described.systems


def _not_kept(source: AttackSource, description: Mapping[str, Any]) -> Iterator[str]:
    """Say which volumes are gone that the protocol keeps."""
    protocol, volumes = source.protocol, source.folder / "volumes"
    said = "keep" in _entries(description) and protocol is not None and protocol.keep in ("worst", "all")
    if said and protocol is not None and not volumes.is_dir() and any(one.kind == "attack" for one in source.records):
        yield (
            f"{volumes} is missing, although the attack keeps attacked images (keep: {protocol.keep}): they cannot be "
            "shown. Put the folder back, or attack again into a new folder"
        )


def _unjudged(source: AttackSource) -> AttackSource:
    """The same folder, where nothing is met yet: what is missing might be the worst."""
    verdicts = (replace(one, met=False, unfinished=one.met or one.unfinished) for one in source.verdicts)
    return replace(source, verdicts=tuple(verdicts))


def _settings(folder: Path, problems: list[str]) -> Mapping[str, Any]:
    """The settings; what has another form than `voxward attack` gives it is left out, and a problem."""
    path = folder / "settings.json"
    if not path.is_file():
        problems.append(f"{folder} has no settings.json: what was attacked, and on which cases, is not known.")
        return {}
    found = read_mapping(path, problems) or {}
    forms: dict[str, type | tuple[type, ...]] = {"protocol": dict, "systems": dict, "cases": (dict, list)}
    wrong = [name for name, form in forms.items() if name in found and not isinstance(found[name], form)]
    if wrong:
        problems.append(f"{path} is not as voxward attack writes it: {', '.join(wrong)} is left out.")
    return {name: value for name, value in found.items() if name not in wrong}


def _systems(settings: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    return {
        str(name): value if isinstance(value, Mapping) else {} for name, value in settings.get("systems", {}).items()
    }


def _protocol(
    folder: Path, settings: Mapping[str, Any], description: Mapping[str, Any], problems: list[str]
) -> Protocol | None:
    """The protocol; folders of before have only a part of it, among the settings."""
    for data, name in ((description.get("protocol"), PROTOCOL), (settings.get("protocol"), "settings.json")):
        whole = {"name": "", **data} if isinstance(data, Mapping) else data
        read = partial(from_data, Protocol, whole, str(folder / name))
        lead = f"How robustness was measured is not known from {name}: "
        if data is not None and (protocol := attempt(read, problems, lead)) is not None:
            return protocol
    return None


def _groups(description: Mapping[str, Any]) -> dict[str, tuple[str, ...]] | None:
    """The groups of attacks, where the folder lists them in the form that voxward gives them."""
    found = description.get("ensembles")
    if not isinstance(found, Mapping) or not all(isinstance(members, list) for members in found.values()):
        return None
    return {name: tuple(map(str, members)) for name, members in found.items()}


@dataclass(frozen=True)
class _Failed:
    """A failed case, as sanity.json holds it."""

    id: str
    reason: str


def _required(folder: Path, problems: list[str]) -> list[str]:
    """What was required in a folder of before, whose settings do not say it."""
    found = (read_mapping_if_there(folder / "requirements.json", problems) or {}).get("requirements", ())
    texts = [one.get("requirement") for one in found if isinstance(one, Mapping)]
    return list(dict.fromkeys(text for text in texts if isinstance(text, str)))


def _ids(checked: Mapping[str, Any], name: str) -> tuple[str, ...]:
    found = checked.get(name, ())
    return tuple(map(str, found)) if isinstance(found, list) else ()


def _failed(folder: Path, checked: Mapping[str, Any], problems: list[str]) -> tuple[Failure, ...]:
    path = folder / "sanity.json"
    entries = checked.get("failed", [])
    lead = "Which cases failed is not known: "
    found = attempt(lambda: [from_data(_Failed, entry, str(path)) for entry in _list(entries, path)], problems, lead)
    return tuple(Failure(one.id, one.reason) for one in found or ())


def _list(value: Any, path: Path) -> list[Any]:
    if isinstance(value, list):
        return value
    raise UserError(f"{path}: failed must be a list, got {type(value).__name__}")


def _records(folder: Path, problems: list[str]) -> tuple[Record, ...]:
    """All records that can be read. Folders hold thousands of files, so that one sentence stands for all faults."""
    if not (folder / "records").is_dir():
        problems.append(
            f"{folder} has no folder of results (records): no unit of work is finished yet, or the folder was moved or "
            "deleted."
        )
        return ()
    records, faults = RecordStore(folder).read_each()
    if faults:
        one = len(faults) == 1
        lead = f"{counted(len(faults), 'file')} of results in {folder} cannot be read, and no figure is over what "
        held = f"{'it holds' if one else 'they hold'}: {'; '.join(faults[:2])}" + ("; ..." if len(faults) > 2 else "")
        mend = f"Where {'it is' if one else 'they are'} damaged, delete {'that file' if one else 'those files'} and "
        problems.append(f"{sentence(lead + held)} {mend}give the same command again.")
    return records


def _verdicts(source: AttackSource) -> tuple[Verdict, ...]:
    measured = Measured(View(source.records, deployed=of_files(source.records)), source.certificates)
    required = () if source.protocol is None else source.protocol.require
    return judge_what_is_there(required, measured, _models(source.records), len(source.failed))


def _missing(source: AttackSource) -> Iterator[str]:
    """Say what was to be measured and is not there: cases, systems, sizes, attacks, and single results."""
    folder, records = source.folder, source.records
    measured = {record.case for record in records}
    if not records:
        units = "" if source.plan is None else f" (of {source.plan.total})"
        again = "there is nothing to report on. Give the same command again"
        yield f"{folder} has no finished unit of work yet{units}: {again}"
        return
    absent = [id for id in source.case_ids if id not in measured | {failure.case for failure in source.failed}]
    if absent:
        yield f"{folder} has no results for {len(absent)} of {len(source.case_ids)} cases: {few(absent)}"
    if strange := sorted(measured - {*source.case_ids}):
        yield f"{folder} has results for cases that its settings do not name: {few(strange)}"
    if source.systems and (unknown := [name for name in source.models if name not in source.systems]):
        yield f"{folder} has results of systems that its settings do not name: {few(unknown)}"
    if lacking := [name for name in source.systems if name not in source.models]:
        yield f"{folder} has no results of {few(lacking)}, which were to be attacked, too"
    if source.plan is not None:
        yield from filter(None, [unfinished_text(folder, source.plan)])
        return
    yield from _not_run(source)
    gaps = list(_gaps(source))
    if gaps:
        yield f"{counted(len(gaps), 'result')} of {folder} {'is' if len(gaps) == 1 else 'are'} missing: {few(gaps)}"


def _not_run(source: AttackSource) -> Iterator[str]:
    """Say which attacks and sizes of the protocol there is no record of."""
    if source.protocol is None or not source.protocol.asks_attacks:
        return
    attacks = [record for record in source.records if record.kind == "attack"]
    run, sizes = {record.attack for record in attacks}, {record.eps for record in attacks}
    for group, members in source.asked.items():
        if lacking := [name for name in members if name not in run]:
            yield f"{source.folder} has no results of these attacks of the group {group}: {few(lacking)}"
    text = eps_texts(attacks or source.records)
    if lacking := [text(eps) for eps in source.protocol.threat.eps if not _holds(sizes, eps)]:
        yield f"{source.folder} has no results of an attack at eps {few(lacking)}"


def _holds(sizes: set[float], eps: float) -> bool:
    return any(abs(size - eps) < 1e-9 for size in sizes)


def _gaps(source: AttackSource) -> Iterator[str]:
    """Name the single results that are missing: a case without an attack that others, or other systems, have."""
    # Systems are compared with each other, so that each of them needs the scans of all.
    cases = {record.case for record in source.records}
    done = defaultdict[tuple[str, str, float], set[str]](set)
    sizes = {record.eps for record in source.records if record.kind == "attack"}
    text = eps_texts(source.records)
    for record in source.records:
        if record.kind == "attack" or record.attack == CLEAN:
            done[record.model, record.attack, record.eps].add(record.case)
    for model, attack in dict.fromkeys((model, attack) for model, attack, _ in done):
        for eps in (0.0,) if attack == CLEAN else sorted(sizes):
            for case in sorted(cases - done.get((model, attack, eps), set())):
                size = "" if attack == CLEAN else f" at eps {text(eps)}"
                yield f"{attack} on {case}{size} ({model})"


def _models(records: Sequence[Record]) -> tuple[str, ...]:
    return tuple(sorted({record.model for record in records}))
