"""One attack on one case: its cost, its effect, and all that is needed to repeat it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from voxward.attacks.threat import ThreatModel
from voxward.core.errors import UserError
from voxward.core.structure import from_data, to_data
from voxward.metrics.policies import POLICIES
from voxward.metrics.score import CaseMetrics
from voxward.robustness.corrupted import Corrupted
from voxward.robustness.noisy_runs import NoisyRuns
from voxward.robustness.noisy_runs import Scores as Scores
from voxward.robustness.visibility import Visibility

Mode = Literal["patch", "volume"]
Kind = Literal["attack", "control", "certificate", "corruption"]

CLEAN, CLIP, NOISE = CONTROLS = ("clean", "clip", "noise")
# Noise as strong as the worst attack, which may be larger than eps in single voxels.
EQUAL_NOISE = ("gaussian", "rician")
# The check that looks at the model itself on one case: the options of its record hold `random` and `reached`, see
# robustness.trials.probe.
PROBE = "probe"
# The strongest attack with twice its budget: the options of its record hold under `doubles` which attack that is.
DOUBLED, DOUBLES = "doubled", "doubles"


@dataclass(frozen=True)
class Surface:
    """How well the surfaces of a segmentation fit the truth's, the means over the classes that have a value.

    Attributes:
        hd95_mm: The 95th percentile of the distances between the surfaces, in mm; None where it is undefined, also for
            one class that only the truth or only the segmentation has: a mean over the others would look better.
        nsd: The share of both surfaces within a tolerance of each other, in [0, 1]; None where it is undefined.
    """

    hd95_mm: float | None
    nsd: float | None

    def __post_init__(self) -> None:
        for name in ("hd95_mm", "nsd"):
            object.__setattr__(self, name, _finite(getattr(self, name)))

    @classmethod
    def of(cls, metrics: CaseMetrics) -> Surface:
        """Return how well the surfaces of a segmentation fit, from its scores."""
        alone = any(
            one["hd95_mm"] is None and bool(one.truth_voxels) != bool(one.predicted_voxels)
            for one in metrics.classes.values()
        )
        return cls(None if alone else metrics.mean("hd95_mm"), metrics.mean("nsd"))


@dataclass(frozen=True)
class Phantom:
    """What is marked as a class where the truth has none, of an attack that invents the class.

    Attributes:
        name: The class.
        clean_mm3: The volume without an attack, in mm3.
        mm3: The volume under attack, in mm3.
    """

    name: str
    clean_mm3: float
    mm3: float


@dataclass(frozen=True)
class Record:
    """The result of one attack, or one control, on one case of one model.

    NaN and infinity in the scores, `hd95_mm`, `breaking_eps` and `options` become None.

    Attributes:
        model: The name of the attacked model.
        case: The id of the case.
        attack: The name of the attack or control.
        eps: The size of the perturbation, in the unit of `threat`.
        seed: The seed of all that the attack drew.
        mode: `volume` for a whole deployed pipeline, `patch` for the network on one window.
        threat: The threat model, with its bounds for this case.
        classes: The names of the foreground classes or regions.
        clean: Hard Dice of each class without an attack, in [0, 1]; None where the class is in neither truth nor mask.
        adversarial: The same Dice under attack, of the array that the attack computed.
        deployed: The Dice under attack of the file that was written in the source's number type, read back and
            segmented by the ordinary predictor; None where that was not done.
        hd95_mm: HD95 in mm of the adversarial mask, the mean over the classes.
        distance: The norm of the perturbation, in the unit of eps.
        breaking_eps: The size of the smallest perturbation found by a minimum-norm attack whose written file breaks the
            case, as it is in the file; None where none does, and for other attacks.
        history: The lowest mean Dice after each evaluation; the first value is that of the clean case or, of a chained
            record, of what was taken over from a smaller size.
        gradients: The number of evaluations with a gradient.
        forwards: The number of evaluations without one.
        seconds: The time that the attack took, in seconds.
        kind: `attack`; `control` for CONTROLS and other checks of the set-up, which belong to no worst case; or
            `certificate` for runs under noise, which are no attack either; or `corruption`, whose name is `attack` and
            whose severity is `eps`, and of which only a written file is judged. No threat model bounds it: `threat` has
            eps 0.
        white_box: Whether the attack needs gradients; False for controls.
        options: The options of the attack.
        version: The version of voxward.
        torch: The version of PyTorch.
        device: The device that the model computed on.
        precision: The number type that the networks computed in.
        deployed_clean: The Dice of the untouched file, predicted by the ordinary predictor; None where that was not
            done.
        policy: What an undefined class counts in means, one of `metrics.policies.POLICIES`.
        written: The norm of the perturbation in the written file, in the unit of eps; None without a file.
        system: The fingerprint of the attacked system.
        warnings: What makes it doubtful that the attack shows how robust the model is, such as a gradient of 0.
        visibility: How visible the perturbation is, in the written file where there is one that can be compared, else
            in the array; None in records of older versions.
        surface: How well the surfaces fit under attack, of the segmentation of the written file where there is one.
        clean_surface: The same without an attack.
        truth_mm3: The volume of each class in the truth, in mm3; in mode `patch`, of what the window holds.
        channels: The names of the image's channels.
        processor: The name of what computed: the GPU, or the processor and the instruction set that PyTorch uses of it;
            empty in records of older versions.
        phantom: What was found of the class that the protocol invents, of the segmentation of the written file where
            there is one; None where no class is invented. `classes` then holds only "not" this class, whose Dice falls
            as the volume grows and says nothing else; there are no surfaces, and `truth_mm3` is empty.
        statistics: What normalised the attacked volume where the system takes a volume's own statistics: `frozen`,
            those of the clean volume, or `live`, its own; empty in records of older versions.
        breaking_file: Whether `breaking_eps` was found on written files; False in mode `patch`, and in records of older
            versions, where it is that of the computed array.
        chained: Whether the attack searched for several sizes at once, so that what it found at one size began with
            what it had found at another.
        corruption: What was done to the scan, for records of corruptions.
        noisy: The runs under noise of a certificate, with the standard deviation as eps; None for all else.
            `adversarial` then holds the median of each class.

    Raises:
        UserError: Scores do not fit `classes` or leave [0, 1], another figure is not finite, or the policy is unknown.
    """

    model: str
    case: str
    attack: str
    eps: float
    seed: int
    mode: Mode
    threat: ThreatModel
    classes: tuple[str, ...]
    clean: Scores
    adversarial: Scores
    deployed: Scores | None
    hd95_mm: float | None
    distance: float
    breaking_eps: float | None
    history: tuple[float, ...]
    gradients: int
    forwards: int
    seconds: float
    kind: Kind
    white_box: bool
    options: Mapping[str, Any]
    version: str
    torch: str
    device: str
    precision: str
    deployed_clean: Scores | None = None
    policy: str = "ignore"
    written: float | None = None
    system: str = ""
    warnings: tuple[str, ...] = ()
    visibility: Visibility | None = None
    surface: Surface | None = None
    clean_surface: Surface | None = None
    truth_mm3: tuple[float, ...] = ()
    channels: tuple[str, ...] = ()
    processor: str = ""
    phantom: Phantom | None = None
    statistics: str = ""
    breaking_file: bool = False
    chained: bool = False
    corruption: Corrupted | None = None
    noisy: NoisyRuns | None = None

    def __post_init__(self) -> None:
        for name in ("clean", "adversarial", "deployed", "deployed_clean", "hd95_mm", "breaking_eps", "options"):
            value = _finite(getattr(self, name))
            object.__setattr__(self, name, tuple(value) if isinstance(value, list) else value)
        POLICIES[self.policy]
        for name in ("eps", "distance", "seconds"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value >= 0):
                raise UserError(f"{name} must be a finite number of at least 0, got {value}")
        if not all(math.isfinite(value) for value in self.history):
            raise UserError("history must hold finite Dice values")
        for name in ("clean", "adversarial", "deployed", "deployed_clean"):
            self._check(name)

    def _check(self, name: str) -> None:
        scores: Scores | None = getattr(self, name)
        if scores is None:
            return
        if len(scores) != len(self.classes):
            raise UserError(f"{name} must hold one Dice per class ({len(self.classes)}), got {len(scores)}")
        if wrong := [value for value in scores if value is not None and not 0 <= value <= 1]:
            raise UserError(f"{name} must hold Dice in [0, 1] or None, got {wrong[0]}")

    @property
    def case_key(self) -> tuple[str, str]:
        """Return (model, case), over which records of different attacks are compared."""
        return self.model, self.case

    def scores(self, deployed: bool = False) -> Scores:
        """Return the Dice of each class under attack.

        Args:
            deployed: Whether to return the Dice of the written file instead of that of the computed array.

        Raises:
            UserError: The Dice of the written file was asked for, and no file was written.
        """
        return self._found(self.deployed, deployed, self.adversarial)

    def clean_scores(self, deployed: bool = False) -> Scores:
        """Return the Dice of each class without an attack.

        Args:
            deployed: Whether to return the Dice that the ordinary predictor has on the untouched file.

        Raises:
            UserError: The Dice of the file was asked for, and the file was not predicted.
        """
        # The clean control is its own clean case.
        real = self.deployed if self.deployed_clean is None and self.attack == CLEAN else self.deployed_clean
        return self._found(real, deployed, self.clean)

    def dice(self, deployed: bool = False, policy: str | None = None) -> float:
        """Return the mean Dice over the classes under attack, as `mean_dice` computes it.

        Args:
            deployed: Whether to take the Dice of the written file.
            policy: What an undefined class counts; None takes the record's policy.

        Raises:
            UserError: The Dice of the written file was asked for, and no file was written.
        """
        return mean_dice(self.scores(deployed), policy or self.policy)

    def clean_dice(self, deployed: bool = False, policy: str | None = None) -> float:
        """Return the mean Dice over the classes without an attack, as `mean_dice` computes it.

        Args:
            deployed: Whether to take the Dice of the untouched file.
            policy: What an undefined class counts; None takes the record's policy.

        Raises:
            UserError: The Dice of the file was asked for, and the file was not predicted.
        """
        return mean_dice(self.clean_scores(deployed), policy or self.policy)

    def to_data(self) -> dict[str, Any]:
        """Return the record as plain JSON data without NaN or infinity."""
        data: dict[str, Any] = to_data(self)
        return data

    @classmethod
    def from_data(cls, data: Any, source: str) -> Record:
        """Read a record from what `to_data` returned.

        Args:
            data: The plain data.
            source: The file that it comes from, for error messages.

        Raises:
            UserError: The data are no record. The message lists all problems.
        """
        return from_data(cls, data, source)

    def _found(self, real: Scores | None, deployed: bool, computed: Scores) -> Scores:
        if not deployed:
            return computed
        if real is None:
            raise UserError(
                f"{self.attack} on case {self.case!r} of {self.model!r} was not deployed: use deployed=False"
            )
        return real


def without_noisy(records: Iterable[Record]) -> tuple[Record, ...]:
    """Return all records but those of runs under noise, which belong to certificates and to no other figure."""
    return tuple(one for one in records if one.noisy is None)


def mean_dice(scores: Sequence[float | None], policy: str = "ignore") -> float:
    """Return the mean Dice over the classes.

    It is 1 where no class is left: there was nothing to find, and nothing was found, as in
    `attacks.criteria.mean_dice`. So every case has a value, and a worst case can only fall as attacks are added.

    Args:
        scores: The Dice of each class; None for an undefined class.
        policy: What an undefined class counts, one of `metrics.policies.POLICIES`; some policies leave it out.

    Returns:
        A Dice in [0, 1].
    """
    empty = POLICIES[policy].both_score
    values = [empty if value is None else value for value in scores]
    defined = [value for value in values if value is not None]
    return math.fsum(defined) / len(defined) if defined else 1.0


def _finite(value: Any) -> Any:
    """Return plain data in which NaN and infinity are None."""
    if isinstance(value, Mapping):
        return {str(key): _finite(entry) for key, entry in value.items()}
    if isinstance(value, tuple | list):
        return [_finite(entry) for entry in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return to_data(value)
