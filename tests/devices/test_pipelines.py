"""Whole pipelines on an accelerator: attacked, predicting, as ensembles and as cascades."""

from __future__ import annotations

import warnings
from dataclasses import replace

import numpy as np
import pytest
import torch

from tests.pipeline.plain_pipeline import OTHER, SAME, WIDE, Toy, a_predictor, a_target, a_volume
from tests.systems.build import cascade, ensemble, frozen
from voxward.attacks.registry import create
from voxward.attacks.threat import ThreatModel
from voxward.pipeline import predictor as predictor_module
from voxward.pipeline.model import PipelineModel
from voxward.runs.postprocess import PostProcess

CASE = a_volume(np.float32)
VOLUME, TARGET = torch.from_numpy(CASE.array)[None], a_target()
BOX = (slice(1, 11), slice(3, 12), slice(0, 6))


@pytest.fixture(autouse=True)
def _same_batches(monkeypatch):
    """A processor takes fewer windows at once, and their sum is then rounded differently."""
    monkeypatch.setitem(predictor_module.VOXELS_PER_FORWARD, "cpu", predictor_module.ON_ACCELERATORS)


def on(device, predictor):
    """A predictor whose network is on a device."""
    predictor.model.network.to(device)
    return replace(predictor, device=device)


def pair(device):
    """Two members that prepare and pad differently, and whose windows are mirrored."""
    first = a_predictor(Toy(0), OTHER, axes=(0,))
    return [on(device, first), on(device, a_predictor(Toy(1), SAME, WIDE, axes=(1,)))]


def attacked(model, device, name="pgd-dice", **options):
    threat = ThreatModel(eps=8 / 255, bounds=((25.0, 85.0), (20.0, 90.0)))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        result = create(name, **options)(model, VOLUME.to(device), TARGET.to(device), threat, seed=1)
    return result.adversarial, result.dice, result.history


@pytest.mark.parametrize(
    ("gradient", "statistics"),
    [("exact", "live")]
    + [pytest.param(*pair, marks=pytest.mark.slow) for pair in (("exact", "frozen"), ("window_mean", "live"))],
)
def test_an_attack_on_an_ensemble_finds_the_same(gradient, statistics, both):
    def work(device):
        model = PipelineModel.freeze(pair(device), CASE, gradient=gradient, statistics=statistics, mean="probabilities")
        return attacked(model, device, steps=1)

    both.same(work)


def test_square_finds_the_same(both):
    """It computes again only the windows that a change touches."""
    both.same(lambda device: attacked(PipelineModel.freeze(pair(device), CASE), device, "square", queries=2))


@pytest.mark.parametrize("stage", ["both", pytest.param("fine", marks=pytest.mark.slow)])
def test_an_attack_on_a_cascade_finds_the_same(stage, both):
    def work(device):
        two = pair(device)
        joined = cascade(on(device, a_predictor(Toy(2), SAME, weights="constant")), ensemble(two), margin=1.0)
        return attacked(frozen(joined, CASE, BOX, stage), device, steps=1)

    both.same(work)


@pytest.mark.parametrize(
    ("spacing", "tta"), [(SAME, "none"), (OTHER, "mirrors"), pytest.param(OTHER, "symmetries", marks=pytest.mark.slow)]
)
def test_a_prediction_is_the_same(spacing, tta, both):
    def work(device):
        made = a_predictor(Toy(), spacing, (8, 8, 4), process=PostProcess(("organ", "lesion"), (0.0, 60.0)))
        predictor = replace(on(device, made), tta=tta)
        kept = np.zeros((3, *CASE.shape), np.float32)
        return predictor.segment(CASE, probabilities=kept), kept

    both.same(work)


def test_systems_say_the_same(both):
    def work(device):
        joined = cascade(on(device, a_predictor(Toy(2), SAME)), ensemble(pair(device)), margin=1.0)
        return [system.segment(CASE).label for system in (ensemble(pair(device)), joined)]

    both.same(work)


@pytest.mark.parametrize("padded", [pytest.param(False, marks=pytest.mark.slow), True])
def test_a_step_sends_nothing_and_waits_seldom(padded, both):
    """What resamples, pads and blends is on the accelerator after the first step."""

    def work(device, steps):
        predictor = a_predictor(Toy(), OTHER, WIDE if padded else (8, 8, 4), axes=(0,))
        return attacked(PipelineModel.freeze([on(device, predictor)], CASE), device, steps=steps)

    # The first time, what is kept for all volumes is sent, too.
    _, few, many = (both.same(lambda device, steps=steps: work(device, steps)) for steps in (1, 1, 3))
    assert many.sent == few.sent
    views = 2 * 8  # of which each batch of windows is looked at once, where its graph is not held
    assert many.waits - few.waits <= 2 * (6 + (0 if padded else views))


def test_no_pipeline_needs_float64(no_double):
    with no_double.pretend:
        model = PipelineModel.freeze(pair(no_double.device), CASE)
        found = attacked(model, no_double.device, steps=1)[1].cpu()
        masks = [one.segment(CASE) for one in pair(no_double.device)]
    device = torch.device("cpu")
    expected = attacked(PipelineModel.freeze(pair(device), CASE), device, steps=1)[1]
    torch.testing.assert_close(found.double(), expected, rtol=0, atol=0.02)
    assert [np.array_equal(one.segment(CASE), mask) for one, mask in zip(pair(device), masks, strict=True)] == [
        True
    ] * 2
