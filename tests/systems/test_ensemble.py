"""The deployed system of several runs and all 16 symmetries: prediction, exact gradient, and what is refused."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from tests.pipeline.plain_pipeline import OTHER, SAME, Toy, a_predictor, a_target, a_volume, close, moved
from tests.pipeline.plain_pipeline import plain as plain_pipeline
from tests.systems.build import ensemble
from voxward.core.labels import LabelSet
from voxward.core.recipe import Inference
from voxward.pipeline import predictor as predictor_module
from voxward.pipeline.model import PipelineModel
from voxward.pipeline.predictor import Predictor
from voxward.pipeline.symmetries import symmetries

CUBE = (8, 8, 4)
CLASSES = LabelSet(("background", "a", "b", "c"), (0, 1, 2, 3))
REGIONS = CLASSES.with_regions({"c": (3,), "bc": (2, 3), "abc": (1, 2, 3)})


def _member(seed, spacing=SAME, mean="logits", tta="symmetries", labels=None):
    plain = a_predictor(Toy(seed).double(), spacing, CUBE)
    model = plain.model
    inference = Inference(0.5, "gaussian", mean=mean, tta=tta)
    plan = model.plan if labels is None else replace(model.plan, labels=labels, min_object_mm3=(0.0,) * 3)
    return Predictor(replace(model, plan=plan, inference=inference), plain.device, "fp32")


def _plain_symmetries(crop, predictor, mean):
    """Each of the 16, moved and moved back, with plain autograd."""
    seen = [s.inverse().apply(predictor.model.network(s.apply(crop))) for s in symmetries()]
    if mean == "logits":
        return sum(seen) / 16
    share = sum(torch.sigmoid(z) for z in seen) / 16
    return torch.log(share) - torch.log1p(-share)


@pytest.mark.parametrize("mean", ["logits", "probabilities"])
def test_two_models_through_sixteen_symmetries_have_autograds_gradient(monkeypatch, mean):
    """Small batches force the second sweep; the oracle keeps the whole graph."""
    monkeypatch.setitem(predictor_module.VOXELS_PER_FORWARD, "cpu", 300)
    pair = [_member(0, SAME, mean, labels=REGIONS), _member(1, OTHER, mean, labels=REGIONS)]
    monkeypatch.setattr(
        "tests.pipeline.plain_pipeline.plain_window", lambda crop, predictor: _plain_symmetries(crop, predictor, mean)
    )
    case = a_volume()
    volume, target = moved(case), a_target("regions")

    def objective(logits, truth):
        return torch.nn.functional.binary_cross_entropy_with_logits(logits, truth.to(logits))[None]

    model = PipelineModel.freeze(pair, case, "regions", mean)
    logits, values, gradient = model.value_and_grad(volume, target, objective)
    leaf = volume.clone().requires_grad_()
    expected = plain_pipeline(leaf, pair, case, "regions", mean)
    wanted = objective(expected, target)
    (right,) = torch.autograd.grad(wanted.sum(), leaf)
    close(logits, expected)
    close(values, wanted)
    close(gradient, right)


def test_tta_of_the_predictor_overrides_the_recipe():
    member = _member(0)
    assert len(member.views) == 16
    assert len(replace(member, tta="mirrors").views) == 8
    assert len(replace(member, tta="none").views) == 1


def test_windows_that_cannot_be_turned_are_refused():
    member = _member(0)
    plan = replace(member.model.plan, window_size=(8, 6, 4), strides=((4, 2, 2),), kernel_sizes=((3, 3, 3),) * 2)
    with pytest.raises(ValueError, match="turns windows"):
        replace(member, model=replace(member.model, plan=plan))


def test_an_ensemble_segments_as_the_attacked_model():
    members = (_member(0, labels=REGIONS, tta="mirrors"), _member(1, OTHER, labels=REGIONS, tta="mirrors"))
    volume = a_volume(np.float32)
    found = ensemble(members).segment(volume).label
    assert found.shape == volume.shape
    model = PipelineModel.freeze(members, volume, "regions", "logits")
    mask = model.segment(model.logits(torch.from_numpy(volume.array)[None]))[0].numpy()
    assert (mask == REGIONS.target(torch.from_numpy(found)).numpy()).all()
    one = ensemble(members[:1]).segment(volume).label
    assert (one == members[0].segment(volume)).mean() > 0.999


def test_what_one_member_refuses_an_ensemble_refuses():
    """Intensities beyond float32 would otherwise come out as background."""
    member, volume = _member(0, labels=REGIONS), a_volume()
    channels = tuple(replace(channel, normalization="zscore") for channel in member.model.plan.channels)
    member = replace(member, model=replace(member.model, plan=replace(member.model.plan, channels=channels)))
    volume.array[:, 3:6] = 1e39
    for deployed in (member, ensemble((member, member))):
        with pytest.raises(ValueError, match="do not fit float32"):
            deployed.segment(volume)


def test_members_that_mean_different_things_are_refused():
    with pytest.raises(ValueError, match="agree on their labels"):
        ensemble((_member(0), _member(1, labels=REGIONS)))
    with pytest.raises(ValueError, match="at least one"):
        ensemble(())


def test_a_member_whose_windows_vote_is_refused():
    """Its votes would silently become a mean."""
    member = _member(0)
    inference = replace(member.model.inference, combine="vote", weights="constant")
    voter = replace(member, model=replace(member.model, inference=inference))
    with pytest.raises(ValueError, match="must average their windows"):
        ensemble((member, voter))
