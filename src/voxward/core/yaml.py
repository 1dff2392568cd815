"""YAML as recipes, systems and protocols use it: safe, with numbers as people write them; changed by `key=value`."""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping, Sequence
from copy import deepcopy
from fractions import Fraction
from functools import lru_cache
from importlib import resources
from pathlib import Path
from typing import Any, TypeVar

import yaml

from voxward.core.document import CHECKSUM, changed, without_format
from voxward.core.errors import UserError
from voxward.core.reading import read_text
from voxward.core.registry import unknown_name
from voxward.core.structure import from_data

T = TypeVar("T")


class _Loader(yaml.SafeLoader):
    """Safe YAML in which 1e-4 and 8/255 are numbers (YAML 1.1 wants 1.0e-4), and in which no key is there twice."""

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        """Read a mapping, and refuse a key that it has twice: YAML itself would silently take the last value."""
        node = super().compose_mapping_node(anchor)
        seen = set[tuple[str, str]]()
        for key, _ in node.value:
            name = (key.tag, str(key.value))
            if name in seen:
                raise yaml.composer.ComposerError(None, None, f"the key {key.value!r} is there twice", key.start_mark)
            seen.add(name)
        return node


class _Dumper(yaml.SafeDumper):
    """Safe YAML that quotes a text which `_Loader` would take for a number."""


def _fraction(loader: yaml.SafeLoader, node: yaml.ScalarNode) -> float:
    return float(Fraction(str(loader.construct_scalar(node))))


for _kind in (_Loader, _Dumper):
    _kind.add_implicit_resolver(
        "tag:yaml.org,2002:float", re.compile(r"^[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+$"), list("-+.0123456789")
    )
    _kind.add_implicit_resolver("!fraction", re.compile(r"^[-+]?\d+/0*[1-9]\d*$"), list("-+0123456789"))
_Loader.add_constructor("!fraction", _fraction)


def read_yaml(text: str, source: str) -> Any:
    """Read YAML text into plain data.

    Args:
        text: The text.
        source: The name of the file, for the message.

    Returns:
        Dictionaries, lists, strings, numbers, booleans, dates and None. Fractions such as 8/255 are floats.

    Raises:
        UserError: The text is not valid YAML, has a key twice in one mapping, or asks for something else than plain
            data.
    """
    try:
        return deepcopy(_parse(text))  # a caller may change what it gets
    # A date such as 2024-13-45 is a ValueError, `!!timestamp 1` an AttributeError, and `!!bool z` a KeyError.
    except (yaml.YAMLError, ValueError, TypeError, LookupError, AttributeError, RecursionError) as error:
        raise UserError(f"{source} is not valid YAML: {error}") from error


def dump_yaml(data: Mapping[str, Any]) -> str:
    """Return plain data as YAML text, in the order of the data."""
    text: str = yaml.dump(dict(data), Dumper=_Dumper, sort_keys=False)
    return text


def override(data: Any, change: str) -> None:
    """Change plain data in place by `dotted.key=value`.

    Args:
        data: The mapping.
        change: The key and its value in YAML, such as `training.epochs=100` or `threat.eps=[4/255,8/255]`.

    Raises:
        UserError: There is no `=`, the value is not valid YAML, or the key lies inside a plain value.
    """
    key, separator, value = change.partition("=")
    if not separator:
        raise UserError(f"an override is dotted.key=value, got {change!r}")
    *parents, last = key.strip().split(".")
    for parent in parents:
        if not isinstance(data, dict):
            raise UserError(f"override {change!r}: {parent!r} lies inside a plain value")
        if data.get(parent) is None:  # a part that need not be there
            data[parent] = {}
        data = data[parent]
    if not isinstance(data, dict):
        raise UserError(f"override {change!r}: {last!r} lies inside a plain value")
    data[last] = read_yaml(value, f"override {change!r}")


def packaged_names(folder: str) -> tuple[str, ...]:
    """Return the names of the YAML files that voxward comes with, in `recipes` or `protocols`."""
    entries = (resources.files("voxward") / folder).iterdir()
    return tuple(sorted(entry.name.removesuffix(".yaml") for entry in entries if entry.name.endswith(".yaml")))


def packaged(folder: str, name: str, family: str) -> str:
    """Return the text of a YAML file that voxward comes with.

    Args:
        folder: `recipes` or `protocols`.
        name: The file's name without its suffix.
        family: What it is, for the message.

    Raises:
        UserError: There is no such file; the message lists all.
    """
    known = packaged_names(folder)
    if name not in known:
        raise UserError(unknown_name(family, name, dict.fromkeys(known)))
    return (resources.files("voxward") / folder / f"{name}.yaml").read_text(encoding="utf-8")


def load_yaml(cls: type[T], name_or_path: str | Path, folder: str, overrides: Sequence[str] = ()) -> T:
    """Read a dataclass from a YAML file that voxward comes with, or from the user's own.

    Args:
        cls: The dataclass.
        name_or_path: The name of a packaged file, or a path that ends with `.yaml` or `.yml`.
        folder: The folder of the packaged files, `recipes` or `protocols`.
        overrides: Changes, each `dotted.key=value`.

    Raises:
        UserError: The name is unknown, or something in the file is wrong; all problems are listed.
        FileNotFoundError: There is no such file.
    """
    given, family = str(name_or_path), folder.removesuffix("s").replace("_", " ")
    own = given.endswith((".yaml", ".yml"))
    source = given if own else f"{family} {given}"
    found = read_yaml(read_text(given) if own else packaged(folder, given, family), source)
    data = without_format(_unchecked(found, source), source)
    for change in overrides:
        override(data, change)
    return from_data(cls, data, source)


def _unchecked(data: Any, source: str) -> Any:
    """Return the content without its checksum: the recipe of a run may be copied, edited, and used for another run."""
    if changed(data):
        warnings.warn(
            f"{source} is damaged, or was edited since voxward wrote it: its contents do not have the checksum that "
            f"stands in it. If you have edited it, delete its entry {CHECKSUM!r}",
            stacklevel=4,
        )
        return {key: value for key, value in data.items() if key != CHECKSUM}
    return data


@lru_cache(maxsize=32)
def _parse(text: str) -> Any:
    """Return what the text says. A command reads the same recipe several times, and each reading takes long."""
    loader = _Loader(text)
    try:
        return loader.get_single_data()
    finally:
        loader.dispose()
