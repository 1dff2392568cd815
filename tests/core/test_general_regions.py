"""Regions that are not nested, with nnU-Net's regions_class_order: brute force over all values and all masks."""

import itertools
from dataclasses import dataclass

import numpy as np
import pytest
import torch

from tests.attacks.toys import conv_model
from voxward.attacks.one_class import OneClass
from voxward.core.labels import LabelSet
from voxward.core.model import VolumeModel, Wrapped
from voxward.core.recipe import Choice
from voxward.core.structure import from_data, to_data
from voxward.losses.registry import create_loss
from voxward.metrics.score import score_case

BRATS_2024 = (
    LabelSet(("background", "NETC", "SNFH", "ET", "RC"), (0, 1, 2, 3, 4)),
    {"WT": (1, 2, 3), "TC": (1, 3), "ET": (3,), "RC": (4,)},
    (2, 1, 3, 4),
)
DISJOINT = (LabelSet(("background", "a", "b", "c"), (0, 7, 3, 5)), {"first": (7, 3), "second": (5,)}, (3, 5))
OVERLAP = (LabelSet(("background", "a", "b", "both"), (0, 1, 2, 3)), {"A": (1, 3), "B": (2, 3), "AB": (3,)}, (1, 2, 3))
EVERY = [BRATS_2024, DISJOINT, OVERLAP]


def painted(masks, order):
    """nnU-Net's way: `segmentation[probabilities[i] > 0.5] = order[i]`, region by region."""
    found = np.zeros(masks.shape[1:], int)
    for mask, value in zip(masks, order, strict=True):
        found[mask] = value
    return found


@pytest.mark.parametrize(("classes", "regions", "order"), EVERY)
def test_masks_become_labels_as_in_nnunet(classes, regions, order):
    labels = classes.with_regions(regions, order)
    combinations = np.array(list(itertools.product((False, True), repeat=len(regions)))).T
    expected = painted(combinations, order)
    places = [list(regions).index(name) for name in labels.scored]
    logits = torch.from_numpy(np.where(combinations[places], 1.0, -1.0))[..., None, None]
    assert labels.to_values(labels.read(logits).numpy()).ravel().tolist() == expected.tolist()


@pytest.mark.parametrize(("classes", "regions", "order"), EVERY)
def test_every_value_is_in_exactly_its_regions(classes, regions, order):
    labels = classes.with_regions(regions, order)
    index = torch.from_numpy(labels.to_index(np.array(labels.values)))[None, None]
    target = labels.target(index)[:, 0, 0]
    for row, name in zip(target.tolist(), labels.scored, strict=True):
        assert row == [int(value in regions[name]) for value in labels.values]
    assert labels.outputs == len(regions)
    assert labels.head == "regions"


@pytest.mark.parametrize(("classes", "regions", "order"), EVERY)
def test_masks_of_true_labels_survive_a_label_map(classes, regions, order):
    labels = classes.with_regions(regions, order)
    index = torch.arange(labels.count)[None, None]
    masks = labels.target(index)
    assert torch.equal(labels.target(labels.read(20.0 * masks - 10)), masks)
    assert labels.rewritten == {}


@pytest.mark.parametrize(("classes", "regions", "order"), EVERY)
def test_one_region_alone_is_what_is_read_back_from_a_file(classes, regions, order):
    labels = classes.with_regions(regions, order)
    logits = torch.randn(1, len(regions), 9, 9, 9, generator=torch.Generator().manual_seed(1))
    deployed = labels.target(labels.read(logits))
    for place in range(len(regions)):
        alone = OneClass(_Written(conv_model(head="regions"), labels), place, labels.region_maps)
        assert torch.equal((alone.narrowed(logits) > 0).long(), deployed[:, place : place + 1])
        assert torch.equal(alone.segment(alone.narrowed(logits)), deployed[:, place : place + 1])


@dataclass(frozen=True, eq=False)
class _Written(Wrapped):
    """A model whose masks go through a label map, as a deployed one's do."""

    inner: VolumeModel
    labels: LabelSet

    def segment(self, logits):
        return self.labels.target(self.labels.read(logits))


def test_a_chain_is_one_thing_with_and_without_its_order():
    classes = LabelSet(("background", "NCR", "ED", "ET"), (0, 1, 2, 4))
    regions = {"WT": (1, 2, 4), "TC": (4, 1), "ET": (4,)}
    assert classes.with_regions(regions, (2, 1, 4)) == classes.with_regions(regions)


def test_scores_and_losses_are_of_the_regions():
    classes, regions, order = BRATS_2024
    labels = classes.with_regions(regions, order)
    generator = np.random.default_rng(0)
    truth, found = (generator.integers(0, 5, (6, 6, 6)).astype(np.uint8) for _ in range(2))
    scores = score_case("x", truth, found, (1.0, 1.0, 1.0), labels).classes
    logits = torch.from_numpy(generator.normal(size=(1, 4, 6, 6, 6)))
    terms = []
    for place, name in enumerate(labels.scored):
        a, b = np.isin(truth, regions[name]), np.isin(found, regions[name])
        assert scores[name].dice == pytest.approx(2 * (a & b).sum() / (a.sum() + b.sum()))
        terms.append(
            torch.nn.functional.binary_cross_entropy_with_logits(logits[0, place], torch.from_numpy(a).double())
        )
    loss = create_loss(Choice("ce"), labels)(logits, torch.from_numpy(truth)[None])
    assert float(loss) == pytest.approx(float(torch.stack(terms).mean()), rel=1e-5)


def test_an_order_survives_json():
    classes, regions, order = BRATS_2024
    labels = classes.with_regions(regions, order)
    assert from_data(LabelSet, to_data(labels), "x") == labels


def test_what_no_label_map_can_hold_is_known():
    classes = LabelSet(("background", "a", "b", "both"), (0, 1, 2, 3))
    assert classes.with_regions({"A": (1, 3), "B": (2, 3)}, (1, 2)).rewritten == {3: 2}
    # nnU-Net folds a value into its region where none stands for it alone: no region is lost.
    assert classes.with_regions({"all": (1, 2, 3), "core": (2, 3)}, (1, 2)).rewritten == {}


@pytest.mark.parametrize(
    ("regions", "order", "message"),
    [
        ({"a": (1,), "bc": (2, 3)}, None, "need regions_class_order"),
        ({"all": (1, 2, 3), "a": (1,)}, None, "need regions_class_order"),
        ({"all": (1, 2, 3), "a": (1,)}, (2,), "one value for each of the 2 regions"),
        ({"all": (1, 2, 3), "a": (1,)}, (2, 2), "writes region 'a' as 2, not as one of its values"),
        ({"a": (1,), "all": (1, 2, 3)}, (1, 2), "'a' is written over wholly"),
        ({"all": (1, 2), "a": (1,)}, (2, 1), r"each of the label values \[1, 2, 3\] must be in a region"),
        ({"all": (1, 2, 3, 9), "a": (1,)}, (2, 1), "must hold some of the label values"),
        ({"all": (1, 2, 3, 3), "a": (1,)}, (2, 1), "each once"),
        ({"all": (1, 2, 3), "same": (1, 2, 3)}, (2, 2), "a value of its own"),
        ({"all": (0, 1, 2, 3), "a": (1,)}, (2, 1), "must hold some of the label values"),
    ],
)
def test_regions_that_make_no_sense_are_refused(regions, order, message):
    classes = LabelSet(("background", "a", "b", "c"), (0, 1, 2, 3))
    with pytest.raises(ValueError, match=message):
        classes.with_regions(regions, order)
