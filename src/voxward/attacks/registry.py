"""Every attack by name: a family with its objective (`apgd-dice`), or a name of its own (`square`)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import fields
from functools import partial, wraps
from typing import Any, cast

from voxward.attacks import ensemble
from voxward.attacks.apgd import APGD, TsallisPGD
from voxward.attacks.base import Attack
from voxward.attacks.blade import Blade
from voxward.attacks.budget import Budget
from voxward.attacks.coarse import Band, Spline
from voxward.attacks.coarse_to_fine import CoarseToFine
from voxward.attacks.ensemble import ENSEMBLES, OWN_BUDGETS, RADII, SEA
from voxward.attacks.fab import FabDice, FabT
from voxward.attacks.ladder import Fast, Strong
from voxward.attacks.objectives import OBJECTIVES
from voxward.attacks.pgd import FGSM, IFGSM, PGD, CosPGD, SegPGD
from voxward.attacks.square import Square
from voxward.core.errors import UserError
from voxward.core.registry import Registry

# Objectives that belong to one attack, which has their name.
_OWN = ("segpgd", "cospgd")
_FACTORS = (2, 4, 8)
_FAMILIES: dict[str, Callable[..., Attack]] = {"fgsm": FGSM, "ifgsm": IFGSM, "pgd": PGD, "apgd": APGD}


def _ensemble(kind: str) -> Callable[..., Attack]:
    @wraps(Budget)  # the options are those of Budget
    def make(**budget: Any) -> Attack:
        return ensemble.Ensemble(kind, OWN_BUDGETS.get(kind, Budget(**budget)))

    return make


ATTACKS: Registry[Callable[..., Attack]] = Registry(
    "attack",
    {
        f"{family}-{objective}": partial(build, objective=objective)
        for family, build in _FAMILIES.items()
        for objective in OBJECTIVES
        if objective not in _OWN
    }
    | {f"apgd-{objective}-radii": partial(APGD, objective=objective, radii=RADII) for objective in OBJECTIVES
       if objective not in _OWN}
    | {f"{family}-{factor}": partial(build, factor=factor)
       for family, build in (("coarse", Spline), ("band", Band)) for factor in _FACTORS}
    | {"segpgd": SegPGD, "cospgd": CosPGD, "tsallis-300": TsallisPGD}
    | {"strong": Strong, "fast": Fast, "blade-300": Blade}
    | {"fab-t": FabT, "fab-dice": FabDice, "square": Square, "coarse-to-fine": CoarseToFine}
    | {kind: _ensemble(kind) for kind in ENSEMBLES},
)  # fmt: skip


OWN_BUDGET: Mapping[str, Mapping[str, str]] = {
    "sea-300": {f"sea-{objective}": f"apgd-{objective}-radii" for objective in SEA},
    "tsallis-300": {"tsallis-300": "apgd-tsallis"},
    "blade-300": {},
    "fast": {},
}
"""The attacks that spend what their names say, whatever a protocol's budget is.

Those that consist of searches of APGD have their members by name, and for each of these the attack that does the same
within a budget, with the option `start: random`.
"""


def create(name: str, **options: Any) -> Attack:
    """Create an attack by name.

    Args:
        name: A name in `ATTACKS`; `describe` says what each of them does.
        **options: The attack's options, which are the fields of its class.

    Returns:
        The attack, to be called with a model, a volume, the ground truth and a threat model.

    Raises:
        UserError: The name is unknown, the attack has no such option, or a value is out of range.

    Example:
        >>> attack = voxward.attacks.create("apgd-dice", steps=20, restarts=2)
        >>> threat = voxward.ThreatModel(eps=8 / 255, bounds=((-100.0, 240.0),))
        >>> result = attack(model, volume, target, threat, seed=0)
        >>> result.clean_dice, result.dice
    """
    if name in OWN_BUDGET and (given := sorted(options.keys() & {part.name for part in fields(Budget)})):
        free = ", ".join(OWN_BUDGET[name].values())
        other = f"{free}, with the option start: random" if free else "strong, a search along the same sizes"
        raise UserError(
            f"attack {name!r} spends what its name says and has no option {given[0]!r}: other budgets are taken by "
            f"{other}"
        )
    return ATTACKS.build(name, **options)


def create_with(name: str, budget: Budget, **options: Any) -> Attack:
    """Create an attack by name, with the part of a budget that it has options for.

    Args:
        name: A name in `ATTACKS`, of a single attack or of an ensemble.
        budget: What it may spend.
        options: Options that replace those of the budget, or are added to them.

    Returns:
        The attack.

    Raises:
        UserError: The name or an option is unknown, or a value is out of range.
    """
    spent = {} if name in OWN_BUDGET else _family(name).budgeted(budget)
    return create(name, **{**spent, **options})


def describe() -> dict[str, str]:
    """Return what each attack does, in one line per name."""
    return {name: _summary(name) for name in ATTACKS}


def describe_families() -> dict[str, str]:
    """Return what each attack does, in one line; attacks that differ only in their objective share one.

    Returns:
        The lines, by name, or by `apgd-OBJECTIVE` for `apgd-dice`, `apgd-ce` and all others like them.
    """
    found = dict[str, str]()
    for name in ATTACKS:
        objective = _fixed(name).get("objective")
        if objective is None:
            found[name] = _summary(name)
        else:
            pattern = name.replace(f"-{objective}", "-OBJECTIVE", 1)
            found.setdefault(pattern, f"{_line(name)}. Such as {name.replace(objective, 'dice', 1)}.")
    return found


def _summary(name: str) -> str:
    """The family's line, then what the name adds to it."""
    if name in ENSEMBLES:
        return ensemble.describe()[name]
    objective = _fixed(name).get("objective")
    return f"{_line(name)}{'' if objective is None else f'; maximises {OBJECTIVES[objective].summary}'}."


def _line(name: str) -> str:
    """What an attack does, apart from its objective."""
    fixed, line = _fixed(name), _family(name).summary
    if "radii" in fixed:
        line += f", first in balls of {' and '.join(f'{factor:g}' for factor in RADII[:-1])} times eps"
    if "factor" in fixed:
        line += f" whose points are {fixed['factor']} voxels apart"
    return line


def _family(name: str) -> type[Attack]:
    """The class that an attack is an instance of."""
    if name in ENSEMBLES:
        return ensemble.Ensemble
    build = ATTACKS[name]
    return cast(type[Attack], build.func if isinstance(build, partial) else build)


def _fixed(name: str) -> dict[str, Any]:
    """The options that an attack's name decides."""
    build = ATTACKS[name]
    return build.keywords if isinstance(build, partial) else {}
