"""PNG files all the way: trained on, segmented, attacked, and written as PNG files again."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import voxward
from tests.end_to_end.build import changes
from voxward.core.choices import Fold
from voxward.data.io import read_image
from voxward.phantoms.organ import make_organ_phantom

CASES, EPS = 5, 16
TINY = (
    "training.workers=0", "training.precision=fp32", "network.options.filters=[8,8,8]", "preparation.batch_size=2",
    "training.epochs=25", "optimizer.options.lr=0.01",
)  # fmt: skip


@pytest.fixture(scope="module")
def slices(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Slices of phantoms as 8-bit PNG files, in nnU-Net's layout."""
    root = tmp_path_factory.mktemp("slices")
    for name in ("imagesTr", "labelsTr"):
        (root / name).mkdir()
    for n in range(CASES):
        image, label = make_organ_phantom(n, size=32)
        k = int(label.array.sum((0, 1)).argmax())
        grey = np.clip(image.array[0, :, :, k] * (255 / image.array.max()), 0, 255).astype(np.uint8)
        Image.fromarray(grey.T.copy()).save(root / "imagesTr" / f"p{n}_0000.png")
        Image.fromarray((label.array[:, :, k].T > 0).astype(np.uint8)).save(root / "labelsTr" / f"p{n}.png")
    described = {"channel_names": {"0": "X-ray"}, "labels": {"background": 0, "organ": 1}, "file_ending": ".png"}
    (root / "dataset.json").write_text(json.dumps(described | {"numTraining": CASES}))
    return root


@pytest.fixture(scope="module")
def run(slices: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("pictures") / "run"
    return voxward.train(slices, out=out, recipe="dynunet", overrides=TINY, fold=Fold(seed=1))


def test_a_prediction_is_a_png_file_of_class_numbers(run: Path, slices: Path, tmp_path: Path) -> None:
    written = voxward.predict(run, slices / "imagesTr", out=tmp_path / "out")
    assert [path.name for path in written] == [f"p{n}.png" for n in range(CASES)]
    with Image.open(written[0]) as mask, Image.open(slices / "imagesTr" / "p0_0000.png") as image:
        assert (mask.mode, mask.size) == ("L", image.size)
        assert set(np.unique(np.asarray(mask))) <= {0, 1}


def test_an_attacked_picture_is_a_png_file_within_the_ball(run: Path, slices: Path, tmp_path: Path) -> None:
    wanted = changes(attacks=("fgsm-ce",), eps=(EPS / 255,), controls=("noise",), cases=1, precision="fp32", keep="all")
    report = voxward.attack(run, slices, out=tmp_path / "out", overrides=wanted)
    (record,) = [one for one in report.records if one.attack == "fgsm-ce"]
    (path,) = (tmp_path / "out" / "volumes").glob(f"**/fgsm-ce/**/{record.case}.png")
    with Image.open(path) as attacked, Image.open(slices / "imagesTr" / f"{record.case}_0000.png") as clean:
        assert (attacked.mode, attacked.size) == (clean.mode, clean.size) == ("L", clean.size)
        changed = np.asarray(attacked).astype(int) - np.asarray(clean)
    (low, high), *_ = record.threat.bounds
    assert changed.any()
    assert np.abs(changed).max() <= record.eps * (high - low) * (1 + 1e-5)
    np.testing.assert_array_equal(read_image([path]).array[0, :, :, 0].T, np.asarray(Image.open(path)))
