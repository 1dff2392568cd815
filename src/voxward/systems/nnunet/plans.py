"""What plans.json and dataset.json of an nnU-Net results folder decide about a prediction.

The two files are data here: no name in them is ever imported. What cannot be reproduced is refused with its reason.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from voxward.core.errors import UserError
from voxward.core.labels import LabelSet
from voxward.core.types import Float3, Size3
from voxward.data.formats.description import channels_of, labels_of, read_object
from voxward.nets.nnunet import Architecture
from voxward.systems.nnunet.architecture import architecture_of, whole

Reader = Literal["as stored", "reoriented"]

_READERS: dict[str, Reader] = {
    "SimpleITKIO": "as stored",
    "NibabelIO": "as stored",
    "NaturalImage2DIO": "as stored",
    "NibabelIOWithReorient": "reoriented",
    "SimpleITKIOWithReorient": "reoriented",
}
_RESAMPLING = ("resample_data_or_seg_to_shape", "resample_torch_fornnunet", "no_resampling_hack")
# Options of resampling that are read, or that decide nothing about images and logits.
_OPTIONS = ("order", "order_z", "force_separate_z", "memefficient_seg_resampling", "num_threads")
# Options of which only the value that nnU-Net itself writes is supported.
_ONLY = {"is_seg": False, "separate_z_anisotropy_threshold": 3, "mode": "linear", "aniso_axis_mode": "nearest-exact"}
SCHEMES = (
    "ZScoreNormalization", "CTNormalization", "RescaleTo01Normalization", "RGBTo01Normalization", "NoNormalization",
)  # fmt: skip


@dataclass(frozen=True)
class Scheme:
    """How a channel is normalised.

    Attributes:
        name: A name of SCHEMES.
        masked: Whether z-scores are those of the voxels inside the non-zero mask.
        low: The 0.5 percentile of the training set's foreground, which CT values are clipped to.
        high: The 99.5 percentile.
        mean: The mean, which is subtracted from CT values.
        std: The standard deviation, which CT values are divided by.
    """

    name: str
    masked: bool = False
    low: float = 0.0
    high: float = 0.0
    mean: float = 0.0
    std: float = 1.0


@dataclass(frozen=True)
class Resampling:
    """How an array is resampled.

    Attributes:
        function: A name of nnU-Net's resampling functions that are known here.
        order: The order of the spline in the plane, or along all axes.
        order_z: The order along an axis that is treated apart.
        force_separate_z: Whether the thickest axis is treated apart; None decides by the spacing.
    """

    function: str
    order: int
    order_z: int
    force_separate_z: bool | None


@dataclass(frozen=True)
class NnPlan:
    """The decisions of one configuration of an nnU-Net plan. Axes are those of the transposed array.

    Attributes:
        dataset: The name of the dataset, such as `Dataset004_Hippocampus`.
        plans: The name of the plans.
        configuration: The name of the configuration, such as `3d_fullres`.
        channels: The names of the channels.
        labels: The classes, or the regions.
        heads: For each output of the network in nnU-Net's order, its place in the order of `labels`.
        ending: How the names of image files end.
        reader: Whether the arrays are turned to RAS before anything else.
        transpose: For each axis, its number in the file's array (z, y, x).
        spacing: The voxel size in mm that images are resampled to; two numbers in a 2D configuration.
        patch: The size of the windows in voxels; two numbers in a 2D configuration.
        schemes: How each channel is normalised.
        data: How images are resampled.
        logits: How logits are resampled back.
        architecture: The shape of the network.
    """

    dataset: str
    plans: str
    configuration: str
    channels: tuple[str, ...]
    labels: LabelSet
    heads: tuple[int, ...]
    ending: str
    reader: Reader
    transpose: Size3
    spacing: tuple[float, ...]
    patch: tuple[int, ...]
    schemes: tuple[Scheme, ...]
    data: Resampling
    logits: Resampling
    architecture: Architecture

    @property
    def slicewise(self) -> bool:
        """Return whether the network sees slices, across the first axis."""
        return len(self.patch) == 2

    @property
    def window(self) -> Size3:
        """Return the size of a window along three axes; a slice is 1 voxel thick."""
        i, j, k = (1, *self.patch) if self.slicewise else self.patch
        return i, j, k

    def target(self, spacing: Float3) -> Float3:
        """Return the voxel size that a case is resampled to: slices keep their own distance.

        Args:
            spacing: The voxel size of the case.
        """
        i, j, k = (spacing[0], *self.spacing) if self.slicewise else self.spacing
        return i, j, k


def read_plan(folder: Path, configuration: str) -> NnPlan:
    """Read the configuration of a results folder.

    Args:
        folder: The folder that holds plans.json and dataset.json.
        configuration: The name of the configuration, which a checkpoint tells.

    Raises:
        UserError: The configuration cannot be reproduced: it is a cascade, or has custom code for labels,
            preprocessing, resampling or its network. The message names the file and the entry.
        FileNotFoundError: A file is missing.
    """
    path, described = folder / "plans.json", folder / "dataset.json"
    plans, dataset = read_object(path), read_object(described)
    own = _configuration(plans, configuration, path)
    _refuse_custom(plans, own, path)
    channels = channels_of(dataset, described)
    declared = _declared(dataset.get("labels"))
    labels = labels_of(declared, described, order=dataset.get("regions_class_order"))
    return NnPlan(
        dataset=str(plans.get("dataset_name", dataset.get("name", folder.resolve().parent.name))),
        plans=str(plans.get("plans_name", "nnUNetPlans")),
        configuration=configuration,
        channels=channels,
        labels=labels,
        heads=_heads(labels, declared),
        ending=str(dataset.get("file_ending", ".nii.gz")),
        reader=_reader(plans, path),
        transpose=_transpose(plans, path),
        spacing=tuple(map(float, _numbers(own, "spacing", path))),
        patch=_voxels(own, "patch_size", path),
        schemes=_schemes(plans, own, len(channels), path),
        data=_resampling(own, "data", path),
        logits=_resampling(own, "probabilities", path),
        architecture=architecture_of(own, path),
    )


def batch_size_of(folder: Path, configuration: str) -> int:
    """Return the number of patches in a batch of nnU-Net's training, which decides nothing about a prediction.

    Args:
        folder: The folder that holds plans.json.
        configuration: The name of the configuration.

    Raises:
        UserError: There is no such configuration, or its batch size is no positive number.
    """
    path = folder / "plans.json"
    size = _configuration(read_object(path), configuration, path).get("batch_size", 2)
    if not isinstance(size, int) or isinstance(size, bool) or size < 1:
        raise UserError(f"{path}: batch_size must be a positive number, got {size!r}")
    return size


def _configuration(plans: Mapping[str, Any], name: str, path: Path, seen: tuple[str, ...] = ()) -> dict[str, Any]:
    """A configuration, with what it inherits."""
    known = plans.get("configurations")
    if not isinstance(known, Mapping) or not isinstance(known.get(name), Mapping):
        names = ", ".join(known) if isinstance(known, Mapping) else "none"
        raise UserError(f"{path}: there is no configuration {name!r}; there are: {names}")
    if name in seen:
        raise UserError(f"{path}: the configuration {name!r} inherits from itself")
    own = dict(known[name])
    parent = own.pop("inherits_from", None)
    return own if parent is None else {**_configuration(plans, str(parent), path, (*seen, name)), **own}


def _refuse_custom(plans: Mapping[str, Any], own: Mapping[str, Any], path: Path) -> None:
    if own.get("previous_stage"):
        raise UserError(
            f"{path}: the configuration is the second stage of a cascade, whose input is the segmentation of "
            f"{own['previous_stage']!r}: cascades of nnU-Net are not supported; use a folder of its first stage, or of "
            "3d_fullres"
        )
    for entry, value, legal in (
        ("label_manager", plans.get("label_manager", "LabelManager"), "LabelManager"),
        ("preprocessor_name", own.get("preprocessor_name", "DefaultPreprocessor"), "DefaultPreprocessor"),
    ):
        if value != legal:
            raise UserError(f"{path}: {entry} {value!r} is code that voxward does not know; only {legal!r} is")


def _reader(plans: Mapping[str, Any], path: Path) -> Reader:
    name = plans.get("image_reader_writer", "SimpleITKIO")
    if not isinstance(name, str) or name not in _READERS:
        raise UserError(f"{path}: image_reader_writer {name!r} is not supported; supported: {', '.join(_READERS)}")
    return _READERS[name]


def _transpose(plans: Mapping[str, Any], path: Path) -> Size3:
    given = plans.get("transpose_forward", [0, 1, 2])
    if not isinstance(given, list) or sorted(map(str, given)) != ["0", "1", "2"]:
        raise UserError(f"{path}: transpose_forward must hold 0, 1 and 2, got {given!r}")
    i, j, k = map(int, given)
    return i, j, k


def _numbers(own: Mapping[str, Any], entry: str, path: Path) -> Sequence[int | float]:
    given = own.get(entry)
    good = isinstance(given, list) and len(given) in (2, 3) and all(_positive(value) for value in given)
    if not good:
        raise UserError(f"{path}: {entry} must be 2 or 3 positive numbers, got {given!r}")
    assert isinstance(given, list)
    return given


def _voxels(own: Mapping[str, Any], entry: str, path: Path) -> tuple[int, ...]:
    values = _numbers(own, entry, path)
    try:
        return tuple(whole(value, entry) for value in values)
    except UserError as error:
        raise UserError(f"{path}: {error}") from error


def _positive(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < float("inf")


def _schemes(plans: Mapping[str, Any], own: Mapping[str, Any], channels: int, path: Path) -> tuple[Scheme, ...]:
    names, masks = own.get("normalization_schemes"), own.get("use_mask_for_norm", [False] * channels)
    if not isinstance(names, list) or not isinstance(masks, list) or not len(names) == len(masks) == channels:
        raise UserError(
            f"{path}: normalization_schemes and use_mask_for_norm need one entry for each of the {channels} channels, "
            f"got {names!r} and {masks!r}"
        )
    if unknown := [name for name in names if name not in SCHEMES]:
        raise UserError(f"{path}: normalisation {unknown[0]!r} is not known; known: {', '.join(SCHEMES)}")
    key = "foreground_intensity_properties_per_channel"
    given = plans.get(key, plans.get("foreground_intensity_properties_by_modality", {}))
    return tuple(
        _scheme(name, bool(mask), given, n, path) for n, (name, mask) in enumerate(zip(names, masks, strict=True))
    )


def _scheme(name: str, masked: bool, given: Any, channel: int, path: Path) -> Scheme:
    if name != "CTNormalization":
        return Scheme(name, masked and name == "ZScoreNormalization")  # nnU-Net's others do not look at the mask
    figures = given.get(str(channel)) if isinstance(given, Mapping) else None
    wanted = ("percentile_00_5", "percentile_99_5", "mean", "std")
    if not isinstance(figures, Mapping) or not all(isinstance(figures.get(key), int | float) for key in wanted):
        raise UserError(f"{path}: CTNormalization of channel {channel} needs the figures {', '.join(wanted)}")
    low, high, mean, std = (float(figures[key]) for key in wanted)
    return Scheme(name, False, low, high, mean, std)


def _resampling(own: Mapping[str, Any], what: str, path: Path) -> Resampling:
    name = own.get(f"resampling_fn_{what}", _RESAMPLING[0])
    if name not in _RESAMPLING:
        raise UserError(
            f"{path}: resampling_fn_{what} {name!r} is code that voxward does not know; known: {', '.join(_RESAMPLING)}"
        )
    options = own.get(f"resampling_fn_{what}_kwargs") or {}
    if not isinstance(options, Mapping):
        raise UserError(f"{path}: resampling_fn_{what}_kwargs must be an object, got {options!r}")
    # An option that is left out has the value that nnU-Net's function has by itself.
    force = options.get("force_separate_z", False if name == _RESAMPLING[0] else None)
    orders = options.get("order", 3), options.get("order_z", 0)
    other = [key for key, value in options.items() if key not in _OPTIONS and (key not in _ONLY or value != _ONLY[key])]
    if other or force not in (None, True, False) or any(value not in range(4) for value in orders):
        raise UserError(f"{path}: resampling_fn_{what}_kwargs holds what is not supported: {options!r}")
    order, order_z = map(int, orders)  # JSON may write 1.0 for 1
    return Resampling(name, order, order_z, None if force is None else bool(force))


def _declared(given: Any) -> Any:
    """The labels with numbers for texts, which old files have; lists are regions only if one has several values."""
    if not isinstance(given, Mapping):
        return given
    found = {name: _whole(value) for name, value in given.items()}
    if any(isinstance(value, list) and len(value) > 1 for value in found.values()):
        return found
    return {name: value[0] if isinstance(value, list) and value else value for name, value in found.items()}


def _whole(value: Any) -> Any:
    if isinstance(value, list):
        return [_whole(each) for each in value]
    return int(value) if isinstance(value, str) and value.isdecimal() else value


def _heads(labels: LabelSet, declared: Mapping[str, Any]) -> tuple[int, ...]:
    """nnU-Net's outputs stand in the order of the JSON object where they are regions, and of the values otherwise."""
    if not labels.regions:
        return tuple(range(labels.outputs))
    names = [name for name, value in declared.items() if name != "ignore" and value not in (0, [0])]
    return tuple(labels.scored.index(name) for name in names)
