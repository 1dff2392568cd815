"""Fine-tuning: a run begins with the weights of a run on another dataset."""

import json
import shutil

import nibabel
import numpy as np
import pytest
from safetensors.torch import load_file

import voxward
from tests.end_to_end.conftest import TINY
from voxward.core.choices import Change, Fold, Reuse
from voxward.core.plan import load_json, load_plan
from voxward.phantoms.write import write_phantoms
from voxward.runs.folder import RunFolder, RunSettings

# No step moves the weights, so that what the run ends with is what it began with.
STILL = (*TINY, "optimizer.options.lr=0.0", "optimizer.options.weight_decay=0.0", "training.epochs=1")


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory):
    """Other cases with the same ids and classes."""
    root = tmp_path_factory.mktemp("elsewhere") / "clinic"
    write_phantoms(root, 6, size=24, seed=9)
    return root


def described(root, **changes):
    path = root / "dataset.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    return root


def begun(dataset, start, out, **options):
    return RunFolder(
        voxward.train(
            dataset, out=out, recipe="dynunet", overrides=STILL, reuse=Reuse(start=start), fold=Fold(seed=3), **options
        )
    )


def weights(run):
    return load_file(RunFolder(run).weights("best") if not isinstance(run, RunFolder) else run.weights("best"))


def test_the_weights_and_the_geometry_are_the_first_runs_and_the_split_is_its_own(trained, elsewhere, tmp_path):
    run = begun(elsewhere, trained, tmp_path / "run")
    before, after = load_plan(RunFolder(trained).plan), load_plan(run.plan)
    for name in ("spacing", "patch_size", "window_size", "strides", "kernel_sizes", "channels", "labels"):
        assert getattr(after, name) == getattr(before, name), name
    assert after.dataset == "Phantoms"
    for name, value in weights(trained).items():
        np.testing.assert_array_equal(weights(run)[name].numpy(), value.numpy(), err_msg=name)
    settings = load_json(RunSettings, run.settings)
    assert (settings.start, settings.new_layers) == (str(trained.resolve()), ())
    split = json.loads(run.splits.read_text())
    assert len([*split["fit"], *split["selection"], *split["validation"]]) == 6
    assert {entry["use"] for entry in json.loads(run.cases.read_text())["cases"]} >= {"fit", "earlier"}


def test_other_classes_get_new_last_layers_and_nothing_else_is_new(trained, elsewhere, tmp_path):
    root = tmp_path / "two"
    shutil.copytree(elsewhere, root)
    for path in (root / "labelsTr").glob("*.nii.gz"):
        image = nibabel.load(path)
        nibabel.save(nibabel.Nifti1Image((np.asarray(image.dataobj) > 0).astype(np.uint8), image.affine), path)
    described(root, labels={"0": "background", "1": "body"}, name="Two")
    said = r"classes background, body.*last layers begin with random values \(output_block"
    with pytest.warns(UserWarning, match=said):
        run = begun(root, trained, tmp_path / "run")
    new = load_json(RunSettings, run.settings).new_layers
    assert new == ("output_block.conv.conv.weight", "output_block.conv.conv.bias")
    first, second = weights(trained), weights(run)
    assert set(first) == set(second)
    for name in first:
        if name in new:
            assert second[name].shape[0] == 2 != first[name].shape[0]
        else:
            np.testing.assert_array_equal(second[name].numpy(), first[name].numpy(), err_msg=name)
    assert load_plan(run.plan).labels.names == ("background", "body")
    assert len(load_plan(run.plan).min_object_mm3) == 1
    assert voxward.evaluate(run.root).foreground is not None


def test_the_same_number_of_other_classes_are_other_classes(trained, elsewhere, tmp_path):
    root = tmp_path / "renamed"
    shutil.copytree(elsewhere, root)
    names = json.loads((root / "dataset.json").read_text())["labels"]
    described(root, labels={key: f"new {name}" if key != "0" else name for key, name in names.items()}, name="Renamed")
    with pytest.warns(UserWarning, match="last layers begin with random values"):
        run = begun(root, trained, tmp_path / "run")
    bias = "output_block.conv.conv.bias"
    assert (weights(run)[bias] != weights(trained)[bias]).any()


def test_other_channels_are_taken_by_number_or_refused(trained, elsewhere, tmp_path):
    root = tmp_path / "other"
    shutil.copytree(elsewhere, root)
    described(root, modality={"0": "PET"}, channel_names={"0": "PET"}, name="Other")
    with pytest.warns(UserWarning, match="PET .*are taken for .*no name is the same"):
        run = begun(root, trained, tmp_path / "run")
    assert [channel.name for channel in load_plan(run.plan).channels] == ["PET"]
    for path in (root / "imagesTr").glob("*.nii.gz"):
        image = nibabel.load(path)
        nibabel.save(nibabel.Nifti1Image(np.stack([np.asarray(image.dataobj)] * 2, -1), image.affine), path)
    described(root, modality={"0": "PET", "1": "US"}, channel_names={"0": "PET", "1": "US"})
    with pytest.raises(ValueError, match="PET"):
        begun(root, trained, tmp_path / "two")
    assert not (tmp_path / "two" / "recipe.yaml").exists()


def test_another_network_is_refused_with_the_tensors_named(trained, elsewhere, tmp_path):
    with pytest.raises(ValueError, match=r"does not fit the network.*--recipe .*recipe\.yaml"):
        voxward.train(elsewhere, out=tmp_path / "run", recipe="rog", overrides=["training.workers=0"],
                      reuse=Reuse(start=trained))  # fmt: skip
    assert not (tmp_path / "run" / "recipe.yaml").exists()


@pytest.mark.filterwarnings("ignore:.*have the ids of cases that:UserWarning")
def test_a_fine_tuned_run_can_be_resumed_and_its_ancestors_cases_stay_seen(trained, phantoms, elsewhere, tmp_path):
    run = begun(elsewhere, trained, tmp_path / "run")
    again = voxward.train(elsewhere, out=run.root, resume=True)
    assert again == run.root
    # The first run's validation cases are the only ones of its dataset that neither run has learnt from.
    with pytest.warns(UserWarning, match="left out, because .* was trained on (its|their) images"):
        result = voxward.evaluate(run.root, phantoms, out=tmp_path / "out")
    before = json.loads(RunFolder(trained).splits.read_text())["validation"]
    assert [case.id for case in result.cases] == before


def test_hardening_on_another_dataset_is_refused(trained, elsewhere, tmp_path):
    copied = tmp_path / "clinic"
    write_phantoms(copied, 8, size=24, seed=9)
    with pytest.raises(ValueError, match="other images"):
        voxward.harden(trained, out=tmp_path / "run", change=Change(dataset=copied))
