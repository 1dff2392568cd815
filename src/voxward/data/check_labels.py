"""What `check` says about labels: classes that differ in left and right, and labelled voxels that get lost."""

from __future__ import annotations

from voxward.core.labels import LabelSet
from voxward.core.sides import sides_of

# Names that a message lists.
_SHOWN = 6


def sides_warning(labels: LabelSet) -> str | None:
    """Return what a user should know about classes that differ in left and right; None where there are none.

    Args:
        labels: The classes and regions of a dataset.
    """
    sides = sides_of((*labels.foreground, *(region.name for region in labels.regions)))
    if not sides.names:
        return None
    named = [" and ".join(pair) for pair in sides.pairs] + [f"{name} (one side)" for name in sides.single]
    more = f" and {len(named) - _SHOWN} more" if len(named) > _SHOWN else ""
    return (
        f"classes differ in left and right: {'; '.join(named[:_SHOWN])}{more}. Training will not mirror axis 0 "
        "(left-right) unless augmentation.mirror_pairs or augmentation.sides says otherwise"
    )
