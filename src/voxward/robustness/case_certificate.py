"""What is certified of one system on one case, as certificate.json holds it."""

from __future__ import annotations

from dataclasses import dataclass

from voxward.robustness.record import Scores


@dataclass(frozen=True)
class Median:
    """What at least half of the noisy runs reach on every volume within a radius.

    Attributes:
        radius: The radius in units of sigma; 0: the clean volume itself.
        mean: The mean Dice over the classes; None where there are too few runs for this radius.
        dice: The Dice of each class by itself; None also where it is undefined in a run.
    """

    radius: float
    mean: float | None
    dice: Scores


@dataclass(frozen=True)
class Mask:
    """What is certain of the segmentation within a radius.

    Attributes:
        tau: The threshold of the probability.
        radius: The radius in units of sigma, Phi^-1(tau).
        mean: A lower bound of the mean Dice over the classes.
        dice: A lower bound of the Dice of each class or region, then of each coarser group.
        enough: How many of the runs must agree; None where all of them are too few.
        decided: The number of annotated voxels whose answer is certain.
        coarser: The number of those that are certain to be in a region or group only.
        open: The number of those that nothing is certain of but what they are not.
    """

    tau: float
    radius: float
    mean: float
    dice: Scores
    enough: int | None
    decided: int
    coarser: int
    open: int

    def tests(self, parts: int) -> int:
        """Return how many tests were made at once: for each annotated voxel and part, that it is in it and that not."""
        return 2 * parts * (self.decided + self.coarser + self.open)


@dataclass(frozen=True)
class Attacked:
    """What an attack on the smoothed system left, which must not be less than what is certified.

    Attributes:
        radius: The size of the attack in units of sigma.
        median: The median over noisy runs of the mean Dice.
        certified: The certified median within this radius; None where there is none.
        masks: For each threshold whose radius is at least as large, the Dice of the mask that most runs agree on.
        bounds: For each of these thresholds the certified bound of that Dice.
    """

    radius: float
    median: float
    certified: float | None
    masks: tuple[float, ...] = ()
    bounds: tuple[float, ...] = ()

    @property
    def holds(self) -> bool:
        """Whether the attack did not get below what is certified."""
        pairs = [(self.median, self.certified), *zip(self.masks, self.bounds, strict=True)]
        return all(bound is None or found >= bound for found, bound in pairs)


@dataclass(frozen=True)
class CaseCertificate:
    """The certificates of one system on one case under one kind of noise.

    Attributes:
        model: The system.
        case: The case.
        noise: `voxels`, or the change whose parameters are random.
        sigma: The standard deviation of the noise.
        runs: The number of noisy runs.
        alpha: The probability that the certificate of the medians, or that of a mask, is wrong.
        voxels: How many voxels, of all channels together, may change.
        channels: The number of channels.
        parts: The names of the classes or regions, then of the coarser groups.
        clean: The mean Dice without noise, of the written file.
        median: The median over the runs of the mean Dice.
        medians: What is certified of this median.
        masks: What is certified of the segmentation; none for noise in parameters.
        attacks: What attacks on the smoothed system left.
        machines: What the runs were computed on. Machines round differently, so that a system on two kinds of them is
            two functions.
    """

    model: str
    case: str
    noise: str
    sigma: float
    runs: int
    alpha: float
    voxels: int
    channels: int
    parts: tuple[str, ...]
    clean: float
    median: float
    medians: tuple[Median, ...]
    masks: tuple[Mask, ...] = ()
    attacks: tuple[Attacked, ...] = ()
    machines: tuple[str, ...] = ()
