"""voxward slurm: a batch script for SLURM that does a command on several machines."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from voxward.core.errors import UserError
from voxward.core.job import Job
from voxward.engine.slurm import together_script, units_script

UNITS, TOGETHER = ("attack", "benchmark", "cv", "search", "suite"), ("train", "harden")
"""The commands whose units are done by the workers of a cluster, and those in which all processes train one network."""
_OURS = ("--cluster", "--resources", "--devices", "--nodes", "--resume")


def slurm(words: Sequence[str], job: Job, *, setup: str = "", restarts: int = 20) -> str:
    """Return the text of a batch script for SLURM, to be given to `sbatch`, that does a command on several machines.

    `attack`, `cv`, `search` and `suite` get a Dask scheduler and workers, one unit at a time on each; `train` and
    `harden` train one network on all GPUs together. Some minutes before the time limit, what runs is finished, or
    saved, and the job puts itself back into the queue; it goes on there until the command is finished. The exit code of
    the job is that of the command. All machines must see the folder from which the script is submitted, and the data.

    Args:
        words: The command and its arguments, such as ["attack", "run", "--dataset", "Task04_Hippocampus"]; without
            those that the script adds itself, such as `--cluster`.
        job: What is asked for.
        setup: What the shell does first on each machine, such as `module load cuda; source venv/bin/activate`.
        restarts: How often the job may put itself back into the queue.

    Returns:
        The script.

    Raises:
        UserError: The command cannot be done on several machines, or has an argument that the script adds itself.

    Example:
        >>> print(voxward.slurm(["cv", "data", "--out", "cv"], Job(nodes=2, time="8:00:00", gpus_per_node=4)))
    """
    words = [str(word) for word in words]
    words = words[1:] if words[:1] == ["voxward"] else words
    _check(words, restarts)
    if words[0] in TOGETHER:
        return together_script(job, words, str(Path(_out(words)) / "recipe.yaml"), setup, restarts)
    return units_script(job, words, setup, restarts)


def _check(words: Sequence[str], restarts: int) -> None:
    if not words or words[0] not in UNITS + TOGETHER:
        raise UserError(
            f"a command of {', '.join((*UNITS, *TOGETHER))} must be given after --, got {words[0] if words else 'none'}"
            ": no other one is done on several machines"
        )
    if found := [word for word in words if word.partition("=")[0] in _OURS]:
        raise UserError(f"the script adds {found[0].partition('=')[0]} to the command itself: leave it out")
    if restarts < 0:
        raise UserError(f"restarts must be at least 0, got {restarts}")


def _out(words: Sequence[str]) -> str:
    """The folder of the run that is trained."""
    parser = argparse.ArgumentParser(add_help=False, exit_on_error=False)
    parser.add_argument("--out")
    found: str | None = parser.parse_known_args(list(words))[0].out
    if found is None:
        raise UserError(f"{words[0]} needs --out, the folder of the run")
    return found
