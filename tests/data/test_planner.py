"""Oracles: the published plans of ROG (ten Decathlon tasks) and of nnU-Net, and the plan's own rules."""

from __future__ import annotations

import math

import pytest
import torch

from voxward.core.labels import LabelSet
from voxward.core.plan import CaseFingerprint, ChannelFingerprint, Fingerprint, load_plan
from voxward.core.recipe import Preparation, load_recipe
from voxward.data.planner import make_plan
from voxward.data.planner_nnunet import pooling_of
from voxward.data.planner_rog import RogSizes, rog_batch_size, rog_sizes
from voxward.nets.lattice import Lattice

# mean size | box of the smallest class | its volume | patch | window | s0 s1 s2 | total stride
PUBLISHED = {
    "T1": ((240, 240, 155), (35, 44, 38), 16165, (128, 128, 96), (128, 128, 96), "111 222 222", (16, 16, 16)),
    "T2": ((320, 320, 115), (41, 58, 68), 46751, (192, 192, 96), (192, 192, 96), "221 222 222", (32, 32, 16)),
    "T3": ((512, 512, 160), (73, 70, 42), 365130, (192, 192, 96), (256, 256, 96), "221 222 222", (32, 32, 16)),
    "T4": ((35, 50, 36), (19, 23, 20), 1580, (32, 48, 32), (32, 48, 32), "111 111 222", (8, 8, 8)),
    "T5": ((320, 320, 20), (87, 57, 10), 13444, (96, 96, 16), (192, 192, 16), "111 221 221", (16, 16, 4)),
    "T6": ((512, 512, 160), (45, 47, 24), 28660, (192, 192, 96), (256, 256, 96), "221 222 222", (32, 32, 16)),
    "T7": ((512, 512, 95.5), (34, 31, 10), 7992, (192, 128, 64), (256, 256, 64), "211 221 222", (32, 16, 8)),
    "T8": ((512, 512, 45), (87, 75, 15), 6368, (96, 96, 32), (256, 256, 32), "111 221 222", (16, 16, 8)),
    "T9": ((512, 512, 60), (121, 120, 18), 77158, (192, 192, 48), (256, 256, 48), "221 221 222", (32, 32, 8)),
    "T10": ((512, 512, 90), (62, 61, 9), 11750, (192, 192, 64), (256, 256, 64), "221 221 222", (32, 32, 8)),
}
# Median shape and spacing of hypothetical datasets at the edges of what may come.
EXTREMES = {
    "2d": ((512, 400, 1), (0.7, 0.7, 1.0)),
    "thin": ((30, 30, 3), (1.0, 1.0, 8.0)),
    "large": ((512, 512, 800), (0.8, 0.8, 1.0)),
    "one voxel": ((1, 1, 1), (1.0, 1.0, 1.0)),
    "a line": ((300, 1, 1), (1.0, 1.0, 1.0)),
    "coarse": ((320, 320, 20), (0.6, 0.6, 4.0)),
    "coarse first axis": ((20, 320, 320), (4.0, 0.6, 0.6)),
    "eight": ((8, 9, 7), (1.0, 1.0, 1.0)),
}


def make_fingerprint(
    shape: tuple[int, int, int],
    spacing: tuple[float, float, float] = (1.0, 1.0, 1.0),
    cases: int = 1,
    object_size: tuple[float, float, float] = (10.0, 10.0, 10.0),
    object_volume: float = 500.0,
    channels: tuple[str, ...] = ("MRI",),
) -> Fingerprint:
    return Fingerprint(
        dataset="test",
        labels=LabelSet(("background", "organ", "lesion"), (0, 1, 2)),
        cases=tuple(CaseFingerprint(str(n), shape, spacing, (10, 5, 5)) for n in range(cases)),
        channels=tuple(ChannelFingerprint(name, -5.0, 9.0, 2.0, 3.0) for name in channels),
        objects=(tuple(float(n) for n in range(1, 102)), ()),
        object_size=object_size,
        object_volume=object_volume,
    )


@pytest.mark.parametrize("task", PUBLISHED)
def test_rog_sizes_are_those_of_the_release(task: str) -> None:
    mean, small, volume, patch, window, strides, total = PUBLISHED[task]
    sizes = rog_sizes(tuple(map(float, mean)), tuple(map(float, small)), float(volume))
    assert (sizes.patch, sizes.window) == (patch, window)
    first, second, third = (tuple(int(digit) for digit in step) for step in strides.split())
    assert sizes.strides == (first, second, third, (2, 2, 2), (2, 2, 2))
    assert tuple(math.prod(step[n] for step in sizes.strides) for n in range(3)) == total


def test_rog_source_adds_twenty_voxels_where_they_fit() -> None:
    # T1: 128 + 20 < 0.7 * 240 but 96 + 20 > 0.7 * 155; T4: nothing fits.
    assert rog_sizes((240.0, 240.0, 155.0), (35.0, 44.0, 38.0), 16165.0).source == (148, 148, 96)
    assert rog_sizes((35.0, 50.0, 36.0), (19.0, 23.0, 20.0), 1580.0).source == (32, 48, 32)


def test_rog_objects_of_one_voxel_do_not_leave_full_resolution_at_the_coarsest_level() -> None:
    sizes = rog_sizes((240.0, 240.0, 155.0), (1.0, 0.6, 1.0), 1.0)
    coarsest = math.prod(p // math.prod(s[n] for s in sizes.strides) for n, p in enumerate(sizes.patch))
    assert coarsest < 576


def test_rog_sizes_refuse_nonsense() -> None:
    with pytest.raises(ValueError, match="positive"):
        rog_sizes((10.0, 0.0, 10.0), (1.0, 1.0, 1.0), 1.0)


def kept_bytes(sizes: RogSizes, classes: int) -> int:
    """What the lattice keeps of a patch for its backward pass, counted without computing it."""
    with torch.device("meta"):
        network, image = Lattice(1, classes, sizes.strides), torch.zeros(1, 1, *sizes.patch)
    storages = {}

    def note(tensor: torch.Tensor) -> torch.Tensor:
        storages[tensor.untyped_storage()._cdata] = tensor.untyped_storage()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        network(image)
    weights = {weight.untyped_storage()._cdata for weight in network.parameters()}
    return sum(storage.nbytes() for key, storage in storages.items() if key not in weights)


@pytest.mark.parametrize("task", PUBLISHED)
def test_rog_batches_fill_the_memory_and_no_more(task: str) -> None:
    mean, small, volume = PUBLISHED[task][:3]
    sizes = rog_sizes(tuple(map(float, mean)), tuple(map(float, small)), float(volume))
    batch = rog_batch_size(sizes, 10**6, 3, 80.0)
    used = batch * kept_bytes(sizes, 3) / 2**30
    # A quarter is left for gradients in flight, and what is left over holds no further patch.
    assert 80 * 0.7 - used / batch < used < 80 / 1.2


def test_rog_batches_leave_steps_to_an_epoch_and_are_at_least_two() -> None:
    sizes = rog_sizes((35.0, 50.0, 36.0), (19.0, 23.0, 20.0), 1580.0)
    assert [rog_batch_size(sizes, cases, 3, 1000.0) for cases in (1, 74, 75, 208)] == [2, 2, 3, 8]
    assert rog_batch_size(sizes, 10**6, 3, 0.1) == 2
    batches = [rog_batch_size(sizes, 10**6, 3, gib) for gib in (4.0, 8.0, 24.0)]
    assert batches == sorted(set(batches))


def test_the_packaged_rog_recipe_keeps_the_batches_of_the_release() -> None:
    found = make_fingerprint((35, 50, 36), cases=208)
    assert make_plan(found, load_recipe("rog").preparation).batch_size == 2
    free = load_recipe("rog", ["preparation.batch_size=null"]).preparation
    assert make_plan(found, free).batch_size == 8


@pytest.mark.parametrize("planner", ["rog", "nnunet"])
@pytest.mark.parametrize("kind", EXTREMES)
@pytest.mark.parametrize("small", [(0.5, 1.0, 1.0), (40.0, 30.0, 12.0)])
def test_every_plan_is_sound(planner: str, kind: str, small: tuple[float, float, float], tmp_path) -> None:
    shape, spacing = EXTREMES[kind]
    plan = make_plan(make_fingerprint(shape, spacing, object_size=small), Preparation(planner=planner))
    assert plan.problems() == []
    assert plan.batch_size >= 2
    assert len(plan.kernel_sizes) == len(plan.strides) + 1
    for axis in range(3):
        step = plan.total_stride[axis]
        assert plan.patch_size[axis] <= -(-shape[axis] // step) * step
        if shape[axis] == 1:
            assert plan.patch_size[axis] == plan.window_size[axis] == plan.source_size[axis] == step == 1
            assert all(kernel[axis] == 1 for kernel in plan.kernel_sizes)
    plan.save(tmp_path / "plan.json")
    assert load_plan(tmp_path / "plan.json") == plan


def test_nnunet_plans_the_hippocampus_as_published() -> None:
    plan = make_plan(make_fingerprint((35, 50, 36), cases=260), Preparation(planner="nnunet", memory_gib=8.0))
    assert plan.patch_size == plan.window_size == (40, 56, 40)
    assert plan.strides == ((2, 2, 2),) * 3
    assert plan.kernel_sizes == ((3, 3, 3),) * 4
    assert plan.batch_size == 9


def test_nnunet_plans_brats_as_published() -> None:
    plan = make_plan(make_fingerprint((140, 170, 138), cases=484), Preparation(planner="nnunet", memory_gib=8.0))
    assert plan.patch_size == (128, 128, 128)
    assert plan.strides == ((2, 2, 2),) * 5
    assert plan.batch_size == 2


def test_nnunet_pools_the_fine_axes_first() -> None:
    pooling = pooling_of((256, 256, 16), (0.6, 0.6, 3.6))
    assert [step[2] for step in pooling.strides] == [1, 1, 2, 2, 1]
    assert [kernel[2] for kernel in pooling.kernel_sizes] == [1, 1, 3, 3, 3, 3]
    assert pooling.total == (32, 32, 4)


def test_nnunet_uses_more_memory_when_it_may() -> None:
    found = make_fingerprint((300, 300, 300), cases=50)
    patches = [
        math.prod(make_plan(found, Preparation(planner="nnunet", memory_gib=gib)).patch_size)
        for gib in (0.01, 2.0, 8.0, 24.0)
    ]
    assert patches == sorted(set(patches))


def test_coarse_axis_gets_its_tenth_percentile_in_nnunet_and_its_median_in_rog() -> None:
    base = make_fingerprint((300, 300, 20), cases=11)
    cases = tuple(CaseFingerprint(str(n), (300, 300, 20), (0.5, 0.5, 2.0 + n), (1, 1, 1)) for n in range(11))
    found = Fingerprint(**{**vars(base), "cases": cases})
    assert make_plan(found, Preparation(planner="nnunet")).spacing == pytest.approx((0.5, 0.5, 3.0))
    rog = make_plan(found, Preparation())
    assert rog.spacing == pytest.approx((0.5, 0.5, 7.0))
    assert rog.spline_order == (3, 3, 0)


def test_preparation_decides_the_rest() -> None:
    found = make_fingerprint((60, 60, 60), channels=("ct", "PET"))
    plan = make_plan(found, Preparation(batch_size=7, crop_nonzero=False, padding="edge"))
    assert (plan.batch_size, plan.crop_nonzero, plan.padding) == (7, False, "edge")
    assert [channel.normalization for channel in plan.channels] == ["ct", "mr"]
    assert (plan.channels[0].low, plan.channels[0].std) == (-5.0, 3.0)
    assert plan.min_object_mm3 == (6.0, 0.0)  # 5 % of 1..101, and a class without objects
    assert make_plan(found, Preparation(normalization="none")).channels[0].normalization == "none"


@pytest.mark.parametrize(
    ("patch", "strides"),
    [
        ((64, 64, 64), "222 222 222"),
        ((32, 32, 32), "222 222 222"),
        ((64, 64, 8), "222 221 221"),
        ((48, 40, 1), "221 221 221"),
        ((20, 6, 7), "211 211 111"),
    ],
)
def test_fixed_plans_the_recipes_patch_and_three_halvings(patch, strides) -> None:
    found = make_fingerprint((300, 300, 90), (0.7, 0.7, 2.5), cases=3, channels=("CT",))
    recipe = load_recipe("resdsn-c2f-coarse", [f"preparation.patch_size={list(patch)}"])
    plan = make_plan(found, recipe.preparation)
    assert plan.problems() == []
    assert plan.patch_size == plan.window_size == plan.source_size == patch
    assert plan.strides == tuple(tuple(map(int, step)) for step in strides.split())
    assert (plan.batch_size, plan.resample, plan.crop_nonzero, plan.spacing) == (16, False, False, (0.7, 0.7, 2.5))
    channel = plan.channels[0]
    assert (channel.normalization, channel.low, channel.high) == ("clip", -100.0, 240.0)
    assert make_plan(found, Preparation(planner="fixed")).batch_size == 1


def test_unknown_planner_and_empty_fingerprint_are_refused() -> None:
    found = make_fingerprint((20, 20, 20))
    with pytest.raises(ValueError, match="fixed, isotropic, nnunet, rog"):
        make_plan(found, Preparation(planner="nope"))
    with pytest.raises(ValueError, match="no cases"):
        make_plan(Fingerprint(**{**vars(found), "cases": ()}), Preparation())


def test_equal_voxels_and_a_cube_for_networks_that_turn_volumes():
    fingerprint = make_fingerprint((100, 60, 20), (2.0, 1.0, 5.0), cases=4)
    plan = make_plan(fingerprint, Preparation(planner="isotropic"))
    # 75th percentiles: 200 mm of 200, 60 and 100, and 100 voxels of 100, 60 and 20.
    assert plan.spacing == pytest.approx((2.0,) * 3)
    assert plan.patch_size == plan.window_size == (112, 112, 112)  # 100 voxels
    assert plan.strides == ((2, 2, 2),) * 4
    assert plan.problems() == []
    small = make_plan(fingerprint, Preparation(planner="isotropic", memory_gib=1.0)).patch_size
    assert len({*small}) == 1
    assert small[0] % 16 == 0
    assert small < plan.patch_size


def test_slices_are_whole_and_never_mixed():
    fingerprint = make_fingerprint((512, 512, 90), (0.75, 0.75, 3.0), cases=4, channels=("CT",))
    plan = make_plan(fingerprint, Preparation(planner="slices", slice_size=(256, 256), batch_size=8))
    assert plan.spacing == (1.5, 1.5, 3.0)
    assert plan.spline_order == (3, 3, 0)
    assert plan.patch_size == plan.window_size == (256, 256, 1)
    assert plan.strides == ((2, 2, 1),) * 5
    assert plan.source_size[2] == 1
    kept = make_plan(make_fingerprint((35, 50, 36), (1.0, 1.0, 1.0)), Preparation(planner="slices"))
    assert (kept.spacing, kept.patch_size) == ((1.0, 1.0, 1.0), (40, 56, 1))
    odd = make_plan(fingerprint, Preparation(planner="slices", slice_size=(100, 100)))
    assert (odd.spacing[0], odd.patch_size) == (pytest.approx(3.84), (112, 112, 1))
    with pytest.raises(ValueError, match=r"preparation\.slice_size must be at least 8 voxels"):
        load_recipe("rog", ["preparation.slice_size=[4, 256]"])
