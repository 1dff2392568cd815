"""The candidates of a search by trainings: one table, and one picture with the rungs as lines."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from voxward.architecture_search.contest import Contest
from voxward.architecture_search.cost import Cost
from voxward.architecture_search.rungs import Score, front
from voxward.report.palette import FAINT, line_colour
from voxward.report.style import PAGE_INCHES, save, styled
from voxward.report.table import Column, Row, Table, Value
from voxward.report.text import number_text

ORIGINS = ("uniform", "super-net", "mutation")
_DASHED = (0, (3, 2))


@dataclass(frozen=True)
class Contender:
    """A candidate as it is shown.

    Attributes:
        number: Its number.
        origin: Where it comes from.
        choices: What it chose, by name.
        cost: What it costs for one patch.
        scores: Its score at the end of each rung that it reached.
        rank: Its place among those that were trained to the end, from 1; None for the others.
        on_front: Whether no other candidate that was trained to the end has more Dice for as few multiply-adds.
    """

    number: int
    origin: str
    choices: Mapping[str, Any]
    cost: Cost
    scores: tuple[Score, ...]
    rank: int | None
    on_front: bool


def contenders(contest: Contest) -> tuple[Contender, ...]:
    """Return all candidates of a search that has ended: the winner first, then the others by how far they came."""
    last = len(contest.rungs) - 1
    ranked = [one for one in contest.ranked(last) if one.score.dice >= 0]
    place = {one.number: n for n, one in enumerate(ranked, 1)}
    best = {one.number for one in front(ranked)}
    found = [_contender(contest, number, place.get(number), number in best) for number in range(len(contest.book))]
    return tuple(sorted(found, key=_order))


def _contender(contest: Contest, number: int, rank: int | None, on_front: bool) -> Contender:
    candidate = contest.book.candidate(number)
    scores = (contest.book.score(number, rung) for rung in range(len(contest.rungs)))
    reached = tuple(score for score in scores if score is not None)
    cost = contest.space.cost(candidate)
    return Contender(number, candidate.origin, candidate.choices, cost, reached, rank, on_front)


def _order(one: Contender) -> tuple[float | int, ...]:
    dice = one.scores[-1].dice if one.scores else -2.0
    return (one.rank or float("inf"), -len(one.scores), -dice, one.number)


def candidates_table(found: Sequence[Contender], shares: Sequence[float], notes: Collection[str] = ()) -> Table:
    """What each candidate is made of, what it costs, and what it scored at the end of each rung: a row per candidate.

    Args:
        found: The candidates.
        shares: The share of a whole training at the end of each rung.
        notes: What else must be known, a sentence each.
    """
    robust = any(score.robust is not None for one in found for score in one.scores)
    dice = [f"Dice at {_share(share)}" for share in shares]
    made_of = list(found[0].choices) if found else []
    names = [*dice, *(["robust Dice"] if robust else []), "steps", "seconds", "GMACs", "parameters M"]
    columns = (Column("candidate"), Column("origin", "left"), *map(Column, names), Column("choices", "left"))
    measured = [f"dice_{n}" for n in range(len(shares))]
    fields = (
        "candidate", "rank", "origin", *measured, "robust_dice", "steps", "seconds", "macs", "parameters", "front",
        *made_of,
    )  # fmt: skip
    rows = tuple(Row(_cells(one, len(shares), robust), strong=one.rank == 1) for one in found)
    return Table(
        columns, rows, caption=_CAPTION, notes=tuple(notes), fields=fields,
        data=tuple(_figures(one, len(shares), made_of) for one in found),
    )  # fmt: skip


_CAPTION = (
    "Dice: mean over the foreground classes, counted over all selection patches together, with the exponential mean "
    "of the weights;\nthese cases chose the winner, so that its own value is too high: evaluate it on the validation "
    "cases. Bold: the winner. *: on the\nPareto front of Dice against GMACs among those that were trained to the end."
)


def _cells(one: Contender, rungs: int, robust: bool) -> tuple[str, ...]:
    last = one.scores[-1] if one.scores else Score(-1.0)
    dice = [_text(one.scores[n].dice) if n < len(one.scores) else "" for n in range(rungs)]
    name = f"{one.number}{'*' if one.on_front else ''}"
    struck = [number_text(last.robust)] if robust else []
    chosen = ", ".join(f"{key} {value:g}" if isinstance(value, float) else f"{key} {value}"
                       for key, value in one.choices.items())  # fmt: skip
    cost = (f"{one.cost.macs / 1e9:.3f}", f"{one.cost.parameters / 1e6:.3f}")
    return (name, one.origin, *dice, *struck, str(last.steps), f"{last.seconds:.0f}", *cost, chosen)


def _text(dice: float) -> str:
    return "diverged" if dice < 0 else number_text(dice)


def _figures(one: Contender, rungs: int, made_of: Sequence[str]) -> tuple[Value, ...]:
    last = one.scores[-1] if one.scores else Score(-1.0)
    dice = [one.scores[n].dice if n < len(one.scores) and one.scores[n].dice >= 0 else None for n in range(rungs)]
    cost = (one.cost.macs, one.cost.parameters, int(one.on_front))
    chosen = [one.choices[name] for name in made_of]
    return (one.number, one.rank, one.origin, *dice, last.robust, last.steps, last.seconds, *cost, *chosen)


def _share(share: float) -> str:
    return "the end" if share == 1.0 else f"1/{round(1 / share)}"


@styled()
def rungs_figure(found: Sequence[Contender], shares: Sequence[float], path: Path) -> None:
    """Draw what each candidate scored at the end of each rung: a line per candidate, grey where it was left behind.

    Args:
        found: The candidates.
        shares: The share of a whole training at the end of each rung.
        path: The file, PNG or SVG by its suffix.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(PAGE_INCHES, 3.2), layout="constrained")
    rungs, cost = figure.subplots(1, 2, width_ratios=(3, 2), sharey=True)
    for one in sorted(found, key=_order, reverse=True):
        dice = [max(score.dice, 0.0) for score in one.scores]
        if dice:
            colour = _colour(one)
            line = "-" if one.rank is not None else _DASHED
            width = 2.2 if one.rank == 1 else 1.1
            rungs.plot(range(len(dice)), dice, color=colour, linestyle=line, linewidth=width, marker="o", markersize=3)
            size = 30 if one.rank == 1 else 14
            cost.scatter([one.cost.macs / 1e9], [dice[-1]], s=size, color=colour if one.rank is not None else FAINT)
            if one.rank is not None:
                rungs.annotate(
                    str(one.number), (len(dice) - 1, dice[-1]), xytext=(5, -2), textcoords="offset points", fontsize=7
                )
    for n, name in enumerate(ORIGINS):
        if any(one.origin.startswith(name) for one in found):
            rungs.plot([], [], color=line_colour(n).light, label=name)
    rungs.set_xticks(range(len(shares)), [_share(share) for share in shares])
    rungs.set_xlabel("share of a whole training")
    rungs.set_ylabel("Dice on the selection patches")
    rungs.legend(title="solid: trained to the end", title_fontsize=7)
    cost.set_xlabel("GMACs per patch")
    save(figure, path)


def _colour(one: Contender) -> str:
    places = [n for n, name in enumerate(ORIGINS) if one.origin.startswith(name)]
    return line_colour(places[0] if places else len(ORIGINS)).light


def importance_note(importances: Mapping[str, float]) -> list[str]:
    """Return a sentence about which choices mattered at the end of the first rung; none where that is not known."""
    if not importances:
        return []
    shown = ", ".join(f"{name} {value:.2f}" for name, value in sorted(importances.items(), key=lambda e: -e[1]))
    return [f"how much each choice says about Dice at the end of the first rung (PED-ANOVA, sum 1): {shown}"]
