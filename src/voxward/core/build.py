"""The one way to make a member of a registry from its name and the options of a recipe."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from voxward.core.errors import UserError
from voxward.core.registry import Registry

T = TypeVar("T")


def build(family: Registry[Callable[..., T]], name: str, options: Mapping[str, Any], *given: Any) -> T:
    """Make the member `name` of a family.

    Args:
        family: The registry of the functions or classes that make the members.
        name: The name of the member, as a recipe writes it.
        options: The keyword arguments, as a recipe writes them.
        given: The positional arguments, which a recipe does not write.

    Returns:
        What the function or class of that name returns.

    Raises:
        UserError: The name is unknown, an option is unknown or missing, or the value of an option has a wrong type.
            The message names what is legal.

    Example:
        >>> build(Registry("shape", {"dict": dict}), "dict", {"a": 1})
        {'a': 1}
    """
    make = family[name]
    _refuse_options(family.family, name, make, options, len(given))
    try:
        return make(*given, **options)
    except TypeError as error:
        raise UserError(f"{family.family} {name!r}: {error}") from error


def _refuse_options(family: str, name: str, make: Callable[..., Any], options: Mapping[str, Any], given: int) -> None:
    try:
        parameters = list(inspect.signature(make).parameters.values())[given:]
    except ValueError:  # a class written in C has no signature
        return
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters):
        return
    legal = [parameter.name for parameter in parameters if parameter.kind is not parameter.VAR_POSITIONAL]
    unknown = sorted(set(options) - set(legal))
    if unknown:
        raise UserError(f"{family} {name!r} has no option {', '.join(unknown)}; it has: {', '.join(legal) or 'none'}")
