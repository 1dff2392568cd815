"""The gradient of a whole nnU-Net pipeline, against difference quotients in float64."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from tests.systems.differences import gradient_error
from tests.systems.nnunet.build import dataset, flat, results, volume
from voxward.pipeline.model import PipelineModel
from voxward.systems.nnunet import judge
from voxward.systems.nnunet.results import read_results
from voxward.systems.open import open_system
from voxward.systems.system import Freeze

REGIONS = {"background": 0, "whole": [1, 2], "core": [2]}
CASES = {
    "plain": {},
    "mirrors": {"mirrors": (0, 2)},
    "two folds": {"folds": (0, 1)},
    "thick axis": {"spacing": [6.0, 1.0, 1.2]},
    "linear across the thick axis": {
        "spacing": [6.0, 1.0, 1.2], "resampling_fn_data_kwargs": {"order_z": 1, "force_separate_z": None},
    },
    "slices": {"described": flat()},
    "rgb": {"normalization_schemes": ["RGBTo01Normalization"]},
    "mask": {"use_mask_for_norm": [True]},
    "ct": {"normalization_schemes": ["CTNormalization"]},
    "to one": {"normalization_schemes": ["RescaleTo01Normalization"]},
    "torch": {"resampling_fn_data": "resample_torch_fornnunet"},
    "not resampled": {f"resampling_fn_{what}": "no_resampling_hack" for what in ("data", "probabilities")},
    "transposed": {"plan": {"transpose_forward": [2, 0, 1], "transpose_backward": [1, 2, 0]}},
    "reoriented": {"plan": {"image_reader_writer": "NibabelIOWithReorient"}},
    "regions": {"data": dataset(labels=REGIONS, order=[1, 2])},
}  # fmt: skip


def system_of(folder, mirrors=(), **changes):
    return open_system(results(folder, mirrors=mirrors, **changes))


@pytest.mark.parametrize("case", CASES)
def test_the_gradient_is_that_of_difference_quotients(tmp_path, case):
    system, source = system_of(tmp_path / "r", **CASES[case]), volume()
    for network in system.results.networks:
        network.double()
    assert gradient_error(system, source) < 1e-5


@pytest.mark.parametrize("case", CASES)
def test_the_logits_are_those_of_the_deployed_pipeline(tmp_path, case):
    """Up to 16-bit sums, and the mask of most voxels."""
    system, source = system_of(tmp_path / "r", **CASES[case]), volume()
    model = system.freeze(source, Freeze(statistics="live"))
    assert isinstance(model, PipelineModel)
    x = torch.from_numpy(source.array)[None]
    found = model.classes(model.logits(x))[0].numpy()
    assert (found == system.segment(source).label).mean() > 0.99


def test_the_gradient_goes_through_what_two_sweeps_hold(tmp_path):
    """Autograd through one member's whole sweep is the oracle of the pull-back."""
    system, source = system_of(tmp_path / "r", mirrors=(1,)), volume()
    model = system.freeze(source, Freeze(statistics="live"))
    member = model.members[0]
    x = torch.from_numpy(source.array)[None]
    weights = torch.randn(model.logits(x).shape, generator=torch.Generator().manual_seed(3))
    _, _, found = model.value_and_grad(
        x, torch.zeros(x[0].shape, dtype=torch.long), lambda z, _: (z * weights).sum((1, 2, 3, 4))
    )
    leaf = x.clone().requires_grad_()
    blended = member.blended(member.image(leaf), graph=True)
    (expected,) = torch.autograd.grad((member.restored(blended, "softmax") * weights).sum(), leaf)
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4 * float(expected.abs().max()))


def test_frozen_statistics_are_those_of_the_clean_volume(tmp_path):
    system, source = system_of(tmp_path / "r"), volume()
    model = system.freeze(source, Freeze(statistics="frozen"))
    moved = torch.from_numpy(source.array * 2)[None]
    live = system.freeze(source, Freeze(statistics="live")).logits(moved)
    assert not torch.allclose(model.logits(moved), live)


def test_an_attack_that_moves_the_crop_box_is_noted(tmp_path):
    system, source = system_of(tmp_path / "r"), volume()
    frozen = system.freeze(source)
    assert system.notes(frozen, system.segment(source)) == {}
    moved = source.array.copy()
    moved[0, 0, 0, 0] = 1
    assert system.notes(frozen, system.segment(replace(source, array=moved))) == {"crop_box_moved": True}


def test_half_sums_are_32_bit_sums_up_to_rounding(tmp_path):
    results_of = read_results(results(tmp_path / "r", mirrors=()))
    image = torch.randn(1, 11, 17, 9, generator=torch.Generator().manual_seed(0))
    half = judge.half_logits(results_of, image).float()
    exact = _mean_of_windows(results_of, image)
    # The inside of the volume, where weights are not the smallest that 16 bits hold.
    inner = (slice(None), slice(2, -2), slice(2, -2), slice(2, -2))
    assert float((half - exact)[inner].abs().max()) < 0.02
    assert np.isfinite(half.numpy()).all()


def _mean_of_windows(results_of, image):
    """Window by window, in float64."""
    from voxward.systems.nnunet.halves import gaussian, plan_of

    whole, place = judge.padded(image, results_of.plan.window)
    windows = plan_of(tuple(whole.shape[1:]), results_of.plan.window, False)
    weights = gaussian(windows.size).double()
    total = torch.zeros((3, *windows.shape), dtype=torch.float64)
    norm = torch.zeros(windows.shape, dtype=torch.float64)
    for corner in windows.corners:
        box = tuple(slice(start, start + edge) for start, edge in zip(corner, windows.size, strict=True))
        total[(slice(None), *box)] += results_of.networks[0](whole[(slice(None), *box)][None])[0].double() * weights
        norm[box] += weights
    return (total / norm)[(slice(None), *place)].float()
