"""The table of a family (networks, losses, attacks, ...) from a name to what makes the member of that name."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from difflib import get_close_matches
from functools import partial
from typing import Any, Generic, TypeVar

from voxward.core.errors import UserError

T = TypeVar("T")
Made = TypeVar("Made")


class Registry(Mapping[str, T], Generic[T]):
    """A read-only mapping from names to members that refuses an unknown name with a list of the known ones.

    Args:
        family: What the members are, in the singular, for messages.
        members: The members by name, usually functions or classes that make something.
        place: The key of a recipe under which the options of a member stand, for messages.

    Raises:
        UserError: On reading a name that is not there.

    Example:
        >>> shapes = Registry("shape", {"dict": dict})
        >>> shapes.build("dict", a=1)
        {'a': 1}
    """

    def __init__(self, family: str, members: Mapping[str, T], place: str = "") -> None:
        self.family, self.place = family, place
        self._members = dict(members)

    def __getitem__(self, name: str) -> T:
        if name not in self:
            raise UserError(unknown_name(self.family, name, self._members))
        return self._members[name]

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and name in self._members

    def __iter__(self) -> Iterator[str]:
        return iter(self._members)

    def __len__(self) -> int:
        return len(self._members)

    def build(self: Registry[Callable[..., Made]], name: str, /, *given: Any, **options: Any) -> Made:
        """Make the member of a name.

        Args:
            name: The name of the member, as a recipe or a protocol writes it.
            *given: The positional arguments, which come from the program.
            **options: The keyword arguments, which come from the user.

        Returns:
            What the function or class of that name returns.

        Raises:
            UserError: The name is unknown, an option is unknown or missing, or an option has a wrong value. The message
                names the family, the member, the option and what is legal.
        """
        make = self[name]
        self.check(name, options, len(given))
        try:
            return make(*given, **options)
        except (TypeError, ValueError) as error:
            if isinstance(error, UserError):
                raise
            raise UserError(f"{self.family} {name!r} with the options {options}: {error}") from error

    def check(self: Registry[Callable[..., Any]], name: str, options: Mapping[str, Any], given: int = 0) -> None:
        """Refuse options that a member does not have, and lacking ones that it needs, without making the member.

        Args:
            name: The name of the member.
            options: The options by name. The value None does not count as given where the member needs the option.
            given: The number of positional arguments of the member that are no options.

        Raises:
            UserError: The name or an option is unknown, or an option is missing.
        """
        legal = _options_of(self[name], given)
        if legal is None:
            return
        unknown = sorted(set(options) - set(legal))
        if unknown:
            has = ", ".join(legal) or "none"
            raise UserError(f"{self.family} {name!r} has no option {', '.join(unknown)}; it has: {has}")
        lacking = [key for key, needed in legal.items() if needed and options.get(key) is None]
        if lacking:
            place = f" (recipe: {self.place}.{lacking[0]})" if self.place else ""
            raise UserError(f"{self.family} {name!r} needs the option {', '.join(lacking)}{place}")


def _options_of(make: Callable[..., object], given: int = 0) -> dict[str, bool] | None:
    """Return the options of a function or class, True for those that it needs; None where any name is accepted.

    What a `functools.partial` decides is no option.
    """
    try:
        parameters = list(inspect.signature(make).parameters.values())[given:]
    except ValueError:  # a class written in C has no signature
        return None
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters):
        return None
    decided = make.keywords if isinstance(make, partial) else {}
    return {
        parameter.name: parameter.default is parameter.empty
        for parameter in parameters
        if parameter.kind is not parameter.VAR_POSITIONAL and parameter.name not in decided
    }


def unknown_name(family: str, name: object, known: Mapping[str, object]) -> str:
    """Return the sentence that says that a name is unknown, with the most similar known name and with all known ones.

    Args:
        family: What the name should be, for the message.
        name: The unknown name.
        known: A mapping whose keys are the known names.
    """
    close = get_close_matches(str(name), list(known), n=1)
    hint = f" Did you mean {close[0]!r}?" if close else ""
    return f"unknown {family} {name!r}.{hint} Known: {', '.join(sorted(known))}"
