"""Partly annotated labels on their way from a file to a patch."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from tests.data.memory_source import MemorySource
from voxward.commands.prepare import prepare
from voxward.core.case import Volume
from voxward.core.labels import IGNORED, UNANNOTATED, LabelSet
from voxward.core.recipe.sampling import Sampling
from voxward.data.fingerprint import summarize
from voxward.data.formats import open_dataset
from voxward.data.formats.description import labels_of
from voxward.data.io import read_label, write_label
from voxward.data.sampling import draw_training_patch, read_patch
from voxward.data.stored_files import annotated_locations, class_locations
from voxward.phantoms.write import write_phantoms

LABELS = LabelSet(("background", "a", "b"), (0, 5, 2), ignore=9)


def test_file_values_and_class_indices():
    values = np.array([0, 5, 2, 9]).reshape(1, 2, 2)
    index = LABELS.to_index(values)
    assert index.ravel().tolist() == [0, 1, 2, IGNORED]
    assert index.dtype == np.uint8
    with pytest.raises(ValueError, match=r"legal: \[0, 5, 2, 9\]"):
        LABELS.to_index(np.array([1]))
    with pytest.raises(ValueError, match=r"legal: \[0, 5, 2\]"):
        LABELS.predicted.to_index(np.array([9]))


def test_targets_say_what_is_not_annotated():
    index = torch.tensor([0, 1, 2, IGNORED], dtype=torch.uint8).view(1, 1, 2, 2)
    assert LABELS.target(index).ravel().tolist() == [0, 1, 2, UNANNOTATED]
    regions = LABELS.with_regions({"ab": (5, 2), "b": (2,)})
    assert regions.target(index).flatten(2)[0].tolist() == [[0, 0, 1, UNANNOTATED], [0, 1, 1, UNANNOTATED]]
    assert (LABELS.outputs, regions.outputs, LABELS.count) == (3, 2, 3)


def test_an_ignore_label_is_no_class():
    with pytest.raises(ValueError, match="no class's"):
        LabelSet(("background", "a"), (0, 1), ignore=1)
    with pytest.raises(ValueError, match="at most 255 classes"):
        LabelSet(tuple(map(str, range(256))), tuple(range(256)), ignore=300)
    declared = LabelSet(("background", "a", "void"), (0, 1, 2)).with_ignore(2)
    assert (declared.names, declared.values, declared.ignore) == (("background", "a"), (0, 1), 2)
    with pytest.raises(ValueError, match="background"):
        declared.with_ignore(1)


@pytest.mark.parametrize(
    ("given", "values"),
    [
        ({"background": 0, "a": 1, "ignore": 2}, (0, 1)),
        ({"0": "background", "1": "a", "2": "Ignore"}, (0, 1)),
        ({"background": 0, "whole": [1, 3], "core": [3], "ignore": 2}, (0, 1, 3)),
    ],
)
def test_formats_declare_it_as_nnunet_does(given, values, tmp_path):
    labels = labels_of(json.loads(json.dumps(given)), tmp_path / "dataset.json")
    assert (labels.values, labels.ignore) == (values, 2)
    assert "ignore" not in map(str.lower, labels.names)


def test_locations_are_of_annotated_voxels():
    label = np.full((6, 6, 6), IGNORED, np.uint8)
    label[2, 2, 2:4], label[3, 3, 3] = 0, 1
    assert {k: v.tolist() for k, v in class_locations(label, 3).items()} == {"1": [[3, 3, 3]]}
    assert annotated_locations(label).tolist() == [[2, 2, 2], [2, 2, 3], [3, 3, 3]]
    assert len(annotated_locations(np.full_like(label, IGNORED))) == 0


@pytest.mark.parametrize("region", ["case", "truth"])
def test_no_patch_is_wholly_unannotated(region):
    label = torch.full((40, 40, 40), IGNORED, dtype=torch.uint8)
    label[0, 5:7, 30], label[20, 20, 20] = 0, 0
    source = MemorySource(torch.zeros(1, 40, 40, 40), label)
    generator = torch.Generator().manual_seed(0)
    sampling = replace(Sampling(), region=region, foreground=0.3)
    for _ in range(30):
        draw = draw_training_patch(source, (8, 8, 8), sampling, generator)
        _, patch = read_patch(source, draw, (8, 8, 8), (8, 8, 8), "edge")
        assert (patch != IGNORED).any()


def test_a_fingerprint_counts_and_samples_annotated_voxels():
    generator = np.random.default_rng(0)
    image = generator.normal(100, 1, (1, 8, 8, 8)).astype(np.float32)
    values = np.zeros((8, 8, 8), np.uint8)
    values[:4, :4, :4] = 5
    image[0, 6:] = 1e6
    values[6:] = 9
    summary = summarize(Volume(image, np.eye(4)), Volume(values, np.eye(4)), LABELS, "x")
    assert summary.fingerprint.voxels == (8 * 8 * 6 - 64, 64, 0)
    assert summary.sample.shape == (1, 64)
    assert summary.sample.max() < 1000
    assert summary.volumes == ((64.0,), ())


def test_cases_without_any_annotation_are_one_warning(tmp_path):
    write_phantoms(tmp_path / "data", 3, size=16)
    described = json.loads((tmp_path / "data" / "dataset.json").read_text())
    described["labels"]["9"] = "ignore"
    (tmp_path / "data" / "dataset.json").write_text(json.dumps(described))
    dataset = open_dataset(tmp_path / "data")
    label = read_label(dataset.cases[1].label)
    dataset.cases[1].label.unlink()
    write_label(dataset.cases[1].label, np.full_like(label.array, 9), label.affine, dataset.cases[1].images[0])
    with pytest.warns(UserWarning, match=f"no voxel is annotated in 1 of 3 cases .{dataset.cases[1].id}.:"):
        prepare(tmp_path / "data", out=tmp_path / "out", recipe="dynunet", workers=1)
