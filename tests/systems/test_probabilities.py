"""Probability maps: what the plainly written pipeline says of every voxel, and never another class than the label."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from tests.pipeline.plain_pipeline import OTHER, SAME, Toy, a_predictor, a_volume
from tests.pipeline.plain_pipeline import plain as plain_pipeline
from tests.rounding import rounding
from tests.systems.build import cascade, ensemble, system
from voxward.core.case import Case
from voxward.core.labels import LabelSet
from voxward.core.outputs import Outputs
from voxward.data.io import read_image, read_label, write_image
from voxward.pipeline.probabilities import agree, certain, probabilities_of
from voxward.runs.postprocess import PostProcess
from voxward.systems.predict import predict_cases

CLASSES = LabelSet(("background", "a", "b"), (0, 1, 2))
REGIONS = LabelSet(("background", "a", "b", "c"), (0, 1, 2, 3)).with_regions(
    {"c": (3,), "bc": (2, 3), "abc": (1, 2, 3)}
)
FOLDERS = (("out", "a prediction"), ("out/probabilities", "probabilities"))


def member(seed=0, spacing=SAME, labels=CLASSES, **settings):
    plain = a_predictor(Toy(seed).double(), spacing, **settings)
    return with_labels(plain, labels)


def with_labels(predictor, labels):
    plan = replace(predictor.model.plan, labels=labels, min_object_mm3=(0.0,) * (labels.count - 1))
    return replace(predictor, model=replace(predictor.model, plan=plan))


def written(folder):
    """A case as a file, and the folders of its segmentation and its probabilities."""
    case = a_volume(np.float32)
    write_image(folder / "x.nii.gz", case.array, case.affine)
    outputs, scores = (Outputs(folder / name, kind) for name, kind in FOLDERS)
    return [Case("x", (folder / "x.nii.gz",))], outputs, scores


def soft(logits, labels):
    return logits.sigmoid() if labels.regions else logits.softmax(0)


@pytest.mark.parametrize("labels", [CLASSES, REGIONS], ids=["softmax", "regions"])
@pytest.mark.parametrize("several", [False, True])
def test_they_are_those_of_the_plain_pipeline_and_say_what_the_label_says(labels, several):
    members = [member(n, spacing, labels, axes=(0, 2)) for n, spacing in enumerate((SAME, OTHER)[: 1 + several])]
    of, case = ensemble(members) if several else system(members[0]), a_volume()
    found = of.segment(case, probabilities=True)
    assert found.probabilities.dtype == np.float32
    assert found.probabilities.shape == (labels.outputs, *case.shape)
    logits = plain_pipeline(torch.from_numpy(case.array)[None], members, case, labels.head, "logits")[0].detach()
    # A volume is prepared in float32; its rounding reaches every logit through the network.
    tolerance = rounding(logits)
    np.testing.assert_allclose(found.probabilities, soft(logits, labels).numpy(), atol=tolerance)
    said = torch.from_numpy(found.probabilities)
    np.testing.assert_array_equal(labels.read(said - 0.5 if labels.regions else said).numpy(), found.label)
    np.testing.assert_array_equal(found.label, of.segment(case).label)


def test_rounding_never_makes_them_say_another_class():
    """Logits that differ by less than a probability can hold; the lowest class would win a tie."""
    logits = torch.tensor([0.0, 0.0, 1e-9]).view(3, 1, 1, 1).expand(3, 2, 2, 2).contiguous()
    assert int(logits.softmax(0).argmax(0).max()) == 0
    assert (probabilities_of(logits, CLASSES).argmax(0) == 2).all()
    almost = torch.tensor([1e-9, 0.0, -1e-9]).view(3, 1, 1, 1)
    assert ((almost.sigmoid() > 0.5) == torch.zeros(3, 1, 1, 1, dtype=torch.bool)).all()
    assert (probabilities_of(almost, REGIONS) > 0.5).flatten().tolist() == [True, False, False]


def test_post_processing_changes_the_label_and_not_the_probabilities():
    plain = member()
    dropped = replace(plain, model=replace(plain.model, postprocess=PostProcess(("organ", "organ"))))
    first, second = (system(one).segment(a_volume(), probabilities=True) for one in (plain, dropped))
    assert (first.label != second.label).any()
    np.testing.assert_array_equal(first.probabilities, second.probabilities)


def test_a_cascade_has_those_of_the_fine_system_inside_its_box():
    coarse, fine, case = member(0), member(1), a_volume()
    of = cascade(coarse, fine, margin=0.0, fraction=0.6)
    found, parts = of.segment(case, probabilities=True), of.refine(case, probabilities=True)
    said = torch.from_numpy(found.probabilities).argmax(0).numpy()
    np.testing.assert_array_equal(said, found.label)
    assert parts.box is not None
    outside = np.ones(case.shape, bool)
    outside[parts.box] = False
    alone = system(coarse).segment(case, probabilities=True)
    same = outside & (alone.label == found.label)
    np.testing.assert_array_equal(found.probabilities[:, same], alone.probabilities[:, same])
    only = cascade(coarse, fine, localise_only=True, margin=0.0).segment(case, probabilities=True)
    assert (only.probabilities[0][outside & (only.label == 0)] == 1).any()


@pytest.mark.parametrize("labels", [CLASSES, REGIONS], ids=["softmax", "regions"])
def test_where_a_label_says_something_else_they_become_certain_of_it(labels):
    found, label = certain(labels, (2, 3, 4)), np.zeros((2, 3, 4), np.uint8)
    before = found.copy()
    agree(found, label, labels)
    np.testing.assert_array_equal(found, before)
    label[1, 2, 3] = 2
    agree(found, label, labels)
    assert found[:, 1, 2, 3].tolist() == ([0, 1, 1] if labels.regions else [0, 0, 1])
    assert (found != before).any(0).sum() == 1


@pytest.mark.parametrize("labels", [CLASSES, REGIONS], ids=["softmax", "regions"])
def test_files_of_probabilities_lie_where_the_image_lies(tmp_path, labels):
    cases, outputs, scores = written(tmp_path)
    (path,) = predict_cases(system(member(labels=labels)), cases, outputs, probabilities=scores)
    found, label = read_image([scores.folder / "x.nii.gz"]), read_label(path)
    np.testing.assert_allclose(found.affine, label.affine)
    assert found.array.dtype == np.float32
    said = torch.from_numpy(found.array)
    np.testing.assert_array_equal(labels.read(said - 0.5 if labels.regions else said), labels.to_index(label.array))
    channels = json.loads((scores.folder / "channels.json").read_text())
    names = ["c", "bc", "abc"] if labels.regions else ["background", "a", "b"]
    assert [channel["name"] for channel in channels["channels"]] == names
    assert channels["sum_to_one"] is not bool(labels.regions)
    assert sorted(file.name for file in outputs.folder.iterdir()) == [".voxward", "probabilities", "x.nii.gz"]


def test_a_finished_label_without_probabilities_is_not_finished(tmp_path):
    cases, outputs, scores = written(tmp_path)
    predict_cases(system(member()), cases, outputs)
    predict_cases(system(member()), cases, outputs, resume=True, probabilities=scores)
    assert (scores.folder / "x.nii.gz").is_file()


def test_windows_that_vote_have_no_probabilities(tmp_path):
    plain, (cases, outputs, scores) = member(), written(tmp_path)
    inference = replace(plain.model.inference, combine="vote", weights="constant")
    voting = replace(plain, model=replace(plain.model, inference=inference))
    with pytest.raises(ValueError, match="vote"):
        predict_cases(system(voting), cases, outputs, probabilities=scores)
    assert not outputs.folder.exists()
