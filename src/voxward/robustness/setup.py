"""From systems, a dataset and a protocol to a bench, with everything checked before any work."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import voxward
from voxward.core.case import Case, Dataset
from voxward.core.channels import same_channels
from voxward.core.choices import Cases, Reading
from voxward.core.errors import UserError
from voxward.core.failures import Failures, files_of
from voxward.core.labels import LabelSet
from voxward.core.structure import to_data
from voxward.data.channels import in_order_of
from voxward.data.content import digest_of
from voxward.data.io import read_case, read_truth
from voxward.data.nan import dataset_reading_nan
from voxward.data.places import dataset_within
from voxward.robustness.bench import Bench, Source, Worker
from voxward.robustness.corruption_section import Corruptions
from voxward.robustness.protocol import Protocol
from voxward.robustness.trials import plan_trials
from voxward.runs.unseen import Scope
from voxward.systems.nan import nan_for, tolerance_for
from voxward.systems.system import NotDifferentiable, System
from voxward.systems.unseen import scope_for, training_is_known


def set_up(
    sources: Sequence[Source],
    dataset: Dataset,
    protocol: Protocol,
    volumes: Path | None,
    overwrite: bool = False,
    cases: Cases = Cases(),
    reading: Reading = Reading(),
    systems: Sequence[System] = (),
) -> Worker:
    """Open systems and check that they can be measured by a protocol on a dataset.

    Args:
        sources: How each system is opened.
        dataset: The dataset, whose labelled cases that no system was trained on are attacked.
        protocol: How robustness is measured.
        volumes: The folder of adversarial volumes.
        overwrite: Whether other files among these may be replaced.
        cases: Which part of the dataset is attacked, and whether cases that were seen in training are as well.
        reading: What the user says about the volumes.
        systems: The systems of the sources, where they are open already.

    Returns:
        A worker of the bench, with all systems open; the cases that cannot be read or do not fit are failures.

    Raises:
        UserError: A system, the dataset or the protocol is wrong, or they do not fit each other.
        CasesFailed: Every case fails.
        FileNotFoundError: A system is missing.
    """
    opened = _named(systems or [source.open() for source in sources])
    surrogate = _surrogate(protocol, sources)
    helper = None if surrogate is None else surrogate.open()
    dataset = _as_trained(dataset, opened, reading)
    scope, failures = _scope(dataset, [*opened.values()], protocol.cases, cases), Failures(reading.fail_fast)
    labels = {name: system.labels.ignoring(dataset.labels.ignore) for name, system in opened.items()}
    chosen, without = {id: dataset.case(id) for id in scope.ids}, _gradientless(opened)
    readable = _readable(chosen, [*opened.values()], failures, [*labels.values()])
    bench = Bench(
        gradientless={name: str(error) for name, error in without.items()},
        masks=frozenset(name for name, error in without.items() if error.masks),
        channels={name: tuple(system.channels) for name, system in opened.items()},
        sources=dict(zip(opened, sources, strict=True)),
        labels=labels,
        cases=readable,
        ordered={name: _ordered(dataset, system, readable, reading) for name, system in opened.items()},
        protocol=replace(protocol, surrogate=None, corruptions=_with_reference(protocol, opened, sources)),
        version=voxward.__version__,
        volumes=volumes,
        segmentations=None if volumes is None else volumes.parent / "segmentations",
        dataset=str(dataset.root.absolute()),
        surrogate=surrogate,
        transferred=_transferred(helper, opened),
        seen=scope.seen, left_out=scope.left_out,
        known=tuple(name for name, system in opened.items() if training_is_known(system, dataset)),
        overwrite=overwrite,
        ignore=dataset.labels.ignore,
    )  # fmt: skip
    _check_all(opened, bench)
    return Worker(bench, opened, helper, failures)


def _as_trained(dataset: Dataset, systems: Mapping[str, System], reading: Reading) -> Dataset:
    """The dataset with NaN and places read as the systems were trained to, where the user does not say otherwise."""
    runs = [run for system in systems.values() for run in system.runs]
    return dataset_within(dataset_reading_nan(dataset, nan_for(runs, reading)), tolerance_for(runs, reading))


def settings_of(worker: Worker) -> dict[str, object]:
    """Return what must not change between the calls that fill one folder, as plain data.

    Requirements, thresholds of the checks and which volumes are kept may change: no record depends on them. Nor does
    one on what is certified, as each run under noise says which noise it had. How cases may be added, and sizes of the
    perturbation changed, is said in `robustness.asked`.
    """
    bench, surrogate = worker.bench, worker.surrogate
    protocol = {name: value for name, value in to_data(bench.protocol.settled).items() if name not in _FREE}
    corruptions, section = protocol.pop("corruptions"), bench.protocol.corruptions
    sets = () if section is None else section.sets
    if sets:  # folders of versions that had no corruptions say nothing about them
        protocol["corruptions"] = {**corruptions, "set": [one.name for one in sets]}
        del protocol["corruptions"]["reference"]
    return {
        "protocol": protocol,
        "version": bench.version,
        "systems": {name: identity_of(worker.system(name)) for name in bench.sources},
        "cases": {id: digest_of(files_of(case)) for id, case in bench.cases.items()},
        **_orders(bench),
        **({"corruption_sets": {one.name: one.fingerprint for one in sets}} if sets else {}),
        **({"nan": "zero"} if any(case.nan_as_zero for case in bench.cases.values()) else {}),
        **({} if surrogate is None else {"surrogate": identity_of(surrogate)}),
    }


def _orders(bench: Bench) -> dict[str, object]:
    """The order in which systems read the channels of each case's files, where it is not that of the files."""
    found = {
        id: {name: to_data(cases[id].order) for name, cases in bench.ordered.items() if cases[id].order}
        for id in bench.cases
    }
    listed = {id: orders for id, orders in found.items() if orders}
    return {"channels": listed} if listed else {}


_FREE = ("name", "description", "require", "sanity", "keep", "cases", "ensembles", "certificate")


def identity_of(system: System) -> dict[str, object]:
    """Return what tells a system from another one, as plain data: its fingerprint and its options."""
    return {"fingerprint": system.fingerprint(), **to_data(system.options())}


def _named(systems: Sequence[System]) -> dict[str, System]:
    """The systems by name, with the folder above a run in front where names are the same."""
    names = [system.name for system in systems]
    if len(set(names)) < len(names):
        names = [_longer(system) for system in systems]
    if len(set(names)) < len(names):
        raise UserError(f"systems must have different names, got {', '.join(names)}")
    return dict(zip(names, systems, strict=True))


def _longer(system: System) -> str:
    above = system.runs[0].root.resolve().parent.name if len(system.runs) == 1 else ""
    return f"{above}-{system.name}" if above else system.name


def _scope(dataset: Dataset, systems: Sequence[System], count: int | None, cases: Cases) -> Scope:
    """The labelled cases that no system was trained on; what a user should know about them is a warning."""
    if not (dataset.cases or dataset.test):
        raise UserError(f"{dataset.root} has no labels: an attack needs the truth")
    scope = scope_for(systems, dataset, cases, count)
    scope.warn()
    return scope


def _readable(
    chosen: Mapping[str, Case], systems: Sequence[System], failures: Failures, labels: Sequence[LabelSet]
) -> Mapping[str, Case]:
    """The cases that can be read, and whose label fits; which case is the first one must be known before any work."""
    cases = list(chosen.values())
    for case in cases:
        with failures.of(case):
            _try(case, systems, labels)
    if not (left := failures.left(cases)):
        failures.raise_any(len(cases))
    return {case.id: case for case in left}


def _try(case: Case, systems: Sequence[System], labels: Sequence[LabelSet]) -> None:
    if case.label is None:
        raise UserError("it has no label: an attack needs the truth")
    volume = read_case(case)
    label = read_truth(case, volume)
    for system, known in zip(systems, labels, strict=True):
        index = known.to_index(label.array)
        if (unknown := known.ignored(index)) is not None and unknown.all():
            raise UserError(f"no voxel is annotated: all have the ignore label {known.ignore}")
        system.check(len(volume.array) if case.order is None else len(case.order), volume.affine)


def _ordered(dataset: Dataset, system: System, ids: Iterable[str], reading: Reading) -> Mapping[str, Case]:
    """The cases with their channels in a system's order."""
    own = in_order_of(dataset, system.channels, reading.channels)
    return {id: own.case(id) for id in ids}


def _surrogate(protocol: Protocol, sources: Sequence[Source]) -> Source | None:
    """The surrogate's programs may run if those of every system may: a protocol's file alone cannot say so."""
    if protocol.surrogate is None:
        return None
    return Source(protocol.surrogate, device=sources[0].device, trust=all(source.trust for source in sources))


def _with_reference(protocol: Protocol, opened: Mapping[str, System], sources: Sequence[Source]) -> Corruptions | None:
    """The section of corruptions with the reference system by its name; it may be given by its path."""
    section = protocol.corruptions
    if section is None or section.reference is None or section.reference in opened:
        return section
    wanted = Path(section.reference).resolve()
    for name, source in zip(opened, sources, strict=True):
        if isinstance(source.system, str) and Path(source.system).resolve() == wanted:
            return replace(section, reference=name)
    names = ", ".join(opened)
    raise UserError(
        f"corruptions.reference must be one of the systems of this call ({names}), got {section.reference!r}"
    )


def _transferred(surrogate: System | None, systems: Mapping[str, System]) -> frozenset[str]:
    """The systems that are not the surrogate itself, which learn nothing new from it."""
    if surrogate is None:
        return frozenset()
    try:
        surrogate.check_gradient()
    except UserError as error:
        raise UserError(f"the surrogate must have a gradient, because it is attacked by one: {error}") from error
    for name, system in systems.items():
        if surrogate.labels.predicted != system.labels.predicted:
            raise UserError(
                f"the surrogate's classes are {surrogate.labels.names}, those of {name} {system.labels.names}"
            )
        if not same_channels(surrogate.channels, system.channels):
            raise UserError(f"the surrogate's channels are {surrogate.channels}, those of {name} {system.channels}")
    found = frozenset(name for name, system in systems.items() if not _same(system, surrogate))
    if not found:
        raise UserError(f"the surrogate is {', '.join(systems)} itself: a transfer attack needs another model")
    return found


def _gradientless(systems: Mapping[str, System]) -> Mapping[str, NotDifferentiable]:
    """Why each system without a gradient has none."""
    found = {}
    for name, system in systems.items():
        try:
            system.check_gradient()
        except NotDifferentiable as error:
            found[name] = error
    return found


def _same(first: System, second: System) -> bool:
    """Whether two systems are the same networks, also where one of them is deployed otherwise."""
    one, other = ([run.root.resolve() for run in system.runs] for system in (first, second))
    return first.fingerprint() == second.fingerprint() or (bool(one) and one == other)


def _check_all(systems: Mapping[str, System], bench: Bench) -> None:
    for name, system in systems.items():
        _check(system, bench, name)


def _check(system: System, bench: Bench, name: str) -> None:
    """Refuse what this system cannot be attacked with."""
    if "fp16" in system.precision.split("+"):
        raise UserError("gradients in fp16 vanish: attack in bf16 or fp32")
    if bench.protocol.mode == "patch":
        system.network()
    trials = plan_trials(bench.target(name))
    for group, members in bench.protocol.ensembles.items():
        if unknown := [member for member in members if member not in trials]:
            raise UserError(f"ensembles.{group}: no attack is called {unknown[0]!r}; there are {', '.join(trials)}")
