"""Whether a model of another tool predicts here what that tool itself predicted: `voxward check --system`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from voxward.core.choices import Reading
from voxward.core.progress import Progress, silent
from voxward.data.channels import in_order_of
from voxward.data.formats import open_dataset
from voxward.data.nan import dataset_reading_nan
from voxward.data.places import dataset_within
from voxward.systems.nan import nan_for, tolerance_for
from voxward.systems.open import Given, open_system
from voxward.systems.self_test import CASES, SelfTest, self_test, stored_of


def check_system(
    system: Given,
    dataset: Path | str,
    *,
    cases: int = CASES,
    overrides: Sequence[str] = (),
    reading: Reading = Reading(),
    device: str = "auto",
    progress: Progress = silent,
) -> SelfTest:
    """Predict cases with a model of another tool, and compare them with the masks that the tool left in its folder.

    A results folder of nnU-Net holds nnU-Net's own predictions of the cases that each fold was validated on. These
    cases are predicted with that fold alone, and voxels with another class are counted. Nothing is written.

    Args:
        system: The model, such as a results folder of nnU-Net, or an open system.
        dataset: The dataset that has the images of these cases, by the same ids.
        cases: How many cases of each fold are compared: the first that have an image.
        overrides: Changes of the system's entries, such as `folds=[0]`.
        reading: What the channels of the dataset are; what is done about NaN; and whether the first case that cannot
            be compared stops the others.
        device: `auto`, `cpu`, `cuda`, `mps` or `xpu`. Equality to the last bit can be expected of masks that were made
            on a CPU, and on a CPU.
        progress: Told about windows and cases.

    Returns:
        For each case how many voxels have another class. It is `ok` only if there is none.

    Raises:
        UserError: The model has no masks of its own tool, or the dataset has no image of any of them.
        FileNotFoundError: The model or the dataset is missing.

    Example:
        >>> voxward.check_system("nnUNetTrainer__nnUNetPlans__3d_fullres", "Task04_Hippocampus").ok  # doctest: +SKIP
    """
    opened = open_system(system, overrides, device)
    stored_of(opened)  # before the dataset is read
    source = in_order_of(open_dataset(dataset, reading.follow_links), opened.channels, reading.channels)
    source = dataset_within(dataset_reading_nan(source, nan_for((), reading)), tolerance_for((), reading))
    return self_test(opened, source, cases, progress, reading.fail_fast)
