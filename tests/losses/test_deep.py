import pytest
import torch
from torch.nn.functional import cross_entropy

from voxward.losses.deep import supervised
from voxward.losses.registry import LOSSES


def test_the_weighted_sum_of_the_outputs_losses():
    """ResDSN, equation 3; the labels of a lower resolution are those at its voxels' centres."""
    labels = torch.randint(0, 3, (2, 4, 4, 4))
    main, full, half = torch.randn(2, 3, 4, 4, 4), torch.randn(2, 3, 4, 4, 4), torch.randn(2, 3, 2, 2, 2)
    coarse = labels[:, 1::2, 1::2, 1::2]
    expected = cross_entropy(main, labels) + 0.2 * cross_entropy(full, labels) + 0.4 * cross_entropy(half, coarse)
    loss = supervised(LOSSES["ce"](), (0.2, 0.4))
    torch.testing.assert_close(loss((main, full, half), labels), expected)
    torch.testing.assert_close(loss(main, labels), cross_entropy(main, labels))


def test_labels_may_be_of_any_integer_type():
    labels = torch.randint(0, 3, (1, 4, 4, 4), dtype=torch.uint8)
    outputs = (torch.randn(1, 3, 4, 4, 4), torch.randn(1, 3, 2, 2, 2))
    loss = supervised(LOSSES["dice-ce"](), (1.0,))
    torch.testing.assert_close(loss(outputs, labels), loss(outputs, labels.long()))


def test_every_auxiliary_output_needs_a_weight():
    outputs = (torch.randn(1, 3, 4, 4, 4),) * 3
    with pytest.raises(ValueError, match=r"2 auxiliary outputs.*got \[0.5\]"):
        supervised(LOSSES["ce"](), (0.5,))(outputs, torch.zeros(1, 4, 4, 4, dtype=torch.long))
