"""Compare attacks on the same systems and cases: which leaves the lowest Dice, and for how many gradients.

    voxward attack RUN --dataset DATASET --protocol strong --eps 2/255 4/255 8/255 12/255 16/255 --out OUT/strong
    voxward attack RUN --dataset DATASET --protocol sea-300 --cases 4 --eps 2/255 ... --out OUT/sea
    python -m benchmarks.strongest OUT/strong OUT/sea ...

Prints a table for each system: the mean Dice of the written files under each attack at each eps, over the cases that
all attacks of the table were run on at all these sizes, the gradients for the whole curve of a case, and for each
attack by how much `strong` is above it in the worst case and eps. Only sizes that all attacks have are compared; of an
attack that searches all its sizes at once the gradients of all of them count. Of a case on which a member of an
ensemble has not been run yet, the ensemble has no figure.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from voxward.attacks.ensemble import SEA
from voxward.core.errors import UserError
from voxward.core.wording import counted, eps_text
from voxward.robustness.record import Record
from voxward.robustness.store import RecordStore

GROUPS = {f"sea-{objective}": "sea-300" for objective in SEA}
"""Attacks that are members of one whose worst case counts."""

Found = dict[tuple[str, float], float]
"""The lowest Dice by case and eps."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="+", type=Path, help="folders of voxward attack")
    parser.add_argument("--attacks", nargs="+", help="only these (default: all)")
    given = parser.parse_args()
    records = [record for folder in given.folders for record in RecordStore(folder).read_all()]
    attacked = [record for record in records if record.kind == "attack" and _wanted(record, given.attacks)]
    for model in sorted({record.model for record in attacked}):
        print(table(model, [record for record in attacked if record.model == model]))


def _wanted(record: Record, attacks: Sequence[str] | None) -> bool:
    return attacks is None or _group(record) in attacks


def _group(record: Record) -> str:
    return GROUPS.get(record.attack, record.attack)


def table(model: str, records: Sequence[Record]) -> str:
    """Return the table of one system as Markdown.

    Args:
        model: The name of the system.
        records: Its records of attacks, of one or several folders.

    Raises:
        UserError: The attacks have no case and eps in common, or the records are of different systems or settings.
    """
    if len({record.system for record in records}) > 1:
        raise UserError(f"{model} is not the same system in all folders")
    if len(settings := {_settings(record) for record in records}) > 1:
        raise UserError(f"{model} was not attacked alike in all folders: {' and '.join(sorted(settings))}")
    lowest, spent = figures(records)
    common = set.intersection(*(set(found) for found in lowest.values()))
    sizes = sorted({eps for _, eps in common})
    cases = sorted({case for case, _ in common if all((case, eps) in common for eps in sizes)})
    if not cases:
        raise UserError(f"{model}: no case and eps has records of all of {', '.join(sorted(lowest))}")
    places, chained = [(case, eps) for case in cases for eps in sizes], {_group(one) for one in records if one.chained}
    heads = [eps_text(eps, records[0].threat.unit, ()) for eps in sizes]
    lines = [
        f"{model}, {counted(len(cases), 'case')}",
        "",
        "| attack | " + " | ".join(heads) + " | gradients for a case | strong is above it by at most |",
        "| --- |" + " ---: |" * (len(sizes) + 2),
    ]
    best = lowest.get("strong")
    for name in sorted(lowest):
        means = [sum(lowest[name][case, eps] for case in cases) / len(cases) for eps in sizes]
        above = "" if best is None else f"{max(best[place] - lowest[name][place] for place in places):+.3f}"
        counting = [place for place in spent[name] if place in places or (name in chained and place[0] in cases)]
        gradients = sum(spent[name][place] for place in counting) / len(cases)
        lines.append(f"| {name} | " + " | ".join(f"{mean:.3f}" for mean in means) + f" | {gradients:.0f} | {above} |")
    return "\n".join([*lines, ""])


def _settings(record: Record) -> str:
    """What must be the same for Dice to be compared."""
    threat = record.threat
    return (
        f"{record.mode}, {threat.norm}, {threat.unit}, {threat.reference}, {record.policy}, {record.precision}, "
        f"statistics {record.statistics or 'unknown'}"
    )


def figures(records: Sequence[Record]) -> tuple[dict[str, Found], dict[str, Found]]:
    """Return for each attack the lowest Dice of each case and eps, of the files, and the gradients spent there.

    A case and eps at which a member of an ensemble has no record is left out: the others alone are a weaker attack.
    """
    lowest: dict[str, Found] = {}
    spent: dict[str, Found] = {}
    run: dict[str, dict[tuple[str, float], set[str]]] = {}
    for record in records:
        name, place = _group(record), (record.case, record.eps)
        dice = min(record.dice(deployed=True), record.clean_dice(deployed=True))
        found, gradients = lowest.setdefault(name, {}), spent.setdefault(name, {})
        found[place] = min(found.get(place, 1.0), dice)
        gradients[place] = gradients.get(place, 0) + record.gradients
        run.setdefault(name, {}).setdefault(place, set()).add(record.attack)
    for name, places in run.items():
        members = {member for member, group in GROUPS.items() if group == name} or {name}
        for place in (place for place, attacks in places.items() if attacks != members):
            del lowest[name][place], spent[name][place]
    return lowest, spent


if __name__ == "__main__":
    main()
