"""Both stages of ResDSN trained on tiny phantoms, predicted and attacked as a cascade."""

import numpy as np
import pytest

from voxward.cli import main
from voxward.commands.attack import attack
from voxward.commands.predict import predict
from voxward.commands.train import train
from voxward.data.formats import open_dataset
from voxward.data.io import read_image, read_label
from voxward.data.phantoms import write_phantoms
from voxward.inference.run_folder import RunFolder, load_run
from voxward.training.log import read_log

TINY = (
    "training.workers=0", "training.precision=fp32", "network.options.channels=[4,8,8,8]",
    "preparation.patch_size=[16,16,16]", "preparation.batch_size=2", "inference.extra_windows=1",
)  # fmt: skip


@pytest.fixture(scope="module")
def scans(tmp_path_factory):
    root = tmp_path_factory.mktemp("resdsn") / "data"
    write_phantoms(root, 6, 0, "ct", 24)
    return root


@pytest.fixture(scope="module")
def stages(scans, tmp_path_factory):
    root = tmp_path_factory.mktemp("stages")
    # Dice finds something sooner than cross-entropy alone: a cascade that finds nothing has no box to hold.
    options = (*TINY, "training.epochs=30", "optimizer.options.lr=0.05", "sampling.foreground=0.7", "loss.name=dice-ce")
    return [
        train(scans, root / stage, f"resdsn-c2f-{stage}", seed=1, overrides=options) for stage in ("coarse", "fine")
    ]


def test_a_stage_learns_and_keeps_the_voxels(stages):
    for stage in stages:
        log = read_log(RunFolder(stage).log)
        assert log[-1]["validation_loss"] < 0.8 * log[0]["validation_loss"]
        plan = load_run(stage).plan
        assert (plan.patch_size, plan.resample, plan.channels[0].low) == ((16, 16, 16), False, -100.0)


def test_the_cascade_predicts_and_is_attacked(stages, scans, tmp_path):
    coarse, fine = stages
    case = open_dataset(scans).cases[0]
    (path,) = predict(fine, [case.images[0]], tmp_path / "masks", cascade=coarse, margin=2.0)
    assert read_label(path).shape == read_image(case.images).shape
    (twice,) = predict(fine, [case.images[0]], tmp_path / "twice", cascade=coarse, margin=2.0, members=[fine])
    assert (read_label(twice).array == read_label(path).array).mean() > 0.999
    result = attack(
        fine, scans, tmp_path / "attacked", ["ifgsm-ce"], [10.2], unit="native", reference="window", cases=1, steps=3,
        precision="fp32", cascade=coarse, margin=2.0, gradient="window_mean", members=[fine],
    )  # fmt: skip
    found = {record.attack: record for record in result.records}
    assert found["clean"].options["box_held"] is not None
    assert found["clean"].clean_dice() > 0.1
    assert found["clean"].clean == found["clean"].deployed_clean
    assert found["ifgsm-ce"].dice() < found["clean"].dice()
    assert found["ifgsm-ce"].distance == pytest.approx(10.2, rel=1e-4)
    assert "box_overlap" in found["ifgsm-ce"].options
    with pytest.raises(ValueError, match=r"finding.*another --out"):
        attack(
            fine, scans, tmp_path / "attacked", ["ifgsm-ce"], [10.2], unit="native", reference="window", cases=1,
            steps=3, precision="fp32", cascade=coarse, margin=3.0, gradient="window_mean", members=[fine],
        )  # fmt: skip


def test_what_cannot_be_is_refused(stages, scans, capsys):
    coarse, fine = stages
    line = ["attack", str(fine), str(scans), "--cases", "1"]
    assert main([*line, "--stage", "fine"]) == 2
    assert "needs a cascade" in capsys.readouterr().err
    assert main([*line, "--mode", "patch", "--cascade", str(coarse)]) == 2
    assert "one window" in capsys.readouterr().err
    assert main([*line, "--mode", "patch", "--members", str(coarse)]) == 2
    assert "one network" in capsys.readouterr().err
    assert not (fine / "attack").exists()
    assert main([*line, "--cascade", str(coarse), "--margin", "-1"]) == 2
    assert "margin must be" in capsys.readouterr().err


def test_the_hardened_recipe_trains(scans, tmp_path):
    run = train(scans, tmp_path / "run", "resdsn-c2f-hardened", seed=1, overrides=(*TINY, "training.epochs=2"))
    log = read_log(RunFolder(run).log)
    assert np.isfinite([row["robust_dice"] for row in log]).all()
    assert log[0]["saturation"] > 0.1
