"""Labels that protocols are planned for."""

import pytest

from voxward.core.labels import LabelSet


@pytest.fixture
def two_organs():
    return LabelSet(("background", "a", "b"), (0, 1, 2))
