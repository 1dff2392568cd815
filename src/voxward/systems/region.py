"""How the region that the coarse system of a cascade finds is handed to the fine one."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, get_args

from voxward.core.recipe.postprocessing import FractionOf
from voxward.systems.cascade_model import Stage

MarginUnit = Literal["voxels", "mm"]


@dataclass(frozen=True, kw_only=True)
class Region:
    """How the region that the coarse system finds is handed to the fine one, and which part of a cascade is attacked.

    Attributes:
        margin: How far the box reaches beyond what was found, on every side; rounded up to whole voxels and clipped to
            the volume. The paper does not say how large it is: 20 voxels is that of OrganSegC2F, its authors' earlier
            system.
        margin_unit: `voxels` of the file, or `mm`.
        fraction: Components below this share of `fraction_of` are dropped before the box is drawn, in [0, 1].
        classes: The names of the coarse classes that are looked for; none means all foreground.
        mask_outside: Set the cropped volume to 0 (in the file's unit) where nothing was found, as equation 4 of the
            paper literally says; the margin then shows the fine system nothing.
        localise_only: The coarse system only says where to look: its classes need not be the fine system's, and all
            outside the box is background.
        fraction_of: `mask` is all that was found, as in the paper; `largest` is the largest component. Where an attack
            breaks what was found into many parts, a share of the mask drops nearly all of them.
        stage: What an attack sees: `both` systems, or the `coarse` or the `fine` one alone, with the box of the clean
            volume held.
    """

    margin: float = 20.0
    margin_unit: MarginUnit = "voxels"
    fraction: float = 0.2
    classes: tuple[str, ...] = ()
    mask_outside: bool = False
    localise_only: bool = False
    fraction_of: FractionOf = "mask"
    stage: Stage = "both"

    def problems(self) -> list[str]:
        """Return what is wrong, one sentence each."""
        found = []
        if not 0 <= self.margin < math.inf:
            found.append(f"margin must be a finite number >= 0, got {self.margin}")
        for name, kind in (("margin_unit", MarginUnit), ("fraction_of", FractionOf), ("stage", Stage)):
            if getattr(self, name) not in get_args(kind):
                found.append(f"{name} must be one of {', '.join(get_args(kind))}, got {getattr(self, name)!r}")
        if not 0 <= self.fraction <= 1:
            found.append(f"fraction must be in [0, 1], got {self.fraction}")
        return found


WHERE = Region()
"""How the region is handed over where nothing is set."""
