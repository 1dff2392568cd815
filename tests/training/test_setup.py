import warnings

import pytest
import torch

from tests.data.test_prepare import make_plan
from voxward.core.recipe import load_recipe
from voxward.inference.precision import resolve_precision
from voxward.training.setup import _warn_of_bf16

CPU = torch.device("cpu")


@pytest.mark.parametrize(("edge", "warns"), [(4, True), (8, False), (2, True)])
def test_a_processor_s_wrong_bf16_gradients_are_warned_of(edge, warns):
    plan = make_plan(patch_size=(edge, 8, 8), window_size=(edge, 8, 8), source_size=(edge, 8, 8))
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        _warn_of_bf16(load_recipe("rog", ["training.precision=bf16"]), plan, CPU)
        bf16 = resolve_precision("bf16", CPU) == "bf16"
        assert bool(found) == (warns and bf16)
        found.clear()
        _warn_of_bf16(load_recipe("rog", ["training.precision=fp32"]), plan, CPU)
        assert not found
