"""One training at a time in a run folder, and one process per device."""

from __future__ import annotations

import os
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from voxward.core.claim import claim, lives_here
from voxward.core.errors import UserError

CLAIM = ".training"
"""The file in a run folder that says which process trains there; it is removed at the end."""
EXPIRES = 300.0
"""Seconds without a sign of life after which another machine's process is taken for dead."""
_PAUSE = 1.0


@contextmanager
def training_alone(root: Path, what: str = "training", pause: float = _PAUSE) -> Iterator[None]:
    """Hold a run folder, so that no second process trains in it meanwhile.

    A process of this machine that has died holds nothing. Another machine's process may be dead or alive: whether its
    claim is renewed is waited for, for at most five minutes.

    Args:
        root: The run folder, which is made; it is removed again if it is empty at the end.
        what: The word for the work in messages.
        pause: Seconds between two looks at another machine's claim.

    Raises:
        UserError: Another process trains in the folder.
    """
    path, first, told = root / CLAIM, _touched(root / CLAIM), False
    while True:
        with claim(path, EXPIRES) as ours:
            if ours:
                try:
                    yield
                finally:
                    _tidy(root)
                return
        touched = _touched(path)
        if touched is not None and (lives_here(path) or (first is not None and touched != first)):
            raise UserError(
                f"another process is at work in {root} ({what}): wait for its end, or choose another --out. If there "
                f"is none, remove {path}"
            )
        if first is None or touched is None:
            first = touched
            continue
        if not told:
            warnings.warn(
                f"{path} says that another machine's process is at work in {root}: waiting up to {EXPIRES:g} s for a "
                "sign of life",
                stacklevel=3,
            )
            told = True
        time.sleep(pause)


def refuse_launcher(devices: int) -> None:
    """Refuse to train with one device each where a launcher such as torchrun started several processes.

    Each of them would train the whole run.

    Args:
        devices: The number of devices that were asked for.

    Raises:
        UserError: The environment says that there are more processes.
    """
    world = os.environ.get("WORLD_SIZE", "1")
    if devices == 1 and world.isdigit() and int(world) > 1:
        raise UserError(
            f"a launcher such as torchrun started {world} processes (WORLD_SIZE={world}), and each would train the "
            f"whole run on its own: pass --devices {world}, or start one process"
        )


def _touched(path: Path) -> int | None:
    try:
        return path.stat().st_mtime_ns
    except FileNotFoundError:
        return None


def _tidy(root: Path) -> None:
    """Remove a folder that holds nothing but the claim: the training was refused before it wrote anything."""
    with suppress(OSError):
        if [entry.name for entry in root.iterdir()] == [CLAIM]:
            (root / CLAIM).unlink()
            root.rmdir()
