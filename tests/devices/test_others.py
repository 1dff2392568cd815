"""Systems of other tools on an accelerator: their gradient and their masks."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.systems.bundle import test_gradient as bundles
from tests.systems.bundle.build import bundle, scan
from tests.systems.nnunet import test_gradient as nnunets
from tests.systems.nnunet.build import results, volume
from voxward.data.io import read_image
from voxward.pipeline import predictor as predictor_module
from voxward.systems.open import open_system
from voxward.systems.system import Freeze

FEW = {"thick axis", "z-score", "percentiles", "logits"}


def cases(names):
    return [pytest.param(name, marks=() if name in FEW else pytest.mark.slow) for name in names]


@pytest.fixture(autouse=True)
def _same_batches(monkeypatch):
    monkeypatch.setitem(predictor_module.VOXELS_PER_FORWARD, "cpu", predictor_module.ON_ACCELERATORS)


def squares(logits, target):
    """An objective of any head."""
    return logits.flatten(1).square().sum(1)


def found(path, source, device, overrides=()):
    """The mask, and the gradient through the whole pipeline, whose volume's own statistics are followed."""
    system = open_system(path, overrides, device=str(device))
    model = system.freeze(source, Freeze(statistics="live"))
    x = torch.from_numpy(np.ascontiguousarray(source.array, np.float32))[None].to(device)
    target = torch.ones(1, *source.shape, dtype=torch.long, device=device)
    logits, values, gradient = model.value_and_grad(x, target, squares)
    assert gradient.abs().max() > 0
    return system.segment(source).label, model.segment(logits), values, gradient


@pytest.mark.parametrize("case", cases(nnunets.CASES))
def test_results_of_nnu_net_say_the_same(case, both, same_operators, tmp_path):
    path = results(tmp_path / "r", **{"mirrors": (), **nnunets.CASES[case]})
    both.same(lambda device: found(path, volume(), device))


@pytest.mark.parametrize("case", cases(bundles.CASES))
def test_a_bundle_of_monai_says_the_same(case, both, tmp_path):
    path, source = bundle(tmp_path / "b", bundles.CASES[case]), read_image([scan(tmp_path / "scan.nii.gz")])
    overrides = bundles.REGIONS if "regions" in case else ()
    both.same(lambda device: found(path, source, device, overrides))


@pytest.mark.parametrize("case", ["thick axis", "percentiles"])
def test_none_needs_float64(case, no_double, tmp_path):
    if case in nnunets.CASES:
        path, source = results(tmp_path / "r", **nnunets.CASES[case]), volume()
    else:
        path, source = bundle(tmp_path / "b", bundles.CASES[case]), read_image([scan(tmp_path / "scan.nii.gz")])
    with no_double.pretend:
        mask, segmented, values, gradient = found(path, source, no_double.device)
    expected = found(path, source, torch.device("cpu"))
    assert np.mean(mask != expected[0]) < 0.01  # ties of two classes
    assert (segmented.cpu() != expected[1]).double().mean() < 0.01
    torch.testing.assert_close(values.cpu().double(), expected[2].double(), rtol=1e-4, atol=0)
    difference = gradient.cpu().double() - expected[3].double()
    assert difference.norm() < 1e-3 * expected[3].double().norm()
