"""The part of a recipe that says where training patches lie."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from voxward.core.recipe.checks import outside


@dataclass(frozen=True)
class Sampling:
    """Where training patches lie.

    Args:
        foreground: The share (0 to 1) of the patches that are drawn around a foreground voxel. Its class is drawn
            first.
        region: Where the other patches lie: `case` is anywhere in the volume; `truth` is within the bounding box of
            the ground truth, with a part of it in the patch.
        place: Where in such a patch that voxel lies. `centre` teaches a network that the middle of a patch is
            foreground, which is not so in the windows of a whole volume. With `anywhere` every place in the patch is
            equally likely, as far as the edge of the volume allows.
    """

    foreground: float = 0.5
    region: Literal["case", "truth"] = "case"
    place: Literal["centre", "anywhere"] = "centre"

    def problems(self) -> list[str]:
        """Return one sentence for each value that is out of range."""
        return outside("foreground", self.foreground, 0.0, 1.0)
