"""Corruptions as trials of the bench, on a system that segments what is bright."""

from __future__ import annotations

import warnings
from dataclasses import replace

import numpy as np
import pytest

from tests.robustness.build import a_bench
from voxward.core.case import Case
from voxward.core.errors import UserError
from voxward.core.structure import from_data, to_data
from voxward.corruptions import Drawn, Scan, apply, load_corruption_set
from voxward.data.formats import open_dataset as folder_dataset
from voxward.data.io import read_image, write_image, write_label
from voxward.engine.engine import InProcess
from voxward.report.corruptions import corruption_summary, corruption_table, distance_table
from voxward.report.html.page import Setting, render
from voxward.report.html.sections.corruptions import corruptions
from voxward.report.sources import read_sources
from voxward.robustness.bench import Source
from voxward.robustness.cost import estimate
from voxward.robustness.measure import measure
from voxward.robustness.protocol import load_protocol, may_be_left_out
from voxward.robustness.record import Record
from voxward.robustness.sanity import sanity
from voxward.robustness.setup import set_up
from voxward.robustness.skipped import NotApplicable
from voxward.robustness.store import RecordStore
from voxward.robustness.trials import plan_trials
from voxward.robustness.trials.trial import Target
from voxward.robustness.unit import Unit
from voxward.systems.blackbox import blackbox_system

SHAPE = (24, 20, 16)
NAMES = "corruptions.names=[affine, rician-noise, contrast-compression]"


def a_case(folder, id="x", kind=np.uint8, corner=(8, 7, 5)):
    """A block of 180 in tissue of 90."""
    truth = np.zeros(SHAPE, np.uint8)
    truth[tuple(slice(start, start + 6) for start in corner)] = 1
    affine = np.diag([-6.0, 6.0, 8.0, 1.0])
    write_image(folder / f"{id}.nii.gz", np.where(truth, 180, 90).astype(kind)[None], affine)
    write_label(folder / f"{id}_label.nii.gz", truth, affine)
    return Case(id, (folder / f"{id}.nii.gz",), folder / f"{id}_label.nii.gz")


def bright(volume):
    return volume.array[0] > 135


def a_box(channels=("T1w",), segment=bright):
    return blackbox_system(segment, ("background", "a"), channels, name="box", intensities=[(0.0, 255.0)])


def a_worker(cases, *changes, protocol="corruptions-mri", system=None, **options):
    system = system or a_box()
    return a_bench(
        {"box": system}, cases, load_protocol(protocol, list(changes)), gradientless={"box": "it is a function"},
        channels={"box": system.channels}, **options,
    )  # fmt: skip


def unit(name, severity, case="x", seed=0):
    return Unit("box", name, case, float(severity), seed)


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    """A folder of three corruptions of two severities on two cases, and its records."""
    root = tmp_path_factory.mktemp("corrupted")
    cases = [a_case(root, "x"), a_case(root, "y", corner=(6, 8, 4))]
    worker = a_worker(cases, NAMES, "corruptions.severities=[2, 5]")
    records = measure(worker, root / "out", InProcess(root / "out"))
    return root / "out", worker, records


def test_every_severity_is_measured_and_0_on_the_first_case_only(measured):
    records = [record for record in measured[2] if record.corruption is not None]
    found = sorted((record.case, record.eps) for record in records if record.attack == "affine")
    assert found == [("x", 0.0), ("x", 2.0), ("x", 5.0), ("y", 2.0), ("y", 5.0)]
    assert {record.kind for record in records} == {"corruption"}
    assert {record.attack for record in records} == {"affine", "rician-noise", "contrast-compression"}


def test_severity_0_is_equal_to_the_bit(measured):
    rows = [record for record in measured[2] if record.corruption is not None and record.eps == 0]
    assert len(rows) == 3
    for record in rows:
        assert record.corruption.changed == 0
        assert record.deployed == record.adversarial == record.deployed_clean
    findings = {one.name: one for one in sanity(measured[2])}
    assert findings["severity 0"].passed is True
    assert findings["severity"].passed is None  # too few cases


def test_records_can_be_read_again_and_say_how_the_volume_is_made_again(measured):
    _folder, worker, records = measured
    record = next(r for r in records if r.attack == "rician-noise" and r.case == "y" and r.eps == 5)
    assert Record.from_data(to_data(record), "x") == record
    about = record.corruption
    assert (about.set, about.version, about.severity, about.spatial) == ("rood-mri", 1, 5, False)
    assert about.length_scale == pytest.approx((144 / 160, 120 / 160, 128 / 160))
    source = read_image(worker.bench.cases["y"].images)
    scan = Scan(source.array.astype(np.float32), source.spacing, ("T1w",))
    drawn = from_data(Drawn, {**to_data(Drawn("rician-noise", 5)), "parameters": to_data(about.parameters)}, "record")
    made = apply(load_corruption_set("rood-mri"), drawn, scan).image
    stored = np.clip(np.rint(made), 0, 255)
    assert about.changed == pytest.approx((stored != source.array).mean())
    dice = 2 * ((stored[0] > 135) & (source.array[0] == 180)).sum() / ((stored[0] > 135).sum() + 216)
    assert record.deployed == pytest.approx((dice,))


def test_a_scan_moves_with_its_truth(measured):
    for record in measured[2]:
        if record.attack == "affine" and record.eps:
            (left,) = record.corruption.left
            assert record.truth_mm3[0] == pytest.approx(left * 216 * 288)
            assert record.dice(deployed=True) > 0.7  # a threshold finds what was moved
    untouched = [r for r in measured[2] if r.attack == "rician-noise"]
    assert all(r.corruption.left == () and r.truth_mm3[0] == 216 * 288 for r in untouched)


def test_tables_say_what_was_measured(measured):
    records = measured[2]
    summary, dice = corruption_summary(records).markdown(), corruption_table(records).markdown()
    assert "rood-mri (version 1)" in summary
    assert "lengths such as translations were made smaller on 2 small scans" in summary
    assert "| box | rician-noise |" in dice
    assert "severity 2" in dice
    assert "severity 5" in dice
    assert "severity 0" not in dice
    assert distance_table(records).rows


def test_a_folder_goes_on_with_more_severities_and_refuses_another_set(measured):
    folder, worker, _records = measured
    cases = [*worker.bench.cases.values()]
    wider = a_worker(cases, NAMES, "corruptions.severities=[2, 3, 5]")
    found = measure(wider, folder, InProcess(folder))
    assert {r.eps for r in found if r.corruption} == {0.0, 2.0, 3.0, 5.0}
    assert {r.eps for r in measure(a_worker(cases, NAMES, "corruptions.severities=[2]"), folder, InProcess(folder))
            if r.corruption} == {0.0, 2.0}  # fmt: skip
    section = worker.bench.protocol.corruptions
    other = replace(section, set=(replace(section.sets[0], version=2),))
    changed = replace(worker, bench=replace(worker.bench, protocol=replace(worker.bench.protocol, corruptions=other)))
    with pytest.raises(UserError, match=r"corruption_sets.rood-mri: version 2, \w+, was version 1, \w+\): use another"):
        measure(changed, folder, InProcess(folder))


def test_the_page_has_a_section_on_corruptions_and_none_on_attacks(measured):
    sources = read_sources([measured[0]])
    assert not sources.attacked
    (section,) = corruptions(sources, Setting())
    assert section.missing == ()
    assert "box has a mean Dice of 1.000 when nothing is changed" in section.sentences[1]
    assert "The worst one is " in section.sentences[1]
    assert len(section.tables) == 3
    assert len(section.chart.panels[0].lines) == 3
    page = render(sources)
    assert "What do scanners and patients do?" in page
    assert "It was not attacked." in page
    assert 'id="curves"' not in page


def test_the_reference_is_a_system_of_the_call(tmp_path):
    a_case(tmp_path)
    system = a_box()

    def found(reference):
        folder = tmp_path / "data"
        protocol = load_protocol("corruptions-mri", [NAMES, f"corruptions.reference={reference}"])
        return set_up([Source(system)], folder_dataset(folder), protocol, None).bench.protocol.corruptions.reference

    for name in ("images", "labels"):
        (tmp_path / "data" / name).mkdir(parents=True)
    (tmp_path / "x.nii.gz").rename(tmp_path / "data" / "images" / "x.nii.gz")
    (tmp_path / "x_label.nii.gz").rename(tmp_path / "data" / "labels" / "x.nii.gz")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the system does not say what it was trained on
        assert found("box") == "box"
        with pytest.raises(UserError, match=r"one of the systems of this call \(box\), got 'other'"):
            found("other")


def test_a_truth_that_is_moved_away_is_left_out_and_told(tmp_path):
    case = a_case(tmp_path, corner=(0, 0, 0))
    far = {"affine": {"severities": {"translation_mm": [1e4] * 5, "rotation_deg": [0] * 5}}}
    path = tmp_path / "far.yaml"
    path.write_text(f"name: far\nversion: 1\nchannels: [MR]\ncorruptions: {far}\n")
    worker = a_worker([case], f"corruptions.set={path}", "corruptions.severities=[1]")
    with pytest.raises(NotApplicable, match="moves all of the truth out of the scan"):
        worker.work(unit("affine", 1))
    records = measure(worker, tmp_path / "out", InProcess(tmp_path / "out"))
    assert {record.attack: record.eps for record in records} == {"clean": 0.0, "affine": 0.0}
    (skipped,) = RecordStore(tmp_path / "out").skipped(may_be_left_out(worker.bench.protocol))
    assert (skipped.attack, skipped.eps) == ("affine", 1.0)


def test_an_empty_truth_stays_a_case(tmp_path):
    case = a_case(tmp_path)
    write_label(case.label, np.zeros(SHAPE, np.uint8), read_image(case.images).affine)
    worker = a_worker([case], NAMES)
    (record,) = worker.work(unit("affine", 5))
    assert record.corruption.left == (None,)


@pytest.mark.parametrize(("kind", "limits"), [(np.uint8, (0, 255)), (np.int16, (-32768, 32767))])
def test_values_are_rounded_to_the_nearest_and_cut_off_at_the_ends_of_the_number_type(tmp_path, kind, limits):
    seen = []

    def kept(volume):
        seen.append(volume.array)
        return bright(volume)

    worker = a_worker([a_case(tmp_path, kind=kind)], system=a_box(segment=kept))
    (record,) = worker.work(unit("bias-field", 5))
    stored = seen[-1]
    assert stored.dtype == kind
    source = read_image(worker.bench.cases["x"].images)
    scan = Scan(source.array.astype(np.float32), source.spacing, ("T1w",))
    made = apply(load_corruption_set("rood-mri"), Drawn("bias-field", 5, record.corruption.parameters), scan).image
    np.testing.assert_array_equal(stored, np.clip(np.rint(made), *limits))
    beyond = ((np.rint(made) < limits[0]) | (np.rint(made) > limits[1])).mean()
    assert record.corruption.clipped == pytest.approx(beyond)
    assert (beyond > 0) == (kind is np.uint8)


def test_pure_offset_and_scale_do_not_move_a_system_that_normalises_each_scan(tmp_path):
    def standardised(volume):
        values = volume.array[0].astype(np.float64)
        return (values - values.mean()) / values.std() > 1

    case = a_case(tmp_path, kind=np.int16)
    worker = a_worker([case], protocol="corruptions-ct", system=a_box(("CT",), standardised))
    for name in ("hu-offset", "hu-scale"):
        (record,) = worker.work(unit(name, 5))
        assert record.deployed == record.deployed_clean == (1.0,)
        assert record.corruption.changed == 1


@pytest.mark.parametrize(
    ("channels", "changes", "message"),
    [
        (("CT",), (), "are of MR, and the channels are CT"),
        (("T1w", "0"), ("corruptions.set=[rood-mri, ct]",), "are of CT, and the channels are T1w, 0"),
    ],
)
def test_systems_without_a_channel_of_the_sets_are_refused(two_organs, channels, changes, message):
    with pytest.raises(UserError, match=message):
        plan_trials(Target(load_protocol("corruptions-mri", list(changes)), two_organs, channels=channels))


def test_two_sets_are_planned_together(two_organs):
    protocol = load_protocol("corruptions-mri", ["corruptions.set=[rood-mri, ct]"])
    found = plan_trials(Target(protocol, two_organs, channels=("CT", "PET", "MR")))
    assert len(found) == 1 + 10 + 10


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (["corruptions.set=rood"], "Did you mean 'rood-mri'"),
        (["corruptions.set=nowhere.yaml"], "nowhere.yaml"),
        (["corruptions.severities=[0]"], "from 1 to 5, got 0"),
        (["corruptions.severities=[]"], "at least one"),
        (["corruptions.names=[blur]"], "unknown corruption 'blur'"),
        (["corruptions.set=[ct, ct]"], "two sets have a corruption"),
        (["mode=patch"], "whole files"),
        (["corruptions=null"], "attacks must name at least one"),
    ],
)
def test_a_wrong_protocol_is_refused_at_the_door(changes, message):
    with pytest.raises(UserError, match=message):
        load_protocol("corruptions-mri", changes)


def test_all_may_stand_in_a_list_too(two_organs):
    protocol = load_protocol("corruptions-mri", ["corruptions.names=[all]"])
    assert len(plan_trials(Target(protocol, two_organs, channels=("T1",)))) == 1 + 10


def test_a_move_is_of_every_kind_of_scan(two_organs):
    """Only what changes intensities is of one kind."""
    protocol = load_protocol("corruptions-mri", ["corruptions.names=[affine]"])
    assert len(plan_trials(Target(protocol, two_organs, channels=("CT",)))) == 1 + 1


def test_attacks_and_corruptions_can_be_measured_together(tmp_path):
    changes = ["corruptions.set=rood-mri", "corruptions.names=[smoothing]", "corruptions.severities=[3]",
               "threat.eps=[0.1]", "budget.queries=5", "controls=[clean]"]  # fmt: skip
    worker = a_worker([a_case(tmp_path)], *changes, protocol="blackbox")
    records = measure(worker, tmp_path / "out", InProcess(tmp_path / "out"))
    assert {record.kind for record in records} == {"control", "attack", "corruption"}
    names = {one.name for one in sanity(records)}
    assert {"in the ball", "severity 0"} <= names
    ball = next(one for one in sanity(records) if one.name == "in the ball")
    assert ball.passed is True


def test_the_estimate_counts_every_corruption(tmp_path):
    worker = a_worker([a_case(tmp_path)], NAMES)
    worker.bench = replace(worker.bench, sources={"box": Source(worker.system("box"))})
    found = estimate(worker)
    assert sum(len(phase) for phase in found.phases) == 1 + 3 * 6
    assert found.hours > 0
