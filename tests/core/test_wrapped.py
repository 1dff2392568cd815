from dataclasses import dataclass

import pytest
import torch

from tests.attacks.toys import case, conv_model
from voxward.core.model import VolumeModel, Wrapped


@dataclass(frozen=True, eq=False)
class Halved(Wrapped):
    """Overrides one method only."""

    inner: VolumeModel

    def logits(self, volume):
        return self.inner.logits(volume) / 2


@pytest.mark.parametrize("head", ["softmax", "regions"])
def test_everything_else_is_the_inner_model_s(head):
    inner = conv_model(head=head)
    wrapped = Halved(inner)
    volume, target = case(inner)
    box = (slice(0, 8), slice(0, 8))

    def objective(logits, truth):
        return logits.flatten(1).mean(1)

    assert isinstance(wrapped, VolumeModel)
    assert wrapped.head == head
    assert torch.equal(wrapped.logits(volume) * 2, inner.logits(volume))
    before = wrapped.sweep(volume)
    assert torch.equal(before.logits, inner.sweep(volume).logits)
    changed = volume + 0.1
    assert torch.equal(wrapped.logits_after(before, changed, box).logits, inner.logits(changed))
    assert torch.equal(wrapped.segment(before.logits), inner.segment(before.logits))
    pairs = zip(
        wrapped.value_and_grad(volume, target, objective), inner.value_and_grad(volume, target, objective), strict=True
    )
    assert all(torch.equal(ours, theirs) for ours, theirs in pairs)
