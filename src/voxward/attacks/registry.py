"""Every attack by name: a family and its objective (`apgd-dice`), or a name of its own (`square`)."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import partial
from typing import Any

from voxward.attacks.apgd import APGD
from voxward.attacks.base import Attack
from voxward.attacks.ensemble import ENSEMBLES, RADII, Budget, Ensemble
from voxward.attacks.fab import FabDice, FabT
from voxward.attacks.objectives import OBJECTIVES
from voxward.attacks.pgd import FGSM, IFGSM, PGD, CosPGD, SegPGD
from voxward.attacks.square import Square
from voxward.core.errors import UserError
from voxward.core.registry import Registry

# Objectives that belong to one attack, which carries their name.
_OWN = ("segpgd", "cospgd")
_FAMILIES: dict[str, Callable[..., Attack]] = {"fgsm": FGSM, "ifgsm": IFGSM, "pgd": PGD, "apgd": APGD}


def _ensemble(kind: str, **budget: Any) -> Attack:
    return Ensemble(kind, Budget(**budget))


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
    | {"segpgd": SegPGD, "cospgd": CosPGD, "fab-t": FabT, "fab-dice": FabDice, "square": Square}
    | {kind: partial(_ensemble, kind) for kind in ENSEMBLES},
)  # fmt: skip


def create(name: str, **options: Any) -> Attack:
    """An attack by name with its options, e.g. `create("apgd-dice", steps=20)`.

    Raises ValueError for an unknown name, an option the attack does not have, or a value out of range.
    """
    build = ATTACKS[name]
    legal = _options(name)
    unknown = sorted(set(options) - set(legal))
    if unknown:
        raise UserError(f"attack {name!r} has no option {', '.join(unknown)}; it has: {', '.join(legal)}")
    return build(**options)


def _options(name: str) -> list[str]:
    if name in ENSEMBLES:
        return list(inspect.signature(Budget).parameters)
    build = ATTACKS[name]
    fixed = build.keywords if isinstance(build, partial) else {}
    return [option for option in inspect.signature(build).parameters if option not in fixed]
