"""The part of a recipe that says where training patches lie."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from voxward.core.recipe.checks import outside


@dataclass(frozen=True)
class Sampling:
    """Where training patches lie.

    Args:
        foreground: The share (0 to 1) of the patches that are centred on a foreground voxel. Its class is drawn first.
        region: Where the other patches lie: `case` is anywhere in the volume; `truth` is within the bounding box of
            the ground truth, with a part of it in the patch.
    """

    foreground: float = 0.5
    region: Literal["case", "truth"] = "case"

    def problems(self) -> list[str]:
        """Return one sentence for each value that is out of range."""
        return outside("foreground", self.foreground, 0.0, 1.0)
