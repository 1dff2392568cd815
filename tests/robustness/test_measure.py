"""A whole benchmark on a volume of a few voxels: what is kept and written, and that it goes on where it stopped."""

from __future__ import annotations

import math
import shutil
from dataclasses import replace

import numpy as np
import pytest

from tests.robustness.build import a_bench
from tests.robustness.lesion import lesion_case, lesion_predictor
from voxward.attacks.budget import Budget
from voxward.core.errors import UserError
from voxward.core.invocation import Invocation
from voxward.core.labels import LabelSet
from voxward.core.provenance import read_provenance
from voxward.data.content import digest_of
from voxward.data.io import read_image, read_label, write_label
from voxward.engine.engine import InProcess
from voxward.robustness.description import read_cases, read_protocol
from voxward.robustness.measure import measure
from voxward.robustness.protocol import Protocol, Threat
from voxward.robustness.store import RecordStore
from voxward.systems.run import RunSystem

SIZE = 96 / 255
PROTOCOL = Protocol(
    "small", attacks=("fgsm-ce", "pgd-ce"), threat=Threat((SIZE,)), budget=Budget(2, 1, 1, 1),
    controls=("gaussian", "rician"), require=("robust_dice@96/255 >= 0.1",),
)  # fmt: skip


def system():
    """The lesion has the value 7 in files."""
    predictor = lesion_predictor()
    plan = replace(predictor.model.plan, labels=LabelSet(("background", "lesion"), (0, 7)))
    return RunSystem(replace(predictor, model=replace(predictor.model, plan=plan)))


def run(folder, cases, protocol=PROTOCOL, **options):
    worker = a_bench(
        {"m": system()}, cases, protocol, volumes=folder / "volumes", segmentations=folder / "segmentations",
        dataset="the data",
    )  # fmt: skip
    return measure(worker, folder, InProcess(folder), **options)


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    """The folder of a benchmark, its case, and its records by the name of the attack."""
    root = tmp_path_factory.mktemp("measured")
    case = lesion_case(root)
    label = read_label(case.label)
    write_label(case.label, (label.array * 7).astype(np.uint8), label.affine)
    records = run(root / "attack", [case], call=Invocation("voxward attack m", folder="/home"))
    return root / "attack", case, {record.attack: record for record in records}


def test_the_folder_says_where_its_records_come_from(measured):
    folder, case, records = measured
    work = read_provenance(folder).works["attack"]
    assert work.contents == {case.id: digest_of([*case.images, case.label])}
    assert (work.dataset, work.seeds) == ("the data", (0,))
    assert work.systems == {"m": records["clean"].system}
    (sitting,) = work.sittings
    assert (sitting.command, sitting.started_in, sitting.first) == ("voxward attack m", "/home", 0)
    assert sitting.last == RecordStore(folder).count() >= 5
    assert {record.processor for record in records.values()} == {sitting.machine.name}


def test_the_noise_is_as_strong_as_the_worst_attack(measured):
    _, _, records = measured
    worst = min(("fgsm-ce", "pgd-ce"), key=lambda name: records[name].dice(deployed=True))
    size = records[worst].visibility.rms
    assert 0 < size <= SIZE
    for name in ("gaussian", "rician"):
        assert records[name].kind == "control"
        assert records[name].eps == SIZE
        assert records[name].options["rms"] == size
        assert records[name].visibility.rms == pytest.approx(size, rel=1e-3)


def test_records_say_what_the_page_shows(measured):
    _, case, records = measured
    clean, struck = records["clean"], records["pgd-ce"]
    truth = (read_label(case.label).array == 7).sum()
    for record in records.values():
        assert record.truth_mm3 == (float(truth),)  # voxels of 1 mm
        assert record.channels == ("MRI",)
        assert record.clean_surface == clean.surface
    assert clean.visibility.rms == 0
    assert clean.visibility.psnr_db is None
    assert struck.visibility.psnr_db == pytest.approx(-20 * math.log10(struck.visibility.rms))
    assert struck.surface.nsd < clean.surface.nsd <= 1


def test_figures_are_those_of_the_kept_file(measured):
    folder, case, records = measured
    worst = min(("fgsm-ce", "pgd-ce"), key=lambda name: records[name].dice(deployed=True))
    volumes = list((folder / "volumes").rglob("*.nii"))
    segmentations = list((folder / "segmentations").rglob("*.nii.gz"))
    below = f"m/{worst}/{SIZE:.5f}"
    assert [path.relative_to(folder / "volumes").as_posix() for path in volumes] == [f"{below}/one.nii"]
    found = {path.relative_to(folder / "segmentations").as_posix(): read_label(path) for path in segmentations}
    assert set(found) == {"m/clean/one.nii.gz", f"{below}/one.nii.gz"}
    clean, struck = read_image(case.images), read_image(volumes)
    (low, high), *_ = records[worst].threat.bounds
    rms = np.sqrt(np.mean(((struck.array - clean.array.astype(float)) / (high - low)) ** 2))
    assert records[worst].visibility.rms == pytest.approx(rms)
    for name, volume in (("m/clean/one.nii.gz", clean), (f"{below}/one.nii.gz", struck)):
        assert set(np.unique(found[name].array)) == {0, 7}
        np.testing.assert_array_equal(found[name].array, system().segment(volume).label * 7)
        np.testing.assert_array_equal(found[name].affine, clean.affine)


def test_the_folder_says_what_was_attacked_and_how(measured):
    folder, case, _ = measured
    cases, how = read_cases(folder), read_protocol(folder)
    assert cases.dataset == "the data"
    assert cases.cases["one"].images == tuple(str(path) for path in case.images)
    assert cases.cases["one"].label == str(case.label)
    assert cases.systems["m"].labels.values == (0, 7)
    assert how.protocol == PROTOCOL.settled
    assert (how.command, how.python, how.started_in) == ("voxward attack m", False, "/home")
    assert read_cases(folder.parent) is read_protocol(folder.parent) is None


def test_it_goes_on_where_it_stopped(measured, tmp_path):
    """Without the noise, as if it had been killed there, and with another choice of what is kept."""
    folder, case, records = measured
    shutil.copytree(folder, tmp_path / "again")
    again = tmp_path / "again"
    for name in ("gaussian", "rician"):
        shutil.rmtree(again / "records" / "m" / name)
    found = {record.attack: record for record in run(again, [case], replace(PROTOCOL, keep="none"))}
    assert found == records
    assert read_protocol(again).protocol.keep == "none"


def test_files_of_the_user_are_refused_before_any_work(measured, tmp_path):
    _, case, _ = measured
    (tmp_path / "protocol.json").write_text("mine")
    with pytest.raises(UserError, match=r"protocol\.json"):
        run(tmp_path, [case])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["protocol.json"]
    assert RecordStore(tmp_path).read_all() == ()
