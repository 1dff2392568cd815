"""The names of image channels: which names mean the same, and in which order a model takes the channels of a file."""

from __future__ import annotations

import re
import shlex
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

from voxward.core.errors import UserError

SYNONYMS: dict[str, tuple[str, ...]] = {
    "T1": ("T1", "T1w", "T1n", "T1 native", "T1 pre", "T1 weighted", "T1wi"),
    "T1ce": (
        "T1ce", "T1c", "T1Gd", "T1 post", "T1w post", "T1 postcontrast", "T1w post-contrast", "T1+C", "T1 contrast",
        "T1 contrast enhanced", "T1w Gd", "T1w ce", "T1 Gad", "T1 enhanced", "ceT1", "ceT1w", "T1KM",
    ),
    "T2": ("T2", "T2w", "T2 weighted", "T2wi", "T2 TSE"),
    "T2*": ("T2*", "T2star", "T2s", "T2*w", "T2starw"),
    "FLAIR": ("FLAIR", "T2f", "T2 FLAIR", "T2w FLAIR", "FLAIR T2"),
    "PD": ("PD", "PDw", "proton density", "PD weighted"),
    "ADC": ("ADC", "apparent diffusion coefficient", "ADC map"),
    "DWI": ("DWI", "diffusion", "diffusion weighted", "trace"),
    "SWI": ("SWI", "susceptibility weighted"),
    "CT": ("CT", "CT scan", "NCCT", "CECT", "CBCT", "computed tomography"),
    "MR": ("MR", "MRI", "magnetic resonance"),
    "PET": ("PET", "PT", "FDG PET", "PET SUV", "SUV"),
    "US": ("US", "ultrasound"),
    "red": ("red", "R"),
    "green": ("green", "G"),
    "blue": ("blue", "B"),
}  # fmt: skip
"""For each known kind of image, the names that mean it; capitals, spaces, `-`, `_` and brackets do not matter."""

MR = ("MR", "T1", "T1ce", "T2", "T2*", "FLAIR", "PD", "ADC", "DWI", "SWI")
"""The kinds that a channel named MR or MRI may be."""

# In brackets, what does not change the kind of an image is passed over, but not these.
_CONTRAST = re.compile(r"gd|gad|contrast|post|enhanc|ce|\+")


@dataclass(frozen=True)
class Order:
    """How a model takes the channels of a file.

    Attributes:
        channels: For each channel of the model, its number among those of the file; None reads the file as it is.
        notice: What the user should know about it, such as an order that had to be assumed; empty where nothing is.
    """

    channels: tuple[int, ...] | None
    notice: str = ""


def kind_of(name: str) -> str:
    """Return the kind of image that a channel's name means, or a plain form of a name that is not known.

    Args:
        name: The name of a channel, such as `T1w`, `t1n` or `T1 (native)`.

    Returns:
        A key of SYNONYMS; or, for another name, its letters, digits and `+` in small letters.
    """
    for text in (name, re.sub(r"[(\[{].*?[)\]}]", _kept, name)):
        for plain in (_plain(text), _plain(re.sub(r"^\W*(mr|mri)(?=[\W_])", "", text, flags=re.IGNORECASE))):
            if plain in _KINDS:
                return _KINDS[plain]
    return _plain(name)


def are_declared(names: Sequence[str]) -> bool:
    """Return whether the names of a file's channels tell them apart.

    Names that are numbers (`0`, `channel 1`) or that repeat do not.

    Args:
        names: The names, in the order of the file.
    """
    numbered = all(re.fullmatch(r"(channel|ch|modality|image|input|sequence)?\d*", _plain(name)) for name in names)
    return not numbered and len(_keys(names)) == len(set(_keys(names)))


def same_channels(first: Sequence[str], second: Sequence[str]) -> bool:
    """Return whether two lists of names mean the same channels in the same order.

    Args:
        first: The names of a model's or a file's channels.
        second: Those of another one.
    """
    return list(map(_plain, first)) == list(map(_plain, second)) or _keys(first) == _keys(second)


def order_of(given: Sequence[str], wanted: Sequence[str], source: str, forced: bool = False) -> Order:
    """Return how a model takes the channels of a file: by their names where both sides declare them.

    Args:
        given: The names of the file's channels; none where nothing declares them.
        wanted: The names of the model's channels, in its order.
        source: The file or folder that the names belong to, for messages.
        forced: Whether the user named the file's channels for this call.

    Raises:
        UserError: The file lacks a channel, or it cannot be told which one it is.
    """
    if not are_declared(wanted) or not (given and (forced or are_declared(given))):
        return _assumed(given, wanted, source)
    found = _matched(given, wanted)
    open_ = [n for n, place in enumerate(found) if place is None]
    left = [n for n in range(len(given)) if n not in found]
    if len(open_) == 1 and len(left) == 1 and len(given) == len(wanted):
        name, other = wanted[open_[0]], given[left[0]]
        if not _contradict(name, other):
            found[open_[0]] = left[0]
            notice = f"{source}: the channel {other!r} is taken for the model's channel {name!r}; {_how_to_say(wanted)}"
            return Order(_unless_as_stored(found, given), notice)
    if open_:
        raise UserError(
            f"{source} has the channels {_listed(given)}, but the model takes {_listed(wanted)}: there is no "
            f"{_listed([wanted[n] for n in open_])}; {_how_to_say(wanted)}"
        )
    order = _unless_as_stored(found, given)
    return Order(order, "" if order is None else _told(given, order, source))


def _unless_as_stored(found: Sequence[int | None], given: Sequence[str]) -> tuple[int, ...] | None:
    order = tuple(place for place in found if place is not None)
    return None if order == tuple(range(len(given))) else order


def _told(given: Sequence[str], order: tuple[int, ...], source: str) -> str:
    """What happens to the channels."""
    taken = _listed([given[n] for n in order])
    if len(given) > len(order):
        return f"{source}: of its channels {_listed(given)} the model takes {taken}, by their names"
    return f"{source}: its channels {_listed(given)} are put into the model's order {taken}"


def _assumed(given: Sequence[str], wanted: Sequence[str], source: str) -> Order:
    """The order of the file, where names do not decide; the number of channels is judged by whoever reads it."""
    either = are_declared(wanted) or are_declared(given)
    if len(wanted) < 2 or not either or (given and len(given) != len(wanted)):
        return Order(None)
    if are_declared(wanted):
        notice = f"{source} does not name its channels: they are taken to be {_listed(wanted)}, in this order"
        return Order(None, f"{notice}; {_how_to_say(wanted)}")
    notice = f"the model does not name its {len(wanted)} channels: {_listed(given)} of {source} are taken in this order"
    return Order(None, notice)


def _matched(given: Sequence[str], wanted: Sequence[str]) -> list[int | None]:
    """For each wanted name the place of the same name: as it is written where that fits, else by what it means."""
    plain = [_place(name, list(map(_plain, given))) for name in map(_plain, wanted)]
    if None not in plain:
        return plain
    return [_place(key, _keys(given)) for key in _keys(wanted)]


def _place(key: str, keys: Sequence[str]) -> int | None:
    return keys.index(key) if key in keys else None


def _keys(names: Sequence[str]) -> list[str]:
    """What the names mean; where two would mean the same (`T1 early`, `T1 late`), their plain forms."""
    kinds = list(map(kind_of, names))
    return [kind if kinds.count(kind) == 1 else _plain(name) for kind, name in zip(kinds, names, strict=True)]


def _contradict(one: str, other: str) -> bool:
    """Whether two names cannot mean the same channel, as far as the table knows."""
    kinds = {kind_of(one), kind_of(other)}
    if "MR" in kinds and kinds <= set(MR):
        return False
    return "CT" in kinds or kinds <= set(SYNONYMS)


def _how_to_say(wanted: Sequence[str]) -> str:
    return f"say what the files hold with --channels (Python: Reading), for example --channels {_option(wanted)}"


def _option(names: Sequence[str]) -> str:
    return shlex.quote(",".join(names))


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names)


def _kept(bracket: re.Match[str]) -> str:
    """The text of a bracket that may tell two images apart; nothing for another one."""
    return bracket[0] if _CONTRAST.search(bracket[0].casefold()) else ""


def _plain(name: str) -> str:
    return re.sub(r"[^\w+*]|_", "", unicodedata.normalize("NFKC", name).casefold())


_KINDS = {_plain(name): kind for kind, names in SYNONYMS.items() for name in names}
