"""What is attacked and what is then judged, on a model that finds a bright lesion in a skull-stripped volume."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from tests.robustness.build import a_bench, records_of
from tests.robustness.lesion import lesion_case, lesion_predictor
from voxward.attacks.budget import Budget
from voxward.attacks.registry import create
from voxward.attacks.threat import ThreatModel
from voxward.core.case import Scaling, Volume
from voxward.core.labels import LabelSet, Region
from voxward.data.io import read_image, read_label, write_label
from voxward.data.stored_values import as_stored, what_a_file_holds
from voxward.robustness import subject as subject_module
from voxward.robustness.protocol import Protocol, Threat
from voxward.robustness.record import Record
from voxward.robustness.sanity import sanity
from voxward.robustness.subject import erasing, inventing, labels_under_attack, patch_subject, volume_subject
from voxward.systems.run import RunSystem
from voxward.systems.system import Freeze

THREAT = ThreatModel(0.0)


@pytest.fixture
def predictor():
    return lesion_predictor()


def _records(predictor, case, attacks=("pgd-ce", "apgd-dice", "square"), eps=(8 / 255,)):
    protocol = Protocol("test", attacks=attacks, threat=Threat(eps), budget=Budget(10, 1, 20, 3))
    return records_of(a_bench({"m": RunSystem(predictor)}, [case], protocol))


def test_air_stays_air_so_that_the_file_is_read_as_it_was_attacked(predictor, tmp_path):
    """Were it perturbed, crop box and statistics would be others: noise alone would break the deployed pipeline."""
    records = _records(predictor, lesion_case(tmp_path))
    dice = {record.attack: (record.dice(), record.dice(deployed=True)) for record in records if record.eps < 0.5}
    assert dice["clean"][0] > 0.9
    # Noise is no attack; statistics of perturbed voxels may move a voxel or two of the lesion's rim.
    assert dice["noise"][1] == pytest.approx(dice["noise"][0], abs=0.05)
    assert dice["noise"][1] > 0.9
    assert all(record.written <= record.eps * (1 + 1e-5) for record in records if record.attack != "clip")
    assert all(finding.passed is not False for finding in sanity(records) if finding.name == "in the ball")


def test_an_attack_that_follows_the_statistics_says_what_its_file_says(predictor, tmp_path):
    """What is above so many standard deviations is lesion: the attack moves these as well."""
    case = lesion_case(tmp_path, np.float32)
    target = volume_subject(RunSystem(predictor), case, THREAT).target
    lowest = {}
    for statistics in ("frozen", "live"):
        subject = volume_subject(RunSystem(predictor), case, THREAT, Freeze(statistics=statistics))
        threat = subject.threat.with_eps(24 / 255)
        found = create("pgd-dice", steps=10)(subject.model, subject.volume, target, threat, 0)
        mask = subject.model.segment(subject.model.logits(found.adversarial))[0].numpy()
        written = subject.deploy(found.adversarial[0].numpy(), None).mask
        lowest[statistics] = _overlap(written, target[0].numpy())
        assert np.array_equal(mask, written) == (statistics == "live")
    assert lowest["live"] < lowest["frozen"]


@pytest.mark.parametrize(
    ("mode", "asked", "used"), [("volume", "auto", "live"), ("volume", "frozen", "frozen"), ("patch", "auto", "frozen")]
)
def test_records_say_which_statistics_were_used(predictor, tmp_path, mode, asked, used):
    protocol = Protocol(
        "test", attacks=("fgsm-dice",), threat=Threat((24 / 255,), statistics=asked), controls=("clean",), mode=mode
    )
    records = records_of(a_bench({"m": RunSystem(predictor)}, [lesion_case(tmp_path, np.float32)], protocol))
    assert {record.statistics for record in records} == {used}
    attacked = next(record for record in records if record.attack == "fgsm-dice")
    if mode == "volume":
        assert (attacked.adversarial == attacked.deployed) == (used == "live")
    older = {name: value for name, value in attacked.to_data().items() if name != "statistics"}
    assert Record.from_data(older, "older").statistics == ""


def _overlap(mask, truth):
    return 2 * float(((mask == 1) & (truth == 1)).sum()) / float((mask == 1).sum() + (truth == 1).sum())


def test_air_that_may_be_perturbed_breaks_the_control(predictor, tmp_path, monkeypatch):
    """The check that would have said so."""

    monkeypatch.setattr(subject_module, "ThreatModel", lambda *given, **named: ThreatModel(*given))
    findings = {
        finding.name: finding.passed for finding in sanity(_records(predictor, lesion_case(tmp_path), ("fgsm-ce",)))
    }
    assert findings["noise control"] is False


def test_a_label_elsewhere_is_refused(predictor, tmp_path):
    flipped = np.diag([-1.0, 1.0, 1.0, 1.0])
    for build in (volume_subject, patch_subject):
        with pytest.raises(ValueError, match="case 'one': the label lies elsewhere"):
            build(RunSystem(predictor), lesion_case(tmp_path, affine=flipped), THREAT)
        with pytest.raises(ValueError, match="case 'one': the label has shape"):
            build(RunSystem(predictor), lesion_case(tmp_path, shape=(25, 24, 20)), THREAT)


def test_a_bad_volume_is_named(predictor, tmp_path):
    case = lesion_case(tmp_path, np.float32, scale=np.nan)
    with pytest.raises(ValueError, match=r"case 'one'.*NaN"):
        volume_subject(RunSystem(predictor), case, THREAT)


@pytest.mark.parametrize("scale", [1.0, 2.0**17])
def test_whole_numbers_of_any_size_are_attacked_and_written(predictor, tmp_path, scale):
    """Beyond 2 ** 24 the attack computes in float64, the network in its own type."""
    records = _records(predictor, lesion_case(tmp_path, np.int32, scale=scale), ("apgd-dice",))
    found = {record.attack: record for record in records}
    assert found["clean"].dice() > 0.9
    assert found["clean"].deployed == found["clean"].clean
    assert found["apgd-dice"].dice() < found["clean"].dice()


def test_a_constant_channel_can_be_attacked(predictor, tmp_path):
    case = lesion_case(tmp_path, scale=0.0)
    for build in (volume_subject, patch_subject):
        (low, high), *_ = build(RunSystem(predictor), case, THREAT).threat.bounds
        assert low < high


@pytest.mark.parametrize("kind", [np.uint8, np.int16, np.float32])
def test_what_the_array_shows_the_file_shows_where_it_holds_whole_numbers(predictor, tmp_path, kind):
    budget = Budget(5, 1, 10, 3)
    protocol = Protocol("test", attacks=("pgd-dice", "square"), threat=Threat((0.03,)), budget=budget, controls=())
    case = lesion_case(tmp_path, kind, scale=0.2 if kind == np.uint8 else 1.0)
    records = records_of(a_bench({"m": RunSystem(predictor)}, [case], protocol))
    assert min(record.clean_dice() for record in records) > 0.9
    attacks = [record for record in records if record.kind == "attack"]
    assert len({record.attack for record in attacks}) == 2
    for record in attacks:
        assert record.deployed == record.adversarial
        assert record.threat.steps == (() if kind == np.float32 else (1.0,))
        assert record.written == pytest.approx(record.distance, abs=1e-6)


def test_the_steps_of_a_file_are_those_that_its_header_scales_by():
    array = np.zeros((2, 3, 3, 3), np.float32)
    for kind, scaling, expected in (
        (np.int64, None, ((-(2.0**31), 2.0**31 - 1), (1.0, 1.0))),
        (np.uint8, None, ((0.0, 255.0), (1.0, 1.0))),
        (np.float32, Scaling("int16", -0.5, 3.0), ((3.0 - 32767 / 2, 3.0 + 16384.0), (0.5, 0.5))),
        (np.float32, None, (None, ())),
    ):
        assert what_a_file_holds(Volume(array.astype(kind), np.eye(4), scaling)) == expected


def test_a_volume_on_the_steps_of_a_scaled_file_is_written_as_it_is():
    """In float32 a whole number of steps is seldom exact, and rounding towards the source would lose one of them."""
    whole = np.arange(-1200, 1200, dtype=np.int16).reshape(1, 2, 30, 40)
    for slope, intercept in ((0.1, 3.3), (-0.013, 1.0), (1.7, -1024.0)):
        scaling = Scaling("int16", slope, intercept)
        reference = (whole * slope + intercept).astype(np.float32)
        for steps in (-7, -1, 0, 3, 12):
            moved = reference + np.float32(steps) * np.float32(abs(slope))
            expected = whole + steps * (1 if slope > 0 else -1)
            assert np.array_equal(as_stored(moved, reference, np.dtype(np.float32), scaling), expected)


def test_files_hold_whole_numbers_towards_the_reference():
    reference = np.array([[[[10.0, 10.0, 10.0, 855.3, 855.3, 10.0]]]])
    adversarial = np.array([[[[12.7, 7.2, 10.0, 860.1, 855.3, 400.0]]]])
    stored = as_stored(adversarial, reference, np.dtype(np.uint8))
    assert stored.dtype == np.uint8
    assert stored.ravel().tolist() == [12, 8, 10, 255, 255, 255]
    assert as_stored(adversarial, reference, np.dtype(np.int16)).ravel().tolist() == [12, 8, 10, 860, 855, 400]
    assert as_stored(adversarial, reference, np.dtype(np.int64)).dtype == np.int32
    assert as_stored(adversarial, reference, np.dtype(np.float32)).ravel()[0] == np.float32(12.7)
    with pytest.raises(ValueError, match="do not fit 32 bits"):
        as_stored(adversarial, reference + 2.0**40, np.dtype(np.int64))


def test_scaled_files_hold_steps_towards_the_reference():
    """0.1 is no number of float32: what a file holds is then off its step by a rounding, in either direction."""
    scaling = Scaling("int16", 0.1, -102.4)
    steps = np.arange(-2000, 2000).reshape(1, 10, 20, 20)
    reference = (steps * scaling.slope + scaling.intercept).astype(np.float32)
    for moved, expected in ((0.27, 2), (-0.27, -2), (0.04, 0), (-0.04, 0), (0.0, 0)):
        stored = as_stored(reference + np.float32(moved), reference, np.dtype(np.float32), scaling)
        assert stored.dtype == np.int16
        np.testing.assert_array_equal(stored, steps + expected)
    falling = replace(scaling, slope=-0.1)
    stored = as_stored(np.array([[[[-101.95]]]]), np.array([[[[-102.4]]]]), np.dtype(np.float32), falling)
    assert stored.item() == -4
    clipped = as_stored(np.array([[[[5.37, 4.63]]]]), np.array([[[[5.05, 5.05]]]]), np.dtype(np.float32), scaling)
    assert clipped.ravel().tolist() == [1077, 1071]  # 5.3 and 4.7
    assert as_stored(reference + 1e6, reference, np.dtype(np.float32), scaling).max() == np.iinfo(np.int16).max


@pytest.mark.parametrize("scaling", [Scaling("int16", 1.0, -1024.0), Scaling("uint16", 0.75, -30.0)])
def test_a_file_of_scaled_integers_is_attacked_as_one(predictor, tmp_path, scaling):
    case = lesion_case(tmp_path, scaling.kind, scaling=scaling)
    subject, source = volume_subject(RunSystem(predictor), case, THREAT), read_image(case.images)
    assert subject.threat.limits == scaling.limits
    clean = subject.deploy(subject.volume[0].numpy(), None)
    np.testing.assert_array_equal(clean.written, source.array)
    ball = subject.threat.with_eps(8 / 255).ball(subject.volume)
    adversarial = ball.random(torch.Generator().manual_seed(0))
    stored = subject.deploy(adversarial[0].numpy(), tmp_path / "adversarial.nii.gz")
    again = read_image([tmp_path / "adversarial.nii.gz"])
    assert again.scaling == source.scaling == scaling
    np.testing.assert_array_equal(again.array, stored.written)
    np.testing.assert_array_equal(predictor.segment(again), stored.mask)
    assert ball.holds(torch.from_numpy(stored.written)[None]).all()
    apart = np.abs(stored.written - adversarial[0].numpy())
    assert 0.5 * scaling.slope < apart.max() < scaling.slope * (1 + 1e-3)
    assert (stored.written[source.array == 0] == 0).all()


def test_attacks_on_scaled_integers_stay_in_the_ball(predictor, tmp_path):
    records = _records(predictor, lesion_case(tmp_path, scaling=Scaling("int16", 2.0, -1024.0)), ("apgd-dice",))
    assert all(record.written <= record.eps * (1 + 1e-5) for record in records if record.attack != "clip")
    found = {record.attack: record for record in records}
    assert found["clean"].deployed == found["clean"].clean
    assert found["apgd-dice"].dice() < found["clean"].dice()


def test_the_books_say_what_was_computed_in(predictor, tmp_path):
    """A patch is attacked in float32, whatever the predictor does."""
    case = lesion_case(tmp_path)
    for mode, precision in (("patch", "fp32"), ("volume", "bf16")):
        protocol = Protocol("test", attacks=("fgsm-ce",), threat=Threat((8 / 255,)), mode=mode)
        worker = a_bench({"m": RunSystem(replace(predictor, precision="bf16"))}, [case], protocol)
        assert {worker.work(unit)[0].precision for unit in worker.bench.first_units()} == {precision}


def test_regions_are_kept_as_classes_are_written(predictor, tmp_path):
    """The network finds the whole tumour and never its core, so that each of its voxels is oedema, 9 in files."""
    regions = (Region("core", (4,)), Region("whole", (4, 9)))
    plan = replace(
        predictor.model.plan, labels=LabelSet(("background", "core", "oedema"), (0, 4, 9), regions),
        min_object_mm3=(0.0, 0.0),
    )  # fmt: skip
    system, case = RunSystem(replace(predictor, model=replace(predictor.model, plan=plan))), lesion_case(tmp_path)
    truth = read_label(case.label)
    write_label(case.label, (truth.array * 9).astype(np.uint8), truth.affine)
    whole = volume_subject(system, case, THREAT)
    for subject, masks in ((whole, 2), (erasing(whole, "core"), 1)):
        stored = subject.deploy(subject.volume[0].numpy(), None)
        assert len(stored.mask) == masks
        subject.place.write(tmp_path / "found.nii.gz", stored.label)
        found = read_label(tmp_path / "found.nii.gz")
        assert set(np.unique(found.array)) == {0, 9}
        assert _overlap(found.array == 9, truth.array) > 0.9


def test_what_a_file_would_hold_is_known_without_writing_it(predictor, tmp_path):
    """Whole numbers of the file; around a clipped reference, which holds none, the array itself."""
    for kind, reference in ((np.int16, "raw"), (np.float32, "raw"), (np.int16, "window")):
        case = lesion_case(tmp_path, kind)
        subject = volume_subject(RunSystem(predictor), case, replace(THREAT, reference=reference))
        moved = subject.volume[0].numpy() + np.float32(1.6)
        written = subject.deploy(moved, None).written
        held = subject.as_written(moved)
        np.testing.assert_array_equal(held, written if reference == "raw" else moved)


def test_a_class_is_invented_where_it_is_not(predictor, tmp_path):
    """The books hold the volume outside the truth, of the file that is kept, and no figure that means nothing."""
    case = lesion_case(tmp_path, np.float32)
    protocol = Protocol(
        "test", attacks=("apgd-dice", "coarse-2"), threat=Threat((48 / 255,), statistics="live"),
        budget=Budget(10, 1, 20, 3), invent="lesion",
    )  # fmt: skip
    worker = a_bench(
        {"m": RunSystem(predictor)}, [case], protocol, segmentations=tmp_path / "s", volumes=tmp_path / "v"
    )
    records = {record.attack: record for record in records_of(worker)}
    assert not {"reach", "doubled"} & {*records}
    truth, clean = read_label(case.label).array == 1, read_label(tmp_path / "s" / "m" / "clean" / "one.nii.gz")
    for name, record in records.items():
        assert record.classes == ("not lesion",)
        assert record.phantom.name == "lesion"
        assert record.phantom.clean_mm3 == ((clean.array == 1) & ~truth).sum()  # voxels of 1 mm
        assert (record.hd95_mm, record.surface, record.clean_surface, record.truth_mm3) == (None, None, None, ())
        if record.kind == "attack":
            found = read_label(next((tmp_path / "s" / "m" / name).rglob("*.nii.gz"))).array == 1
            assert record.phantom.mm3 == (found & ~truth).sum() > record.phantom.clean_mm3
            right = (~truth).sum() - record.phantom.mm3
            assert record.dice(deployed=True) == pytest.approx(2 * right / (2 * right + record.phantom.mm3))
    assert records["clean"].phantom.mm3 == records["clean"].phantom.clean_mm3
    checks = {one.name: one.passed for one in sanity([*records.values()])}
    assert (checks["converged"], checks["clean"], checks["eps 1"]) == (None, None, None)
    assert False not in checks.values()


def test_a_class_is_invented_on_a_patch(predictor, tmp_path):
    protocol = Protocol("test", attacks=("apgd-dice",), threat=Threat((48 / 255,)), mode="patch", invent="lesion")
    records = records_of(a_bench({"m": RunSystem(predictor)}, [lesion_case(tmp_path)], protocol))
    struck = next(record for record in records if record.attack == "apgd-dice")
    assert struck.deployed is None
    assert struck.phantom.mm3 > struck.phantom.clean_mm3


def test_a_region_is_invented_outside_itself(predictor, tmp_path):
    regions = (Region("core", (4,)), Region("whole", (4, 9)))
    labels = LabelSet(("background", "core", "oedema"), (0, 4, 9), regions)
    plan = replace(predictor.model.plan, labels=labels, min_object_mm3=(0.0, 0.0))
    system, case = RunSystem(replace(predictor, model=replace(predictor.model, plan=plan))), lesion_case(tmp_path)
    truth = read_label(case.label)
    write_label(case.label, (truth.array * 9).astype(np.uint8), truth.affine)
    whole = volume_subject(system, case, THREAT)
    subject = inventing(whole, "whole")
    assert subject.labels.scored == ("not whole",)
    known = subject.target[0, 0].numpy()
    assert ((known == -1) == (truth.array == 1)).all()
    assert (known[truth.array == 0] == 1).all()
    mask = subject.deploy(subject.volume[0].numpy(), None).mask
    np.testing.assert_array_equal(mask, 1 - whole.deploy(whole.volume[0].numpy(), None).mask[1:2])
    np.testing.assert_array_equal(mask[0], subject.model.segment(subject.model.logits(subject.volume))[0, 0].numpy())


def test_what_cannot_be_invented_is_refused():
    labels = LabelSet(("background", "organ", "lesion"), (0, 1, 2))
    for name in ("background", "spleen", ""):
        with pytest.raises(ValueError, match="invent must name one of the classes organ, lesion, got"):
            labels_under_attack(labels, None, name)
    with pytest.raises(ValueError, match="erase and invent exclude each other"):
        labels_under_attack(labels, "organ", "lesion")
    assert "erase and invent exclude each other" in Protocol("test", erase="organ", invent="lesion").problems()[0]
    required = Protocol("test", invent="lesion", require=("robust_dice@8/255 >= 0.1",))
    assert "require asks for Dice figures" in required.problems()[0]
