"""How many weights the networks have whose run folders a report knows."""

from __future__ import annotations

import math

from safetensors import SafetensorError, safe_open

from voxward.report.sources import AttackSource, Sources
from voxward.runs.folder import RunFolder

# What a normalisation layer counts is stored beside the weights, and is none.
_COUNTED = ("running_mean", "running_var", "num_batches_tracked")


def weights_of(sources: Sources) -> dict[tuple[str, str], int]:
    """Return the number of weights by the names of attack folder and system, where it is known.

    It is known of a single run whose folder is among the sources, or holds the attack folder.
    """
    runs = {run.name: run.folder for run in sources.runs}
    found = {}
    for source in sources.attacks:
        for model, system in source.systems.items():
            folder = _around(source, model) or runs.get(model)
            number = _count(folder) if folder is not None and system.get("kind") == "run" else None
            if number is not None:
                found[source.name, model] = number
    return found


def _around(source: AttackSource, model: str) -> RunFolder | None:
    parent = source.folder.resolve().parent
    run = RunFolder(parent)
    return run if parent.name == model and run.recipe.is_file() else None


def _count(run: RunFolder) -> int | None:
    """The number of weights in a checkpoint, of which only the header is read."""
    sizes: list[int]
    for path in sorted((run.root / "checkpoints").glob("*.safetensors")):
        try:
            with safe_open(path, framework="numpy") as file:
                names = [name for name in file.keys() if not name.endswith(_COUNTED)]  # noqa: SIM118 - no mapping
                sizes = [math.prod(file.get_slice(name).get_shape()) for name in names]
                return sum(sizes)
        except (SafetensorError, OSError):
            continue
    return None
