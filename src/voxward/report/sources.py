"""What a report is written from: the folders of attacks, trainings, searches and cross-validations, as they lie there.

Nothing here raises for what one folder or file lacks. Each fault is a sentence among the problems, which the page
shows, and the other folders are read all the same.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from voxward.core.errors import UserError
from voxward.core.registry import Registry
from voxward.report.attack_source import AttackSource, is_attack_folder, read_attack
from voxward.report.run_source import (
    RunSource,
    SearchSource,
    ValidationSource,
    read_run,
    read_search,
    read_validation,
)
from voxward.report.source_files import few, sentence, told
from voxward.report.suite.source import SuiteSource, is_suite_folder, read_suite
from voxward.runs.folder import RunFolder
from voxward.systems.open import is_system

__all__ = ["AttackSource", "RunSource", "SearchSource", "Sources", "SuiteSource", "ValidationSource", "read_sources"]


@dataclass(frozen=True)
class Sources:
    """All that a page is written from.

    Attributes:
        attacks: The folders of attacks.
        runs: The folders of trainings, also of hardened runs.
        searches: The folders of architecture searches.
        validations: The folders of cross-validations.
        problems: What is missing, damaged or unknown, one whole sentence each.
        suites: The folders of suites.
    """

    attacks: tuple[AttackSource, ...] = ()
    runs: tuple[RunSource, ...] = ()
    searches: tuple[SearchSource, ...] = ()
    validations: tuple[ValidationSource, ...] = ()
    problems: tuple[str, ...] = ()
    suites: tuple[SuiteSource, ...] = ()

    @property
    def attacked(self) -> list[AttackSource]:
        """The folders with records, but those in which nothing is attacked, only corruptions are measured."""
        return [source for source in self.attacks if source.records and _attacks(source)]


def _attacks(source: AttackSource) -> bool:
    asked = source.protocol is None or source.protocol.asks_attacks
    return asked or any(record.kind == "attack" for record in source.records)


@dataclass(frozen=True)
class Kind:
    """A kind of folder.

    Attributes:
        holds: Returns whether a folder is of this kind.
        read: Reads it, and adds what is wrong with it to a list.
    """

    holds: Callable[[Path], bool]
    read: Callable[[Path, list[str]], Any]


KINDS: Registry[Kind] = Registry(
    "kind of folder",
    {
        "suites": Kind(is_suite_folder, read_suite),
        "attacks": Kind(is_attack_folder, read_attack),
        "validations": Kind(lambda folder: (folder / "cv.json").is_file(), read_validation),
        "searches": Kind(lambda folder: RunFolder(folder).search_log.is_file(), read_search),
        "runs": Kind(lambda folder: RunFolder(folder).recipe.is_file(), read_run),
    },
)
"""The kinds of folders by the name of their field in `Sources`; the first one that fits is taken."""

_COMMANDS = "voxward attack, train, harden, search, cv or suite"


def read_sources(folders: Sequence[Path]) -> Sources:
    """Read the folders that a report is written from.

    A folder that is none of them itself, such as that of `voxward demo`, stands for the folders directly inside it; a
    run also stands for the attacks on it that lie directly inside it. A folder that is named twice is read once.

    Args:
        folders: Folders of attacks, runs, searches and cross-validations, in any mix.

    Returns:
        What they hold, and what is wrong with them.

    Raises:
        UserError: A folder does not exist.
    """
    if missing := [folder for folder in folders if not os.path.isdir(folder)]:
        raise UserError(f"{missing[0]} is no folder: name folders that {_COMMANDS} wrote")
    problems = list[str]()
    places = _places(folders, problems)
    names = _names(places)
    found: dict[str, list[Any]] = {name: [] for name in KINDS}
    for folder, kind in places.items():
        try:
            found[kind].append(replace(KINDS[kind].read(folder, problems), name=names[folder]))
        except OSError as error:
            problems.append(sentence(f"{folder} cannot be read: {told(error)}"))
    return Sources(**{name: tuple(values) for name, values in found.items()}, problems=tuple(problems))


def _places(folders: Iterable[Path], problems: list[str]) -> dict[Path, str]:
    """The kind of each folder that is read; links and other names of one folder count once."""
    found: dict[Path, str] = {}
    known = set[Path]()
    for given in folders:
        try:
            places = dict(_inside(given))
            if not places:
                problems.append(_foreign(given))
        except OSError as error:
            problems.append(sentence(f"{given} cannot be read: {told(error)}"))
            continue
        for folder, kind in places.items():
            if (place := folder.resolve()) not in known:
                known.add(place)
                found[folder] = kind
    return found


def _inside(folder: Path) -> Iterator[tuple[Path, str]]:
    own = _kind(folder)
    if own is not None:
        yield folder, own
    if own == "attacks":
        return
    for inner in sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith(".")):
        kind = _kind(inner)
        # The runs inside a cross-validation are its own, and it lists them.
        if kind is not None and (own is None or kind == "attacks"):
            yield inner, kind


def _kind(folder: Path) -> str | None:
    return next((name for name, kind in KINDS.items() if kind.holds(folder)), None)


def _foreign(folder: Path) -> str:
    """Say what a folder is that a report cannot show, and what to do."""
    if not any(folder.iterdir()):
        return f"{folder} is empty: there is nothing to report on."
    if _is_system(folder):
        return (
            f"{folder} holds a model, and nothing that was measured on it. Measure it with voxward attack, and name "
            "the folder that this writes."
        )
    names = sorted(path.name for path in folder.iterdir())
    return f"{folder} holds nothing that a report can show ({few(names)}). It must be a folder of {_COMMANDS}."


def _is_system(folder: Path) -> bool:
    try:
        return is_system(folder)
    except UserError:
        return False


def _names(folders: Iterable[Path]) -> dict[Path, str]:
    """A name for each folder, its last part; with the parts above it where that would not tell it apart."""
    # The name of a folder may hold bytes that are no text.
    text = {folder: str(folder.resolve()).encode("utf-8", "replace").decode("utf-8") for folder in folders}
    parts = {folder: Path(name).parts for folder, name in text.items()}
    # RUN/attack is where voxward attack writes by default.
    lengths = {folder: 2 if own[-1:] == ("attack",) else 1 for folder, own in parts.items()}
    while True:
        names = {folder: "/".join(own[-lengths[folder] :]) for folder, own in parts.items()}
        taken = list(names.values())
        alike = [
            folder for folder, name in names.items() if taken.count(name) > 1 and lengths[folder] < len(parts[folder])
        ]
        if not alike:
            return names
        for folder in alike:
            lengths[folder] += 1
