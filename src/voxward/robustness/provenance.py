"""What an attack folder says about where it comes from."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from voxward.core.invocation import Invocation
from voxward.core.provenance import UNITS, Work, sitting
from voxward.robustness.bench import Worker

ATTACK = "attack"
"""The kind of work."""


def noted(
    folder: Path, call: Invocation, worker: Worker, settings: Mapping[str, Any], *, done: Callable[[], int]
) -> AbstractContextManager[None]:
    """Return a block that notes in the folder what works on it, see `core.provenance.sitting`.

    Args:
        folder: The folder.
        call: How the command was called.
        worker: What does the units.
        settings: The content of settings.json, which has digests of the cases and fingerprints of the systems.
        done: Returns how many units are finished.
    """
    bench = worker.bench

    def begin() -> Work:
        systems = {name: str(one["fingerprint"]) for name, one in settings["systems"].items()}
        return Work(UNITS, bench.dataset, settings["cases"], systems, bench.protocol.seeds)

    device = worker.system(next(iter(bench.sources))).device
    return sitting(folder, ATTACK, call, begin, device=device, done=done, last=True)
