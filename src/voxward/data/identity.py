"""Which image a case holds, whatever its files are called and however they store it.

An image is recognised by its voxels in two ways. Its digest is the same for equal intensities (as float32, NaN as 0) in
any number type, file type and compression, and however the axes are ordered and flipped, even where a header has lost
the orientation. Its thumbnail, the means over a few blocks in units of the image's own standard deviation, is nearly
the same after the rounding of another integer scaling, and after a linear change of the intensities. One channel is
enough: in another order, or without the others, it is still the same patient.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import numpy as np

from voxward.core.case import Case, Volume
from voxward.core.types import Size3
from voxward.data.io import read_header, read_image
from voxward.data.orient import orient, orientation
from voxward.data.volume_file import affine_fault

FEW_VALUES = 16
"""A channel with so many different intensities or fewer, such as a mask, may be the same for several patients."""

_BLOCKS = 3
# Thumbnails are in thousandths of the standard deviation, and those of one image differ by no more than this.
_TOLERANCE = 2
# By how many mm a step along an axis may differ between headers of the same image.
_SAME_LENGTH = 0.01


@dataclass(frozen=True)
class ChannelIdentity:
    """What one channel is recognised by.

    Attributes:
        digest: A digest of its intensities, whatever the order of the axes.
        thumbnail: The means of up to 3 x 3 x 3 blocks in RAS order, in thousandths of the standard deviation around the
            mean, separated by blanks; empty where all intensities are equal or one is infinite.
        telling: Whether it has more than FEW_VALUES different intensities, so that it tells patients apart.
    """

    digest: str
    thumbnail: str
    telling: bool

    @property
    def means(self) -> np.ndarray:
        """Return the numbers of the thumbnail."""
        return np.array(self.thumbnail.split(), int)


@dataclass(frozen=True)
class Identity:
    """What the image of a case is recognised by.

    Attributes:
        shape: The number of voxels per axis, sorted.
        channels: What each channel is recognised by, in the order of the files.
        place: Where the image lies, which does not decide who it is: the first three rows of the affine in RAS order in
            mm, separated by blanks; empty where the affine is of no use.
    """

    shape: Size3
    channels: tuple[ChannelIdentity, ...]
    place: str = ""

    @property
    def telling(self) -> tuple[ChannelIdentity, ...]:
        """Return the channels that tell patients apart."""
        return tuple(channel for channel in self.channels if channel.telling)


def identity_of(volume: Volume) -> Identity:
    """Return what an image is recognised by, in the memory of a few planes.

    Args:
        volume: The image (c, i, j, k), as it is read from its files.
    """
    turned = volume.array
    if affine_fault(volume.affine) is None:
        turned = orient(volume.array, *orientation(volume.affine))
    return Identity(_sorted(volume.shape), tuple(map(_channel, turned)), _place(volume))


def joined(files: Sequence[Identity]) -> Identity:
    """Return the identity of a case whose channels are in several files, in the place of the first one.

    Args:
        files: The identity of each file, at least one.
    """
    return replace(files[0], channels=tuple(channel for file in files for channel in file.channels))


def read_identity(case: Case) -> Identity:
    """Read the images of a case for what they are recognised by; files that have not changed are read once per process.

    Args:
        case: The case, of which all channels in the files count.

    Raises:
        FileNotFoundError: There is no such file.
        UserError: A file cannot be read.
    """
    states = ((path, path.stat()) for path in case.images)
    return _read(tuple((path, state.st_size, state.st_mtime_ns) for path, state in states))


def header_shape(case: Case) -> Size3:
    """Return the number of voxels per axis, sorted, by the header of the first file.

    Raises:
        FileNotFoundError: There is no such file.
        UserError: The file cannot be read.
    """
    return _sorted(read_header(case.images[0]).shape)


def same_image(one: Identity, other: Identity) -> bool:
    """Return whether two images show the same scan: a channel that tells patients apart is in both.

    Where neither has such a channel, all channels must be equal, and one of them must not be constant.
    """
    if one.shape != other.shape:
        return False
    if one.telling or other.telling:
        return any(_same_channel(a, b) for a in one.telling for b in other.telling)
    alike = sorted(channel.digest for channel in one.channels) == sorted(channel.digest for channel in other.channels)
    return alike and any(channel.thumbnail for channel in one.channels)


def unchanged(one: Identity, other: Identity) -> bool:
    """Return whether two images are the same voxel by voxel, with the same voxel size and direction of the axes."""
    digests = (sorted(channel.digest for channel in identity.channels) for identity in (one, other))
    first, second = (np.array(identity.place.split(), float) for identity in (one, other))
    if not len(first) == len(second) == 12:
        return len(set(map(tuple, digests))) == 1
    moved = np.abs(first - second).reshape(3, 4)[:, :3]
    return len(set(map(tuple, digests))) == 1 and bool((moved <= _SAME_LENGTH).all())


def without_common(identities: Sequence[Identity]) -> list[Identity]:
    """Return identities in which no channel counts that different patients have in common, such as an atlas.

    Args:
        identities: Those of many cases.

    Returns:
        The same, where a channel that cases share which differ in another telling channel is not telling any more.
    """
    holders: dict[str, set[frozenset[str]]] = {}
    for identity in identities:
        whole = frozenset(channel.digest for channel in identity.telling)
        for digest in whole:
            holders.setdefault(digest, set()).add(whole)
    common = {digest for digest, sets in holders.items() if len(sets) > 1}
    return [_untelling(identity, common) for identity in identities] if common else list(identities)


class KnownImages:
    """Images in which another one can be looked up.

    Args:
        identities: For each name the identity of its image.
    """

    def __init__(self, identities: Iterable[tuple[str, Identity]]) -> None:
        pairs = list(identities)
        counted = without_common([identity for _, identity in pairs])
        self._by_shape: dict[Size3, list[tuple[str, Identity]]] = {}
        for (name, _), identity in zip(pairs, counted, strict=True):
            self._by_shape.setdefault(identity.shape, []).append((name, identity))
        self._thumbnails: dict[Size3, tuple[list[int], np.ndarray]] = {}

    def find(self, identity: Identity) -> str | None:
        """Return the name of the first image that is the same; None if there is none."""
        return next(iter(self.find_all(identity)), None)

    def find_all(self, identity: Identity) -> list[str]:
        """Return the names of all images that are the same, in the order in which they were given."""
        known = self._by_shape.get(identity.shape, [])
        near = self._near(identity) if known else set[int]()
        digests = {channel.digest for channel in identity.channels}
        # What shares neither a digest nor a thumbnail need not be compared.
        return [
            name
            for n, (name, one) in enumerate(known)
            if (n in near or any(channel.digest in digests for channel in one.channels)) and same_image(one, identity)
        ]

    def find_case(self, case: Case) -> str | None:
        """Return the name of the first image that is the same as a case's; its voxels are read only if a shape fits.

        Raises:
            FileNotFoundError: There is no such file.
            UserError: A file cannot be read.
        """
        if not self._by_shape or header_shape(case) not in self._by_shape:
            return None
        return self.find(read_identity(case))

    def _near(self, identity: Identity) -> set[int]:
        """The places of the images of this shape of which a channel has nearly the same thumbnail."""
        if identity.shape not in self._thumbnails:
            known = self._by_shape[identity.shape]
            found = [(n, channel.means) for n, (_, one) in enumerate(known) for channel in one.telling]
            kept = [(n, means) for n, means in found if len(means)]  # as many for every image of one shape
            self._thumbnails[identity.shape] = [n for n, _ in kept], np.array([means for _, means in kept])
        places, means = self._thumbnails[identity.shape]
        near = set[int]()
        for channel in identity.telling:
            if places and len(channel.means):
                close = (np.abs(means - channel.means) <= _TOLERANCE).all(axis=1)
                near.update(places[n] for n in np.flatnonzero(close))
        return near


def _same_channel(one: ChannelIdentity, other: ChannelIdentity) -> bool:
    if one.digest == other.digest:
        return True
    a, b = one.means, other.means
    return 0 < len(a) == len(b) and bool((np.abs(a - b) <= _TOLERANCE).all())


def _untelling(identity: Identity, common: set[str]) -> Identity:
    channels = (
        ChannelIdentity(channel.digest, channel.thumbnail, channel.telling and channel.digest not in common)
        for channel in identity.channels
    )
    return Identity(identity.shape, tuple(channels), identity.place)


@lru_cache(maxsize=65536)
def _read(states: tuple[tuple[Path, int, int], ...]) -> Identity:
    # File by file: whether they lie in one place, and how exactly, is not asked here.
    return joined([identity_of(read_image([path])) for path, _, _ in states])


def _channel(channel: np.ndarray) -> ChannelIdentity:
    """Plane by plane along the slowest axis, as the voxels lie in memory."""
    axes = np.argsort([-abs(stride) for stride in channel.strides], kind="stable")
    ordered = channel.transpose(axes)
    profiles = [np.zeros(length, np.uint64) for length in ordered.shape]
    starts = [np.linspace(0, n, min(_BLOCKS, n) + 1).astype(int)[:-1] for n in ordered.shape]
    blocks, squares, values = np.zeros([len(start) for start in starts]), 0.0, set[float]()
    pivot = float(_plain(ordered[0])[0, 0]) if ordered.size else 0.0  # keeps squares of large intensities exact
    for n, plane in enumerate(map(_plain, ordered if ordered.size else ())):
        if len(values) <= FEW_VALUES:
            values.update(np.unique(plane)[: FEW_VALUES + 1].tolist())
        mixed = _mixed(plane)
        rows = mixed.sum(axis=1, dtype=np.uint64)
        profiles[0][n] = rows.sum(dtype=np.uint64)
        profiles[1] += rows
        profiles[2] += mixed.sum(axis=0, dtype=np.uint64)
        moved = plane.astype(np.float64) - pivot
        squares += float(np.vdot(moved, moved))
        summed = np.add.reduceat(np.add.reduceat(moved, starts[1], 0), starts[2], 1)
        blocks[np.searchsorted(starts[0], n, "right") - 1] += summed
    thumbnail = _thumbnail(blocks.transpose(np.argsort(axes)), squares, channel.shape)
    return ChannelIdentity(_digest(profiles), thumbnail, len(values) > FEW_VALUES)


def _plain(plane: np.ndarray) -> np.ndarray:
    """Float32 in one order in memory, with NaN and -0 as 0: the same for every way of storing the same intensities."""
    with np.errstate(over="ignore", invalid="ignore"):
        found: np.ndarray = np.ascontiguousarray(plane, np.float32)
    return np.where(np.isnan(found), np.float32(0), found) + np.float32(0)


def _mixed(plane: np.ndarray) -> np.ndarray:
    """A 64-bit hash of every intensity (the last steps of MurmurHash3), which may be added up in any order."""
    mixed = plane.view(np.uint32).astype(np.uint64)
    for factor in (0xFF51AFD7ED558CCD, 0xC4CEB9FE1A85EC53):
        mixed *= np.uint64(factor)
        mixed ^= mixed >> np.uint64(33)
    return mixed


def _digest(profiles: Sequence[np.ndarray]) -> str:
    """Of the sums of hashes over planes, which do not depend on the order of the axes; nor, folded, on flips."""
    folded = sorted((len(profile), (profile + profile[::-1]).astype("<u8").tobytes()) for profile in profiles)
    return hashlib.sha256(b"".join(bytes_ for _, bytes_ in folded)).hexdigest()[:16]


def _thumbnail(sums: np.ndarray, squares: float, shape: Sequence[int]) -> str:
    total = int(np.prod(shape))
    with np.errstate(all="ignore"):
        mean = sums.sum() / total
        deviation = np.sqrt(squares / total - mean**2)
        edges = [np.diff(np.linspace(0, n, len_ + 1).astype(int)) for n, len_ in zip(shape, sums.shape, strict=True)]
        counts = edges[0][:, None, None] * edges[1][:, None] * edges[2]
        values = 1000 * (sums / counts - mean) / deviation
    if not np.isfinite(values).all():
        return ""
    return " ".join(str(int(value)) for value in np.rint(values).ravel())


def _place(volume: Volume) -> str:
    if affine_fault(volume.affine) is not None:
        return ""
    axes, flips = orientation(volume.affine)
    columns = volume.affine[:3, list(axes)] * np.where(flips, -1.0, 1.0)
    last = np.array([volume.shape[axis] - 1 for axis in axes]) * np.array(flips)
    origin = volume.affine[:3, 3] - columns @ last
    return " ".join(f"{value:.6g}" for value in (np.column_stack([columns, origin]) + 0.0).ravel())


def _sorted(shape: Size3) -> Size3:
    i, j, k = sorted(shape)
    return i, j, k
