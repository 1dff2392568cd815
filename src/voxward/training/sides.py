"""What classes that differ in left and right mean for a training: decided once, when a run begins."""

from __future__ import annotations

from dataclasses import replace

from voxward.core.errors import UserError
from voxward.core.labels import LabelSet
from voxward.core.recipe import Augmentation, Recipe
from voxward.core.sides import LEFT_RIGHT, NamePairs, Sides, class_swaps, output_order, sides_of

# The largest rotation in degrees that leaves left on the left about every axis.
LARGEST_ROTATION = 45.0
# Names that a message lists.
_SHOWN = 6


def settled_sides(recipe: Recipe, labels: LabelSet) -> Recipe:
    """Decide how a recipe treats classes that differ in left and right, and write it into the recipe.

    A run keeps what was decided, and a recipe that is settled stays as it is for the same dataset.

    Args:
        recipe: The recipe as it was read.
        labels: The labels of the dataset, with the regions of the recipe.

    Returns:
        The recipe with the names of the classes in `inference.sides`, and with all that exchanges left and right
        switched off; or, where `augmentation.mirror_pairs` holds for all of them, with the pairs in
        `inference.mirror_pairs`, and mirrored as before.

    Raises:
        UserError: A name in the recipe is no class, or a region does not mirror to a region.
    """
    given, sides = recipe.augmentation, sides_in(recipe.augmentation, labels)
    pairs = _pairs(given, sides, labels)
    names = tuple(dict.fromkeys((*sides.names, *(name for pair in pairs for name in pair))))
    if not names:
        return replace(recipe, inference=replace(recipe.inference, sides=(), mirror_pairs=()))
    covered = _covered(labels, pairs) >= set(names)
    augmentation = replace(
        given,
        mirror_axes=given.mirror_axes if covered else _without_left_right(given.mirror_axes),
        quarter_turns=tuple(axis for axis in given.quarter_turns if axis == LEFT_RIGHT),
        rotation_degrees=min(given.rotation_degrees, LARGEST_ROTATION),
    )
    inference = replace(
        recipe.inference,
        sides=names,
        mirror_pairs=pairs if covered else (),
        mirror_axes=recipe.inference.mirror_axes if covered else _without_left_right(recipe.inference.mirror_axes),
    )
    return replace(recipe, augmentation=augmentation, inference=inference)


def sides_notice(before: Recipe, settled: Recipe) -> str | None:
    """Return the sentences that say what `settled_sides` has changed; None where it has only noted names.

    Args:
        before: The recipe as it was read.
        settled: The recipe as it was settled.
    """
    given, used = before.augmentation, settled.augmentation
    changes = []
    if given.mirror_axes != used.mirror_axes or before.inference.mirror_axes != settled.inference.mirror_axes:
        changes.append("axis 0 (left-right) is not mirrored")
    if given.quarter_turns != used.quarter_turns:
        changes.append("there are no quarter turns about the axes 1 and 2")
    if given.rotation_degrees != used.rotation_degrees:
        changes.append(f"rotations end at {used.rotation_degrees:g} degrees")
    if before.inference.tta == "symmetries":
        count = 8 if settled.inference.mirror_pairs else 4
        changes.append(f"test-time augmentation has {count} symmetries, not 16")
    if not changes or not settled.inference.sides:
        return None
    names = settled.inference.sides
    listed = ", ".join(names[:_SHOWN]) + (f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")
    noun = "class differs" if len(names) == 1 else "classes differ"
    return (
        f"{len(names)} {noun} in left and right ({listed}), so {', '.join(changes)}. {_way(settled, names)}"
        "To augment as if there were no sides: --set augmentation.sides=none"
    )


def _way(settled: Recipe, names: tuple[str, ...]) -> str:
    """How to mirror with the classes exchanged, where that is possible and not done."""
    if settled.inference.mirror_pairs or len(names) == 1:
        return ""
    sides = sides_of(names)
    if sides.single and sides.pairs:  # a class of one side has no partner
        return ""
    pairs = "auto" if sides.pairs else "[[LEFT,RIGHT],...]"
    return f"To mirror with the classes of the two sides exchanged: --set augmentation.mirror_pairs={pairs}. "


def training_swaps(recipe: Recipe, labels: LabelSet) -> tuple[tuple[int, int], ...]:
    """Return the classes that a training exchanges where it mirrors left to right.

    Args:
        recipe: The recipe of the run. That of a run that was begun by an older version exchanges nothing.
        labels: The labels of the run.
    """
    return class_swaps(labels, recipe.inference.mirror_pairs)


def sides_in(augmentation: Augmentation, labels: LabelSet) -> Sides:
    """Return the classes and regions that differ in left and right, as a recipe says.

    Raises:
        UserError: The recipe names something that is no class and no region.
    """
    known = (*labels.foreground, *(region.name for region in labels.regions))
    if augmentation.sides == "none":
        return Sides()
    if augmentation.sides == "auto":
        return sides_of(known)
    unknown = [name for name in augmentation.sides if name not in known]
    if unknown:
        raise UserError(f"augmentation.sides: {unknown[0]!r} is no class or region; there are {', '.join(known)}")
    found = sides_of(augmentation.sides)
    return Sides(found.pairs, tuple(name for name in augmentation.sides if name not in dict(found.pairs).values()
                                    and name not in dict(found.pairs)))  # fmt: skip


def _pairs(augmentation: Augmentation, sides: Sides, labels: LabelSet) -> NamePairs:
    """The classes that are exchanged, as a recipe asks for them."""
    asked = augmentation.mirror_pairs
    if asked == "none":
        return ()
    if asked == "auto":
        found = tuple(pair for pair in sides.pairs if set(pair) <= set(labels.foreground))
        return found if _mirrors(labels, found) else ()
    output_order(labels, asked)  # refuses names that are no classes, and regions without a partner
    return asked


def _mirrors(labels: LabelSet, pairs: NamePairs) -> bool:
    try:
        output_order(labels, pairs)
    except UserError:
        return False
    return True


def _covered(labels: LabelSet, pairs: NamePairs) -> set[str]:
    """The names of the classes that are exchanged, and of all regions that are exchanged with them."""
    order = output_order(labels, pairs)
    regions = {labels.scored[n] for n, other in enumerate(order) if n != other} if labels.regions else set[str]()
    return {name for pair in pairs for name in pair} | regions


def _without_left_right(axes: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(axis for axis in axes if axis != LEFT_RIGHT)
