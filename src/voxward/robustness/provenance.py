"""What an attack folder says about where it comes from."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path

import torch

from voxward.core.case import Case
from voxward.core.invocation import Invocation
from voxward.core.provenance import UNITS, Work, sitting
from voxward.data.content import contents_of

ATTACK = "attack"
"""The kind of work."""


def noted(
    folder: Path,
    call: Invocation,
    cases: Mapping[str, Case],
    dataset: str,
    systems: Mapping[str, str],
    *,
    seeds: tuple[int, ...],
    device: torch.device,
    done: Callable[[], int],
) -> AbstractContextManager[None]:
    """Return a block that notes in the folder what works on it, see `core.provenance.sitting`.

    Args:
        folder: The folder.
        call: How the command was called.
        cases: The cases, by their ids.
        dataset: The folder of the dataset; empty where it is not known.
        systems: The fingerprint of each system, by its name.
        seeds: The seeds of the attacks.
        device: What is computed on.
        done: Returns how many units are finished.
    """

    def begin() -> Work:
        return Work(UNITS, dataset, contents_of([*cases.values()]), systems, seeds)

    return sitting(folder, ATTACK, call, begin, device=device, done=done)
