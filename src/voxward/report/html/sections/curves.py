"""The section that shows how the Dice falls: over the size of the change, and over an attack's evaluations."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from voxward.core.errors import UserError
from voxward.report.chart import Chart
from voxward.report.html.page import Setting
from voxward.report.html.strings import STRINGS
from voxward.report.robustness_charts import dice_over_eps, dice_over_evaluations
from voxward.report.sources import AttackSource, Sources
from voxward.robustness.eps import SAME_EPS


@dataclass(frozen=True)
class Curves:
    """The charts of one attack folder.

    Attributes:
        name: The name of the folder.
        charts: The charts that can be drawn.
        problems: Why others cannot, a sentence each.
    """

    name: str
    charts: tuple[Chart, ...]
    problems: tuple[str, ...]


def curves(sources: Sources, setting: Setting) -> tuple[Curves, ...] | None:
    """Return the charts of each attack folder; None where there is none with records."""
    found = sources.attacked
    return tuple(curves_of(source, number, setting.look.eps) for number, source in enumerate(found, 1)) or None


def curves_of(source: AttackSource, number: int, eps: str | float | None = None) -> Curves:
    """Return the charts of an attack folder.

    Args:
        source: The folder and its records.
        number: The number of the folder on the page, from 1, which makes the names of the charts unique.
        eps: The size whose courses are shown first; None: the largest one.
    """
    made = [
        _made(source, lambda: dice_over_eps(source.records, name=f"dice-over-eps-{number}")),
        _made(source, lambda: _over_evaluations(source, f"dice-over-evaluations-{number}", eps)),
    ]
    charts = tuple(one for one in made if isinstance(one, Chart))
    return Curves(source.name, charts, tuple(one for one in made if isinstance(one, str)))


def _over_evaluations(source: AttackSource, name: str, eps: str | float | None) -> Chart | str:
    if not any(len(record.history) > 1 for record in source.records if record.kind == "attack"):
        return STRINGS["curves"]["no_history"].format(folder=source.name)
    # Of several folders not each was attacked at the size that is asked for.
    sizes = [r.eps for r in source.records if eps is not None and abs(r.eps - float(eps)) < SAME_EPS and r.eps]
    return dice_over_evaluations(source.records, sizes[0] if sizes else None, name)


def _made(source: AttackSource, make: Callable[[], Chart | str]) -> Chart | str:
    """A chart, or the sentence that says why there is none."""
    try:
        return make()
    except UserError as error:
        return STRINGS["curves"]["no_chart"].format(folder=source.name, reason=error)
