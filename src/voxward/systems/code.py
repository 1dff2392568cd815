"""Python functions that a system consists of: how the function that a file names is found, and imported."""

from __future__ import annotations

import importlib
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

from voxward.core.errors import UserError

_NAMED = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*(\.[A-Za-z_]\w*)*")


def names_function(text: str) -> bool:
    """Return whether a text has the form `module:function`."""
    return _NAMED.fullmatch(text) is not None


def function_of(named: str, base: Path, trust: bool) -> Callable[..., Any]:
    """Import the function, or other object to call, that an entry names.

    Args:
        named: `module:function`; both may have dots.
        base: The folder of the file that names it, in which the module is looked for first.
        trust: Whether the user allows programs to run.

    Raises:
        UserError: The user has not allowed it; or there is no such module or function.
    """
    if not names_function(named):
        raise UserError(f"{base}: a Python function is named module:function, such as mine:segment, got {named!r}")
    if not trust:
        raise UserError(
            f"{named} is a Python function, and to import its module is to run it: if the code is yours, add --trust "
            f"(in Python: voxward.open_system(..., trust=True)). A file in {base} names it"
        )
    module, _, attribute = named.partition(":")
    found: Any = _imported(module, base)
    for part in attribute.split("."):
        if not hasattr(found, part):
            raise UserError(f"{named}: there is no {part!r} in {module}")
        found = getattr(found, part)
    if not callable(found) or isinstance(found, type):
        raise UserError(f"{named} must be a function, or an object that can be called, got {type(found).__name__}")
    return cast(Callable[..., Any], found)


def _imported(module: str, base: Path) -> Any:
    """Import a module that lies beside the `system.yaml`, or that is installed."""
    place = str(base.resolve())
    if place not in sys.path:
        sys.path.insert(0, place)
    importlib.invalidate_caches()
    try:
        found = importlib.import_module(module)
    except ImportError as error:
        raise UserError(f"the module {module} cannot be imported from {base}: {error}") from error
    own = Path(place, *module.split("."))
    beside = [path for path in (own.with_suffix(".py"), own / "__init__.py") if path.is_file()]
    if beside and Path(getattr(found, "__file__", "") or "") != beside[0]:
        raise UserError(f"{beside[0]} cannot be imported: another module is already called {module}; rename the file")
    return found
