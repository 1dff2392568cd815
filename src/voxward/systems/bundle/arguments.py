"""The keyword arguments of one object in a bundle's configuration, each read with the type that it must have."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, NoReturn

from voxward.systems.bundle.config import Config, Item, as_list, target

# What decides nothing about a prediction, or is the user's choice here; it is not looked at, as it is often code.
_IGNORED = frozenset(
    ("_target_", "_desc_", "_disabled_", "_requires_", "_mode_", "allow_missing_keys", "lazy", "keys", "device",
     "track_meta", "meta_keys", "meta_key_postfix")
)  # fmt: skip
_FLOATS = ("float32", "float", "single")
# Lists of transforms that hold each other more deeply than that are taken for a circle.
_DEEPEST = 10


@dataclass(frozen=True)
class Arguments:
    """The keyword arguments of an object.

    Attributes:
        config: The configuration.
        item: The object's place in it.
        given: The arguments by name.
        read: The names that were asked for.
    """

    config: Config
    item: Item
    given: Mapping[str, Item]
    read: set[str] = field(default_factory=set)

    @property
    def target(self) -> str:
        """Return the last part of the name of the class."""
        return target(self.given)

    @property
    def disabled(self) -> bool:
        """Return whether the object is switched off."""
        item = self.given.get("_disabled_")
        return item is not None and str(self.config.plain(item)).lower() == "true"

    def refuse(self, why: str, name: str = "") -> NoReturn:
        """Raise a UserError that names the object, or one of its arguments."""
        self.config.refuse(self.given.get(name, self.item), f"{self.target}: {why}")

    def plain(self, name: str, default: Any = None) -> Any:
        """Return an argument as plain data."""
        self.read.add(name)
        return self.config.plain(self.given[name]) if name in self.given else default

    def single(self, name: str, default: Any = None) -> Any:
        """Return an argument that may also be a list of one value per key, which is one here."""
        value = self.plain(name, default)
        return value[0] if isinstance(value, list) and len(value) == 1 else value

    def flag(self, name: str, default: bool = False) -> bool:
        """Return an argument that is true or false."""
        value = self.single(name, default)
        if str(value).lower() not in ("true", "false"):
            self.refuse(f"{name} must be true or false, got {value!r}", name)
        return str(value).lower() == "true"

    def number(self, name: str, default: float | None = None) -> float | None:
        """Return an argument that is a number; None where it is None or not given, and there is no default."""
        value = self.plain(name, default)
        if value is not None and not _is_number(value):
            self.refuse(f"{name} must be a number, got {value!r}", name)
        return value if value is None else float(value)

    def needed(self, name: str) -> float:
        """Return a number that must be given."""
        value = self.number(name)
        if value is None:
            self.refuse(f"{name} is missing")
        return value

    def numbers(self, name: str, default: Any = None) -> tuple[float, ...]:
        """Return an argument that is a number or a list of numbers; None among them is 0."""
        values = [0 if value is None else value for value in as_list(self.plain(name, default))]
        if not all(map(_is_number, values)):
            self.refuse(f"{name} must hold numbers, got {values!r}", name)
        return tuple(float(value) for value in values)

    def axes(self, name: str, default: Any = None, sizes: Collection[int] = (1, 3)) -> tuple[float, ...]:
        """Return numbers of which there is one for all axes, or one for each."""
        values = self.numbers(name, default)
        if len(values) not in sizes:
            self.refuse(f"{name} must hold one number for all axes, or one for each of three, got {list(values)}", name)
        return values

    def lengths(self, name: str, default: Any = None) -> tuple[int, ...]:
        """Return whole numbers of voxels, one for all axes or one for each; what is no length is 0 (the whole axis)."""
        values = self.axes(name, default)
        if any(value != int(value) for value in values):
            self.refuse(f"{name} must hold whole numbers, got {list(values)}", name)
        return tuple(max(int(value), 0) for value in values)

    def choice(self, name: str, legal: Collection[Any], default: Any = None, why: str = "") -> Any:
        """Return an argument that must be one of some values."""
        value = self.single(name, default)
        if isinstance(value, list | dict) or value not in legal:
            hint = f": {why}" if why else ""
            self.refuse(f"{name} must be one of {', '.join(map(repr, legal))}, got {value!r}{hint}", name)
        return value

    def plainly_float32(self, name: str = "dtype") -> None:
        """Refuse a number type other than float32, in which everything is computed here."""
        value = self.single(name)
        if value is not None and str(value).rpartition(".")[2] not in _FLOATS:
            self.refuse(f"{name} must be float32, got {value!r}", name)

    def skip(self, *names: str) -> None:
        """Name arguments that decide nothing here."""
        self.read.update(names)

    def finish(self) -> None:
        """Refuse arguments that nobody asked for."""
        unknown = sorted(set(self.given) - self.read - _IGNORED)
        if unknown:
            self.refuse(f"the argument {unknown[0]} is not known", unknown[0])
        mode = self.given.get("_mode_")
        if mode is not None and mode.raw != "default":
            self.refuse(f"_mode_ must be 'default', got {mode.raw!r}", "_mode_")


def arguments_of(config: Config, item: Item) -> Arguments:
    """Return the arguments of an object.

    Raises:
        UserError: The item is no object, or names no class.
    """
    shown = config.shown(item)
    if not isinstance(shown, Mapping) or not target(shown):
        config.refuse(item, "an object with a _target_ is needed here")
    return Arguments(config, item, shown)


def objects_of(config: Config, item: Item) -> list[Arguments]:
    """Return the objects of a list, or of a Compose of MONAI, without those that are switched off."""
    return _objects(config, item, 0)


def _objects(config: Config, item: Item, depth: int) -> list[Arguments]:
    if depth > _DEEPEST:
        config.refuse(item, "it holds itself, or is nested too deeply")
    shown = config.shown(item)
    if isinstance(shown, Mapping):
        own = arguments_of(config, item)
        if own.disabled:
            return []
        return [own] if own.target != "Compose" else _objects(config, _composed(own), depth + 1)
    if not isinstance(shown, list):
        config.refuse(item, f"a list of transforms is needed here, got {shown!r}")
    found: list[Arguments] = []
    for each in shown:
        if not isinstance(each, Item):
            config.refuse(item, f"a list of transforms is needed here, with {each!r} in it")
        found += _objects(config, each, depth + 1)
    return found


def _composed(given: Arguments) -> Item:
    """The list in a Compose, whose other arguments must leave the transforms as they are."""
    if "transforms" not in given.given:
        given.refuse("transforms is missing")
    # Lazy resampling joins several transforms into one, whose result differs.
    if given.flag("lazy") or given.plain("overrides"):
        given.refuse("lazy resampling is not supported", "lazy")
    given.skip("transforms", "map_items", "unpack_items", "log_stats", "threading")
    given.finish()
    return given.given["transforms"]


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
