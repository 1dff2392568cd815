"""The section of a protocol that says which corruptions are measured."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from voxward.core.errors import UserError
from voxward.core.registry import unknown_name
from voxward.corruptions.corruption_set import SEVERITIES, CorruptionSet, check_severities, load_corruption_set

ALL = "all"


@dataclass(frozen=True)
class Corruptions:
    """Which corruptions are measured.

    Attributes:
        set: The set of corruptions, a packaged name such as `rood-mri` or `ct`, or the path of a .yaml file; or several
            for cases with different kinds of channels, each of which is corrupted by the set of its own kind.
        severities: The severities, of 1 to 5. Severity 0 is always tried on the first case, where nothing may change.
        names: Which corruptions of the set; `all`, or some of their names.
        reference: The name, or the path, of the system of a call whose errors the other systems' are compared with;
            None: none.
    """

    set: str | CorruptionSet | tuple[str | CorruptionSet, ...] = "rood-mri"
    severities: tuple[int, ...] = SEVERITIES
    names: str | tuple[str, ...] = ALL
    reference: str | None = None

    @property
    def sets(self) -> tuple[CorruptionSet, ...]:
        """The sets, read from their files.

        Raises:
            UserError: A set is unknown, or its file is wrong.
            FileNotFoundError: There is no such file.
        """
        given = self.set if isinstance(self.set, tuple) else (self.set,)
        return tuple(one if isinstance(one, CorruptionSet) else load_corruption_set(one) for one in given)

    @property
    def loaded(self) -> Corruptions:
        """The same section with the sets themselves, which later changes of their files do not reach."""
        return replace(self, set=self.sets, severities=tuple(sorted({*self.severities})))

    def chosen(self) -> Iterator[tuple[CorruptionSet, str]]:
        """Yield each corruption that is measured, with its set."""
        for one in self.sets:
            for name in one.corruptions:
                if ALL in self._wanted or name in self._wanted:
                    yield one, name

    @property
    def _wanted(self) -> tuple[str, ...]:
        return (self.names,) if isinstance(self.names, str) else self.names

    def asks(self, name: str, severity: int) -> bool:
        """Return whether a corruption of a severity is measured; severity 0 always is."""
        return severity in (0, *self.severities) and any(name == other for _, other in self.chosen())

    def problems(self) -> list[str]:
        """Return what is wrong, one sentence each."""
        try:
            sets = self.sets
            check_severities(self.severities, lowest=1)
        except (UserError, FileNotFoundError) as error:
            return [str(error)]
        found = [] if sets else ["set must name at least one set of corruptions"]
        names = [name for one in sets for name in one.corruptions]
        found += [f"two sets have a corruption {name!r}" for name in sorted({*names}) if names.count(name) > 1][:1]
        if not self._wanted:
            found.append("names must hold at least one corruption, or be all")
        found += [unknown_name("corruption", w, dict.fromkeys(names)) for w in self._wanted if w not in (*names, ALL)]
        return found
