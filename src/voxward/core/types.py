"""Names for tensors with their shapes.

The axes are `b` batch, `c` image channels, `k` classes, and `d h w` the three spatial axes in the order of the oriented
array (the first axis runs towards the patient's right, the second to the front, the third to the head). A 2D image is a
volume whose third axis has length 1.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Integer, Shaped
from torch import Tensor

Image = Float[Tensor, "c d h w"]
Images = Float[Tensor, "b c d h w"]
Logits = Float[Tensor, "b k d h w"]
CaseLogits = Float[Tensor, "k d h w"]
Labels = Integer[Tensor, "b d h w"]
CaseLabels = Integer[Tensor, "d h w"]
LabelArray = Integer[np.ndarray, "d h w"]
VoxelArray = Shaped[np.ndarray, "..."]

Size3 = tuple[int, int, int]
Float3 = tuple[float, float, float]
