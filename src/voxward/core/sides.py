"""Left and right in the names of classes, and what an image that is mirrored left to right does to them.

Axis 0 of a prepared volume runs from left to right. Where it is mirrored, a left kidney looks like a right one, so a
network that learns on such images cannot tell the two apart, unless the classes are exchanged with the voxels.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from voxward.core.errors import UserError
from voxward.core.labels import LabelSet

Side = Literal["left", "right"]
NamePairs = tuple[tuple[str, str], ...]

# Axis 0 of volumes in RAS order.
LEFT_RIGHT = 0

# These say a side wherever they stand in a name.
WORDS: dict[str, Side] = {
    "left": "left", "lh": "left", "sinister": "left", "sinistra": "left", "sinistro": "left", "links": "left",
    "linke": "left", "gauche": "left", "izquierdo": "left", "izquierda": "left",
    "right": "right", "rh": "right", "dexter": "right", "dextra": "right", "destro": "right", "destra": "right",
    "rechts": "right", "rechte": "right", "droit": "right", "droite": "right", "derecho": "right", "derecha": "right",
}  # fmt: skip
# These say a side at the beginning or the end of a name, and anywhere where both sides have the name.
SHORT: dict[str, Side] = {"l": "left", "lt": "left", "r": "right", "rt": "right"}

_CAMEL = re.compile(r"(?<=[a-z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")
_APART = re.compile(r"[\W_]+")
# A word of this form says its side, too.
_LONG = re.compile(r"(left|right)(?!over|ward|most|y)[a-z]{3,}")
# A short sign counts on a word of at least so many letters: `kidney_l`, but not `T1 L`.
_LETTERS = 3


@dataclass(frozen=True)
class Sides:
    """The classes that differ in left and right.

    Attributes:
        pairs: The classes of which there is a left and a right one, the left one first.
        single: The classes of one side whose other side is no class.
    """

    pairs: NamePairs = ()
    single: tuple[str, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """Return the names of all of them."""
        return (*(name for pair in self.pairs for name in pair), *self.single)


def sides_of(names: Sequence[str]) -> Sides:
    """Find the classes that differ in left and right by their names.

    Pairs are names that are alike but for a word or a letter for the side, such as `kidney_left` and `kidney_right`,
    `Left-Hippocampus` and `Right-Hippocampus`, `Parotid_L` and `Parotid_R`, `ctx-lh-cuneus` and `ctx-rh-cuneus`, `lkid`
    and `rkid`. A class whose name says a side, but has no partner, is single.

    Args:
        names: The names of the foreground classes or regions.

    Returns:
        The pairs and the single ones, in the order of the names.

    Example:
        >>> sides_of(["liver", "kidney_left", "kidney_right", "ventricle"])
        Sides(pairs=(('kidney_left', 'kidney_right'),), single=())
    """
    partner: dict[str, str] = {}
    for readings in (_said, _glued):
        found: dict[str, dict[Side, list[str]]] = defaultdict(lambda: {"left": [], "right": []})
        for name in names:
            for side, rest in readings(name) if name not in partner else ():
                found[rest][side].append(name)
        for both in found.values():
            if len(both["left"]) == len(both["right"]) == 1:
                (left,), (right,) = both["left"], both["right"]
                partner.setdefault(left, right)
                partner.setdefault(right, left)
    pairs = tuple((name, partner[name]) for name in names if name in partner and _side(name, partner[name]) == "left")
    single = tuple(name for name in names if name not in partner and _alone(name, names))
    return Sides(pairs, single)


def class_swaps(labels: LabelSet, pairs: NamePairs) -> tuple[tuple[int, int], ...]:
    """Return the pairs of class indices that are exchanged where a volume is mirrored left to right.

    Args:
        labels: The classes.
        pairs: Names of classes.

    Raises:
        UserError: A name is no foreground class, or stands in two pairs.
    """
    named = [name for pair in pairs for name in pair]
    unknown = [name for name in named if name not in labels.foreground]
    if unknown:
        raise UserError(
            f"mirror_pairs: {unknown[0]!r} is no foreground class; there are {', '.join(labels.foreground)}"
        )
    if len(set(named)) < len(named):
        raise UserError(f"mirror_pairs: a class may stand in one pair only, got {[list(pair) for pair in pairs]}")
    return tuple((labels.names.index(left), labels.names.index(right)) for left, right in pairs)


def output_order(labels: LabelSet, pairs: NamePairs) -> tuple[int, ...]:
    """Return the order in which a network's outputs are read where its input was mirrored left to right.

    Args:
        labels: The classes or regions of the network.
        pairs: Names of classes that are exchanged.

    Returns:
        For each output channel the channel that holds its logit. The order is its own inverse.

    Raises:
        UserError: The exchange of the classes turns a region into something that is no region.
    """
    swaps = class_swaps(labels, pairs)
    place = list(range(labels.count))
    for left, right in swaps:
        place[left], place[right] = right, left
    if not labels.regions:
        return tuple(place)
    sets = [frozenset(region.values) for region in labels.regions]
    other = dict(zip(labels.values, (labels.values[index] for index in place), strict=True))
    mirrored = [frozenset(other.get(value, value) for value in values) for values in sets]
    for region, values in zip(labels.regions, mirrored, strict=True):
        if values not in sets:
            raise UserError(
                f"mirror_pairs: region {region.name!r} has no partner: with left and right exchanged its label values "
                f"{sorted(region.values)} are {sorted(values)}, which are no region"
            )
    return tuple(sets.index(values) for values in mirrored)


def _said(name: str) -> list[tuple[Side, str]]:
    """The sides that the words of a name say, each with the other words."""
    words = _words(name)
    found = [(side, n) for n, word in enumerate(words) if (side := WORDS.get(word))]
    if not found:
        found = [(side, n) for n, word in enumerate(words) if (side := SHORT.get(word))]
    if len({side for side, _ in found}) != 1:
        return []
    return [(side, " ".join(words[:n] + words[n + 1 :])) for side, n in found]


def _glued(name: str) -> list[tuple[Side, str]]:
    """The sides that a name may say without a gap before or after, such as `lkid`; they count in pairs only."""
    word = "".join(_words(name))
    signs = [*WORDS.items(), *SHORT.items()]
    first = [(side, "-" + word[len(sign) :]) for sign, side in signs if word.startswith(sign)]
    last = [(side, word[: -len(sign)] + "-") for sign, side in signs if word.endswith(sign)]
    return [(side, rest) for side, rest in first + last if len(rest) > 1]


def _side(name: str, partner: str) -> Side | None:
    """The side of the first of a pair."""
    rests = {(side, rest) for side, rest in _readings(partner)}
    opposite: dict[Side, Side] = {"left": "right", "right": "left"}
    return next((side for side, rest in _readings(name) if (opposite[side], rest) in rests), None)


def _readings(name: str) -> list[tuple[Side, str]]:
    return _said(name) + _glued(name)


def _alone(name: str, names: Sequence[str]) -> bool:
    """Whether a name says a side although no other name is its partner."""
    words = _words(name)
    if any(word in WORDS for word in words):
        return bool(_said(name))
    if any(_LONG.fullmatch(word) for word in words):
        return True
    if len(words) < 2 or not any(len(re.sub(r"[\W\d_]", "", word)) >= _LETTERS for word in words):
        return False
    return any(words[end] in SHORT and not _one_of_sizes(words, end % len(words), names) for end in (0, len(words) - 1))


def _one_of_sizes(words: list[str], place: int, names: Sequence[str]) -> bool:
    """Whether other names differ in this letter alone, as in lesion_s, lesion_m, lesion_l."""
    others = [_words(name) for name in names]
    alike = [other for other in others if len(other) == len(words) and other != words]
    return any(
        other[:place] + other[place + 1 :] == words[:place] + words[place + 1 :] and len(other[place]) <= 2
        for other in alike
    )


def _words(name: str) -> list[str]:
    return [word.lower() for part in _APART.split(name) for word in _CAMEL.split(part) if word]
