"""Certificates through the bench: units, resume, what is certified of a system in memory, and what an attack leaves."""

from __future__ import annotations

import shutil
from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import norm

from tests.robustness.build import a_bench, records_of
from tests.robustness.lesion import lesion_case, lesion_predictor
from voxward.certificates import CertificatePlan, Votes, noisy, stream
from voxward.core.case import Case
from voxward.core.errors import UserError
from voxward.core.labels import LabelSet, Region
from voxward.core.structure import from_data, to_data
from voxward.data.io import read_image, write_image, write_label
from voxward.engine.engine import InProcess
from voxward.report.certificate import certificate_table
from voxward.robustness.bench import Source
from voxward.robustness.case_certificate import CaseCertificate
from voxward.robustness.certified import (
    certificates_data,
    certify,
    findings_of,
    read_certificates,
    unit_of_runs,
)
from voxward.robustness.cost import estimate
from voxward.robustness.measure import measure
from voxward.robustness.parts import parts_of
from voxward.robustness.protocol import Protocol, Threat, load_protocol
from voxward.robustness.record import without_noisy
from voxward.robustness.store import RecordStore
from voxward.robustness.trials import plan_trials
from voxward.robustness.trials.certificate import frame_of
from voxward.robustness.trials.trial import Target
from voxward.systems.blackbox import blackbox_system
from voxward.systems.run import RunSystem

SHAPE, RANGE = (6, 5, 4), (0.0, 200.0)
PLAN = CertificatePlan(samples=60, sigma=(0.25,), radii=(0.0, 0.5, 1.0), batch=20)
PROTOCOL = Protocol("small", attacks=(), controls=(), certificate=PLAN)


@pytest.fixture(scope="module")
def case(tmp_path_factory):
    """A bright block, some of which is close to the threshold of the system; the first plane is 0."""
    folder, rng = tmp_path_factory.mktemp("case"), np.random.default_rng(0)
    truth = np.zeros(SHAPE, np.uint8)
    truth[2:5, 1:4, 1:3] = 1
    image = np.where(truth, 170, 20) + rng.integers(-15, 16, SHAPE)
    image[2, 1, 1:3], image[0] = 110, 0
    affine = np.diag([1.0, 1.0, 2.0, 1.0])
    write_image(folder / "x.nii.gz", image.astype(np.uint8)[None], affine)
    write_label(folder / "x_label.nii.gz", truth, affine)
    return Case("x", (folder / "x.nii.gz",), folder / "x_label.nii.gz")


def bright(volume):
    return volume.array[0] > 100


def system(function=bright):
    return blackbox_system(function, ("background", "block"), ("MRI",), name="m", intensities=[RANGE], keeps_zero=True)


def worker_on(case, folder, protocol=PROTOCOL, function=bright):
    return a_bench({"m": system(function)}, [case], protocol, volumes=folder / "volumes", gradientless={"m": "none"})


def run(case, folder, protocol=PROTOCOL, function=bright):
    """The records and certificates of one call."""
    worker = worker_on(case, folder, protocol, function)
    records = measure(worker, folder, InProcess(folder))
    return records, certify(worker.bench, records)


def with_plan(**changes):
    return replace(PROTOCOL, certificate=replace(PLAN, **changes))


@pytest.fixture(scope="module")
def measured(case, tmp_path_factory):
    folder = tmp_path_factory.mktemp("measured")
    return folder, *run(case, folder)


def test_runs_are_those_of_the_whole_system_on_volumes_in_memory(measured, case):
    """Everything once more, by hand: noise in float64, rounded once to float32, no file between."""
    folder, records, _ = measured
    source = read_image(case.images)
    truth = np.zeros(SHAPE, bool)
    truth[2:5, 1:4, 1:3] = True
    frame = frame_of(worker_on(case, folder).stand("m", "x").subject)
    found = [dice for record in records if record.noisy for (dice,) in record.noisy.dice]
    votes = np.zeros(SHAPE, int)
    for number, dice in enumerate(found):
        volume = noisy(source.array, 0.25, frame, stream(0, "x", "voxels", number)).astype(np.float32)
        mask = volume[0] > 100
        votes += mask
        assert dice == pytest.approx(2 * (mask & truth).sum() / (mask.sum() + truth.sum()))
    assert len(found) == 60
    total = Votes.none(2, SHAPE)
    for path in (folder / "counts").rglob("*.npz"):
        total.merge(Votes.load(path))
    assert total.runs == 60
    assert np.array_equal(total.counts[0], votes)


def test_a_certificate_holds_around_the_worst_change(measured, case):
    """The system looks at each voxel alone, so that no voxel nearer to its threshold than the radius is certain."""
    _, _, (found,) = measured
    assert (found.model, found.case, found.runs, found.noise) == ("m", "x", 60, "voxels")
    assert found.clean == 1.0
    assert [one.radius for one in found.medians] == [0.0, 0.5, 1.0]
    values = [one.mean for one in found.medians]
    assert values[0] >= values[1] > values[2] or values[2] is None
    (mask,) = found.masks
    assert mask.decided + mask.coarser + mask.open == np.prod(SHAPE)
    assert mask.radius == pytest.approx(norm.ppf(0.75))
    # One voxel can be lost at the certified radius where it lies that near to the threshold; its bound says so.
    image = read_image(case.images).array[0].astype(float)
    sure = np.abs(image - 100) / 200 > mask.radius * 0.25
    assert mask.decided <= int(sure.sum()) + int((image == 0).sum())
    assert 0 < mask.mean < 1


def test_more_samples_later_are_what_all_at_once_would_have_been(measured, case, tmp_path):
    """ "Add 40 more" in the same folder does the missing units only."""
    shutil.copytree(measured[0], tmp_path / "later")
    more = with_plan(samples=100)
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "later" / "records").rglob("*.json")}
    later = run(case, tmp_path / "later", more)
    at_once = run(case, tmp_path / "once", more)
    assert later[1] == at_once[1]
    assert later[1][0].runs == 100
    assert [one.noisy for one in later[0]] == [one.noisy for one in at_once[0]]
    after = {path: path.stat().st_mtime_ns for path in (tmp_path / "later" / "records").rglob("*.json")}
    assert len(before) == 4  # the clean case, and three units of runs
    assert len(after) == 6
    assert before.items() <= after.items()


def test_fewer_samples_and_other_levels_need_no_new_runs(measured, case, tmp_path):
    shutil.copytree(measured[0], tmp_path / "again")
    before = RecordStore(tmp_path / "again").count()
    levels = with_plan(samples=40, radii=(0.5,), tau=(0.6, 0.75), alpha=0.01, correction="bonferroni")
    _, (found,) = run(case, tmp_path / "again", levels)
    assert RecordStore(tmp_path / "again").count() == before
    assert (found.runs, found.alpha, len(found.medians), len(found.masks)) == (40, 0.01, 1, 2)
    assert found.masks[0].mean <= 1


def test_the_order_of_units_and_who_does_them_do_not_matter(measured, case, tmp_path):
    worker = worker_on(case, tmp_path)
    units = [unit for unit in worker.bench.units() if unit.samples]
    assert [unit.samples for unit in units] == [(0, 20), (20, 40), (40, 60)]
    found = []
    for unit in reversed(units):
        fresh = worker_on(case, tmp_path)
        found += fresh.work(unit)
    assert [one.noisy for one in reversed(found)] == [one.noisy for one in measured[1] if one.noisy]
    clean = without_noisy(measured[1])
    assert certify(worker.bench, [*found, *clean]) == measured[2]


def test_lost_counts_are_made_again_and_other_ones_refused(measured, case, tmp_path):
    folder = tmp_path / "again"
    shutil.copytree(measured[0], folder)
    first, second, _ = sorted((folder / "counts").rglob("*.npz"))
    first.unlink()
    records, found = run(case, folder)
    assert found == measured[2]
    bench, content = worker_on(case, folder).bench, second.read_bytes()
    second.write_bytes(first.read_bytes())
    with pytest.raises(UserError, match="is not the file that its record was made with"):
        certify(bench, records)
    second.write_bytes(content[: len(content) // 2])
    with pytest.raises(UserError, match="holds no counts"):
        certify(bench, records)


def test_records_and_certificates_survive_their_files(measured, tmp_path):
    _, records, certificates = measured
    again = [type(one).from_data(one.to_data(), "file") for one in records]
    assert again == list(records)
    assert {one.kind for one in records} == {"control", "certificate"}
    assert [unit_of_runs(one).samples for one in records if one.noisy] == [(0, 20), (20, 40), (40, 60)]
    from voxward.core.document import with_checksum
    from voxward.core.files import write_json

    write_json(tmp_path / "certificate.json", with_checksum(certificates_data(certificates)))
    assert read_certificates(tmp_path) == certificates


def test_older_records_have_no_runs(measured):
    data = without_noisy(measured[1])[0].to_data()
    del data["noisy"]
    assert type(measured[1][0]).from_data(data, "file").noisy is None


def test_two_systems_get_the_same_noise(measured, case, tmp_path):
    seen = []

    def spy(volume):
        seen.append(volume.array.copy())
        return bright(volume)

    worker = worker_on(case, tmp_path, function=spy)
    unit = next(unit for unit in worker.bench.units() if unit.samples)
    worker.stand("m", "x")
    seen.clear()
    worker.work(unit)
    volume = read_image(case.images).array
    frame = frame_of(worker.stand("m", "x").subject)
    expected = noisy(volume, 0.25, frame, stream(0, "x", "voxels", 0)).astype(np.float32)
    assert np.array_equal(seen[0], expected)
    assert seen[0].dtype == np.float32


def test_parameters_of_a_change_are_certified_without_counts(case, tmp_path):
    protocol = with_plan(sigma=(), changes={"gain": 0.1, "offset": 0.05}, samples=40, radii=(0.5,))
    records, found = run(case, tmp_path, protocol)
    assert [(one.noise, one.sigma, one.masks) for one in found] == [("gain", 0.1, ()), ("offset", 0.05, ())]
    assert not (tmp_path / "counts").exists()
    assert all(not one.noisy.counts for one in records if one.noisy)
    table = certificate_table(found).markdown()
    assert "gain -10% to +11%" in table  # of one sigma
    assert "Dice of the mask" not in table or "n/a" in table or "mask:" in table


def test_regions_and_groups_are_certified_by_their_classes():
    regions = (Region("ET", (4,)), Region("TC", (1, 4)), Region("WT", (1, 2, 4)))
    labels = LabelSet(("background", "core", "oedema", "enhancing"), (0, 1, 2, 4), regions)
    found = parts_of(labels, {"rest": ("core", "oedema")})
    assert [(part.name, part.classes) for part in found] == [
        ("ET", (3,)), ("TC", (1, 3)), ("WT", (1, 2, 3)), ("rest", (1, 2)),
    ]  # fmt: skip
    plain = LabelSet(("background", "a", "b"), (0, 1, 2))
    assert [part.classes for part in parts_of(plain, {"both": ("a", "b")})] == [(1,), (2,), (1, 2)]
    with pytest.raises(UserError, match="name of a class"):
        parts_of(plain, {"a": ("a", "b")})
    with pytest.raises(UserError, match="liver"):
        parts_of(plain, {"both": ("a", "liver")})


def test_voxels_between_two_classes_fall_back_to_their_group(case, tmp_path):
    """The block is found in every run, and its two classes are a coin toss in a part of it."""

    def halves(volume):
        odd = int(np.round(volume.array[0].astype(float).sum())) % 2
        return np.where(volume.array[0] > 100, 1 + odd, 0).astype(np.uint8)

    found_system = blackbox_system(
        halves, ("background", "a", "b"), ("MRI",), name="m", intensities=[RANGE], ask_twice=False
    )
    protocol = with_plan(sigma=(0.05,), coarser={"block": ("a", "b")}, radii=(0.5,))
    worker = a_bench({"m": found_system}, [case], protocol, volumes=tmp_path / "v", gradientless={"m": "none"})
    (found,) = certify(worker.bench, measure(worker, tmp_path, InProcess(tmp_path)))
    assert found.parts == ("a", "b", "block")
    (mask,) = found.masks
    assert mask.coarser > 10
    assert mask.dice[2] > 0.8 > mask.dice[0]


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"samples": 30}, "multiple of batch"),
        ({"samples": 0}, "at least 1"),
        ({"samples": 80_000}, "at most 65535"),
        ({"sigma": ()}, "at least one noise"),
        ({"sigma": (0.0,)}, "above 0"),
        ({"sigma": (float("nan"),)}, "above 0"),
        ({"changes": {"gain": -1.0}}, "gain must be above 0"),
        ({"changes": {"rotation": 0.1}}, "rotation"),
        ({"radii": (-1.0,)}, "radii"),
        ({"tau": (0.4,)}, "tau"),
        ({"alpha": 1.0}, "alpha"),
        ({"correction": "fdr"}, "fdr"),
        ({"coarser": {"all": ("a",)}}, "at least two"),
        ({"attack_draws": 0}, "attack_draws"),
    ],
)
def test_what_cannot_be_certified_is_refused_with_its_reason(changes, text):
    plan = replace(PLAN, **changes)
    assert any(text in problem for problem in plan.problems())
    with pytest.raises(UserError, match=text):
        from_data(CertificatePlan, to_data(plan), "protocol.yaml")


@pytest.mark.parametrize("changes", [{"mode": "patch"}, {"erase": "block"}, {"invent": "block"}])
def test_only_whole_systems_with_all_classes_are_certified(changes):
    assert any("certificate" in problem for problem in replace(PROTOCOL, **changes).problems())
    assert any("attacks" in problem for problem in replace(PROTOCOL, certificate=None).problems())
    assert not PROTOCOL.problems()


def test_the_packaged_protocol_needs_no_gradient():
    protocol = load_protocol("certificate")
    labels = LabelSet(("background", "a"), (0, 1))
    trials = plan_trials(Target(protocol, labels, gradientless="it has no gradient"))
    assert set(trials) == {"clean", "certificate"}
    assert len(trials["certificate"].batches) == 8
    attacked = load_protocol("certificate", ["certificate.attack_steps=100"])
    with pytest.raises(UserError, match=r"certificate\.attack_steps"):
        plan_trials(Target(attacked, labels, gradientless="it has no gradient"))


def test_a_protocol_without_a_certificate_is_as_before():
    plain = Protocol("plain", threat=Threat((0.1,)))
    assert plain.certificate is None
    labels = LabelSet(("background", "a"), (0, 1))
    assert not any(name.startswith("certificate") for name in plan_trials(Target(plain, labels)))


def test_its_cost_is_that_of_its_runs(case, tmp_path):
    long = with_plan(samples=4000, batch=400)
    worker = worker_on(case, tmp_path, long)
    worker.bench = replace(worker.bench, sources={"m": Source(system())})
    found = estimate(worker)
    units = {unit: seconds for phase in found.phases for unit, seconds in phase.items() if unit.samples}
    assert len(units) == 10
    assert min(units.values()) > 0
    assert len({round(seconds, 9) for seconds in units.values()}) == 1


def broken_by(attack_median: float) -> CaseCertificate:
    from voxward.robustness.case_certificate import Attacked, Median

    return CaseCertificate(
        "m", "x", "voxels", 0.25, 60, 0.001, 100, 1, ("block",), 1.0, 0.9,
        (Median(1.0, 0.8, (0.8,)),), (), (Attacked(1.0, attack_median, 0.8),),
    )  # fmt: skip


def test_an_attack_below_the_certificate_is_shouted():
    sound, broken = broken_by(0.8), broken_by(0.79)
    assert [one.passed for one in findings_of([sound])] == [True]
    assert [one.passed for one in findings_of([sound, broken])] == [False]
    assert "CERTIFICATE BROKEN" in certificate_table([broken]).markdown()
    assert "CERTIFICATE BROKEN" not in certificate_table([sound]).markdown()
    (untested,) = findings_of([replace(sound, attacks=())])
    assert untested.passed is None


def test_the_system_under_noise_is_attacked_within_the_radius(tmp_path):
    """A system with a gradient: the attack stays in its ball, spends what it says, and is judged under other noise."""
    plan = CertificatePlan(
        samples=2, sigma=(0.1,), radii=(0.0, 2.0), batch=2, attack_steps=1, attack_draws=2, alpha=0.3, tau=(0.5,)
    )
    protocol = Protocol("small", attacks=(), controls=(), certificate=plan)
    lesion = lesion_case(tmp_path)
    worker = a_bench({"m": RunSystem(lesion_predictor())}, [lesion], protocol, volumes=tmp_path / "volumes")
    records = records_of(worker)
    (attacked,) = [record for record in records if record.attack == "smoothed-attack-2"]
    assert attacked.noisy.radius == 2.0
    assert len(attacked.noisy.dice) == 2
    assert attacked.gradients == 2
    assert 0 < attacked.distance <= 0.2 * (1 + 1e-6)
    assert attacked.options == {"steps": 1, "draws": 2, "radius": 2.0}
    (runs,) = [record for record in records if record.attack == "certificate"]
    assert runs.noisy.radius is None
    assert attacked.noisy.dice != runs.noisy.dice
    (found,) = certify(worker.bench, records)
    (left,) = found.attacks
    assert left.radius == 2.0
    assert left.median == sorted(dice for (dice,) in attacked.noisy.dice)[0]
    assert left.masks == left.bounds == ()  # no mask is certified as far as this
    # With another budget the attack is another one; the runs are not.
    longer = replace(protocol, certificate=replace(plan, attack_steps=4))
    trial = plan_trials(Target(longer, worker.bench.labels["m"]))["smoothed-attack-2"]
    assert trial.follows(unit_of_runs(attacked)) == {"steps": 4, "draws": 2}
