"""How robustness is measured, as one readable file: threat model, attacks and budgets, controls, requirements."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from voxward.attacks.budget import Budget
from voxward.attacks.registry import ATTACKS, OWN_BUDGET
from voxward.attacks.threat import Norm, Reference, ThreatModel, Unit
from voxward.certificates.plan import CertificatePlan
from voxward.core.errors import UserError
from voxward.core.registry import unknown_name
from voxward.core.yaml import load_yaml, packaged_names
from voxward.metrics.policies import POLICIES
from voxward.pipeline.member import Statistics
from voxward.pipeline.model import Gradient
from voxward.robustness.corruption_section import Corruptions
from voxward.robustness.record import EQUAL_NOISE, Mode
from voxward.robustness.require import Asked, parse_requirement
from voxward.robustness.sanity import Thresholds
from voxward.robustness.unit import size_name

CONTROLS = ("clean", "clip", "noise", "probe", "reach", "gaussian", "rician", "doubled")
_STEPS = ("steps", "restarts")
Keep = Literal["none", "first", "worst", "all"]
Normalising = Literal["auto", "frozen", "live"]


@dataclass(frozen=True)
class Threat:
    """What a perturbation may do.

    Attributes:
        eps: The sizes of the perturbation, in `unit`; each above 0.
        norm: What eps bounds: `linf`, the largest change of a voxel, or `l2`.
        unit: `range`: eps is a share of each channel's intensity range; `native`: it is in HU or raw intensities.
        reference: `raw`: the stored volume is perturbed; `window`: the volume clipped to the intensity range, as in the
            papers.
        statistics: What normalises an attacked volume where a recipe takes the volume's own statistics: `frozen`, those
            of the clean volume; `live`, its own, as in the deployed system; or `auto`, which is `live` in mode
            `volume`, and in mode `patch`, which knows no others, `frozen`.
    """

    eps: tuple[float, ...] = (4 / 255, 8 / 255, 16 / 255)
    norm: Norm = "linf"
    unit: Unit = "range"
    reference: Reference = "raw"
    statistics: Normalising = "auto"

    @property
    def model(self) -> ThreatModel:
        """The threat model, with eps 0 and without the bounds of a case."""
        return ThreatModel(0.0, self.norm, self.unit, self.reference)

    def problems(self) -> list[str]:
        """Return what is wrong, one sentence each."""
        found = [] if self.eps else ["eps must hold at least one size"]
        for eps in self.eps:
            if eps <= 0:
                found.append(f"eps must be above 0, got {eps:g}: the clean control is always run")
            else:
                found += _failure(lambda eps=eps: self.model.with_eps(eps))
        names = list(map(size_name, sorted(set(self.eps))))
        if twice := [name for name in names if names.count(name) > 1]:
            found.append(f"eps must differ in five decimals, which files are named after, got {twice[0]} twice")
        return found


@dataclass(frozen=True)
class AttackEntry:
    """An attack of a protocol with a name or options of its own.

    Attributes:
        attack: The attack or ensemble, see `voxward attack --list`.
        name: The name in records and tables; None takes the attack's. An attack that is run with several budgets needs
            a name for each.
        options: Options of the attack that replace the ones which follow from the budget, such as `{steps: 5}`.
        sweep: An option with several values, such as `{steps: [5, 10, 20]}`: the attack is run once with each, and its
            name ends with the value, such as `apgd-dice-5`.
    """

    attack: str
    name: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    sweep: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)

    def problems(self) -> list[str]:
        """Return what is wrong, one sentence each."""
        if not self.sweep:
            return []
        ((option, values), *more) = self.sweep.items()
        if more:
            return [f"sweep must name one option, such as {{steps: [5, 10, 20]}}, got {', '.join(self.sweep)}"]
        if not values:
            return [f"sweep.{option} must hold at least one value"]
        return [f"{option} must be in sweep or in options, got both"] if option in self.options else []

    @property
    def expanded(self) -> tuple[AttackEntry, ...]:
        """An entry for each value of `sweep`; without one, and for one of these, the entry itself."""
        if any(option in self.options for option in self.sweep):
            return (self,)  # once more, and it had another name
        return tuple(
            AttackEntry(
                self.attack, f"{self.name or self.attack}-{value}", {**self.options, option: value}, {option: (value,)}
            )
            for option, values in self.sweep.items()
            for value in values
        ) or (self,)


@dataclass(frozen=True)
class Protocol:
    """How the robustness of systems is measured.

    Attributes:
        name: The protocol's name.
        description: What it is for, in one line.
        threat: What a perturbation may do.
        attacks: The attacks and ensembles; there may be none where there are corruptions.
        budget: What each attack may spend on a case and an eps.
        ensembles: Further groups of attacks, by name, whose worst case is reported.
        controls: The checks of the set-up: `clip`, `noise`, `probe` (is the model random, does a gradient arrive) and
            `reach` (does an attack at eps 1 leave nothing); `gaussian` and `rician`, noise as strong as the attack that
            hurt most; `doubled`, the strongest attack with twice its budget on two cases, which tells whether the
            figures are converged. `clean` is always run.
        mode: `volume` attacks the whole deployed pipeline, `patch` the network on one window, as the papers do.
        gradient: `exact`, or `window_mean`, that of each window's own objective, as in the ResDSN paper.
        cases: How many cases are attacked, the first ones; None: all.
        policy: What a class that is absent from truth and mask counts, see metrics.score.POLICIES.
        erase: The one class whose Dice counts, which the attacks then try to make vanish; None: the mean of all.
        invent: The one class that the attacks try to find where it is not; its volume there is reported, and no Dice.
            None: none.
        surrogate: A system whose adversarial volumes are tried, too; None: no transfer attack.
        sanity: When a check of the figures fails.
        seeds: The seeds; attacks are run once for each.
        keep: Which adversarial volumes and their segmentations are kept: `none`; `first`, those of the first case;
            `worst`, for every case and eps those of the attack that hurt most; `all`.
        require: What must hold, such as `robust_dice@8/255 >= 0.8`.
        corruptions: What scanners do, which is measured beside or instead of attacks; None: nothing.
        certificate: What is certified by runs under noise; None: nothing.
    """

    name: str
    description: str = ""
    threat: Threat = field(default_factory=Threat)
    attacks: tuple[str | AttackEntry, ...] = ("autoattack",)
    budget: Budget = field(default_factory=Budget)
    ensembles: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    controls: tuple[str, ...] = CONTROLS
    mode: Mode = "volume"
    gradient: Gradient = "exact"
    cases: int | None = None
    policy: str = "ignore"
    erase: str | None = None
    invent: str | None = None
    surrogate: str | None = None
    sanity: Thresholds = field(default_factory=Thresholds)
    seeds: tuple[int, ...] = (0,)
    keep: Keep = "worst"
    require: tuple[str, ...] = ()
    corruptions: Corruptions | None = None
    certificate: CertificatePlan | None = None

    @property
    def statistics(self) -> Statistics:
        """What normalises an attacked volume: `threat.statistics`, with what `auto` stands for in this mode."""
        if self.threat.statistics == "auto":
            return "live" if self.mode == "volume" else "frozen"
        return self.threat.statistics

    @property
    def settled(self) -> Protocol:
        """The same protocol with what `auto` and the names of sets stand for, as it is written down."""
        corruptions = None if self.corruptions is None else self.corruptions.loaded
        return replace(self, threat=replace(self.threat, statistics=self.statistics), corruptions=corruptions)

    @property
    def entries(self) -> tuple[AttackEntry, ...]:
        """The attacks, each as an entry; of a sweep there is an entry for each value."""
        given = (AttackEntry(one) if isinstance(one, str) else one for one in self.attacks)
        return tuple(entry for one in given for entry in one.expanded)

    @property
    def asks_attacks(self) -> bool:
        """Whether something is attacked; where not, only corruptions or certificates are measured."""
        return (
            bool(self.attacks) or self.surrogate is not None or (self.certificate is None and self.corruptions is None)
        )

    def problems(self) -> list[str]:
        """Return what is wrong, one sentence each."""
        given = bool(self.attacks) or self.certificate is not None or self.corruptions is not None
        found = [] if given else [f"attacks must name at least one of: {', '.join(ATTACKS)}"]
        found += [_unknown_attack(e.attack) for e in self.entries if e.attack not in ATTACKS]
        found += [
            unknown_name("control", name, dict.fromkeys(CONTROLS)) for name in self.controls if name not in CONTROLS
        ]
        names = [entry.name or entry.attack for entry in self.entries]
        found += [f"attacks must have different names, got {name} twice" for name in names if names.count(name) > 1][:1]
        found += self.idle([name for name in _STEPS if getattr(self.budget, name) != getattr(Budget(), name)])
        if self.policy not in POLICIES:
            found.append(unknown_name("policy for empty classes", self.policy, POLICIES))
        if self.cases is not None and self.cases < 1:
            found.append(f"cases must be at least 1, got {self.cases}")
        if not self.seeds:
            found.append("seeds must hold at least one seed")
        for text in self.require:
            asked = Asked(self.threat.eps, self.threat.unit, self.certificate)
            found += _failure(lambda text=text, asked=asked: parse_requirement(text).check(asked))
        if self.corruptions is not None and (self.mode == "patch" or self.invent is not None):
            found.append("corruptions are measured in mode 'volume' and without invent: they change whole files")
        if self.invent is not None:
            found += self._invent_problems()
        if self.certificate is not None and (self.mode == "patch" or self.erase or self.invent):
            found.append(
                "a certificate is of the whole deployed system and all its classes: leave out mode 'patch', "
                "erase and invent, or the certificate"
            )
        return found + (self._patch_problems() if self.mode == "patch" else [])

    def idle(self, names: Sequence[str]) -> list[str]:
        """Return one sentence if a number of the budget changes nothing, because no attack follows it.

        Args:
            names: What of the budget was set. A number that changes nothing would be believed to be what was spent.
        """
        if not names or not self.attacks or any(entry.attack not in OWN_BUDGET for entry in self.entries):
            return []
        attacks = " and ".join(entry.attack for entry in self.entries)
        return [
            f"budget.{names[0]} changes nothing here, because what is spent is fixed by the name of {attacks}: leave "
            "it out, or name attacks that follow the budget, such as strong, apgd-tsallis or apgd-jsd-radii"
        ]

    def _invent_problems(self) -> list[str]:
        found = [] if self.erase is None else ["erase and invent exclude each other: give one of them"]
        if self.require:
            found.append("require asks for Dice figures, which mean nothing where a class is invented: leave it empty")
        return found

    def _patch_problems(self) -> list[str]:
        found = []
        if (self.gradient, self.statistics) != ("exact", "frozen"):
            found.append("mode 'patch' attacks one window: it has only the exact gradient, and frozen statistics")
        if self.threat.unit == "native":
            found.append("mode 'patch' attacks normalised intensities: threat.unit must be 'range', got 'native'")
        return found


def load_protocol(name_or_path: str | Path, overrides: Sequence[str] = ()) -> Protocol:
    """Read a packaged protocol by name, or any protocol by path (a name with a `.yaml` suffix).

    Args:
        name_or_path: The name or the path.
        overrides: Changes, each `dotted.key=value` with a YAML value, such as `threat.eps=[4/255,8/255]`.

    Raises:
        UserError: The name is unknown, or something in the file is wrong; all problems are listed.
        FileNotFoundError: There is no such file.

    Example:
        >>> load_protocol("quick", ["cases=3"])
    """
    protocol = load_yaml(Protocol, name_or_path, "protocols", overrides)
    # A number that is set to its default is seen here only.
    keys = {change.partition("=")[0].strip() for change in overrides}
    if idle := protocol.idle([name for name in _STEPS if f"budget.{name}" in keys]):
        raise UserError(f"{name_or_path}: {idle[0]}")
    if protocol.corruptions is None:
        return protocol
    return replace(protocol, corruptions=protocol.corruptions.loaded)


def may_be_left_out(protocol: Protocol | None) -> tuple[str, ...]:
    """Return the names of the trials that may mean nothing on a case; without a protocol those of any."""
    corruptions = None if protocol is None else protocol.corruptions
    return (*EQUAL_NOISE, *(() if corruptions is None else (name for _, name in corruptions.chosen())))


def protocol_names() -> tuple[str, ...]:
    """Return the names of the packaged protocols."""
    return packaged_names("protocols")


def _unknown_attack(name: str) -> str:
    """What is said of an unknown name: there are too many known ones to print them all."""
    return unknown_name("attack", name, ATTACKS).partition(" Known: ")[0] + " `voxward attack --list` prints all"


def _failure(attempt: Any) -> list[str]:
    try:
        attempt()
    except ValueError as error:
        return [str(error)]
    return []
