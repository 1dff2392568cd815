"""The gradient of a whole pipeline around a user's network, against difference quotients in float64."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from tests.systems.differences import gradient_error
from tests.systems.network.build import WINDOW, Tiny, described, exported, scripted, volume
from voxward.systems.network.system import network_system
from voxward.systems.open import open_system
from voxward.systems.system import Freeze

CHANNEL = {"name": "MR", "normalization": "zscore"}
FLAT = {"slicewise": True, "window": [8, 6]}
REGIONS = {"background": 0, "whole": [1, 2], "core": [2]}
CASES = {
    "plain": {},
    "normalised": {"channels": [CHANNEL], "spacing": [1.5, 1.2, 1.3], "interpolation": "cubic"},
    "ct": {"channels": [{"name": "CT", "normalization": "ct", "low": -20, "high": 40, "mean": 3.0, "std": 9.0}]},
    "turned": {"orientation": "SPL", "mirror_axes": [0, 2], "spacing": [1.5, 1.2, 1.3]},
    "stored": {"orientation": "kji", "blending": "constant", "overlap": 0.25},
    "slices": {**FLAT, "orientation": "LPS", "mirror_axes": [1]},
    "regions": {"labels": REGIONS, "crop": "nonzero"},
    "mirrors of probabilities": {"mirror_axes": [1], "mean": "probabilities"},
}


class Probabilities(Tiny):
    def forward(self, x):
        return super().forward(x).softmax(1)


def system_of(folder, case):
    entries = CASES[case]
    network = Tiny(outputs=2 if "labels" in entries else 3, flat="slicewise" in entries)
    exported(folder / "n.pt2", network, window=tuple(entries.get("window", WINDOW)))
    return open_system(described(folder, "n.pt2", **entries))


def turned_affine():
    affine = np.zeros((4, 4))
    affine[[1, 0, 2], [0, 1, 2]] = -0.9, 1.1, -2.0
    affine[3, 3] = 1
    return affine


def error(system, source):
    system.predictor.model.network.double()
    return gradient_error(system, source)


@pytest.mark.parametrize("case", CASES)
def test_the_gradient_is_that_of_difference_quotients(tmp_path, case):
    assert error(system_of(tmp_path, case), volume(affine=turned_affine())) < 1e-5


def test_that_of_a_network_that_returns_probabilities(tmp_path):
    exported(tmp_path / "n.pt2", Probabilities())
    assert error(open_system(described(tmp_path, "n.pt2", returns="probabilities")), volume()) < 1e-5


def test_that_of_torchscript(tmp_path):
    scripted(tmp_path / "n.ts")
    assert error(open_system(described(tmp_path, "n.ts"), trust=True), volume()) < 1e-5


def test_that_of_a_module_in_memory():
    pipeline = {"channels": [CHANNEL], "labels": {"background": 0, "a": 1, "b": 2}, "window": list(WINDOW)}
    assert error(network_system(Tiny(), **pipeline), volume()) < 1e-5


@pytest.mark.parametrize("case", CASES)
def test_what_is_attacked_is_what_is_deployed(tmp_path, case):
    system, source = system_of(tmp_path, case), volume(affine=turned_affine())
    model = system.freeze(source)
    logits = model.logits(torch.from_numpy(source.array)[None])
    assert np.array_equal(model.classes(logits)[0].numpy(), system.segment(source).label)


def test_a_changed_scan_is_normalised_by_its_own_statistics(tmp_path):
    system, source = system_of(tmp_path, "normalised"), volume(affine=turned_affine())
    changed = replace(source, array=1.5 * source.array + np.linspace(0, 9, source.array.shape[1])[:, None, None])
    changed = replace(changed, array=changed.array.astype(source.array.dtype))
    found = {}
    for statistics in ("live", "frozen"):
        model = system.freeze(source, Freeze(statistics=statistics))
        found[statistics] = model.classes(model.logits(torch.from_numpy(changed.array)[None]))[0].numpy()
    assert np.array_equal(found["live"], system.segment(changed).label)
    assert not np.array_equal(found["live"], found["frozen"])
