"""The pretend accelerator, and what is done on it and on the processor alike."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from tests import pretend_device
from voxward.core import devices

CPU = torch.device("cpu")


@dataclass
class Both:
    """Does the same on the processor and on the accelerator.

    Attributes:
        pretend: The accelerator.
        device: Its name.
    """

    pretend: Any
    device: torch.device

    def same(self, work: Callable[[torch.device], Any]) -> Any:
        """Do work on both; the results must be equal to the last bit. Return what was counted on the accelerator."""
        expected = work(CPU)
        with self.pretend, self.pretend.counting() as counts:
            found = work(self.device)
        equal(found, expected)
        return counts


@pytest.fixture
def both() -> Both:
    return Both(pretend_device.PretendDevice(), pretend_device.DEVICE)


@pytest.fixture
def no_double() -> Both:
    """An accelerator without float64, such as one of Apple."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(devices.KINDS, pretend_device.NAME, devices.Kind("pretend device", double=False))
        yield Both(pretend_device.PretendDevice(double=False), pretend_device.DEVICE)


@pytest.fixture
def same_operators(monkeypatch) -> None:
    """Let the processor compute with the operators of accelerators, which round differently from its own."""
    monkeypatch.setitem(devices.KINDS, "cpu", replace(devices.KINDS["cpu"], host=False))


def equal(found: Any, expected: Any) -> None:
    """Check that two nested results hold the same numbers."""
    if isinstance(expected, Tensor):
        assert found.dtype == expected.dtype
        assert torch.equal(found.cpu().nan_to_num(nan=-7.0), expected.nan_to_num(nan=-7.0))
    elif isinstance(expected, np.ndarray):
        np.testing.assert_array_equal(found, expected)
    elif isinstance(expected, dict):
        assert found.keys() == expected.keys()
        for name, value in expected.items():
            equal(found[name], value)
    elif isinstance(expected, tuple | list):
        for one, other in zip(found, expected, strict=True):
            equal(one, other)
    else:
        assert found == expected or (found != found and expected != expected)
