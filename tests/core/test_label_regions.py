"""Regions of a label set: both hierarchies, both ways, on every combination of voxels."""

import itertools

import numpy as np
import pytest
import torch

from voxward.core.labels import LabelSet
from voxward.core.structure import from_data, to_data

CLASSES = LabelSet(("background", "NCR", "ED", "ET"), (0, 1, 2, 4))
HIERARCHIES = [
    CLASSES.with_regions({"WT": (1, 2, 4), "TC": (4, 1), "ET": (4,)}),
    LabelSet(("background", "NCR", "ED", "ET"), (0, 1, 2, 3)).with_regions({"ET": (3,), "TC": (1, 3), "WT": (1, 2, 3)}),
]


@pytest.mark.parametrize("labels", HIERARCHIES)
def test_regions_make_the_head_and_what_is_scored(labels):
    assert (labels.head, labels.outputs, labels.scored) == ("regions", 3, ("ET", "TC", "WT"))
    assert (labels.classes.head, labels.classes.outputs, labels.classes.scored) == ("softmax", 4, ("NCR", "ED", "ET"))
    assert labels.with_regions(None) is labels
    assert labels.with_regions({}) == labels.classes


@pytest.mark.parametrize("labels", HIERARCHIES)
def test_every_class_and_every_combination_of_regions(labels):
    index = torch.from_numpy(labels.to_index(np.array(labels.values)))[None, None]
    target = labels.target(index)
    assert target[:, 0, 0].T.tolist() == [[0, 0, 0], [0, 1, 1], [0, 0, 1], [1, 1, 1]]
    # The innermost region that holds a voxel decides, whatever those around it say.
    for et, tc, wt in itertools.product((-1.0, 1.0), repeat=3):
        logits = torch.tensor([et, tc, wt]).view(3, 1, 1, 1)
        expected = 3 if et > 0 else 1 if tc > 0 else 2 if wt > 0 else 0
        assert int(labels.read(logits)) == expected
    assert torch.equal(labels.read(20.0 * target.float() - 10), index)


def test_without_regions_logits_are_read_by_the_largest():
    logits = torch.randn(2, 4, 3, 2, 2)
    assert torch.equal(CLASSES.read(logits).long(), logits.argmax(1))
    index = torch.randint(0, 4, (2, 3, 2, 2))
    assert torch.equal(CLASSES.target(index), index)


def test_labels_with_regions_survive_json_and_old_files_have_none():
    labels = HIERARCHIES[0]
    assert from_data(LabelSet, to_data(labels), "x") == labels
    assert from_data(LabelSet, {"names": ["b", "a"], "values": [0, 1]}, "x").regions == ()


@pytest.mark.parametrize(
    "regions",
    [
        {"ET": (4,), "ED": (2,), "WT": (1, 2, 4)},  # not nested
        {"ET": (4,), "WT": (1, 2, 4)},  # one that adds two classes
        {"ET": (4,), "TC": (4, 1)},  # a class that is in none
        {"ET": (3,), "TC": (1, 3), "WT": (1, 2, 3)},  # undeclared values
    ],
)
def test_regions_that_cannot_be_read_back_are_refused(regions):
    with pytest.raises(ValueError, match="regions must be nested"):
        CLASSES.with_regions(regions)
