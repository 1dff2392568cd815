"""The bench on a system without a gradient: what it plans, what it refuses, and what its figures are worth."""

from __future__ import annotations

import warnings
from dataclasses import replace

import numpy as np
import pytest
import torch

from tests.robustness.build import a_bench, records_of
from tests.systems.build import cascade
from tests.systems.test_cascade import predictor
from voxward.core.case import Case
from voxward.core.errors import UserError
from voxward.core.structure import to_data
from voxward.data.io import write_image, write_label
from voxward.report.leaderboard import leaderboard_table
from voxward.report.robustness import robustness_table
from voxward.robustness.bench import Source
from voxward.robustness.cost import estimate
from voxward.robustness.protocol import load_protocol, protocol_names
from voxward.robustness.record import Record
from voxward.robustness.sanity import sanity
from voxward.robustness.setup import set_up
from voxward.robustness.trials import plan_trials
from voxward.robustness.trials.trial import Target
from voxward.systems.blackbox import blackbox_system
from voxward.systems.network.system import network_system
from voxward.systems.run import RunSystem
from voxward.systems.system import NotDifferentiable

SHAPE = (12, 12, 10)
RANGE = (-100.0, 300.0)
EPS = 0.1
QUERIES = 40
WIDE = "threat.eps=[0.6]"
"""The same step for a system whose intensity range is the volume's own, 70 to 130."""

# These systems do not say what they were trained on.
UNKNOWN = pytest.mark.filterwarnings("ignore:nothing is known about which images")


@pytest.fixture(scope="module")
def case(tmp_path_factory):
    """A bright block, 30 above the threshold of those that segment it; eps moves it by 40."""
    folder = tmp_path_factory.mktemp("case")
    truth = np.zeros(SHAPE, np.uint8)
    truth[3:9, 3:9, 2:8] = 1
    affine = np.diag([1.0, 1.0, 2.0, 1.0])
    write_image(folder / "x.nii.gz", np.where(truth, 130, 70).astype(np.int16)[None], affine)
    write_label(folder / "x_label.nii.gz", truth, affine)
    return Case("x", (folder / "x.nii.gz",), folder / "x_label.nii.gz")


def bright(volume):
    return volume.array[0] > 100


def a_box(segment=bright, **options):
    return blackbox_system(segment, ("background", "a"), ("CT",), intensities=[RANGE], **options)


def protocol(*changes):
    small = (f"threat.eps=[{EPS}]", f"budget.queries={QUERIES}", "budget.steps=10")
    return load_protocol("blackbox", [*small, *changes])


def worker_of(system, case, *changes, **options):
    name = system.name
    options = {"gradientless": {name: reason}} | options if (reason := why(system)) else options
    return a_bench({name: system}, [case], protocol(*changes), **options)


def why(system):
    try:
        system.check_gradient()
    except NotDifferentiable as error:
        return str(error)
    return ""


@pytest.fixture(scope="module")
def attacked(case):
    calls = []

    def counted(volume):
        calls.append(volume.array.dtype)
        return bright(volume)

    worker = worker_of(a_box(counted, name="box"), case)
    return records_of(worker), calls


def test_only_what_needs_no_gradient_is_planned(attacked):
    found = {record.attack: record for record in attacked[0]}
    assert set(found) == {"clean", "clip", "noise", "probe", "reach", "square"}
    assert not any(record.white_box or record.gradients for record in found.values())
    assert found["probe"].options == {"random": False, "gradient": False}
    assert found["reach"].kind == "control"


def test_square_on_masks_lowers_the_dice_of_the_file(attacked):
    found = {record.attack: record for record in attacked[0]}
    square, noise = found["square"], found["noise"]
    assert square.clean == square.deployed_clean == (1.0,)
    assert square.dice() < 0.8
    # What the attack saw is what the file is.
    assert square.deployed == square.adversarial
    assert square.written == pytest.approx(square.distance)
    assert square.distance <= EPS * (1 + 1e-6)
    assert list(square.history) == sorted(square.history, reverse=True)
    assert noise.dice() < 1


def test_the_budget_of_queries_is_kept(attacked):
    records, calls = attacked
    square = next(record for record in records if record.attack == "square")
    assert QUERIES < square.forwards <= QUERIES + 3
    # Judging: every record the array and the file, the stand the same once; the volume twice to see whether the
    # answers differ, and once more for the first volume of the system.
    spent = sum(record.forwards for record in records)
    assert len(calls) == spent + 2 * len(records) + 2 + 2 + 1
    assert set(calls) == {np.dtype("int16")}


def test_the_records_can_be_read_again(attacked):
    for record in attacked[0]:
        assert Record.from_data(to_data(record), "x") == record


def test_the_reports_say_what_such_figures_are_worth(attacked):
    records = attacked[0]
    for table in (robustness_table(records, {}), leaderboard_table(records)):
        assert "box: attacked without a gradient only" in table.markdown()
        assert not [warning for warning in table.warnings if "noise control" not in warning]
    findings = {finding.name: finding for finding in sanity(records)}
    assert findings["eps 1"].passed is findings["model"].passed is True
    assert findings["white-box"].passed is findings["gradients"].passed is findings["black-box"].passed is None


WITHOUT_GRADIENTS = {"blackbox", "certificate", "corruptions-ct", "corruptions-mri"}


@pytest.mark.parametrize("name", sorted({*protocol_names()} - WITHOUT_GRADIENTS - {"rog-paper"}))
def test_a_protocol_with_gradients_is_refused_whole(two_organs, name):
    with pytest.raises(NotDifferentiable, match=r"No mask moves; a gradient .*--protocol blackbox") as error:
        plan_trials(Target(load_protocol(name), two_organs, gradientless="No mask moves"))
    assert f"of protocol '{name}'" in str(error.value)
    assert "square" not in str(error.value).partition("(of")[0]


@UNKNOWN
def test_it_is_refused_at_the_door_with_what_can_be_used(case, tmp_path, monkeypatch):
    dataset = a_dataset(case, tmp_path)
    monkeypatch.setattr(Source, "open", lambda self: a_box())
    with pytest.raises(NotDifferentiable, match=r"bright is a black box.*apgd-ce, apgd-dice.*--protocol blackbox"):
        set_up([Source("x")], dataset, load_protocol("quick"), tmp_path / "volumes")
    with pytest.raises(UserError, match="no network"):
        set_up([Source("x")], dataset, protocol("mode=patch"), tmp_path / "volumes")
    assert not (tmp_path / "volumes").exists()
    worker = set_up([Source("x")], dataset, protocol(), tmp_path / "volumes")
    assert worker.bench.gradientless == {"bright": why(a_box())}
    assert worker.bench.masks == {"bright"}
    assert 0 < estimate(worker).hours < 1


@UNKNOWN
def test_a_network_on_a_window_needs_a_gradient_too(case, tmp_path):
    labels = {"background": 0, "a": 1}
    system = network_system(
        lambda x: torch.cat([x, -x], 1).detach(), channels=[{"name": "CT"}], labels=labels, window=[4, 4, 4]
    )
    with pytest.raises(NotDifferentiable, match=r"network has no gradient: autograd cannot follow it; .*apgd-ce"):
        set_up([Source.of(system)], a_dataset(case, tmp_path), load_protocol("quick", ["mode=patch"]), tmp_path / "v")


def a_dataset(case, folder):
    from voxward.core.case import Dataset
    from voxward.core.labels import LabelSet

    return Dataset("d", folder, ("CT",), LabelSet(("background", "a"), (0, 1)), (case,))


@UNKNOWN
def test_a_surrogate_with_a_gradient_breaks_it(case, tmp_path, monkeypatch):
    """Square moves the black box only so far, but it errs where a similar network errs."""
    dataset = a_dataset(case, tmp_path)
    systems = {"box": a_box(), "like": RunSystem(soft(), title="like")}
    monkeypatch.setattr(Source, "open", lambda self: systems[self.system])
    worker = set_up([Source("box")], dataset, protocol("surrogate=like"), tmp_path / "volumes")
    found = {record.attack: record for record in records_of(worker)}
    assert found["transfer"].dice() < 0.2
    assert found["transfer"].dice() < found["square"].dice() < found["clean"].dice()
    spent = found["transfer"].options
    assert 2 <= spent["surrogate_gradients"] <= spent["steps"]  # it ends where nothing is left
    assert spent["surrogate_forwards"] >= 1
    assert found["transfer"].deployed == found["transfer"].adversarial
    assert found["transfer"].gradients == 0  # of the system itself
    assert not found["transfer"].white_box
    assert estimate(worker).hours > 0
    with pytest.raises(UserError, match="the surrogate must have a gradient"):
        set_up([Source("like")], dataset, protocol("surrogate=box"), tmp_path / "volumes")


class Slope(torch.nn.Module):
    def forward(self, x):
        return torch.cat([torch.zeros_like(x), (x - 100) / 100], 1)


def soft():
    hard = predictor(100.0)
    channel = replace(hard.model.plan.channels[0], normalization="ct", low=RANGE[0], high=RANGE[1], mean=0.0, std=1.0)
    plan = replace(hard.model.plan, channels=(channel,))
    return replace(hard, model=replace(hard.model, plan=plan, network=Slope()))


def test_a_random_black_box_is_noticed(case):
    draw = np.random.default_rng(0)

    def random(volume):
        return bright(volume) & (draw.random(SHAPE) < 0.7)

    worker = worker_of(a_box(random), case, "budget.queries=3")
    with pytest.warns(UserWarning, match="random answer"):
        records = records_of(worker)
    assert next(record for record in records if record.attack == "probe").options["random"] is True
    assert {f.name: f.passed for f in sanity(records)}["model"] is False


def test_a_function_that_does_not_look_at_the_volume_is_noticed(case):
    worker = worker_of(a_box(lambda volume: np.indices(SHAPE)[0] > 5, name="cached"), case, "budget.queries=3")
    assert {f.name: f.passed for f in sanity(records_of(worker))}["eps 1"] is False


@pytest.mark.parametrize("change", [{"classes": ("a",)}, {"localise_only": True}, {"mask_outside": True}])
def test_a_cascade_without_a_gradient_is_attacked_through_its_masks(case, change):
    system = cascade(predictor(100.0), predictor(100.0), margin=0.0, **change)
    worker = worker_of(system, case, WIDE)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = {record.attack: record for record in records_of(worker)}
    assert found["square"].dice() < 0.9 * found["square"].clean_dice()
    assert found["square"].deployed == found["square"].adversarial
    assert found["square"].options["stage"] == "both"


def test_a_stage_of_such_a_cascade_cannot_be_attacked_alone():
    system = cascade(predictor(100.0), predictor(100.0), localise_only=True, stage="fine")
    with pytest.raises(UserError, match="stage must be 'both'") as error:
        system.check_gradient()
    assert not isinstance(error.value, NotDifferentiable)


def test_a_black_box_may_be_a_stage_of_a_cascade(case):
    both = cascade(a_box(), predictor(100.0), margin=0.0, localise_only=True)
    assert why(both)
    found = {record.attack: record for record in records_of(worker_of(both, case, WIDE))}
    assert found["clean"].deployed == (1.0,)
    assert found["square"].dice() < 0.9
