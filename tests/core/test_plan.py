import json
from dataclasses import replace

import pytest

from voxward.core.labels import LabelSet
from voxward.core.plan import ChannelPlan, Plan, load_plan

PLAN = Plan(
    dataset="toy",
    labels=LabelSet(("background", "a"), (0, 1)),
    channels=(ChannelPlan("MRI", "mr"),),
    spacing=(1.0, 1.0, 2.0),
    spline_order=(3, 3, 3),
    crop_nonzero=True,
    patch_size=(16, 16, 8),
    window_size=(16, 16, 8),
    source_size=(20, 20, 8),
    strides=((2, 2, 1), (2, 2, 2)),
    kernel_sizes=((3, 3, 1), (3, 3, 3), (3, 3, 3)),
    padding="reflect",
    batch_size=2,
    min_object_mm3=(0.0,),
)


def test_round_trip(tmp_path):
    PLAN.save(tmp_path / "plan.json")
    assert load_plan(tmp_path / "plan.json") == PLAN


def test_total_stride():
    assert PLAN.total_stride == (4, 4, 2)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"patch_size": (18, 16, 8)}, "patch_size .* multiple of the total stride"),
        ({"window_size": (16, 16, 7)}, "window_size"),
        ({"source_size": (8, 20, 8)}, "source_size"),
        ({"spacing": (0.0, 1.0, 1.0)}, "spacing"),
        ({"spline_order": (3, 3, 5)}, "spline_order"),
        ({"batch_size": 0}, "batch_size"),
        ({"min_object_mm3": ()}, "min_object_mm3"),
        ({"min_object_mm3": (-1.0,)}, "min_object_mm3"),
        ({"strides": ((0, 2, 1), (2, 2, 2))}, r"strides must be 1 to 64 per axis, got \(0, 2, 1\)"),
        ({"strides": ((2, 2, 1), (-2, 2, 2))}, "strides"),
        ({"strides": ((2, 2, 1),)}, "kernel_sizes needs one entry per resolution level, one more than the 1 strides"),
        ({"kernel_sizes": ()}, "kernel_sizes needs one entry"),
        (
            {"kernel_sizes": ((3, 3, 0),) * 3},
            r"kernel_sizes must be odd numbers from 1 to 31 per axis, got \(3, 3, 0\)",
        ),
        ({"kernel_sizes": ((3, 3, 1000001),) * 3}, "kernel_sizes"),
        ({"kernel_sizes": ((3, 3, 2),) * 3}, "kernel_sizes"),
        ({"patch_size": (-16, 16, 8)}, "patch_size must be at least 1"),
        ({"source_size": (0, 20, 8)}, "source_size must be at least 1"),
        ({"window_size": (16, 2**20, 2**20)}, "window_size .* fit no memory"),
        ({"batch_size": 10**9}, "batch_size"),
        ({"channels": ()}, "channels must name at least one"),
    ],
)
def test_a_wrong_edit_is_named(tmp_path, change, problem):
    replace(PLAN, **change).save(tmp_path / "plan.json")
    with pytest.raises(ValueError, match=problem):
        load_plan(tmp_path / "plan.json")


def test_numbers_that_are_none_are_named(tmp_path):
    PLAN.save(tmp_path / "plan.json")
    data = json.loads((tmp_path / "plan.json").read_text())
    data["channels"][0]["mean"], data["spacing"][0] = float("nan"), float("inf")
    (tmp_path / "plan.json").write_text(json.dumps(data))
    with pytest.raises(ValueError, match=r"spacing must be positive.*'MRI' must have finite numbers, got mean nan"):
        load_plan(tmp_path / "plan.json")


def test_missing_and_mistyped_entries_are_all_named(tmp_path):
    PLAN.save(tmp_path / "plan.json")
    data = json.loads((tmp_path / "plan.json").read_text())
    del data["spacing"]
    data["batch_size"] = "two"
    data["labels"]["values"] = [0, 0]
    data["padding"] = "mirror"
    (tmp_path / "plan.json").write_text(json.dumps(data))
    with pytest.raises(ValueError, match="spacing is missing") as error:
        load_plan(tmp_path / "plan.json")
    for part in ("batch_size must be a int", "labels: label values must differ", "padding must be one of reflect"):
        assert part in str(error.value)


def test_broken_json_is_a_value_error(tmp_path):
    (tmp_path / "plan.json").write_text("{")
    with pytest.raises(ValueError, match="not JSON"):
        load_plan(tmp_path / "plan.json")
