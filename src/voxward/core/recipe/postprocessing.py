"""The part of a recipe that says how a predicted label is cleaned up."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from voxward.core.errors import UserError
from voxward.core.labels import LabelSet
from voxward.core.recipe.checks import outside
from voxward.core.registry import unknown_name

FractionOf = Literal["mask", "largest"]


@dataclass(frozen=True)
class PostProcessing:
    """How a predicted label is cleaned up.

    A step is kept for a class only if it raises the Dice of that class on the selection cases.

    Args:
        kind: What is done with the connected components of a class. `organ` keeps the largest one. `lesion` gives
            small ones the class around them. `share` removes those with less than `fraction` of the voxels of
            `fraction_of`, but never the largest. `none` leaves them.
        classes: The kind of single classes, by name, where it is another one, such as `{tumour: lesion}`.
        fraction: The share (0 to 1) of `fraction_of`, for the kind `share`.
        fraction_of: `mask` counts all voxels of the class, as in the ResDSN paper: where a mask falls into many parts,
            most of them or all but one are then small. `largest` counts those of the largest component alone, so that
            a part is judged alike however many others there are.
        islands: The share (0 to 1) of the largest part of all foreground together below which another part of it
            becomes background, before anything else is done; 0 drops none. It is for what is one thing of several
            classes, such as a tumour with its oedema. It is kept only if it raises the mean Dice of the selection
            cases.
        fill_holes: True then gives background that a class encloses to that class.
    """

    kind: str = "organ"
    classes: Mapping[str, str] = field(default_factory=dict)
    fraction: float = 0.2
    fraction_of: FractionOf = "mask"
    islands: float = 0.0
    fill_holes: bool = False

    def problems(self) -> list[str]:
        """Return one sentence for each value that is out of range."""
        return outside("fraction", self.fraction, 0.0, 1.0) + outside("islands", self.islands, 0.0, 1.0)

    def kinds(self, labels: LabelSet) -> tuple[str, ...]:
        """Return the kind of each foreground class.

        Args:
            labels: The labels of the dataset.

        Raises:
            UserError: `classes` names a class that the dataset does not have.
        """
        known = dict.fromkeys(labels.foreground)
        unknown = [unknown_name("class", name, known) for name in self.classes if name not in known]
        if unknown:
            raise UserError("postprocessing.classes: " + "; ".join(unknown))
        return tuple(self.classes.get(name, self.kind) for name in labels.foreground)
