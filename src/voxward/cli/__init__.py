"""The door: a table of commands. The only place that prints or exits."""

from __future__ import annotations

import argparse
import os
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from rich.markup import escape

from voxward.cli import data, robustness, systems, training
from voxward.cli.arguments import Arguments, errors, take_negative_fractions


@dataclass(frozen=True)
class Command:
    """One line of the table: what it says of itself, its arguments, and what runs (returning the exit code)."""

    help: str
    arguments: Callable[[argparse.ArgumentParser], None]
    run: Callable[[Arguments], int]


COMMANDS = {
    "check": Command("read every case and report all problems", data.check_arguments, data.check),
    "plan": Command("measure a dataset and decide patch, spacing, normalisation", data.plan_arguments, data.plan),
    "prepare": Command("resample and normalise all cases into a folder", data.prepare_arguments, data.prepare),
    "train": Command("train a recipe on a dataset", training.train_arguments, training.train),
    "compose": Command("combine runs into an ensemble or a cascade", systems.compose_arguments, systems.compose),
    "predict": Command("segment volumes with a run or a system", systems.predict_arguments, systems.predict),
    "merge": Command("merge two segmentations by owned classes", systems.merge_arguments, systems.merge),
    "cv": Command("cross-validate recipes; several processes may share it", training.cv_arguments, training.cv),
    "suspects": Command("list training cases that never learn", training.suspects_arguments, training.suspects),
    "evaluate": Command("score a run or a system on unseen cases", systems.evaluate_arguments, systems.evaluate),
    "harden": Command("train a run on adversarial patches", training.harden_arguments, training.harden),
    "search": Command("search a network architecture on a dataset", training.search_arguments, training.search),
    "attack": Command(
        "attack systems through their whole pipeline, by a protocol", robustness.attack_arguments, robustness.attack
    ),
    "benchmark": Command("the former name of attack", robustness.attack_arguments, robustness.benchmark),
    "demo": Command("train, evaluate and attack in a few minutes", robustness.demo_arguments, robustness.demo),
}


def parser() -> argparse.ArgumentParser:
    """The command line, built from the table."""
    top = argparse.ArgumentParser(prog="voxward", description="Train, attack and harden 3D medical segmentation.")
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, command in COMMANDS.items():
        line = commands.add_parser(name, help=command.help, description=command.help)
        take_negative_fractions(line)
        command.arguments(line)
    return top


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Exit code 0; 1 where `check` found errors or an attack's own checks failed; 2 for bad input; 130 when interrupted.
    """
    from voxward.training.interrupt import Interrupted

    # Before torch is imported: a thread that waits for another one spins, and on a busy machine takes the core that the
    # other one needs. Spinning less costs nothing on a quiet machine.
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")
    arguments = parser().parse_args(argv)
    warnings.showwarning = _warn  # a user has no use for the line of code that warns
    try:
        return COMMANDS[arguments.command].run(arguments)
    except (ValueError, OSError, ImportError, FloatingPointError) as error:
        errors.print(f"[red]error:[/red] {escape(str(error))}", soft_wrap=True)
        return 2
    except (Interrupted, KeyboardInterrupt) as stop:
        errors.print(f"[yellow]interrupted:[/yellow] {escape(str(stop) or 'what was finished is kept')}")
        return 130


def _warn(message: Warning | str, *where: object, **others: object) -> None:
    errors.print(f"[yellow]warning:[/yellow] {escape(str(message))}", soft_wrap=True)
