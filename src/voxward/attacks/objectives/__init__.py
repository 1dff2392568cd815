"""What gradient attacks maximise: losses that rise as a segmentation gets worse.

Every objective reads a softmax head (the ground truth is class indices (b, *spatial)) and a region head (the ground
truth is 0 or 1 (b, r, *spatial)), in two or three spatial axes. For a region, the true class's probability is p where t
= 1 and 1 - p where t = 0; its cross-entropy is the binary one, its margin is -(2t - 1) z, and a voxel is correct if (z
> 0) == t. Voxels that are not annotated (see `core.model.Truth`) are left out of every sum and every mean.
"""

from __future__ import annotations

from voxward.attacks.objectives.boundary import BoundaryLoss as BoundaryLoss
from voxward.attacks.objectives.dice import DiceCrossEntropy as DiceCrossEntropy
from voxward.attacks.objectives.dice import SharpDiceLoss as SharpDiceLoss
from voxward.attacks.objectives.dice import SoftDiceLoss as SoftDiceLoss
from voxward.attacks.objectives.frontier import FrontierLoss as FrontierLoss
from voxward.attacks.objectives.mean import BalancedLoss as BalancedLoss
from voxward.attacks.objectives.mean import VoxelLoss as VoxelLoss
from voxward.attacks.objectives.registry import OBJECTIVES as OBJECTIVES
from voxward.attacks.objectives.registry import ObjectiveEntry as ObjectiveEntry
from voxward.attacks.objectives.registry import at as at
from voxward.attacks.objectives.registry import check_objective as check_objective
from voxward.attacks.objectives.registry import create_objective as create_objective
from voxward.attacks.objectives.registry import describe as describe
from voxward.attacks.objectives.rules import correct as correct
from voxward.attacks.objectives.rules import margin as margin
from voxward.attacks.objectives.rules import nll as nll
from voxward.attacks.objectives.weights import Loss as Loss
from voxward.attacks.objectives.weights import Weights as Weights
