"""The check that all tests stand under, see tests/shapes.py."""

import jaxtyping
import pytest
import torch

from tests import shapes
from voxward.core.errors import UserError
from voxward.nets.depthwise import depthwise_conv3d
from voxward.training.validate import overlap


def test_a_shape_that_the_source_does_not_say_is_found():
    with pytest.raises(jaxtyping.TypeCheckError, match="depthwise_conv3d"):
        depthwise_conv3d(torch.zeros(1, 2, 3), torch.zeros(2, 1, 3, 3, 3))


def test_axes_of_one_name_are_equally_long():
    with pytest.raises(jaxtyping.TypeCheckError, match="overlap"):
        overlap(torch.zeros(1, 2, 3, 3, 3), torch.zeros(1, 4, 3, 3, dtype=torch.long), None)


def test_every_test_checks_the_first_calls_again():
    x, weight = torch.zeros(1, 2, 3, 3, 3), torch.zeros(2, 1, 3, 3, 3)
    for _ in range(shapes.CALLS):
        depthwise_conv3d(x, weight)
    with pytest.raises(UserError):  # its own check, not that of the shape
        depthwise_conv3d(x[0], weight[0])
    shapes.begin_test()
    with pytest.raises(jaxtyping.TypeCheckError):
        depthwise_conv3d(x[0], weight[0])
