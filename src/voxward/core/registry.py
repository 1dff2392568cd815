"""A family's table from name to factory. Each family owns one; a new member is one line."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from typing import Generic, TypeVar

from voxward.core.errors import UserError

T = TypeVar("T")


class Registry(Mapping[str, T], Generic[T]):
    """A read-only mapping whose KeyError lists what exists."""

    def __init__(self, family: str, members: Mapping[str, T]) -> None:
        self.family = family
        self._members = dict(members)

    def __getitem__(self, name: str) -> T:
        if name not in self._members:
            raise UserError(unknown_name(self.family, name, self._members))
        return self._members[name]

    def __contains__(self, name: object) -> bool:
        return name in self._members

    def __iter__(self) -> Iterator[str]:
        return iter(self._members)

    def __len__(self) -> int:
        return len(self._members)


def unknown_name(family: str, name: object, known: Mapping[str, object]) -> str:
    """The sentence that says a name is unknown, the closest known one, and all known ones."""
    close = get_close_matches(str(name), list(known), n=1)
    hint = f" Did you mean {close[0]!r}?" if close else ""
    return f"unknown {family} {name!r}.{hint} Known: {', '.join(sorted(known))}"
