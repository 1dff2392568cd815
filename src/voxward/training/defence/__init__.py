"""Training steps that harden: Free and PGD adversarial training, TRADES, noise, and a mixture.

Patches are changed after augmentation. Adversarial ones are perturbed within the ball that attacks use: eps is a share
of the intensity range of a case, and no voxel leaves the intensity range of the case and the patch. An attack on a
whole volume leaves two kinds of voxels alone that are perturbed here: the padding of a patch, and voxels that are
exactly 0 in the file of an MR image.

Noise is what the files would hold: it leaves voxels alone that are exactly 0 in the file of an MR image, and the patch
is clipped or normalised again as the file would be, see `training.origin`. It is added to the padding of a patch, too,
and it is white in the voxels of the patch, also where these are not the voxels of the file. The same holds for the
corruptions of the mixture, see `training.patch_corruptions`.

The gradient ascent that makes a perturbation runs on the bare network with frozen weights, so that it costs no
gradients of the weights and, in distributed training, no communication. The running statistics of a batch norm come
only from the batches that the weights learn on: the ascent and the clean loss run in evaluation mode and do not change
them. Where only some samples are perturbed (`clean`, TRADES), the statistics are those of clean and perturbed samples
together.
"""

from __future__ import annotations

from collections.abc import Callable

from voxward.core.recipe import Defence
from voxward.core.registry import Registry
from voxward.training.defence.free import FreeStep
from voxward.training.defence.mixed import MixedStep
from voxward.training.defence.noise import NoiseStep, with_noise
from voxward.training.defence.perturbation import ascended, ascent_precision, bare, patch_ball, random_start
from voxward.training.defence.pgd import PgdStep
from voxward.training.defence.trades import TradesStep, divergence
from voxward.training.learner import Learner
from voxward.training.steps import HardeningStep

__all__ = [
    "DEFENCES", "FreeStep", "MixedStep", "NoiseStep", "PgdStep", "TradesStep", "ascended", "ascent_precision", "bare",
    "divergence", "patch_ball", "random_start", "with_noise",
]  # fmt: skip

DEFENCES: Registry[Callable[[Learner, Defence], HardeningStep]] = Registry(
    "defence", {"free": FreeStep, "pgd": PgdStep, "trades": TradesStep, "noise": NoiseStep, "mixed": MixedStep}
)
