"""An nnU-Net as the training loop sees it, and the choice of the fold that is trained."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from voxward.core.choices import FoldNumber
from voxward.core.errors import UserError
from voxward.core.types import Images, Logits
from voxward.nets.nnunet import NnUNet
from voxward.systems.nnunet.judge import forward_of, in_order
from voxward.systems.nnunet.plans import NnPlan
from voxward.systems.nnunet.results import NnResults, read_results


class PatchNetwork(nn.Module):
    """An nnU-Net on patches, with its outputs in the order of the labels.

    It is trained on its last output alone. The heads of deep supervision, which predict nothing, keep their weights.

    Args:
        network: The network, which is trained in place.
        plan: The plan of its results folder.
    """

    def __init__(self, network: NnUNet, plan: NnPlan) -> None:
        super().__init__()
        self.network, self.slicewise, self.order = network.requires_grad_(True), plan.slicewise, in_order(plan)
        for head in network.decoder.seg_layers[:-1]:
            head.requires_grad_(False)

    def forward(self, x: Images) -> Logits:
        """Return the logits (b, k, d, h, w) of patches (b, c, d, h, w), which are one slice thick in a 2D network."""
        found: Logits = forward_of(self.network, self.slicewise)(x)[:, self.order]
        return found


def read_fold(folder: Path, fold: FoldNumber | None, checkpoint: str) -> NnResults:
    """Read the fold of a results folder whose network is hardened.

    Args:
        folder: The results folder.
        fold: The fold; None takes the only one that is there.
        checkpoint: The name of the checkpoint file in the fold.

    Raises:
        UserError: There are several folds, and none was chosen, or the folder cannot be reproduced or read safely.
        FileNotFoundError: There is no such fold; the message names those that there are.
    """
    if fold is None:
        there = sorted(path.parent.name.removeprefix("fold_") for path in folder.glob(f"fold_*/{checkpoint}"))
        if len(there) > 1:
            raise UserError(
                f"{folder} has the folds {', '.join(there)}, and one network is hardened at a time: say which one, as "
                f"in --fold {there[0]}"
            )
        return read_results(folder, there or None, checkpoint)
    return read_results(folder, (fold,), checkpoint)


def trainable(results: NnResults, device: torch.device | None = None) -> PatchNetwork:
    """Return the network of the one fold that was read, ready to be trained.

    Args:
        results: What `read_fold` returned.
        device: Where it goes; None leaves it on the CPU.
    """
    return PatchNetwork(results.networks[0], results.plan).to(device).train()
