"""What preparation loses of labels is counted, said and refused."""

import warnings
from dataclasses import replace

import nibabel
import numpy as np
import pytest

import voxward
from voxward.core.case import ClassKept, LabelKept, Volume
from voxward.core.errors import UserError
from voxward.core.files import write_json
from voxward.core.labels import LabelSet
from voxward.core.plan import ChannelPlan, Plan, load_plan
from voxward.data.fingerprint import summarize
from voxward.data.label_losses import report_losses
from voxward.data.preparation_digest import preparation_digest
from voxward.data.prepare import frame_of, prepare
from voxward.data.store import open_case

LABELS = LabelSet(("background", "organ", "vessel"), (0, 1, 2))


def case(*classes, outside=0):
    return LabelKept(tuple(ClassKept(*entry) for entry in classes), outside)


def said(cases, allowed=True):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        report_losses(cases, LABELS, allowed)
    return [str(warning.message) for warning in caught]


def test_nothing_is_said_of_small_losses_and_of_growth():
    assert said([("a", case((1, 100.0, 91.0, 3, 3), (2, 10.0, 30.0, 1, 1)))], allowed=False) == []


def test_a_warning_names_class_cases_volumes_and_objects_worst_first():
    cases = [("a", case((1, 100.0, 90.0, 3, 3))), ("b", case((1, 100.0, 20.0, 4, 1))), ("c", case((1, 9.0, 9.0, 2, 1)))]
    assert said([*cases, ("d", case((1, 10.0, 10.0)))], allowed=False) == [
        "preparation loses volume or objects of class 'organ' in 3 of 4 cases (b: 80%, 3 of 4 objects; a: 10%; "
        "c: 0%, 1 of 2 objects)"
    ]


def test_two_hundred_cases_are_one_line():
    (line,) = said([(f"c{n}", case((1, 10.0, 5.0))) for n in range(200)])
    assert "in 200 of 200 cases" in line
    assert line.endswith("and 196 more)")


def test_a_class_without_a_voxel_is_an_error_unless_it_is_allowed():
    cases = [("a", case((1, 9.0, 9.0), (2, 42.5, 0.0, 3, 0))), ("b", case((2, 5.0, 4.9)))]
    with pytest.raises(UserError, match=r"'vessel' in 1 of 2 cases that hold it \(a: 42.5 mm3, 3 of 3 objects\)"):
        report_losses(cases, LABELS)
    assert len(said(cases)) == 1


def test_labelled_voxels_outside_the_box_are_said():
    (line,) = said([("a", case(outside=7))], allowed=False)
    assert "1 cases (a: 7)" in line
    assert "background" in line


PLAN = Plan(
    dataset="toy", labels=LABELS, channels=(ChannelPlan("MRI", "zscore"),), spacing=(1.0, 1.0, 1.0),
    spline_order=(3, 3, 3), crop_nonzero=True, patch_size=(8, 8, 8), window_size=(8, 8, 8), source_size=(8, 8, 8),
    strides=((2, 2, 2),), kernel_sizes=((3, 3, 3),) * 2, padding="zero", batch_size=2, min_object_mm3=(0.0, 0.0),
)  # fmt: skip


def with_a_label_outside():
    image, label = np.zeros((1, 12, 12, 12), np.float32), np.zeros((12, 12, 12), np.uint8)
    image[0, 3:9, 3:9, 3:9] = np.random.default_rng(0).uniform(1, 2, (6, 6, 6))
    label[5, 5, 5], label[10, 4, 4] = 1, 2
    affine = np.diag([-1.0, 1.0, 1.0, 1.0])
    return Volume(image, affine), Volume(label, affine)


def test_the_crop_keeps_labelled_voxels_and_intensities_stay_those_of_a_prediction():
    image, label = with_a_label_outside()
    prepared, alone = prepare(image, label, PLAN), prepare(image, None, PLAN)
    assert prepared.kept.outside == 1
    assert {kept.index: (kept.before, kept.after) for kept in prepared.kept.classes} == {1: (1, 1), 2: (1, 1)}
    assert (prepared.label == 2).sum() == 1
    assert prepared.frame.shape == (8, 6, 6)  # 3 to 11 of a flipped axis
    assert (alone.frame.shape, alone.kept) == ((6, 6, 6), None)
    assert prepared.image[:, 2:].equal(alone.image)  # the file's axis runs the other way
    assert frame_of(image, PLAN) == alone.frame
    measured = summarize(image, label, LABELS, "a").fingerprint
    assert (measured.shape, measured.voxels) == ((8, 6, 6), (286, 1, 1))
    assert prepare(image, label, replace(PLAN, crop_nonzero=False)).kept.outside == 0


def test_the_name_of_a_preparation_changes_only_where_labels_may():
    """Cases that older versions prepared stay current."""
    data = preparation_digest(PLAN)
    assert preparation_digest(replace(PLAN, label_resampling="objects")) != data
    still = replace(PLAN, resample=False)
    assert preparation_digest(replace(still, label_resampling="objects")) == preparation_digest(still)


@pytest.fixture(scope="module")
def vessels(tmp_path_factory):
    """Three coarse scans and a fine one, whose vessel is thinner than a voxel of the others."""
    root = tmp_path_factory.mktemp("d") / "data"
    names = [f"c{n}.nii.gz" for n in range(4)]
    for folder in ("imagesTr", "labelsTr"):
        (root / folder).mkdir(parents=True)
    for n, name in enumerate(names):
        fine = n == 3
        size = 4 if fine else 1
        label = np.zeros((16 * size,) * 3 if fine else (16,) * 3, np.uint8)
        label[3 * size : 9 * size, 3 * size : 9 * size, 3 * size : 9 * size] = 1
        if fine:
            label[48:50, 40:42, 4:60] = 2
        else:
            label[11:14, 11:14, 2:14] = 2
        image = 60 + 50 * label + np.random.default_rng(n).integers(0, 40, label.shape)
        affine = np.diag([2 / size] * 3 + [1.0])
        nibabel.save(nibabel.Nifti1Image(image.astype(np.uint8), affine), root / "imagesTr" / name)
        nibabel.save(nibabel.Nifti1Image(label, affine), root / "labelsTr" / name)
    training = [{"image": f"imagesTr/{name}", "label": f"labelsTr/{name}"} for name in names]
    labels = {"0": "background", "1": "organ", "2": "vessel"}
    write_json(root / "dataset.json", {"name": "d", "modality": {"0": "MRI"}, "labels": labels, "training": training})
    return root


FOLD = voxward.Fold(seed=1)


def test_prepare_refuses_what_loses_a_class_and_keeps_it_by_default(vessels, tmp_path):
    out, linear = tmp_path / "lost", ["preparation.label_resampling=linear"]
    with pytest.raises(UserError, match=r"'vessel' in 1 of 4 cases that hold it \(c3: 28 mm3, 1 of 1 objects\)"):
        voxward.prepare(vessels, out=out, recipe="dynunet", overrides=linear, fold=FOLD)
    with pytest.raises(UserError, match="label_resampling=objects"):  # again, although all cases are current
        voxward.prepare(vessels, out=out, recipe="dynunet", overrides=linear, fold=FOLD)
    assert open_case(out / "c3", "c3").classes == (1,)
    allowed = [*linear, "preparation.allow_lost_labels=true"]
    with pytest.warns(UserWarning, match="leaves nothing of a labelled class: 'vessel' in 1 of 4"):
        voxward.prepare(vessels, out=out, recipe="dynunet", overrides=allowed, fold=FOLD)
    with pytest.warns(UserWarning, match="leaves nothing"):
        voxward.prepare(vessels, out=out, plan=out / "plan.json", overrides=allowed)
    kept = tmp_path / "kept"
    voxward.prepare(vessels, out=kept, recipe="dynunet", fold=FOLD)
    case = open_case(kept / "c3", "c3")
    assert case.classes == (1, 2)
    assert load_plan(kept / "plan.json").label_resampling == "objects"
    (vessel,) = (entry for entry in case.record.kept.classes if entry.index == 2)
    assert (vessel.before, vessel.objects, vessel.left) == (pytest.approx(28.0), 1, 1)


def test_training_is_refused_before_there_is_a_run(vessels, tmp_path):
    tiny = ["network.options.filters=[4,8,8]", "training.workers=0", "preparation.label_resampling=linear"]
    with pytest.raises(UserError, match="'vessel'"):
        voxward.train(vessels, out=tmp_path / "run", recipe="dynunet", overrides=tiny, fold=FOLD)
    assert not (tmp_path / "run" / "recipe.yaml").exists()


def test_check_names_objects_that_are_too_thin_and_labels_outside_the_box(vessels, tmp_path):
    report = voxward.check(vessels)
    (thin,) = (problem for problem in report.warnings if problem.kind == "small objects")
    assert "'vessel'" in thin.message
    assert "2 x 2 x 2 mm in 1 cases (c3: 1 of 1)" in thin.message
    image, label = with_a_label_outside()
    for folder, volume in (("imagesTr", image.array[0]), ("labelsTr", label.array)):
        (tmp_path / folder).mkdir()
        nibabel.save(nibabel.Nifti1Image(volume, image.affine), tmp_path / folder / "a.nii.gz")
    entry = {"image": "imagesTr/a.nii.gz", "label": "labelsTr/a.nii.gz"}
    labels = {"0": "background", "1": "organ", "2": "vessel"}
    write_json(tmp_path / "dataset.json", {"modality": {"0": "MRI"}, "labels": labels, "training": [entry]})
    found = voxward.check(tmp_path)
    (outside,) = (problem for problem in found.problems if problem.kind == "label outside")
    assert "1 labelled voxels lie outside the box" in outside.message
    assert found.ok
