"""A corruption of a set on a scan: drawn from a seed of its own, then applied."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from voxward.core.errors import UserError
from voxward.core.types import Float3
from voxward.corruptions.corruption import InapplicableError
from voxward.corruptions.corruption_set import CorruptionSet, check_severities
from voxward.corruptions.scan import Scan

# Where so large a share of a channel is exactly 0, it is a background that was cut out.
_CUT_OUT = 0.2


@dataclass(frozen=True)
class Drawn:
    """What was drawn for a corruption on a scan; the same scan with the same drawn values gives the same result.

    Attributes:
        corruption: The name of the corruption in its set.
        severity: 0 to 5; with 0 nothing is drawn, and the scan stays as it is.
        parameters: The parameters: one for all channels of what is spatial, else one for each channel, which is empty
            where the set does not change it.
        length_scale: By what lengths along each axis were multiplied.
    """

    corruption: str
    severity: int
    parameters: tuple[Mapping[str, Any], ...] = ()
    length_scale: Float3 = (1.0, 1.0, 1.0)


def draw(
    chosen: CorruptionSet, name: str, severity: int, scan: Scan, *, seed: int = 0, case: str = "", alone: bool = True
) -> Drawn:
    """Draw the parameters of a corruption.

    Args:
        chosen: The set.
        name: The name of a corruption of the set.
        severity: 0 to 5.
        scan: The scan.
        seed: The seed.
        case: The id of the case, so that cases differ.
        alone: Whether the set is the only one, so that channels of an unknown kind count as its own.

    Raises:
        UserError: There is no such corruption or severity, or the scan has no channel that the set changes.
        InapplicableError: The corruption means nothing on this scan.
    """
    check_severities([severity])
    corruption = chosen.corruption(name)
    if severity == 0:
        return Drawn(name, 0)
    levels, scale = chosen.levels(name, severity), scan.length_scale(chosen.full_extent_mm)
    if corruption.spatial:
        return Drawn(name, severity, (corruption.draw(levels, scan, _random(seed, case, name, severity)),), scale)
    changed = chosen.changes(scan.channels, alone)
    if not changed:
        raise UserError(no_channel(chosen, scan.channels))
    found = tuple(
        corruption.draw(levels, scan.channel(n), _random(seed, case, name, severity, n)) if n in changed else {}
        for n in range(len(scan.channels))
    )
    return Drawn(name, severity, found, scale)


def apply(chosen: CorruptionSet, drawn: Drawn, scan: Scan) -> Scan:
    """Apply what was drawn.

    Args:
        chosen: The set.
        drawn: What `draw` returned for this scan.
        scan: The scan, which is not changed.

    Returns:
        The corrupted scan, in the number type of the given one, or as float64 where that is one of integers; for
        severity 0 the scan itself.

    Raises:
        UserError: A result is not finite.
    """
    corruption = chosen.corruption(drawn.corruption)
    if drawn.severity == 0:
        return scan
    if scan.image.dtype.kind != "f":
        scan = replace(scan, image=scan.image.astype(np.float64))
    if corruption.spatial:
        found = corruption.apply(scan, drawn.parameters[0])
    else:
        parts = [
            corruption.apply(scan.channel(n), one).image if one else scan.image[n : n + 1]
            for n, one in enumerate(drawn.parameters)
        ]
        image = np.concatenate(parts)
        found = replace(scan, image=np.where(_cut_out(scan.image), 0, image) if chosen.zeros == "keep" else image)
    if not np.isfinite(found.image).all():
        raise UserError(f"{drawn.corruption} of severity {drawn.severity} gave values that are not finite")
    return replace(found, image=found.image.astype(scan.image.dtype, copy=False))


def corrupted(
    chosen: CorruptionSet, name: str, severity: int, scan: Scan, *, seed: int = 0, case: str = "", alone: bool = True
) -> Scan:
    """Draw a corruption and apply it; see `draw` and `apply`.

    Example:
        >>> scan = Scan(volume.array, volume.spacing, ("T1w",))
        >>> corrupted(load_corruption_set("rood-mri"), "motion", 3, scan).image.shape
    """
    return apply(chosen, draw(chosen, name, severity, scan, seed=seed, case=case, alone=alone), scan)


def no_channel(chosen: CorruptionSet, channels: Sequence[str]) -> str:
    """Return the sentence that says that a set changes no channel of a scan, and what to do."""
    return (
        f"the corruptions of {chosen.name} are of {', '.join(chosen.channels)}, and the channels are "
        f"{', '.join(channels)}: name another set, such as --set corruptions.set=ct, or say what the files hold with "
        "--channels"
    )


def _cut_out(image: np.ndarray) -> np.ndarray:
    """The voxels of the background that was cut out (c, i, j, k)."""
    zero = image == 0
    cut: np.ndarray = zero & (zero.mean((1, 2, 3), keepdims=True) >= _CUT_OUT)
    return cut


def _random(*parts: object) -> np.random.RandomState:
    """A source of random numbers of its own for everything that is drawn, the same on every machine."""
    digest = hashlib.sha256("\n".join(map(str, parts)).encode()).digest()
    return np.random.RandomState(np.frombuffer(digest, dtype="<u4"))


__all__ = ["Drawn", "InapplicableError", "apply", "corrupted", "draw", "no_channel"]
