"""Every kind of system keeps away from PyTorch's slow routine for a single window."""

import numpy as np
import pytest
import torch

from tests.nets.test_one_sample import SLOW, called
from tests.pipeline.plain_pipeline import WIDE, Toy, a_predictor, a_volume
from tests.systems.build import system
from tests.systems.bundle.build import WINDOWS, bundle, config, scan
from tests.systems.nnunet.build import results, volume
from voxward.data.io import read_image
from voxward.systems.open import open_system


def a_run(folder):
    return system(a_predictor(Toy(), window=WIDE)), a_volume(np.float32)


def an_nnunet(folder):
    return open_system(results(folder / "r", mirrors=())), volume()


def a_bundle(folder):
    one_window = config(inferer={**WINDOWS, "roi_size": [16, 16, 16]})
    return open_system(bundle(folder / "b", one_window)), read_image([scan(folder / "scan.nii.gz")])


@pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="this PyTorch has no oneDNN")
@pytest.mark.parametrize("kind", [a_run, an_nnunet, a_bundle])
def test_neither_masks_nor_gradients_take_it(kind, tmp_path):
    opened, source = kind(tmp_path)
    model = opened.freeze(source)
    x = torch.from_numpy(np.ascontiguousarray(source.array, np.float32))[None]
    truth = torch.ones(1, *source.shape, dtype=torch.long)

    def work():
        opened.segment(source)
        model.value_and_grad(x, truth, lambda logits, target: logits.square().flatten(1).mean(1))

    found = called(work)
    assert SLOW not in found
    assert "aten::mkldnn_convolution" in found
