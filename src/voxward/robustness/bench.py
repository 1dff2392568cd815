"""The work of a benchmark: which units there are, and what does one."""

from __future__ import annotations

import warnings
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from voxward.attacks.random_models import SAMPLES, Averaged, is_random
from voxward.core.case import Case
from voxward.core.choices import Trusted
from voxward.core.errors import UserError
from voxward.core.failures import Failures
from voxward.core.files import inside
from voxward.core.labels import LabelSet
from voxward.core.progress import Progress, silent
from voxward.data.volume_file import changed_suffix
from voxward.robustness.protocol import Protocol
from voxward.robustness.record import CLEAN, DOUBLED, Record
from voxward.robustness.stand import Stand
from voxward.robustness.subject import Subject, erasing, inventing, labels_under_attack, patch_subject, volume_subject
from voxward.robustness.summary import Key, View
from voxward.robustness.trials import plan_trials
from voxward.robustness.trials.trial import Phase, Target, Trial, batches_of
from voxward.robustness.unit import Unit, safe_name, size_name
from voxward.robustness.worst import best_attacks, equal_noise
from voxward.systems.open import Given, open_system
from voxward.systems.system import Freeze, System


@dataclass(frozen=True)
class Source:
    """How a system is opened; it can be pickled, if the system can.

    Attributes:
        system: The run folder, `system.yaml` or other path; or a system that is open already.
        overrides: Changes of its entries.
        device: `auto`, `cpu`, `cuda`, `mps` or `xpu`.
        trust: Whether programs that the system consists of may run.
    """

    system: str | System
    overrides: tuple[str, ...] = ()
    device: str = "auto"
    trust: bool = False

    @classmethod
    def of(cls, system: Given, overrides: Sequence[str] = (), device: str = "auto") -> Source:
        """Return how a system is opened that a user named."""
        named = system.system if isinstance(system, Trusted) else system
        trust = isinstance(system, Trusted) and system.trust
        return cls(str(named) if isinstance(named, Path) else named, tuple(overrides), device, trust)

    def open(self) -> System:
        """Open the system."""
        return open_system(self.system, self.overrides, self.device, self.trust)


@dataclass(frozen=True)
class Bench:
    """The systems and cases of a benchmark, and the units of work on them; it can be pickled.

    Attributes:
        sources: How each system is opened, by its name.
        labels: The classes or regions of each system.
        cases: The cases, by their ids; the first one is the one whose volumes are kept by default.
        dataset: The folder of the dataset; empty where it is not known.
        ordered: For a system that takes the channels of the files in an order of its own, the cases as it reads them.
        protocol: How robustness is measured.
        version: The version of voxward.
        volumes: The folder of adversarial volumes; None: none are kept.
        segmentations: The folder of segmentations; None: none are kept.
        surrogate: How the surrogate is opened; None without one.
        transferred: The systems that the surrogate's adversarial volumes are tried on.
        overwrite: Whether other files among the volumes may be replaced.
        seen: The ids of the cases that a system was trained on.
        left_out: The ids of cases of the dataset that are left out, because a system was trained on them.
        known: The names of the systems that say which cases of the dataset they were trained on.
        ignore: The value of unannotated voxels in the cases' labels; None: as each system's labels declare.
        gradientless: For each system without a gradient, why it has none.
        masks: Those of these systems that answer with masks, and not with scores.
        channels: The names of each system's channels.
    """

    sources: Mapping[str, Source]
    labels: Mapping[str, LabelSet]
    cases: Mapping[str, Case]
    protocol: Protocol
    version: str
    volumes: Path | None = None
    segmentations: Path | None = None
    dataset: str = ""
    surrogate: Source | None = None
    transferred: frozenset[str] = frozenset()
    overwrite: bool = False
    seen: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()
    known: tuple[str, ...] = ()
    ignore: int | None = None
    ordered: Mapping[str, Mapping[str, Case]] = field(default_factory=dict)
    gradientless: Mapping[str, str] = field(default_factory=dict)
    masks: frozenset[str] = frozenset()
    channels: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def case(self, model: str, id: str) -> Case:
        """Return a case as a system reads it."""
        return self.ordered.get(model, self.cases)[id]

    def without(self, failed: Collection[str]) -> Bench:
        """Return the same benchmark without the cases that failed."""
        cases = {id: case for id, case in self.cases.items() if id not in failed}
        ordered = {name: {id: own[id] for id in cases} for name, own in self.ordered.items()}
        return replace(self, cases=cases, ordered=ordered)

    def within(self, folder: Path) -> Bench:
        """Return the same benchmark, whose volumes and segmentations go below a folder, if any are kept."""
        if self.volumes is None:
            return self
        return replace(self, volumes=folder / "volumes", segmentations=folder / "segmentations")

    def target(self, model: str) -> Target:
        """Return what the trials of a system are planned from."""
        labels = labels_under_attack(self.labels[model], self.protocol.erase, self.protocol.invent)
        without, channels = self.gradientless.get(model, ""), self.channels.get(model, ())
        return Target(self.protocol, labels, model in self.transferred, without, channels)

    def trials(self, model: str) -> dict[str, Trial]:
        """Return the trials of a system by name; raises UserError for attacks that it cannot be attacked with."""
        return plan_trials(self.target(model))

    def first_units(self) -> Iterator[Unit]:
        """Yield what must be known before anything else: the clean cases."""
        yield from self._units("first", {}, {}, {})

    def units(self, thresholds: Mapping[str, float] | None = None) -> Iterator[Unit]:
        """Yield the attacks and most controls, case by case, so that a case is prepared once.

        Args:
            thresholds: For each system the Dice below which a case counts as broken.
        """
        yield from self._units("main", thresholds or {}, {}, {})

    def last_units(self, records: Sequence[Record] = ()) -> Iterator[Unit]:
        """Yield what follows from the attacks: noise as strong as the worst one, and the best with twice its budget.

        Args:
            records: Those of `first_units` and `units`; without them no unit knows how strong its noise is.
        """
        clean = any(record.attack == CLEAN for record in records)
        thresholds = self.thresholds(records) if clean else {}
        yield from self._units("last", thresholds, equal_noise(records), best_attacks(records))

    def _units(
        self, phase: Phase, thresholds: Mapping[str, float], rms: Mapping[Key, float], best: Mapping[str, str]
    ) -> Iterator[Unit]:
        for model in self.sources:
            trials = [trial for trial in self.trials(model).values() if trial.phase == phase]
            for n, case in enumerate(self.cases):
                for trial in trials:
                    for eps in trial.sizes(n):
                        for seed in self.protocol.seeds if trial.repeated else self.protocol.seeds[:1]:
                            size = None if eps is None else rms.get(Key(model, case, eps))
                            unit = Unit(model, trial.name, case, eps, seed, thresholds.get(model), size)
                            unit = replace(unit, doubles=best.get(model)) if trial.name == DOUBLED else unit
                            yield from (replace(unit, samples=samples) for samples in batches_of(trial))

    def thresholds(self, records: Sequence[Record]) -> dict[str, float]:
        """Return half of each system's mu, the mean clean Dice over the cases, where that is above 0.

        Args:
            records: Those of `first_units`.
        """
        halves = {model: View(records).mu(model) / 2 for model in self.sources}
        return {model: half for model, half in halves.items() if half > 0}

    def volume_path(self, unit: Unit) -> Path | None:
        """Return VOLUMES/MODEL/ATTACK/EPS/CASE.ext, see `changed_suffix`; None where the volume is not kept.

        Of several seeds the later ones have a folder of their own below EPS.
        """
        if self.volumes is None or not self._keeps(unit.case):
            return None
        return inside(self.volumes / self._place(unit), f"{unit.case}{changed_suffix(self.cases[unit.case])}")

    def segmentation_path(self, unit: Unit) -> Path | None:
        """Return SEGMENTATIONS/MODEL/ATTACK/EPS/CASE.nii.gz where the volume is kept, or MODEL/clean/CASE.nii.gz."""
        if self.segmentations is None or not (unit.attack == CLEAN or self._keeps(unit.case)):
            return None
        return inside(self.segmentations / self._place(unit), f"{unit.case}.nii.gz")

    def counts_path(self, unit: Unit) -> Path | None:
        """Return COUNTS/MODEL/ATTACK/CASE/..., where a unit of runs under noise counts; None where no file is kept."""
        if self.volumes is None or unit.samples is None:
            return None
        return self.volumes.parent / "counts" / unit.place.with_suffix(".npz")

    def _keeps(self, case: str) -> bool:
        """Whether adversarial volumes of a case are kept, with `worst` until all of its attacks are done."""
        keep = self.protocol.keep
        return keep in ("all", "worst") or (keep == "first" and case == next(iter(self.cases)))

    def _place(self, unit: Unit) -> Path:
        folder = Path(safe_name(unit.model), safe_name(unit.attack))
        if unit.eps is not None:
            folder /= size_name(unit.eps)
        return folder if unit.seed == self.protocol.seeds[0] else folder / f"seed{unit.seed}"


@dataclass(eq=False)
class Worker:
    """What does the units of a bench: it opens every system once, and keeps the last case that it prepared.

    Attributes:
        bench: The benchmark.
        systems: Systems that are open already, by name.
        surrogate: The surrogate, where it is open already.
        failures: The cases that failed; a case that failed in one unit is in none of the figures.
    """

    bench: Bench
    systems: dict[str, System] = field(default_factory=dict)
    surrogate: System | None = None
    failures: Failures = field(default_factory=Failures)
    _random: dict[str, bool] = field(default_factory=dict, init=False)
    _held: tuple[str, str, Stand] | None = field(default=None, init=False)

    @property
    def total(self) -> int:
        """Return the number of cases in all, with those that failed."""
        return len({*self.bench.cases, *self.failures.cases})

    def leave_out_failed(self) -> None:
        """Go on without the cases that failed.

        Raises:
            CasesFailed: No case is left.
        """
        total = self.total
        self.bench = self.bench.without(self.failures.cases)
        if not self.bench.cases:
            self.failures.raise_any(total)

    def forget(self) -> None:
        """Let go of the case that is held, as a process has none when it begins."""
        self._held = None

    def write_into(self, folder: Path) -> None:
        """Let the volumes and segmentations that are kept go below a folder from now on."""
        bench = self.bench.within(folder)
        if bench.volumes != self.bench.volumes:
            self.bench, self._held = bench, None

    def work(self, unit: Unit, progress: Progress = silent) -> tuple[Record, ...]:
        """Return the records of one unit.

        Raises:
            UserError: The system cannot be run on the case; the message names the unit.
        """
        try:
            trial = self.bench.trials(unit.model)[unit.attack]
            return trial.run(unit, self.stand(unit.model, unit.case), progress)
        except UserError as error:
            raise type(error)(f"{unit.model}, {unit.attack}, {unit.case}: {error}") from error

    def system(self, model: str) -> System:
        """Return a system, opened once."""
        if model not in self.systems:
            self.systems[model] = self.bench.sources[model].open()
        return self.systems[model]

    def stand(self, model: str, case: str) -> Stand:
        """Return a system on a case; only the last one is kept."""
        if self._held is None or self._held[:2] != (model, case):
            self._held = None
            bench, system = self.bench, self.system(model)
            subject = self._bound(model, system, bench.case(model, case))
            stand = Stand(
                system=system, subject=subject, protocol=bench.protocol, version=bench.version,
                random=self._random[model], surrogate=lambda: self._other(case), kept=bench.volume_path,
                segmentation=bench.segmentation_path, overwrite=bench.overwrite, counts=bench.counts_path,
                # A function that returns masks finds the statistics itself, those of every volume that it gets.
                statistics="live" if model in bench.masks else "",
            )  # fmt: skip
            self._held = model, case, stand
        return self._held[2]

    def other(self) -> System:
        """Return the surrogate, opened once."""
        if self.surrogate is None:
            assert self.bench.surrogate is not None
            self.surrogate = self.bench.surrogate.open()
        return self.surrogate

    def _other(self, case: str) -> Subject:
        # A system that the surrogate's volumes are tried on has its channels in the surrogate's order.
        return self._bound("", self.other(), self.bench.case(next(iter(self.bench.transferred), ""), case))

    def _bound(self, model: str, system: System, case: Case) -> Subject:
        protocol = self.bench.protocol
        threat = protocol.threat.model
        if protocol.mode == "patch":
            subject = patch_subject(system, case, threat, self.bench.ignore)
        else:
            how = Freeze(protocol.gradient, protocol.statistics)
            subject = volume_subject(system, case, threat, how, self.bench.ignore)
        if protocol.erase is not None:
            subject = erasing(subject, protocol.erase)
        if protocol.invent is not None:
            subject = inventing(subject, protocol.invent)
        # Asked once per system: whether it is random does not depend on the case.
        if model not in self._random:
            self._random[model] = is_random(subject.model, subject.volume)
            _warn_if(self._random[model], system.name, case.id)
        if self._random[model]:  # expectation over transformation
            subject = replace(subject, model=Averaged(subject.model, SAMPLES))
        return subject


def _warn_if(random: bool, name: str, case: str) -> None:
    if random:
        warnings.warn(
            f"{name} answered differently when it was asked twice about case {case}: the mean of {SAMPLES} answers is "
            f"attacked, so that every query costs {SAMPLES}, and figures move from call to call",
            stacklevel=2,
        )
