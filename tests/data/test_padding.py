from itertools import product

import numpy as np
import pytest
import torch

from voxward.data.padding import Padded, crop_back, pad_index, pad_to

MODES = {"reflect": "reflect", "edge": "edge", "zero": "constant"}


@pytest.mark.parametrize("padding", MODES)
def test_index_equals_numpy_pad_for_any_length_and_amount(padding):
    for length, before, after in product(range(1, 7), (0, 1, 3, 17), (0, 2, 23)):
        line = np.arange(1, length + 1)
        index = pad_index(length, before, after, padding)
        ours = np.where(index < 0, 0, line[index])
        np.testing.assert_array_equal(ours, np.pad(line, (before, after), MODES[padding]))


def test_negative_amounts_crop():
    np.testing.assert_array_equal(pad_index(10, -3, 2, "reflect"), np.r_[3:10, 8, 7])
    np.testing.assert_array_equal(pad_index(10, 2, -9, "edge"), [0, 0, 0])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0, 1, 1, "edge"), "length"),
        ((3, -2, -2, "edge"), "remove more"),
    ],
)
def test_impossible_padding_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        pad_index(*arguments)


@pytest.mark.parametrize("padding", MODES)
@pytest.mark.parametrize("size", [(9, 8, 3), (4, 20, 5), (2, 2, 2)])
def test_pad_to_equals_numpy_pad(padding, size):
    x = torch.randn(2, 3, 4, 7, 1)
    amounts = [divmod(max(wanted - n, 0), 2) for wanted, n in zip(size, (4, 7, 1), strict=True)]
    widths = [(0, 0), (0, 0)] + [(half, half + odd) for half, odd in amounts]
    padded, offset = pad_to(x, size, padding)
    np.testing.assert_array_equal(padded.numpy(), np.pad(x.numpy(), widths, MODES[padding]))
    assert offset == tuple(half for half, _ in amounts)
    assert torch.equal(crop_back(padded, offset, (4, 7, 1)), x)


@pytest.mark.parametrize("padding", MODES)
def test_pad_to_is_linear_and_its_gradient_is_the_transpose(padding):
    x = torch.randn(1, 2, 3, 1, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda v: pad_to(v, (5, 9, 3), padding)[0], x)
    y = torch.randn_like(x)
    both = pad_to(2 * x - 3 * y, (5, 9, 3), padding)[0]
    torch.testing.assert_close(both, 2 * pad_to(x, (5, 9, 3), padding)[0] - 3 * pad_to(y, (5, 9, 3), padding)[0])


def test_zero_padding_stays_zero_beside_infinity():
    padded, _ = pad_to(torch.full((1, 1, 1), float("inf")), (3, 1, 1), "zero")
    assert padded.flatten().tolist() == [0.0, float("inf"), 0.0]


def test_nothing_missing_returns_the_tensor_itself():
    x = torch.randn(1, 4, 4, 4)
    padded, offset = pad_to(x, (4, 2, 3), "reflect")
    assert padded is x
    assert offset == (0, 0, 0)


def test_crop_beyond_the_tensor_is_refused():
    with pytest.raises(ValueError, match="does not fit"):
        crop_back(torch.zeros(4, 4, 4), (2, 0, 0), (3, 4, 4))


@pytest.mark.parametrize("padding", ["reflect", "edge", "zero"])
@pytest.mark.parametrize("shape", [(5, 6, 1), (2, 9, 3), (8, 8, 8), (1, 1, 1)])
def test_rows_of_a_padded_tensor_are_those_of_the_whole(padding, shape) -> None:
    x = torch.rand(2, *shape)
    whole, offset = pad_to(x, (6, 7, 8), padding)
    lazy, same = Padded.to(x, (6, 7, 8), padding)
    assert same == offset
    for axis in range(3):
        for start in range(whole.shape[axis + 1] - 2):
            assert torch.equal(lazy.rows(axis, start, 3), whole.narrow(axis + 1, start, 3))
