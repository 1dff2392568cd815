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
    ],
)
def test_a_wrong_edit_is_named(tmp_path, change, problem):
    replace(PLAN, **change).save(tmp_path / "plan.json")
    with pytest.raises(ValueError, match=problem):
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
