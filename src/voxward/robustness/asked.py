"""What a call asks for of a folder that earlier calls have filled, with other cases or other sizes of perturbation.

A folder of attacks may grow: a later call may ask for more cases, or for other sizes. Then everything in the folder
must be what one call would have made that asks for the same in an empty folder. So no figure is over what this call
did not ask for, and what follows from other units is made again where these have changed: half of the mean clean Dice
is another one over more cases, and attacks that look for the smallest breaking perturbation look for another one then.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from voxward.attacks.fab import MinimumNorm
from voxward.certificates.plan import CertificatePlan
from voxward.core.errors import UserError
from voxward.core.reading import read_json
from voxward.core.structure import to_data
from voxward.core.wording import counted, eps_text
from voxward.robustness.bench import Bench
from voxward.robustness.description import read_cases, read_protocol
from voxward.robustness.noisy_runs import VOXELS, NoisyRuns
from voxward.robustness.protocol import Protocol
from voxward.robustness.record import DOUBLED, EQUAL_NOISE, NOISE, Record, without_noisy
from voxward.robustness.store import RecordStore
from voxward.robustness.trials.attack import AttackTrial
from voxward.robustness.trials.trial import Follows
from voxward.robustness.unit import Unit
from voxward.robustness.worst import worst_attacks
from voxward.runs.cases import listed

GROWS = {
    "cases": "the files of case {} are others than when it was attacked",
    "channels": "the channels of case {} are read in another order than when it was attacked",
}
"""The entries of settings.json to which a later call may add cases, and what is said where one has changed."""
SIZES = "protocol.threat.eps"
"""The entry of settings.json that a later call may replace."""
SEVERITIES = ("protocol.corruptions.severities", "protocol.corruptions.names")
"""Further ones: which corruptions of a set are measured, and at which severities."""


def asked_for(records: Iterable[Record], cases: Collection[str], protocol: Protocol | None) -> tuple[Record, ...]:
    """Return the records of the cases and sizes that were asked for; a folder may hold more.

    Args:
        records: The records of a folder.
        cases: The ids of the cases.
        protocol: The protocol, whose sizes count; None: all sizes do.
    """
    own = (one for one in records if one.case in cases)
    return tuple(own) if protocol is None else tuple(one for one in own if _asked(one, protocol))


def _asked(record: Record, protocol: Protocol) -> bool:
    if record.noisy is not None:
        return _of_plan(record.noisy, protocol.certificate)
    if record.corruption is not None:
        return protocol.corruptions is not None and protocol.corruptions.asks(record.attack, record.corruption.severity)
    return _of_sizes(record, {*protocol.threat.eps})


def records_asked_for(folder: Path) -> tuple[Record, ...]:
    """Return the records of a folder that the last call asked for, as the folder describes it.

    Raises:
        UserError: A file is damaged; the message names it.
    """
    records, cases, how = RecordStore(folder).read_all(), read_cases(folder), read_protocol(folder)
    known = {one.case for one in records} if cases is None else cases.cases
    return without_noisy(asked_for(records, known, None if how is None else how.protocol))


def _of_plan(noisy: NoisyRuns, plan: CertificatePlan | None) -> bool:
    """Whether runs under noise are among those that a protocol asks for."""
    if plan is None:
        return False
    known = noisy.sigma in plan.sigma if noisy.noise == VOXELS else plan.changes.get(noisy.noise) == noisy.sigma
    if noisy.radius is not None:
        return known and noisy.radius in plan.attacked and len(noisy.dice) == plan.attack_runs
    return known and noisy.samples in plan.batches


def _of_sizes(record: Record, sizes: Collection[float]) -> bool:
    """Whether a record is of one of some sizes; most controls and checks have no size, or one of their own."""
    return not _sized(record) or record.eps in sizes


def _sized(record: Record) -> bool:
    return record.kind == "attack" or record.attack in (NOISE, DOUBLED, *EQUAL_NOISE)


@dataclass(frozen=True)
class Aside:
    """What a folder holds and the last call did not ask for.

    Attributes:
        cases: The ids of cases.
        sizes: Sizes of the perturbation, as text.
    """

    cases: tuple[str, ...] = ()
    sizes: tuple[str, ...] = ()

    @classmethod
    def of(cls, records: Sequence[Record], asked: Sequence[Record], but: Collection[str] = ()) -> Aside:
        """Return what some records are of, and those that were asked for are not.

        Args:
            records: All records of a folder.
            asked: Those of them that were asked for.
            but: The ids of cases that were asked for, and failed.
        """
        cases, sizes = {one.case for one in asked} | {*but}, {one.eps for one in asked if one.kind == "attack"}
        others = {
            one.eps: eps_text(one.eps, one.threat.unit, one.channels, alone=True)
            for one in records if one.kind == "attack" and one.eps not in sizes
        }  # fmt: skip
        return cls(
            tuple(sorted({one.case for one in records} - cases)),
            tuple(others[eps] for eps in sorted(others)) if sizes else (),
        )

    def notes(self) -> Iterator[str]:
        """Yield what a table says about it, as half sentences."""
        if self.cases:
            cases = f"{counted(len(self.cases), 'case')} ({listed(self.cases)})"
            them = "it" if len(self.cases) == 1 else "them"
            yield f"an earlier call attacked {cases} that this call does not ask for: no figure here is over {them}"
        if self.sizes:
            sizes = ", ".join(self.sizes)
            yield f"an earlier call attacked at eps {sizes}, which this call does not ask for: no figure here is of it"


NOTHING_ASIDE = Aside()
"""Of a folder whose last call asked for everything in it."""


def refuse_other_sizes(path: Path, bench: Bench, channels: Sequence[str] = ()) -> None:
    """Refuse other sizes of the perturbation where the search for one begins with what was found for another.

    Args:
        path: The file settings.json of the folder.
        bench: The benchmark.
        channels: The names of the channels, by which native intensities of CT are in HU.

    Raises:
        UserError: The folder was begun with other sizes, and such an attack is among the protocol's.
    """
    before, asked = _sizes_in(path), bench.protocol.threat.eps
    if before is None or set(before) == set(asked):
        return
    trials = [trial for model in bench.sources for trial in bench.trials(model).values()]
    chained = dict.fromkeys(trial.name for trial in trials if _searches_all_sizes(trial))
    if chained:
        old, new = (_listed(sizes, bench.protocol.threat.unit, channels) for sizes in (before, asked))
        raise UserError(
            f"{path.parent} holds records at eps {old}, and eps {new} is asked for: {', '.join(chained)} searches all "
            "sizes in one go, so that with others it is another attack: use another --out"
        )


def _listed(sizes: Iterable[float], unit: str, channels: Sequence[str]) -> str:
    return ", ".join(eps_text(eps, unit, channels, alone=True) for eps in sorted(set(sizes)))


def _searches_all_sizes(trial: object) -> bool:
    """Whether a trial is an attack whose result at one size follows from the other sizes."""
    if not isinstance(trial, AttackTrial) or trial.sizes(0) != (None,):
        return False
    return not isinstance(trial.attack(), MinimumNorm)


def _sizes_in(path: Path) -> list[float] | None:
    found: Any = read_json(path) if path.is_file() else None
    for key in SIZES.split("."):
        found = found.get(key) if isinstance(found, Mapping) else None
    return found if isinstance(found, list) else None


def drop_outdated(bench: Bench, store: RecordStore, units: Iterable[Unit]) -> None:
    """Remove the results of units that follow from others which have changed since; the units are then done again.

    Args:
        bench: The benchmark.
        store: Its records.
        units: The units, with what they follow from.
    """
    trials = {model: bench.trials(model) for model in bench.sources}
    for unit in units:
        trial = trials[unit.model][unit.attack]
        follows = trial.follows(unit) if isinstance(trial, Follows) else {}
        # A folder may hold thousands of files, most of which follow from no other.
        if (not follows and unit.eps is not None) or not store.has(unit):
            continue
        if not _current(unit, store.of_unit(unit), bench.protocol.threat.eps, follows):
            store.drop(unit)


def _current(unit: Unit, records: Sequence[Record], sizes: Collection[float], follows: Mapping[str, Any]) -> bool:
    found = {one.eps for one in records if _sized(one)}
    if unit.eps is None and found and found != {*sizes}:
        return False
    wanted = to_data(dict(follows))
    return all(one.options.get(name) == value for one in records for name, value in wanted.items())


def drop_uncounted(bench: Bench, store: RecordStore, units: Iterable[Unit]) -> None:
    """Remove the results of runs under noise whose file of counts is gone; the units are then done again."""
    for unit in units:
        path = bench.counts_path(unit)
        if (
            path is not None
            and not path.exists()
            and store.has(unit)
            and any(_counted(one) for one in store.of_unit(unit))
        ):
            store.drop(unit)


def _counted(record: Record) -> bool:
    return record.noisy is not None and bool(record.noisy.counts)


def drop_lost(bench: Bench, store: RecordStore, units: Iterable[Unit], records: Sequence[Record]) -> None:
    """Remove the results of units whose volume is to be kept and is not there; the units are then done again.

    Where a unit is done again, the attack that hurts most may be another one than before, whose volume was removed.

    Args:
        bench: The benchmark.
        store: Its records.
        units: The units of the cases on which something was done in this call.
        records: The records of the folder that were asked for.
    """
    if bench.protocol.keep != "worst" or bench.protocol.mode != "volume":
        return
    known = {(unit.model, unit.attack, unit.case, unit.seed, unit.eps): unit for unit in units}
    for record in worst_attacks(records).values():
        key = record.model, record.attack, record.case, record.seed
        unit = known.get((*key, record.eps)) or known.get((*key, None))
        path = bench.volume_path(Unit(record.model, record.attack, record.case, record.eps, record.seed))
        if unit is not None and path is not None and not path.exists():
            store.drop(unit)
