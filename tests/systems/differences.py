"""The gradient of a whole pipeline against central difference quotients, in float64."""

from __future__ import annotations

import torch

from voxward.attacks.objectives import create_objective
from voxward.systems.system import Freeze


def loss(logits, target):
    return create_objective("ce")(logits, target, 0.0)


def gradient_error(system, source, steps=(1e-5, 1e-6, 1e-7)):
    """The smallest relative error over the steps: large ones are curved, small ones are rounded.

    Args:
        system: A system whose networks compute in float64.
        source: A volume.
        steps: The lengths of the differences.
    """
    model = system.freeze(source, Freeze(statistics="live"))
    x = torch.from_numpy(source.array).double()[None]
    index = torch.randint(0, 3, x.shape[2:], generator=torch.Generator().manual_seed(1))
    target = system.labels.target(index)[None]
    _, _, gradient = model.value_and_grad(x, target, loss)
    # Voxels at an end of a range have no derivative: moving up changes it, moving down does not.
    free = (x != 0) & (x != x.min()) & (x != x.max())
    toward = torch.randn(x.shape, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    direction = (gradient / gradient.abs().max() + 0.3 * toward) * free
    exact, errors = float((gradient * direction).sum()), []
    for step in steps:
        up, down = (loss(model.logits(x + sign * step * direction), target).sum() for sign in (1, -1))
        quotient = float((up - down) / (2 * step))
        errors.append(abs(quotient - exact) / abs(quotient))
    return min(errors)
