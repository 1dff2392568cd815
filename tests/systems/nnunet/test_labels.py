"""What the labels of dataset.json mean for the outputs of the network and for the mask."""

from __future__ import annotations

import json
import warnings

import numpy as np
import pytest
import torch

from tests.systems.nnunet.build import dataset, results, volume
from voxward.systems.nnunet import judge
from voxward.systems.nnunet.plans import read_plan
from voxward.systems.open import open_system


def plan_of(folder, labels, order=None):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of regions that overlap; not what is tested here
        results(folder, data=dataset(labels=labels, order=order))
        return read_plan(folder, "3d_fullres")


def painted(probabilities, order):
    """nnU-Net's rule: a region's value wherever its probability is above a half, later ones over earlier ones."""
    mask = np.zeros(probabilities.shape[1:], int)
    for probability, value in zip(probabilities, order, strict=True):
        mask[probability > 0.5] = value
    return mask


@pytest.mark.parametrize(("labels", "order"), [
    ({"background": 0, "whole": [1, 2, 3], "core": [2, 3], "enhancing": 3}, [1, 2, 3]),
    ({"core": [2, 3], "background": 0, "other": 1}, [2, 1]),
    ({"background": 0, "liver": [1, 2], "tumour": [2], "spleen": [3]}, [1, 2, 3]),
    ({"background": 0, "liver": [1, 2], "spleen": [3, 4], "tumour": [2], "cyst": [4]}, [1, 3, 2, 4]),
])  # fmt: skip
def test_regions_are_painted_in_their_order(tmp_path, labels, order):
    plan = plan_of(tmp_path / "r", labels, order)
    logits = torch.randn((len(order), 6, 7, 8), generator=torch.Generator().manual_seed(0)).half()
    found = plan.labels.to_values(judge.read(logits, plan).numpy())
    assert np.array_equal(found, painted(torch.sigmoid(logits.float()).numpy(), order))


@pytest.mark.parametrize(("labels", "names", "outputs"), [
    ({"background": "0", "a": "1", "b": "2"}, ("background", "a", "b"), 3),
    ({"background": [0], "a": [1], "b": [2]}, ("background", "a", "b"), 3),
    ({"background": 0, "a": [1]}, ("background", "a"), 2),
    ({"background": 0, "a": 1, "b": 2, "ignore": 3}, ("background", "a", "b"), 3),
])  # fmt: skip
def test_texts_and_lists_of_one_value_are_classes(tmp_path, labels, names, outputs):
    plan = plan_of(tmp_path / "r", labels)
    assert (plan.labels.names, len(plan.heads), plan.labels.head) == (names, outputs, "softmax")


def test_old_files_call_channels_modality(tmp_path):
    folder = results(tmp_path / "r")
    described = dataset()
    described["modality"] = described.pop("channel_names")
    (folder / "dataset.json").write_text(json.dumps(described))
    assert open_system(folder).channels == ("MRI0",)
    assert open_system(folder).segment(volume()).label.shape == (11, 16, 13)


def test_of_equal_logits_the_first_class_wins(tmp_path):
    plan = plan_of(tmp_path / "r", {"background": 0, "a": 1, "b": 2})
    logits = torch.tensor([1.0, 2.0, 2.0]).half().view(3, 1, 1, 1).expand(3, 2, 2, 2)
    assert (judge.read(logits, plan) == 1).all()
