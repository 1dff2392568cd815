"""What kind of system was measured, how it was trained, and whether it knew the scans."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from voxward.report.html.strings import STRINGS, say
from voxward.report.run_source import RunSource
from voxward.report.sources import AttackSource, Sources


def about_lines(source: AttackSource, sources: Sources) -> tuple[str, ...]:
    """Return what is known of the systems of a folder, one sentence each; none without records.

    Args:
        source: The folder.
        sources: All that was read: the trainings of the systems may be among it.
    """
    runs = {run.name: run for run in sources.runs}
    return tuple(line for model in source.models for line in _system(source, model, runs.get(model)))


def title_names(sources: Sources) -> str:
    """Return the systems that were attacked, and the datasets: "'run' on Task04_Hippocampus"; empty without any."""
    found = [one for one in sources.attacks if one.records]
    models = dict.fromkeys(model for one in found for model in one.models)
    data = dict.fromkeys(one.dataset for one in found if one.dataset)
    systems = ", ".join(say("about", "quoted", name=name) for name in models)
    return say("about", "on", systems=systems, data=", ".join(data)) if data else systems


def _system(source: AttackSource, model: str, run: RunSource | None) -> Iterator[str]:
    kind = str(source.systems.get(model, {}).get("kind", ""))
    is_run = kind == "run"
    yield say("about", f"kind_{kind}" if f"kind_{kind}" in STRINGS["about"] else "kind_unknown", system=model)
    if is_run and run is not None and run.recipe is not None and run.settings is not None:
        yield say("about", "trained", recipe=run.recipe.name, dataset=Path(run.settings.dataset).name)
    if source.seen:
        return
    yield say("about", _unseen(source, model, is_run), system=model)


def _unseen(source: AttackSource, model: str, is_run: bool) -> str:
    """Which sentence is true of the scans that were attacked, none of which is among those that were seen."""
    # Scans that a run was trained on are left out of an attack by their images.
    if is_run and source.checked:
        return "unseen"
    # Folders of before do not say which systems told what they were trained on: what a single one left out, it told.
    told = model in source.known or (not source.known and source.models == (model,) and bool(source.left_out))
    return "unseen_told" if told else "seen_unknown"
