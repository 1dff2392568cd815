"""The whole way on real volumes: several channels, anisotropy, lesions, extreme spacing, 2D."""

import json
from pathlib import Path

import numpy as np
import pytest

from tests.end_to_end.conftest import TINY
from voxward.commands.evaluate import evaluate
from voxward.commands.predict import predict
from voxward.commands.train import train
from voxward.core.plan import load_plan
from voxward.data.io import read_image, read_label, write_image, write_label


@pytest.mark.data
@pytest.mark.slow
def test_three_channels_and_a_lesion(data_root, tmp_path):
    root = data_root / "Task20_SoftTissueSarcoma"
    overrides = [*TINY, "training.epochs=1", "postprocessing.kind=lesion", "preparation.memory_gib=1"]
    run = train(root, out=tmp_path / "run", recipe="dynunet", overrides=overrides)
    plan = load_plan(run / "plan.json")
    assert [channel.normalization for channel in plan.channels] == ["mr", "ct", "mr"]
    result = evaluate(run)
    assert len(result.cases) == 6
    assert json.loads((run / "metrics.json").read_text())["foreground"]["n"] == 6


@pytest.mark.data
@pytest.mark.slow
def test_nested_regions_of_two_patients(data_root, tmp_path):
    """Two cases are the fewest that can be trained: one trains, one validates."""
    root = data_root / "Task01_BrainTumour_slabs"
    overrides = [*TINY, "training.epochs=1", "preparation.memory_gib=1"]
    run = train(root, out=tmp_path / "run", recipe="dynunet", overrides=overrides)
    result = evaluate(run)
    assert len(result.cases) == 1
    assert set(result.classes) == {"edema", "non-enhancing tumor", "enhancing tumour"}


@pytest.mark.data
def test_extreme_anisotropy(data_root, tmp_path):
    """0.5 x 0.5 x 7.5 mm: a plain folder of two such volumes."""
    source = data_root / "SCT_spinalcord"
    image, label = read_image([source / "t2s.nii.gz"]), read_label(source / "t2s_seg.nii.gz")
    for name, first in (("a", 0), ("b", 9)):  # the second one without its first rows, so that it is another scan
        write_image(tmp_path / "data" / "images" / f"{name}.nii.gz", image.array[:, first:], image.affine)
        write_label(tmp_path / "data" / "labels" / f"{name}.nii.gz", label.array[first:], label.affine)
    overrides = [*TINY, "training.epochs=1", "preparation.memory_gib=0.5"]
    run = train(tmp_path / "data", out=tmp_path / "run", recipe="dynunet", overrides=overrides)
    plan = load_plan(run / "plan.json")
    assert plan.spline_order[np.argmax(plan.spacing)] == 0
    assert min(plan.kernel_sizes[0]) == 1
    (written,) = predict(run, source / "t2s.nii.gz", out=tmp_path / "out")
    assert read_label(written).shape == label.shape


def test_2d_images(tmp_path):
    _write_discs(tmp_path / "data", 8)
    overrides = ["training.epochs=12", "training.workers=0", "training.precision=fp32"]
    run = train(tmp_path / "data", out=tmp_path / "run", recipe="dynunet", overrides=overrides)
    assert load_plan(run / "plan.json").patch_size[2] == 1
    assert evaluate(run).foreground.mean > 0.7


def _write_discs(root: Path, count: int) -> None:
    rng = np.random.default_rng(0)
    for n in range(count):
        i, j = np.ogrid[:40, :36]
        disc = ((i - rng.integers(12, 28)) ** 2 + (j - rng.integers(12, 24)) ** 2 < 60).astype(np.uint8)[:, :, None]
        image = (50 + 100 * disc + rng.normal(0, 20, disc.shape)).astype(np.float32)
        write_image(root / "images" / f"case{n}.nii.gz", image, np.eye(4))
        write_label(root / "labels" / f"case{n}.nii.gz", disc, np.eye(4))
