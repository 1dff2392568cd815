"""The volume of what attacks invented, per case: a pure function of records."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from voxward.robustness.record import CLEAN, Record


def invented(records: Iterable[Record]) -> str | None:
    """Return the class that is invented; None where none is."""
    return next((record.phantom.name for record in records if record.phantom is not None), None)


def dice_warnings(records: Iterable[Record]) -> tuple[str, ...]:
    """Return what must be known of a table of Dice where a class is invented; nothing where none is."""
    if (name := invented(records)) is None:
        return ()
    return (
        f"{name} is invented here, and no Dice says how bad that is: this one is of everything but {name}. The "
        "volume that is invented is in robustness.md",
    )


def clean_phantoms(records: Sequence[Record], model: str) -> dict[str, float]:
    """Return the volume in mm3 that a model marks wrongly without an attack, for each case."""
    return _greatest(records, lambda record: record.model == model and record.attack == CLEAN)


def phantoms(records: Sequence[Record], model: str, attack: str, eps: float) -> dict[str, float]:
    """Return the volume in mm3 that a model marks wrongly under one attack or control, for each case.

    Of several seeds the greatest volume counts. A control that needs no eps is the same at every one.

    Args:
        records: Records of any models.
        model: The name of the model.
        attack: The name of the attack or control.
        eps: The size of the perturbation.
    """
    mine = [record for record in records if record.model == model and record.attack == attack]
    found = _greatest(mine, lambda record: record.eps == eps)
    return found or _greatest(mine, lambda record: record.kind == "control" and record.eps == 0)


def worst_phantoms(
    records: Sequence[Record], model: str, eps: float, attacks: Iterable[str] | None = None
) -> dict[str, float]:
    """Return the greatest volume in mm3 that a model marks wrongly under any attack, for each case.

    The clean case is one of the candidates, because leaving a volume unchanged is a legal perturbation, too.

    Args:
        records: Records of any models.
        model: The name of the model.
        eps: The size of the perturbation.
        attacks: The attacks that count; None: all.
    """
    names, clean = None if attacks is None else {*attacks}, clean_phantoms(records, model)
    found = _greatest(
        records,
        lambda record: (
            record.kind == "attack" and (record.model, record.eps) == (model, eps)
            and (names is None or record.attack in names)
        ),
    )  # fmt: skip
    return {case: max(volume, clean.get(case, 0.0)) for case, volume in found.items()}


def _greatest(records: Iterable[Record], counts: Callable[[Record], bool]) -> dict[str, float]:
    found: dict[str, float] = {}
    for record in records:
        if record.phantom is not None and counts(record):
            found[record.case] = max(found.get(record.case, 0.0), record.phantom.mm3)
    return dict(sorted(found.items()))
