"""Changes of protocols and systems, written as keyword arguments."""

from __future__ import annotations

from pathlib import Path

from voxward.commands.compose import compose

_PLACES = {
    **dict.fromkeys(("eps", "norm", "unit", "reference", "statistics"), "threat."),
    **dict.fromkeys(("steps", "restarts", "queries", "fab_steps", "threshold"), "budget."),
}


def changes(**options):
    """`--set` for each option; of a protocol's nested ones with the part they stand in."""
    return [f"{_PLACES.get(name, '')}{name}={_yaml(value)}" for name, value in options.items()]


def composed(folder, kind, systems, **entries) -> Path:
    """A system.yaml in a folder of its own."""
    return compose(kind, systems, out=Path(folder) / f"{kind}.yaml", overrides=changes(**entries))


def _yaml(value):
    if isinstance(value, tuple | list):
        return f"[{', '.join(map(_yaml, value))}]"
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
