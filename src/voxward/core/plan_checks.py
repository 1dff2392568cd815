"""What can be wrong with a plan that a person has edited: one sentence for each mistake."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from voxward.core.plan import Plan

MOST_VOXELS = 2**31
"""The most voxels of a patch or window; more fit no memory."""
LARGEST_KERNEL = 31
LARGEST_STRIDE = 64
LARGEST_BATCH = 4096


def plan_problems(plan: Plan) -> Iterator[str]:
    """Yield one sentence for each mistake in a plan.

    Args:
        plan: The plan.
    """
    steps = list(_steps(plan))
    yield from steps
    yield from _sizes(plan, divisible=not steps)
    yield from _numbers(plan)


def _steps(plan: Plan) -> Iterator[str]:
    """What is wrong with strides and kernels."""
    if wrong := [step for step in plan.strides if not all(1 <= length <= LARGEST_STRIDE for length in step)]:
        yield f"strides must be 1 to {LARGEST_STRIDE} per axis, got {wrong[0]}"
    if wrong := [size for size in plan.kernel_sizes if not all(_odd(length) for length in size)]:
        yield f"kernel_sizes must be odd numbers from 1 to {LARGEST_KERNEL} per axis, got {wrong[0]}"
    if len(plan.kernel_sizes) != len(plan.strides) + 1:
        yield (
            f"kernel_sizes needs one entry per resolution level, one more than the {len(plan.strides)} strides, "
            f"got {len(plan.kernel_sizes)}"
        )


def _odd(length: int) -> bool:
    return 1 <= length <= LARGEST_KERNEL and length % 2 == 1


def _sizes(plan: Plan, divisible: bool) -> Iterator[str]:
    sizes = {"patch_size": plan.patch_size, "window_size": plan.window_size, "source_size": plan.source_size}
    for name, size in sizes.items():
        if min(size) < 1:
            yield f"{name} must be at least 1 per axis, got {size}"
        elif math.prod(size) > MOST_VOXELS:
            yield f"{name} {size} has more than {MOST_VOXELS} voxels, which fit no memory"
        elif divisible and name != "source_size":
            total = plan.total_stride
            bad = [f"{n} is no multiple of {step}" for n, step in zip(size, total, strict=True) if n % step]
            if bad:
                yield f"{name} {size} must be a multiple of the total stride {total}: {', '.join(bad)}"
    if any(source < patch for source, patch in zip(plan.source_size, plan.patch_size, strict=True)):
        yield f"source_size {plan.source_size} must not be smaller than patch_size {plan.patch_size}"


def _numbers(plan: Plan) -> Iterator[str]:
    if not all(step > 0 and math.isfinite(step) for step in plan.spacing):
        yield f"spacing must be positive, got {plan.spacing}"
    if any(order not in range(4) for order in plan.spline_order):
        yield f"spline_order must be 0, 1, 2 or 3 per axis, got {plan.spline_order}"
    if not 1 <= plan.batch_size <= LARGEST_BATCH:
        yield f"batch_size must be 1 to {LARGEST_BATCH}, got {plan.batch_size}"
    if plan.nan not in ("refuse", "zero"):
        yield f"nan must be refuse or zero, got {plan.nan!r}"
    if not 0 <= plan.affine_tolerance < math.inf:
        yield f"affine_tolerance must be a number of voxels from 0, got {plan.affine_tolerance}"
    if not plan.channels:
        yield "channels must name at least one channel"
    for channel in plan.channels:
        numbers = {name: getattr(channel, name) for name in ("low", "high", "mean", "std")}
        if wrong := [f"{name} {value}" for name, value in numbers.items() if not math.isfinite(value)]:
            yield f"channels: {channel.name!r} must have finite numbers, got {', '.join(wrong)}"
    classes = plan.labels.count - 1
    if len(plan.min_object_mm3) != classes:
        yield f"min_object_mm3 needs {classes} values, one per foreground class, got {plan.min_object_mm3}"
    elif not all(volume >= 0 for volume in plan.min_object_mm3):
        yield f"min_object_mm3 must be at least 0, got {plan.min_object_mm3}"
