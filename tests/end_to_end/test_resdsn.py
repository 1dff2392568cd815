"""Both stages of ResDSN trained on tiny phantoms, predicted and attacked as a cascade."""

import numpy as np
import pytest

from tests.end_to_end.build import changes, composed
from voxward.cli import main
from voxward.commands.attack import attack
from voxward.commands.evaluate import evaluate
from voxward.commands.predict import predict
from voxward.commands.train import train
from voxward.core.choices import Fold
from voxward.core.plan import load_json
from voxward.data.formats import open_dataset
from voxward.data.io import read_image, read_label, write_image
from voxward.phantoms.write import write_phantoms
from voxward.runs.folder import RunFolder, RunSplit, load_run
from voxward.systems.evaluate import evaluate_folder
from voxward.training.log import read_log

TINY = (
    "training.workers=0", "training.precision=fp32", "network.options.channels=[4,8,8,8]",
    "preparation.patch_size=[16,16,16]", "preparation.batch_size=2", "inference.extra_windows=1",
)  # fmt: skip


@pytest.fixture(scope="module")
def scans(tmp_path_factory):
    root = tmp_path_factory.mktemp("resdsn") / "data"
    write_phantoms(root, 6, modality="ct", size=24)
    return root


@pytest.fixture(scope="module")
def stages(scans, tmp_path_factory):
    root = tmp_path_factory.mktemp("stages")
    # Dice finds something sooner than cross-entropy alone: a cascade that finds nothing has no box to hold.
    options = (*TINY, "training.epochs=30", "optimizer.options.lr=0.05", "sampling.foreground=0.7", "loss.name=dice-ce")
    return [
        train(scans, out=root / stage, recipe=f"resdsn-c2f-{stage}", overrides=options, fold=Fold(seed=1))
        for stage in ("coarse", "fine")
    ]


def test_a_stage_learns_and_keeps_the_voxels(stages):
    for stage in stages:
        log = read_log(RunFolder(stage).log)
        assert log[-1]["validation_loss"] < 0.8 * log[0]["validation_loss"]
        plan = load_run(stage).plan
        assert (plan.patch_size, plan.resample, plan.channels[0].low) == ((16, 16, 16), False, -100.0)


def joined(folder, stages, members=(), **entries):
    """A cascade of the two stages in a file; with members the fine one is an ensemble with them."""
    coarse, fine = stages
    folder.mkdir(exist_ok=True)
    if members:
        fine = composed(folder, "ensemble", [fine, *members])
    return composed(folder, "cascade", [coarse, fine], **entries)


def test_the_cascade_predicts_and_is_attacked(stages, scans, tmp_path):
    fine = stages[1]
    case = open_dataset(scans).cases[0]
    (path,) = predict(joined(tmp_path / "one", stages, margin=2.0), [case.images[0]], out=tmp_path / "masks")
    assert read_label(path).shape == read_image(case.images).shape
    system = joined(tmp_path / "two", stages, [fine], margin=2.0)
    (twice,) = predict(system, [case.images[0]], out=tmp_path / "twice")
    assert (read_label(twice).array == read_label(path).array).mean() > 0.999
    options = changes(
        attacks=["ifgsm-ce"], eps=[10.2], unit="native", reference="window", cases=1, steps=3, gradient="window_mean",
        precision="fp32", controls=[],
    )  # fmt: skip
    result = attack(system, scans, out=tmp_path / "attacked", overrides=options)
    found = {record.attack: record for record in result.records}
    assert found["clean"].options["box_held"] is not None
    assert found["clean"].clean_dice() > 0.1
    assert found["clean"].clean == found["clean"].deployed_clean
    assert found["ifgsm-ce"].dice() < found["clean"].dice()
    assert found["ifgsm-ce"].distance == pytest.approx(10.0, rel=1e-4)  # of 10.2 HU a file of whole numbers holds 10
    assert "box_overlap" in found["ifgsm-ce"].options
    with pytest.raises(ValueError, match=r"systems\.cascade\.margin: 3.0, was 2.0.*another --out"):
        attack(system, scans, out=tmp_path / "attacked", overrides=[*options, "margin=3.0"])


@pytest.mark.parametrize("ensemble", [False, True])
def test_a_cascade_is_evaluated_as_it_predicts(stages, scans, tmp_path, ensemble):
    coarse, fine = stages
    members = [coarse] if ensemble else []
    system = joined(tmp_path / "system", stages, members, margin=3.0, margin_unit="mm", fraction=0.1)
    result = evaluate(system, out=tmp_path / "scored")
    dataset = open_dataset(scans)
    assert {case.id for case in result.cases} == set(load_json(RunSplit, RunFolder(fine).splits).validation)
    images = [dataset.case(case.id).images[0] for case in result.cases]
    for path in predict(system, images, out=tmp_path / "masks"):
        written = tmp_path / "scored" / "predictions" / path.name
        np.testing.assert_array_equal(read_label(written).array, read_label(path).array)
    by_hand = evaluate_folder(dataset, tmp_path / "masks", [case.id for case in result.cases])
    assert by_hand.foreground == result.foreground
    alone = evaluate(fine, out=tmp_path / "alone")
    assert alone.foreground != result.foreground


def test_a_cascade_is_composed_and_evaluated_on_the_command_line(stages, tmp_path, capsys):
    coarse, fine = map(str, stages)
    system = str(tmp_path / "cascade.yaml")
    line = ["compose", "cascade", coarse, fine, "--out", system, "--set", "margin=3", "--set", "margin_unit=mm"]
    assert main([*line, "--set", "fraction=1.5"]) == 2
    assert "fraction must be in [0, 1], got 1.5" in capsys.readouterr().err
    assert main([*line, "--set", "fraktion=0.1"]) == 2
    assert "Did you mean 'fraction'?" in capsys.readouterr().err
    assert not (tmp_path / "cascade.yaml").exists()
    assert main([*line, "--set", "fraction=0.1"]) == 0
    assert main(["evaluate", system, "--out", str(tmp_path / "out")]) == 0
    assert "organ a" in capsys.readouterr().out
    assert (tmp_path / "out" / "metrics.md").is_file()
    assert main(["evaluate", system]) == 2
    assert "out must be given" in capsys.readouterr().err
    assert main(["evaluate", system, "--out", str(tmp_path / "none"), "--set", "fraction=1.5"]) == 2
    assert "fraction must be in [0, 1], got 1.5" in capsys.readouterr().err
    assert not (tmp_path / "none").exists()


def test_cases_that_a_stage_was_trained_on_are_not_scored(stages, scans, tmp_path):
    """The coarse stage of another fold has seen the validation cases of this one."""
    other = train(
        scans,
        out=tmp_path / "other",
        recipe="resdsn-c2f-coarse",
        overrides=(*TINY, "training.epochs=1"),
        fold=Fold(fold=1, seed=1),
    )
    with pytest.raises(ValueError, match="in the training of one of them"):
        evaluate(joined(tmp_path / "system", (other, stages[1])), out=tmp_path / "scored")
    assert not (tmp_path / "scored").exists()


def test_a_coarse_stage_that_finds_nothing_is_flagged(stages, scans, tmp_path):
    image = read_image(open_dataset(scans).cases[0].images)
    write_image(tmp_path / "air.nii.gz", np.full_like(image.array, -1000), image.affine)
    with pytest.warns(UserWarning, match="air: the coarse model found nothing"):
        (path,) = predict(joined(tmp_path / "system", stages), tmp_path / "air.nii.gz", out=tmp_path / "masks")
    assert not read_label(path).array.any()


def test_predictions_of_several_runs_are_kept_apart_from_a_runs_own(stages, scans, tmp_path):
    coarse, fine = stages
    for system in (joined(tmp_path, stages), composed(tmp_path, "ensemble", [fine, coarse])):
        with pytest.raises(ValueError, match="out must be given"):
            predict(system, scans)
    assert not (fine / "predictions").exists()


def test_what_cannot_be_is_refused(stages, scans, tmp_path, capsys):
    coarse, fine = stages
    both = composed(tmp_path, "cascade", [coarse, fine])
    line = ["--dataset", str(scans), "--cases", "1", "--out", str(tmp_path / "out")]
    assert main(["attack", str(fine), *line, "--set", "stage=fine"]) == 2
    assert "unknown key 'stage'" in capsys.readouterr().err
    assert main(["attack", str(both), *line, "--set", "mode=patch"]) == 2
    assert "no single network" in capsys.readouterr().err
    assert main(["attack", str(fine), *line, "--set", "mode=patch", "--set", "gradient=window_mean"]) == 2
    assert "one window" in capsys.readouterr().err
    assert main(["attack", str(both), *line, "--set", "localise_only=true"]) == 2
    assert (
        "without a gradient: localise_only must be False, got True; a gradient is needed by" in capsys.readouterr().err
    )
    assert main(["attack", str(both), *line, "--set", "margin=-1"]) == 2
    assert "margin must be" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_the_hardened_recipe_trains(scans, tmp_path):
    run = train(
        scans,
        out=tmp_path / "run",
        recipe="resdsn-c2f-hardened",
        overrides=(*TINY, "training.epochs=2"),
        fold=Fold(seed=1),
    )
    log = read_log(RunFolder(run).log)
    assert np.isfinite([row["robust_dice"] for row in log]).all()
    assert log[0]["saturation"] > 0.1
