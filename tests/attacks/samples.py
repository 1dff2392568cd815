"""Which attacks tests of all attacks run, and with budgets that take no time."""

from __future__ import annotations

import re
from dataclasses import replace

from voxward.attacks.base import Attack
from voxward.attacks.budget import Budget
from voxward.attacks.ensemble import ENSEMBLES
from voxward.attacks.registry import ATTACKS, OWN_BUDGET, create

_FAMILIES = re.compile("(fgsm|ifgsm|pgd)-(.*)|apgd-(.*)-radii")

RUN = [
    name for name in ATTACKS if (found := _FAMILIES.fullmatch(name)) is None or {"dice", "margin"} & {*found.groups()}
]
"""Every objective with one family, and every family with two objectives; objectives have tests of their own."""


def cheap(name: str) -> Attack:
    """Return an attack with a small budget, also where the name says a large one."""
    if name in OWN_BUDGET:
        return replace(create(name), **({"budget": Budget(steps=12)} if name in ENSEMBLES else {"steps": 12}))
    if name in ENSEMBLES:
        return create(name, steps=12, queries=15, fab_steps=3)
    if name == "square":
        return create(name, queries=15)
    if name.startswith("fgsm"):
        return create(name)
    return create(name, steps=3 if name.startswith("fab") else 12)
