"""The BraTS rooms on two real multi-modal cases: regions of an MSD folder, both preparations, and the way back."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from monai.transforms import NormalizeIntensity

from tests.data.volumes import restored
from voxward.core.recipe import load_recipe
from voxward.data.fingerprint import fingerprint
from voxward.data.formats import open_dataset
from voxward.data.io import read_image, read_label
from voxward.data.planner import make_plan
from voxward.data.prepare import prepare

# MSD numbers them otherwise: 1 oedema, 2 non-enhancing tumour, 3 enhancing tumour.
REGIONS = "regions={ET: [3], TC: [2, 3], WT: [1, 2, 3]}"


@pytest.fixture(scope="module")
def real(data_root):
    dataset = open_dataset(data_root / "Task01_BrainTumour_slabs")
    recipe = load_recipe("brats-b", [REGIONS, "preparation.patch_size=[64,64,24]"])
    dataset = replace(dataset, labels=dataset.labels.with_regions(recipe.regions))
    return dataset, recipe, fingerprint(dataset)


@pytest.mark.data
@pytest.mark.parametrize("normalization", ["minmax", "zscore"])
def test_real_cases_are_prepared_and_come_back(real, normalization):
    dataset, recipe, measured = real
    plan = make_plan(measured, replace(recipe.preparation, normalization=normalization))
    assert (plan.patch_size, plan.total_stride, plan.labels.outputs) == ((64, 64, 24), (8, 8, 4), 3)
    case = dataset.cases[0]
    volume, label = read_image(case.images), read_label(case.label)
    prepared = prepare(volume, label, plan, case.id)
    if normalization == "zscore":
        start, stop = prepared.frame.box_start, prepared.frame.box_stop
        inside = tuple(slice(a, b) for a, b in zip(start, stop, strict=True))
        expected = NormalizeIntensity(nonzero=True, channel_wise=True)(
            torch.from_numpy(volume.array.astype(np.float32))[(slice(None), *inside)]
        )
        torch.testing.assert_close(prepared.image, torch.as_tensor(expected), rtol=1e-3, atol=1e-3)
    else:
        assert prepared.image.amin((1, 2, 3)).tolist() == pytest.approx([0.0] * 4)
        assert prepared.image.amax((1, 2, 3)).tolist() == pytest.approx([1.0] * 4)
    back = restored(prepared.label, prepared.frame)
    assert (back == label.array).all()
    masks = plan.labels.target(torch.from_numpy(back)).numpy()
    for mask, values in zip(masks, ((3,), (2, 3), (1, 2, 3)), strict=True):
        assert (mask == np.isin(label.array, values)).all()
        assert mask.any()
