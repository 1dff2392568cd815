"""One attack on one case: what it cost, what it did, and all that is needed to repeat it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from voxward.attacks.threat import ThreatModel
from voxward.core.errors import UserError
from voxward.core.structure import from_data, to_data
from voxward.metrics.policies import POLICIES

Mode = Literal["patch", "volume"]
Kind = Literal["attack", "control"]
Scores = tuple[float | None, ...]

CLEAN, CLIP, NOISE = CONTROLS = ("clean", "clip", "noise")
# Looks at the model itself on one case; its options hold `random` and `reached`, see robustness.bench.
PROBE = "probe"


@dataclass(frozen=True)
class Record:
    """One (model, case, attack, eps, seed).

    classes: names of the foreground classes or regions. clean, adversarial, deployed, deployed_clean: hard Dice of
    each in [0, 1], None where it is in neither truth nor mask. `deployed` is of the file written in the source's number
    type, read back and predicted by the ordinary predictor, `deployed_clean` of the untouched file; None where that was
    not done. hd95_mm: of the adversarial mask, mean over classes. distance: norm of the perturbation in eps's unit, and
    written: the same of the file, None without one.
    breaking_eps: of a minimum-norm attack, the smallest eps that broke the case; None where it did not, and for other
    attacks. history: lowest mean Dice after each evaluation, the first of the clean case. gradients, forwards:
    evaluations spent. kind: `control` for CONTROLS and other checks of the set-up, which no worst case counts. options:
    the attack's. system: the fingerprint of the system. policy: what an undefined class counts in means, one of
    metrics.policies.POLICIES.

    NaN and infinity in scores, hd95_mm, breaking_eps and options become None. Raises ValueError for scores that do not
    fit `classes` or leave [0, 1], other figures that are not finite, and an unknown policy.
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
        """(model, case): what records of different attacks are compared over."""
        return self.model, self.case

    def scores(self, deployed: bool = False) -> Scores:
        """Dice per class under attack. Raises ValueError for `deployed` where that was not done."""
        return self._found(self.deployed, deployed, self.adversarial)

    def clean_scores(self, deployed: bool = False) -> Scores:
        """Dice per class without an attack. Raises ValueError for `deployed` where that was not done."""
        # The clean control is its own clean case.
        real = self.deployed if self.deployed_clean is None and self.attack == CLEAN else self.deployed_clean
        return self._found(real, deployed, self.clean)

    def dice(self, deployed: bool = False, policy: str | None = None) -> float:
        """Mean Dice over the classes under attack, see `mean_dice`; `policy` overrides the record's."""
        return mean_dice(self.scores(deployed), policy or self.policy)

    def clean_dice(self, deployed: bool = False, policy: str | None = None) -> float:
        """Mean Dice over the classes without an attack, see `mean_dice`; `policy` overrides the record's."""
        return mean_dice(self.clean_scores(deployed), policy or self.policy)

    def to_data(self) -> dict[str, Any]:
        """Plain JSON data without NaN or infinity."""
        data: dict[str, Any] = to_data(self)
        return data

    @classmethod
    def from_data(cls, data: Any, source: str) -> Record:
        """The inverse. Raises ValueError listing all problems of the data."""
        return from_data(cls, data, source)

    def _found(self, real: Scores | None, deployed: bool, computed: Scores) -> Scores:
        if not deployed:
            return computed
        if real is None:
            raise UserError(
                f"{self.attack} on case {self.case!r} of {self.model!r} was not deployed: use deployed=False"
            )
        return real


def mean_dice(scores: Sequence[float | None], policy: str = "ignore") -> float:
    """Mean over the classes; an undefined one counts what `policy` (metrics.policies.POLICIES) says, or is left out.

    1 where none is left: nothing to find, nothing found, as attacks.criteria.mean_dice has it. So every case has a
    value, and a worst case can only fall as attacks are added.
    """
    empty = POLICIES[policy].both_score
    values = [empty if value is None else value for value in scores]
    defined = [value for value in values if value is not None]
    return math.fsum(defined) / len(defined) if defined else 1.0


def _finite(value: Any) -> Any:
    """Plain data in which NaN and infinity are None."""
    if isinstance(value, Mapping):
        return {str(key): _finite(entry) for key, entry in value.items()}
    if isinstance(value, tuple | list):
        return [_finite(entry) for entry in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return to_data(value)
