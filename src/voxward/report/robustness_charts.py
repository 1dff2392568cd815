"""Charts from records: the Dice over the size of the change, and over an attack's evaluations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import pairwise

import numpy as np

from voxward.core.errors import UserError
from voxward.metrics.summary import Summary, summarise
from voxward.report.benchmark import comparable
from voxward.report.chart import Axis, Chart, Line, Panel, Point
from voxward.report.html.strings import STRINGS
from voxward.report.palette import LINES, NEUTRAL
from voxward.report.text import number_text
from voxward.robustness.eps import SAME_EPS, eps_texts
from voxward.robustness.record import CLEAN, Record
from voxward.robustness.summary import Key, View, Worst, area_over_evaluations

NOISES = ("noise", "gaussian", "rician")
"""The controls that add noise, in the order of their dashes."""
_DICE = Axis(STRINGS["charts"]["dice"], limits=(0.0, 1.0))
_MOST_SYSTEMS, _MOST_PANELS, _MOST_NOISY, _MOST_POINTS = 8, 12, 2, 200
_OWN_DASHES = 4


def dice_over_eps(
    records: Sequence[Record],
    ensembles: Mapping[str, tuple[str, ...]] | None = None,
    deployed: bool | None = None,
    name: str = "curves",
) -> Chart:
    """Return the worst-case Dice over eps: a panel for the mean and one per class, a line per system.

    A class has the Dice that it has under the attack with the lowest mean over the classes. The panel of the mean also
    has the Dice under each control that adds noise. Bands are 95 % bootstrap intervals.

    Args:
        records: Records of one or several systems.
        ensembles: Sets of attacks by name; the last one is drawn, as the strongest comes last. None: all attacks.
        deployed: Whether the Dice is that of the written files; by default where every record has it.
        name: The name of the chart.

    Raises:
        UserError: There are no records, they do not compare, or a system has no clean control.
    """
    if not records:
        raise UserError("curves need at least one record, got none")
    words = STRINGS["charts"]
    group, attacks = list(ensembles.items())[-1] if ensembles else (words["all_attacks"], None)
    view = replace(comparable(records, deployed), attacks=attacks)
    worst = view.worst()
    shown = _shown_systems(view, worst)
    classes = records[0].classes
    means = tuple(
        line
        for number, model in enumerate(view.models)
        for line in _mean_lines(view, worst, model, number, (model in shown, len(shown) <= _MOST_NOISY))
    )
    panels = [Panel(words["mean"], means)]
    fallen = _most_hurt(worst, len(classes)) if len(classes) >= _MOST_PANELS else range(len(classes))
    for place, title in enumerate(classes):
        lines = tuple(
            _line(model, number, _class_curve(view, worst, model, place), shown=model in shown)
            for number, model in enumerate(view.models)
        )
        panels.append(Panel(title, lines, shown=place in fallen))
    if len(classes) == 1 and not any(None in record.clean + record.adversarial for record in records):
        panels = [Panel(classes[0], means)]  # the same figures
    notes = [words["worst_over"].format(attacks=group), words["bands"]]
    if len(panels) > 1 and any(record.attack in NOISES for record in records):
        notes.append(words["noise_of_mean"])
    if len(shown) < len(view.models):
        notes.append(words["some_systems"].format(shown=len(shown), count=len(view.models)))
    if len(fallen) < len(classes):
        notes.append(words["some_classes"].format(shown=len(fallen), count=len(classes)))
    return Chart(
        name, words["over_eps"].format(attacks=group), eps_axis(records), _DICE, tuple(panels), words["class"],
        notes=tuple(notes),
    )  # fmt: skip


def dice_over_evaluations(records: Sequence[Record], eps: float | None = None, name: str = "iterations") -> Chart:
    """Return the lowest Dice so far over an attack's evaluations: a panel per system and eps, a line per attack.

    It is the Dice of the array that the attack computes, because no file is written at every evaluation. A line is
    told with its area, the mean over its evaluations.

    Args:
        records: Records of one or several systems.
        eps: The size whose panels are shown first; by default the largest one.
        name: The name of the chart.

    Raises:
        UserError: There are no attacks at this eps.
    """
    view, words, text = View(records), STRINGS["charts"], eps_texts(records)
    sizes = view.eps
    given = None if eps is None else next((size for size in sizes if abs(size - eps) < SAME_EPS), None)
    if not sizes or (eps is not None and given is None):
        raise UserError(f"eps must be one at which there are attacks, {', '.join(map(text, sizes))}, got {eps}")
    kept = [record for record in records if record.kind == "attack" and len(record.history) > 1]
    attacks, told = sorted({record.attack for record in kept}), sorted({record.eps for record in kept}) or sizes
    chosen = told[-1] if given is None else given
    ordered = (chosen, *(size for size in told if size != chosen))
    panels = [
        Panel(words["system_at"].format(system=model, eps=text(size)), _history_lines(view, attacks, model, size),
              shown=size == chosen and number < _MOST_PANELS)
        for size in ordered for number, model in enumerate(view.models)
    ]  # fmt: skip
    # A system that was attacked at other sizes only has no line there.
    panels = [panel for panel in panels if panel.lines] or panels[:1]
    notes = words["lowest_so_far"], words["area"], words["of_arrays"]
    written = (words["files_differ"],) if any(record.deployed is not None for record in kept) else ()
    chained = sorted({record.attack for record in kept if record.chained})
    joint = (words["chained"].format(attacks=", ".join(chained)),) if chained else ()
    return Chart(
        name, words["over_evaluations"].format(eps=text(chosen)), Axis(words["evaluations"], logarithmic=True),
        Axis(words["dice_of_array"], limits=(0.0, 1.0)), tuple(panels), words["system_and_eps"], steps=True,
        notes=(*notes, *written, *joint),
    )  # fmt: skip


def eps_axis(records: Sequence[Record]) -> Axis:
    """Return the axis of the sizes of the changes, whose ticks are called 8/255 or 20 HU.

    Args:
        records: Records of one threat model.
    """
    text, threat = eps_texts(records), records[0].threat
    key = "eps_l2" if threat.norm == "l2" else "eps" if threat.unit == "range" else "eps_native"
    sizes = sorted({0.0, *(record.eps for record in records if record.kind == "attack")})
    return Axis(STRINGS["charts"][key], tuple((eps, text(eps)) for eps in sizes))


def noise_summary(view: View, model: str, control: str, eps: float) -> Summary | None:
    """Return the Dice under a control that adds noise, the lowest of its seeds on each case.

    Args:
        view: The records and how they are read.
        model: The name of the system.
        control: The name of the control.
        eps: The size of the changes that it is as large as.

    Returns:
        The summary over cases; None where the control was not run.
    """
    found: dict[str, float] = {}
    for record in view.records:
        if (record.model, record.attack, record.eps) != (model, control, eps):
            continue
        if view.deployed and record.deployed is None:
            continue
        dice = record.dice(view.deployed, view.policy)
        found[record.case] = min(found.get(record.case, dice), dice)
    return summarise(list(found.values()))


def _mean_lines(
    view: View, worst: Mapping[Key, Worst], model: str, number: int, shown: tuple[bool, bool]
) -> list[Line]:
    """The worst case of a system, and the noise controls. shown: the worst case, and whether the controls fit, too."""
    clean = summarise(list(view.clean_dice(model).values()))
    values: dict[float, list[float]] = {}
    for key, found in worst.items():
        if key.model == model and key.eps:
            values.setdefault(key.eps, []).append(found.dice)
    summaries = [(0.0, clean), *((eps, summarise(dice)) for eps, dice in sorted(values.items()))]
    lines = [_line(model, number, summaries, shown=shown[0])]
    for dash, control in enumerate(NOISES, 1):
        noise = [(eps, noise_summary(view, model, control, eps)) for eps in view.eps if eps]
        if any(summary is not None for _, summary in noise):
            called, points = STRINGS["charts"][control], [(0.0, clean), *noise]
            alone = len(view.models) == 1
            line = _line(called if alone else model, NEUTRAL if alone else number, points, dash, all(shown))
            lines.append(line if alone else replace(line, kind=called))
    return lines


def _class_curve(view: View, worst: Mapping[Key, Worst], model: str, place: int) -> list[tuple[float, Summary | None]]:
    values: dict[float, list[float | None]] = {}
    for record in view.records:
        if record.model == model and record.attack == CLEAN:
            values.setdefault(0.0, []).append(record.clean_scores(view.deployed)[place])
    for key, found in worst.items():
        if key.model == model and key.eps:
            values.setdefault(key.eps, []).append(found.scores[place])
    return [(eps, summarise(scores)) for eps, scores in sorted(values.items())]


def _line(
    name: str, number: int, summaries: Sequence[tuple[float, Summary | None]], dash: int = 0, shown: bool = True
) -> Line:
    own = number // len(LINES)
    return Line(
        name, tuple(Point.of(eps, summary) for eps, summary in summaries), number % len(LINES),
        dash if dash or not own else _OWN_DASHES + (own - 1) % 2, shown,
    )  # fmt: skip


def _shown_systems(view: View, worst: Mapping[Key, Worst]) -> tuple[str, ...]:
    """All systems, or of many those with the highest mean Dice over everything that was attacked."""
    if len(view.models) <= _MOST_SYSTEMS:
        return view.models
    means = {model: np.mean([w.dice for key, w in worst.items() if key.model == model] or [0]) for model in view.models}
    return tuple(sorted(view.models, key=lambda model: -means[model])[:_MOST_SYSTEMS])


def _most_hurt(worst: Mapping[Key, Worst], count: int) -> list[int]:
    """The places of the classes with the lowest mean Dice under attack."""
    scores = [[w.scores[place] for w in worst.values()] for place in range(count)]
    known = [[value for value in values if value is not None] for values in scores]
    order = sorted(range(count), key=lambda place: (not known[place], np.mean(known[place] or [1])))
    return order[: _MOST_PANELS - 1]


def _history_lines(view: View, attacks: Sequence[str], model: str, eps: float) -> tuple[Line, ...]:
    found = [(number, attack, view.history(model, attack, eps)) for number, attack in enumerate(attacks)]
    return tuple(
        Line(attack, _changes(values), number % len(LINES), 0 if number < len(LINES) else _OWN_DASHES,
             figure=STRINGS["charts"]["auc"].format(value=number_text(area)) if area is not None else "")
        for number, attack, values in found
        if values
        for area in (area_over_evaluations(values),)
    )  # fmt: skip


def _changes(values: Sequence[float]) -> tuple[Point, ...]:
    """The evaluations at which the lowest Dice so far changes, and the last one; of very many, those farthest apart."""
    places = [0, *(place for place, (a, b) in enumerate(pairwise(values), 1) if a != b), len(values) - 1]
    places = sorted(set(places))
    if len(places) > _MOST_POINTS:
        wanted = np.geomspace(1, len(values), _MOST_POINTS) - 1
        places = sorted({0, len(values) - 1, *(int(place) for place in wanted)})
    return tuple(Point(float(place + 1), values[place]) for place in places)
