"""The configuration of a bundle: a tree of items that refer to each other, read without MONAI's parser.

MONAI's own parser imports what `_target_` names and evaluates what begins with `$`. Here a `_target_` is a text, and of
the expressions only those that are data are computed (see `expressions`). An item is looked at when it is asked for,
so that the code which every bundle holds elsewhere (`imports`, `run`, the list of cases) does not matter.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

from voxward.core.errors import UserError
from voxward.core.reading import read_json, read_text
from voxward.core.yaml import read_yaml
from voxward.systems.bundle.expressions import NotPlainError, compute

SUFFIXES = (".json", ".yaml", ".yml")
# Items that refer to each other more deeply than that are taken for a circle.
_DEEPEST = 30
# A few items that refer to each other can stand for more than fits into memory.
_MOST = 20_000


@dataclass(frozen=True)
class Item:
    """A place in the configuration.

    Attributes:
        path: Where it is, such as `preprocessing::transforms::3::pixdim`.
        raw: What stands there, as the file has it.
    """

    path: str
    raw: Any

    def inside(self, key: str | int) -> Item:
        """Return an entry of a mapping or a list that stands there."""
        return Item(f"{self.path}::{key}" if self.path else str(key), self.raw[key])


@dataclass(frozen=True)
class Config:
    """The configuration of a bundle.

    Attributes:
        file: The file.
        root: The folder of the bundle, which nothing outside of is read.
        tree: What the file holds.
        looks: How many items were looked at, in its one entry.
    """

    file: Path
    root: Path
    tree: Mapping[str, Any] = field(repr=False)
    looks: list[int] = field(default_factory=lambda: [0], repr=False, compare=False)

    def find(self, name: str) -> Item | None:
        """Return an item of the first level; None if it is not there."""
        return Item(name, self.tree[name]) if name in self.tree else None

    def shown(self, item: Item) -> Any:
        """Follow the references of an item, but not of what is inside it.

        Args:
            item: The item.

        Returns:
            A number, text, boolean or None; or a mapping or list whose values are items.

        Raises:
            UserError: The item refers to something that is not there, or in a circle, or it is code.
        """
        return self._shown(item, 0)

    def plain(self, item: Item) -> Any:
        """Return an item with everything in it as plain data.

        Raises:
            UserError: See `shown`; or an object is to be built there.
        """
        return self._plain(item, 0)

    def refuse(self, item: Item | str, why: str) -> NoReturn:
        """Raise a UserError that names the file and the item."""
        raise UserError(f"{self.file}: {item.path if isinstance(item, Item) else item}: {why}")

    def _plain(self, item: Item, depth: int) -> Any:
        found = self._shown(item, depth)
        if isinstance(found, Mapping) and "_target_" in found:
            self.refuse(item, f"plain data is needed here, not an object ({found['_target_'].raw!r})")
        return self._resolved(item, found, depth)

    def _resolved(self, item: Item, found: Any, depth: int) -> Any:
        """What an expression made may hold items at any depth, as in `$[@a, [@b]]`."""
        if isinstance(found, Item):
            return self._plain(found, depth + 1)
        if isinstance(found, Mapping | list):
            self._count(item, len(found))
        if isinstance(found, Mapping):
            return {key: self._resolved(item, value, depth) for key, value in found.items()}
        return [self._resolved(item, each, depth) for each in found] if isinstance(found, list) else found

    def _shown(self, item: Item, depth: int) -> Any:
        if depth > _DEEPEST:
            self.refuse(item, "it refers to itself, or is nested too deeply")
        self._count(item, 1)
        raw = item.raw
        if isinstance(raw, Mapping):
            return {str(key): item.inside(key) for key in raw}
        if isinstance(raw, list):
            return [item.inside(place) for place in range(len(raw))]
        if not isinstance(raw, str):
            return raw
        if raw.startswith("$"):
            return self._computed(item, raw[1:], depth)
        if raw.startswith("@"):
            return self._shown(self._at(raw[1:], item), depth + 1)
        if raw.startswith("%"):
            return self._shown(self._macro(raw[1:], item), depth + 1)
        return raw

    def _count(self, item: Item, more: int) -> None:
        self.looks[0] += more
        if self.looks[0] > _MOST:
            self.refuse(item, f"the configuration stands for more than {_MOST} items")

    def _computed(self, item: Item, text: str, depth: int) -> Any:
        try:
            found = compute(text, lambda name: self._shown(self._at(name, item), depth + 1))
        except NotPlainError as error:
            self.refuse(item, f"the expression {('$' + text)[:120]!r} is not read: {error}")
        return found

    def _at(self, reference: str, asking: Item) -> Item:
        """The item that a reference names: keys and numbers, joined by # or ::."""
        parts = reference.replace("::", "#").split("#")
        found = Item("", self.tree)
        for part in parts:
            found = self._step(found, part, reference, asking)
        return found

    def _step(self, found: Item, part: str, reference: str, asking: Item) -> Item:
        raw = found.raw
        if isinstance(raw, Mapping) and part in raw:
            return found.inside(part)
        if isinstance(raw, list) and part.isdecimal() and int(part) < len(raw):
            return found.inside(int(part))
        self.refuse(asking, f"there is no item '@{reference}'")

    def _macro(self, text: str, asking: Item) -> Item:
        """What `%file::key` or `%key` names: a copy of an item, from a file of the bundle or from this one."""
        name, _, key = text.replace("::", "#").partition("#")
        if not name.endswith(SUFFIXES):
            return self._at(text, asking)
        file = next((found for base in (self.root, self.file.parent) if (found := base / name).is_file()), None)
        if file is None or not inside(file, self.root):
            self.refuse(asking, f"the macro {('%' + text)!r} must name a file inside the bundle {self.root}")
        other = Config(file, self.root, read_tree(file))
        return other._at(key, asking) if key else Item(str(name), other.tree)


def inside(path: Path, root: Path) -> bool:
    """Return whether a path, links followed, lies inside a folder."""
    return path.resolve().is_relative_to(root.resolve())


def read_tree(path: Path) -> dict[str, Any]:
    """Return what a JSON or YAML file of a bundle holds.

    Raises:
        UserError: It is damaged, or holds no mapping.
    """
    found = read_json(path) if path.suffix == ".json" else read_yaml(read_text(path), str(path))
    if not isinstance(found, dict):
        raise UserError(f"{path} must hold a mapping, got {type(found).__name__}")
    return found


def config_file(root: Path, name: str = "inference") -> Path | None:
    """Return the file of a configuration in a bundle; None if it is not there."""
    return next((path for suffix in SUFFIXES if (path := root / "configs" / f"{name}{suffix}").is_file()), None)


def read_config(root: Path, name: str = "inference") -> Config:
    """Read a configuration of a bundle.

    Args:
        root: The folder of the bundle.
        name: The name of the file in `configs`, without its suffix.

    Raises:
        FileNotFoundError: There is no such file.
        UserError: It is damaged, or lies outside the bundle.
    """
    file = config_file(root, name)
    if file is None:
        raise FileNotFoundError(f"{root} is no bundle of MONAI: it has no configs/{name}.json or .yaml")
    if not inside(file, root):
        raise UserError(f"{file} lies outside the bundle {root}")
    # Paths of the bundle start from its own folder, wherever it was written.
    return Config(file, root, {**read_tree(file), "bundle_root": "."})


def target(item: Mapping[str, Any]) -> str:
    """Return the last part of the name of the class that an item is to be made of; empty if it names none.

    Args:
        item: The item as a mapping, whose values are items.
    """
    named = item.get("_target_")
    return named.raw.rpartition(".")[2] if isinstance(named, Item) and isinstance(named.raw, str) else ""


def as_list(value: Any) -> Sequence[Any]:
    """Return a list as it is, and anything else as a list of it."""
    return value if isinstance(value, list) else [value]
