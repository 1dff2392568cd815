"""The command line: a table of commands. This is the only place that prints or exits."""

from __future__ import annotations

import argparse
import os
import shlex
import sys
import traceback
from collections.abc import Callable, Collection, Sequence
from contextlib import nullcontext
from dataclasses import dataclass

from rich.markup import escape

from voxward import __version__
from voxward.cli import cluster, data, doctor, report, reproduction, robustness, suite, systems, training
from voxward.cli.arguments import Arguments, errors, take_negative_fractions
from voxward.cli.completion import SHELLS, PrintCompletion
from voxward.cli.warned import warnings_in_lines
from voxward.core.errors import CasesFailed, MissingPackageError, ProcessLost, UserError
from voxward.core.interrupt import Interrupted, like_ctrl_c
from voxward.core.invocation import typed
from voxward.core.launcher import refuse_several

# Errors that the user, or the machine, can mend: one line says what is wrong. Every other error is a bug of voxward.
_MENDABLE = (UserError, OSError, MissingPackageError, FloatingPointError, MemoryError)

_GOES_ON = ("attack", "benchmark", "cv", "demo", "suite")
"""The commands that go on by themselves where an earlier call was stopped; others need `--resume`, or begin again."""

_TOGETHER = ("train", "harden", "worker", "slurm")
"""The commands that torchrun or srun may start several times with the same arguments."""

_EXIT_CODES = """\
exit codes:
  0    all went well
  1    some cases failed and are listed, the others are done; or a check failed (`check` found errors, or the figures
       of an attack are not to be trusted); or a report has nothing at all to show; or another process of a training
       was lost; or a bug
  2    bad input: an argument, a file or a setting is wrong, and the message says which; or every case failed
  3    the figures do not meet what the protocol requires
  130  interrupted; what was finished is kept
"""


@dataclass(frozen=True)
class Command:
    """One line of the table of commands.

    Attributes:
        help: One sentence about the command.
        arguments: Adds the command's arguments to its parser.
        run: Runs the command, and returns the exit code.
    """

    help: str
    arguments: Callable[[argparse.ArgumentParser], None]
    run: Callable[[Arguments], int]


COMMANDS = {
    "check": Command("read every case and report all problems; or test a model", data.check_arguments, data.check),
    "from-dicom": Command("make a dataset of volumes from DICOM files", data.from_dicom_arguments, data.from_dicom),
    "from-masks": Command(
        "make a dataset from folders with a mask file for each class", data.from_masks_arguments, data.from_masks
    ),
    "to-dicom": Command("write masks or attacked volumes as DICOM files", data.to_dicom_arguments, data.to_dicom),
    "plan": Command("measure a dataset and decide patch, spacing, normalisation", data.plan_arguments, data.plan),
    "prepare": Command("resample and normalise all cases into a folder", data.prepare_arguments, data.prepare),
    "train": Command("train a recipe on a dataset", training.train_arguments, training.train),
    "compose": Command("combine runs into an ensemble or a cascade", systems.compose_arguments, systems.compose),
    "export": Command("write a run for other programs", systems.export_arguments, systems.export),
    "predict": Command("segment volumes with a run or a system", systems.predict_arguments, systems.predict),
    "merge": Command("merge two segmentations by owned classes", systems.merge_arguments, systems.merge),
    "cv": Command("cross-validate recipes, in this process or on a cluster", training.cv_arguments, training.cv),
    "suite": Command("train and attack many systems on many tasks", suite.suite_arguments, suite.suite),
    "suspects": Command("list training cases that never learn", training.suspects_arguments, training.suspects),
    "evaluate": Command("score a run or a system on unseen cases", systems.evaluate_arguments, systems.evaluate),
    "harden": Command("train a run on adversarial patches", training.harden_arguments, training.harden),
    "search": Command("search a network architecture on a dataset", training.search_arguments, training.search),
    "attack": Command(
        "attack systems through their whole pipeline, by a protocol", robustness.attack_arguments, robustness.attack
    ),
    "corrupt": Command("draw what corruptions do to a case", robustness.corrupt_arguments, robustness.corrupt),
    "benchmark": Command("the former name of attack", robustness.benchmark_arguments, robustness.benchmark),
    "reproduce": Command(
        "do again what a folder holds, and compare", reproduction.reproduce_arguments, reproduction.reproduce
    ),
    "report": Command("write one page on what was measured", report.report_arguments, report.report),
    "serve": Command("show a report in a browser, with its volumes", report.serve_arguments, report.serve),
    "doctor": Command("look at this machine, for a bug report", doctor.doctor_arguments, doctor.doctor),
    "worker": Command("do work for a cluster, in this process", cluster.worker_arguments, cluster.worker),
    "slurm": Command("print a batch script for SLURM", cluster.slurm_arguments, cluster.slurm),
    "demo": Command("train, evaluate and attack in a few minutes", robustness.demo_arguments, robustness.demo),
}


def parser() -> argparse.ArgumentParser:
    """Build the command line from the table."""
    top = argparse.ArgumentParser(
        prog="voxward",
        description="Train, attack and harden 3D medical segmentation.",
        epilog=_EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    top.add_argument("--version", action="version", version=f"voxward {__version__}")
    top.add_argument(
        "--print-completion",
        action=PrintCompletion,
        choices=SHELLS,
        default=argparse.SUPPRESS,
        help="print what makes a shell complete arguments",
    )
    _debug_argument(top, False)
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, command in COMMANDS.items():
        line = commands.add_parser(name, help=command.help, description=command.help)
        take_negative_fractions(line)
        command.arguments(line)
        _debug_argument(line, argparse.SUPPRESS)  # so that it does not undo a --debug before the command
    return top


_MOVED = {
    **dict.fromkeys(("--tta", "--checkpoint", "--overlap", "--precision", "--margin", "--fraction", "--stage"), ""),
    **dict.fromkeys(("--steps", "--restarts", "--queries", "--fab-steps", "--threshold"), "budget."),
    **dict.fromkeys(("--norm", "--unit", "--reference", "--statistics"), "threat."),
    **dict.fromkeys(
        ("--mode", "--gradient", "--policy", "--surrogate", "--erase", "--invent", "--graphs", "--margin-unit"), ""
    ),
}
"""Arguments of version 0.1 that are entries of `--set`, one of their kind, and the part in which each entry stands."""

_GONE = {
    "--members": "write a system: voxward compose ensemble RUN RUN --out x.yaml",
    "--cascade": "write a system: voxward compose cascade COARSE FINE --out x.yaml",
    "--seed": "--set seeds=[N]",
    "--save-volumes": "--set keep=all",
    "--budget": "--estimate",
}
"""Other arguments of version 0.1, and what is written instead."""


def translated(words: Sequence[str], own: Collection[str]) -> list[str]:
    """Turn arguments of version 0.1 into entries of `--set`.

    Args:
        words: The words after `voxward`.
        own: The arguments that the command has.

    Returns:
        The words of today.
    """
    found, rest = list[str](), list(words)
    while rest:
        word = rest.pop(0)
        flag, given, value = word.partition("=")
        if "--set" not in own or flag in own or flag not in _MOVED or not (given or rest):
            found.append(word)
            continue
        entry = f"{_MOVED[flag]}{flag[2:].replace('-', '_')}={value if given else rest.pop(0)}"
        errors.print(f"[yellow]note:[/yellow] {flag} is now: {escape(f'--set {entry}')}", soft_wrap=True)
        found += ["--set", entry]
    return found


def gone(unknown: Sequence[str]) -> str:
    """Return what is written instead of arguments of version 0.1; empty where none of the unknown ones is."""
    found = dict.fromkeys(word.partition("=")[0] for word in unknown)
    return "".join(f"\n{flag} is now: {_GONE[flag]}" for flag in found if flag in _GONE)


def _debug_argument(parser: argparse.ArgumentParser, default: object) -> None:
    parser.add_argument(
        "--debug", action="store_true", default=default, help="print where in the code an error or a warning arose"
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        argv: The words after `voxward`; None takes those of the process.

    Returns:
        The exit code; `voxward --help` says what each means.
    """
    # Before torch is imported: a thread that waits for another one spins, and on a busy machine takes the core that the
    # other one needs. Spinning less costs nothing on a quiet machine.
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")
    words = list(sys.argv[1:] if argv is None else argv)
    with warnings_in_lines():  # some arguments import torch
        arguments = _read(parser(), words)
    debug = vars(arguments).pop("debug")
    with nullcontext() if debug else warnings_in_lines():
        return _done(arguments, words, debug)


def _done(arguments: Arguments, words: Sequence[str], debug: bool) -> int:
    """Run the command, and say of an error what the user needs to know."""
    try:
        with typed(["voxward", *words]), like_ctrl_c():
            return _run(arguments)
    except ProcessLost as error:
        return _told(error, debug, 1) if str(error) or debug else 1  # the process that failed has said why
    except _MENDABLE as error:
        return _told(error, debug)
    except Exception as error:
        if _out_of_memory(error):
            return _told(error, debug)
        _report_bug(words)
        return 1


def _read(top: argparse.ArgumentParser, words: Sequence[str]) -> Arguments:
    command = next((word for word in words if word in COMMANDS), None)
    own = _options(top, command) if command is not None else ()
    arguments, unknown = top.parse_known_args(translated(words, own))
    if unknown:
        top.error(f"unrecognized arguments: {' '.join(unknown)}{gone(unknown)}")
    return arguments


def _options(top: argparse.ArgumentParser, command: str) -> Collection[str]:
    """The names of a command's arguments."""
    commands = next(action for action in top._actions if isinstance(action, argparse._SubParsersAction))
    return tuple(commands.choices[command]._option_string_actions)


def _run(arguments: Arguments) -> int:
    try:
        if arguments.command not in _TOGETHER:
            refuse_several(arguments.command)
        return COMMANDS[arguments.command].run(arguments)
    except (Interrupted, KeyboardInterrupt) as stop:
        text = "what was finished is kept"
        if arguments.command in _GOES_ON:  # also where a training inside it stopped, which speaks of its own --resume
            text += "; give the same command again to go on"
        elif str(stop):
            text = str(stop)
        errors.print(f"[yellow]interrupted:[/yellow] {escape(text)}", soft_wrap=True)
        return 130


def _told(error: BaseException, debug: bool, code: int = 2) -> int:
    """Say what the user can mend, in one line, or in a line for each case that failed, and return the exit code."""
    if debug:
        traceback.print_exception(error)
    lines = [line.strip() for line in str(error).splitlines()] or [type(error).__name__]
    several = isinstance(error, CasesFailed) and len(error.failures) > 1
    message = "\n  ".join(lines) if several else " ".join(lines)
    errors.print(f"[red]error:[/red] {escape(message)}", soft_wrap=True)
    return code


def _out_of_memory(error: Exception) -> bool:
    """Return whether there is too little memory; torch is not imported to answer the question."""
    if "torch" not in sys.modules:
        return False
    from voxward.core.memory import lacks_memory

    return lacks_memory(error)


def _report_bug(words: Sequence[str]) -> None:
    command = escape(shlex.join(["voxward", *words]))
    errors.print(
        f"[red]this is a bug in voxward {__version__}:[/red] please report what voxward doctor prints, the "
        f"lines below, and the command: {command}",
        soft_wrap=True,
    )
    traceback.print_exc()
