"""A set of corruptions with the levels of every severity, as one readable file."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from voxward.core.channels import MR, SYNONYMS, kind_of
from voxward.core.errors import UserError
from voxward.core.files import name_fault
from voxward.core.registry import unknown_name
from voxward.core.structure import to_data
from voxward.core.yaml import load_yaml, packaged_names
from voxward.corruptions.corruption import Corruption
from voxward.corruptions.registry import CORRUPTIONS

SEVERITIES = (1, 2, 3, 4, 5)
"""The severities; 0 is the scan as it is."""
FOLDER = "corruption_sets"
Zeros = Literal["keep", "change"]


@dataclass(frozen=True)
class Entry:
    """A corruption of a set.

    Attributes:
        kind: What it does, a name of `corruptions.registry.CORRUPTIONS`; None: that of its own name.
        severities: Its levels, by name, each with a value for the severities 1 to 5.
        options: Further numbers, which are the same for every severity.
    """

    kind: str | None = None
    severities: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    options: Mapping[str, float] = field(default_factory=dict)

    def problems(self) -> list[str]:
        """Return what is wrong, one sentence each."""
        return [
            f"severities.{name} must hold {len(SEVERITIES)} values, for the severities 1 to {SEVERITIES[-1]}, "
            f"got {len(values)}"
            for name, values in self.severities.items()
            if len(values) != len(SEVERITIES)
        ]


@dataclass(frozen=True)
class CorruptionSet:
    """Corruptions of one kind of image.

    Attributes:
        name: The name of the set.
        version: Its version: figures of different versions do not compare.
        corruptions: The corruptions by name.
        description: What it is for, in one line.
        channels: The kinds of channels whose values it changes, such as `MR`; every channel is moved by what is
            spatial.
        full_extent_mm: The extent from which on lengths are as they stand here; those of a smaller scan are multiplied
            by extent / full_extent_mm along each axis. None: lengths are always as they stand here.
        zeros: Whether voxels that are exactly 0 stay so where a fifth of a channel is, as in a scan without its skull.
    """

    name: str
    version: int
    corruptions: Mapping[str, Entry]
    description: str = ""
    channels: tuple[str, ...] = ()
    full_extent_mm: float | None = None
    zeros: Zeros = "change"

    @property
    def fingerprint(self) -> str:
        """What tells the set from every other one: its version, and letters that stand for all that it says."""
        said = {name: value for name, value in to_data(self).items() if name != "description"}
        digest = hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()
        return f"version {self.version}, {digest[:16]}"

    def problems(self) -> list[str]:
        """Return what is wrong, one sentence each."""
        found = [] if self.corruptions else ["corruptions must hold at least one corruption"]
        if self.full_extent_mm is not None and self.full_extent_mm <= 0:
            found.append(f"full_extent_mm must be above 0, got {self.full_extent_mm:g}")
        found += [unknown_name("kind of channel", k, SYNONYMS) for k in self.channels if k not in SYNONYMS]
        for name in self.corruptions:
            found += self._entry_problems(name)
        return found

    def _entry_problems(self, name: str) -> list[str]:
        entry = self.corruptions[name]
        kind = entry.kind or name
        if fault := name_fault(name):
            return [f"corruptions: {fault}"]
        if kind not in CORRUPTIONS:
            return [f"corruptions.{name}: {unknown_name('corruption', kind, CORRUPTIONS)}"]
        needed, given = set(CORRUPTIONS[kind].levels), {*entry.severities, *entry.options}
        both = {*entry.severities} & {*entry.options}
        found = [f"{', '.join(sorted(needed - given))} is missing"] if needed - given else []
        found += [f"unknown {', '.join(sorted(given - needed))}; {kind} has {', '.join(sorted(needed))}"] * bool(
            given - needed
        )
        found += [f"{', '.join(sorted(both))} stands in severities and in options"] if both else []
        return [f"corruptions.{name}: {one}" for one in found]

    def corruption(self, name: str) -> Corruption:
        """Return what a corruption of the set does.

        Raises:
            UserError: The set has no such corruption.
        """
        return CORRUPTIONS[self._entry(name).kind or name]

    def levels(self, name: str, severity: int) -> Mapping[str, Any]:
        """Return the numbers of a corruption for a severity.

        Args:
            name: The corruption.
            severity: 1 to 5.

        Raises:
            UserError: The set has no such corruption, or there is no such severity.
        """
        entry = self._entry(name)
        check_severities([severity], lowest=1)
        of_severity = {level: values[severity - 1] for level, values in entry.severities.items()}
        return {**entry.options, **of_severity, "full_extent_mm": self.full_extent_mm}

    def changes(self, channels: Sequence[str], alone: bool = True) -> tuple[int, ...]:
        """Return which channels the set changes the values of.

        Args:
            channels: The names of the channels.
            alone: Whether no other set is used, so that a channel of an unknown kind counts as one of this set's.
        """
        return tuple(n for n, name in enumerate(channels) if self._covers(name, alone))

    def _covers(self, channel: str, alone: bool) -> bool:
        kind = _kind(channel)
        if not self.channels or kind in self.channels:
            return True
        if "MR" in self.channels and kind in MR:
            return True
        return alone and kind not in SYNONYMS

    def _entry(self, name: str) -> Entry:
        if name not in self.corruptions:
            raise UserError(unknown_name(f"corruption of the set {self.name}", name, self.corruptions))
        return self.corruptions[name]


def _kind(channel: str) -> str:
    """The kind of a channel; of a longer name, such as `PET SUV x100`, that of the first word that means one."""
    words = [word for word in re.split(r"[\W_]+", channel) if len(word) > 1]
    known = [kind for kind in map(kind_of, (channel, *words)) if kind in SYNONYMS]
    return known[0] if known else kind_of(channel)


def load_corruption_set(name_or_path: str | Path) -> CorruptionSet:
    """Read a packaged set of corruptions by name, or any by path (a name with a `.yaml` suffix).

    Args:
        name_or_path: The name, such as `rood-mri` or `ct`, or the path.

    Raises:
        UserError: The name is unknown, or something in the file is wrong; all problems are listed.
        FileNotFoundError: There is no such file.

    Example:
        >>> sorted(voxward.load_corruption_set("ct").corruptions)[0]
        'contrast-phase'
    """
    return load_yaml(CorruptionSet, name_or_path, FOLDER)


def corruption_set_names() -> tuple[str, ...]:
    """Return the names of the packaged sets."""
    return packaged_names(FOLDER)


def check_severities(severities: Sequence[int], lowest: int = 0) -> None:
    """Refuse what is no severity.

    Raises:
        UserError: There is none, or one is not between the lowest and 5.
    """
    if not severities:
        raise UserError(f"severities must hold at least one of {lowest} to {SEVERITIES[-1]}")
    for one in severities:
        if not lowest <= one <= SEVERITIES[-1]:
            raise UserError(f"a severity is a whole number from {lowest} to {SEVERITIES[-1]}, got {one}")
