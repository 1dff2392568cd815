"""The transforms of MONAI that prepare an image, by name."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import nan
from typing import Any

from voxward.core.registry import Registry
from voxward.systems.bundle.arguments import Arguments
from voxward.systems.bundle.boxes import PADDINGS, CropForeground, Padding
from voxward.systems.bundle.config import as_list
from voxward.systems.bundle.geometry import Orientation, Resize, Spacing
from voxward.systems.bundle.intensities import Normalize, Scale, ScalePercentiles, ScaleRange
from voxward.systems.bundle.steps import Step

_READERS = ("none", "itkreader", "nibabelreader")
# They decide how MONAI holds an image, not what is in it.
_OF_LOADING = (
    "image_only", "ensure_channel_first", "simple_keys", "prune_meta_pattern", "prune_meta_sep", "overwriting",
    "expanduser",
)  # fmt: skip
_LINEAR = ("bilinear", "linear", "trilinear")
_DIRECTIONS = [["L", "R"], ["P", "A"], ["I", "S"]]
_SPLINE = "a spline (an integer mode) has no gradient in MONAI, and the nearest voxel none at all"


def _load(given: Arguments) -> Step | None:
    if str(given.single("reader")).rpartition(".")[2].lower() not in _READERS:
        given.refuse(f"reader must be ITKReader or NibabelReader, got {given.single('reader')!r}", "reader")
    if not given.flag("affine_lps_to_ras", True):
        given.refuse("affines are read towards right, anterior and superior only", "affine_lps_to_ras")
    given.plainly_float32()
    given.skip(*_OF_LOADING)
    return None


def _channel_first(given: Arguments) -> Step | None:
    given.skip("channel_dim", "strict_check")  # volumes have their channels first here, whatever the file has
    return None


def _typed(given: Arguments) -> Step | None:
    given.plainly_float32()
    given.skip("data_type", "wrap_sequence")
    return None


def _orientation(given: Arguments) -> Step | None:
    codes, closest = given.single("axcodes"), given.flag("as_closest_canonical")
    if given.plain("labels") not in (None, _DIRECTIONS):
        given.refuse("directions must have their usual names: left, right, posterior, anterior, ...", "labels")
    if closest:
        return Orientation("RAS")
    if not isinstance(codes, str) or len(codes) != 3 or sorted(map(_line, codes)) != [0, 1, 2]:
        given.refuse(f"axcodes must be three directions such as 'RAS', got {codes!r}", "axcodes")
    return Orientation(codes)


def _line(code: str) -> int:
    return next((axis for axis, ends in enumerate(_DIRECTIONS) if code in ends), -1)


def _spacing(given: Arguments) -> Step | None:
    given.choice("mode", _LINEAR, "bilinear", _SPLINE)
    given.choice("padding_mode", ("border",), "border")
    for name in ("diagonal", "scale_extent", "recompute_affine"):
        if given.flag(name):
            given.refuse(f"{name} is not supported", name)
    if given.flag("align_corners"):
        given.refuse("releases of MONAI differ in what align_corners means here", "align_corners")
    given.skip("ensure_same_shape")
    given.skip("dtype")  # float64 inside, as MONAI's default
    limits = [tuple(_limit(given, name)) for name in ("min_pixdim", "max_pixdim")]
    sizes = given.axes("pixdim", sizes=(1, 2, 3))
    return Spacing(sizes, limits[0], limits[1])


def _limit(given: Arguments, name: str) -> list[float]:
    values = given.plain(name)
    if values is None:
        return []
    unset = [value is None for value in as_list(values)]
    return [nan if none else value for none, value in zip(unset, given.numbers(name), strict=True)]


def _range(given: Arguments) -> Step | None:
    given.plainly_float32()
    low, high = given.needed("a_min"), given.needed("a_max")
    return ScaleRange(low, high, given.number("b_min"), given.number("b_max"), given.flag("clip"))


def _scale(given: Arguments) -> Step | None:
    given.plainly_float32()
    low, high = given.number("minv", 0.0), given.number("maxv", 1.0)
    return Scale(low, high, given.number("factor"), given.flag("channel_wise"))


def _percentiles(given: Arguments) -> Step | None:
    given.plainly_float32()
    lower, upper = given.needed("lower"), given.needed("upper")
    if not 0 <= lower <= upper <= 100:
        given.refuse(f"lower and upper must be percentiles in 0..100, got {lower} and {upper}")
    bottom, top = given.number("b_min"), given.number("b_max")
    if given.flag("relative"):
        if bottom is None or top is None:
            given.refuse("relative needs b_min and b_max", "relative")
        bottom, top = ((top - bottom) * (percent / 100) + bottom for percent in (lower, upper))
    return ScalePercentiles(lower, upper, bottom, top, given.flag("clip"), given.flag("channel_wise"))


def _normalize(given: Arguments) -> Step | None:
    given.plainly_float32()
    each = given.flag("channel_wise")
    mean, std = (_given_figures(given, name, each) for name in ("subtrahend", "divisor"))
    return Normalize(mean, std, given.flag("nonzero"), each)


def _given_figures(given: Arguments, name: str, each: bool) -> tuple[float, ...] | None:
    if given.plain(name) is None:
        return None
    values = given.numbers(name)
    if not each and len(values) > 1:
        given.refuse(f"{name} must be one number where channel_wise is not set, got {list(values)}", name)
    return values


def _crop(given: Arguments) -> Step | None:
    if "select_fn" in given.given:
        given.refuse("select_fn is code; only the default (voxels above 0) is read", "select_fn")
    if given.plain("source_key") not in (None, given.single("keys")):
        given.refuse("source_key must be the key of the image", "source_key")
    channels = given.plain("channel_indices") is not None
    mode = given.single("mode", "constant")
    given.skip("start_coord_key", "end_coord_key")
    return CropForeground(
        tuple(map(int, given.numbers("channel_indices"))) if channels else None,
        given.lengths("margin", 0), given.flag("allow_smaller"), given.lengths("k_divisible", 1),
        PADDINGS.get(str(mode)), _value(given),
    )  # fmt: skip


def _pad(given: Arguments) -> Step | None:
    return _padding(given, "spatial_size", False)


def _pad_to_multiples(given: Arguments) -> Step | None:
    return _padding(given, "k", True)


def _padding(given: Arguments, name: str, multiple: bool) -> Step:
    centred = given.choice("method", ("symmetric", "end"), "symmetric") == "symmetric"
    mode = PADDINGS[given.choice("mode", tuple(PADDINGS), "constant")]
    return Padding(given.lengths(name), multiple, centred, mode, _value(given))


def _value(given: Arguments) -> float:
    return given.number("value") or given.number("constant_values") or 0.0


def _resize(given: Arguments) -> Step | None:
    given.choice("mode", _LINEAR, "area", "other modes are not read")
    given.plainly_float32()
    given.skip("anti_aliasing_sigma")
    if given.flag("anti_aliasing"):
        given.refuse("anti_aliasing is not supported", "anti_aliasing")
    longest = given.choice("size_mode", ("all", "longest"), "all") == "longest"
    aligned = given.plain("align_corners")
    return Resize(given.lengths("spatial_size"), longest, aligned is True)


TRANSFORMS: Registry[Callable[[Arguments], Step | None]] = Registry(
    "transform",
    {
        "LoadImaged": _load,
        "EnsureChannelFirstd": _channel_first,
        "EnsureTyped": _typed,
        "CastToTyped": _typed,
        "ToTensord": _typed,
        "ToDeviced": _typed,
        "Orientationd": _orientation,
        "Spacingd": _spacing,
        "ScaleIntensityRanged": _range,
        "ScaleIntensityd": _scale,
        "ScaleIntensityRangePercentilesd": _percentiles,
        "NormalizeIntensityd": _normalize,
        "CropForegroundd": _crop,
        "SpatialPadd": _pad,
        "DivisiblePadd": _pad_to_multiples,
        "Resized": _resize,
    },
)


def plain_name(name: str) -> str:
    """Return the name of a dictionary transform as the registry has it; MONAI also calls them ...D and ...Dict."""
    for ending in ("Dict", "D"):
        if name.endswith(ending) and f"{name.removesuffix(ending)}d" in TRANSFORMS:
            return f"{name.removesuffix(ending)}d"
    return name


def read_steps(objects: Sequence[Arguments]) -> tuple[tuple[Step, ...], str]:
    """Read the preprocessing of a bundle.

    Args:
        objects: The transforms.

    Returns:
        The steps, in their order, and the key of the image.

    Raises:
        UserError: A transform or argument is not known; the message names the file, the item and the reason.
    """
    steps, keys = [], list[Any]()
    for given in objects:
        name = plain_name(given.target)
        if name not in TRANSFORMS:
            given.refuse(f"the transform {given.target} is not known; known: {', '.join(TRANSFORMS)}")
        own = as_list(given.plain("keys"))
        keys += own if name == "LoadImaged" else []
        if len(keys) != 1 or own != keys:
            given.refuse(f"there must be one image and no other key, got {own} after loading {keys}", "keys")
        step = TRANSFORMS[name](given)
        given.finish()
        steps += [] if step is None else [step]
    return tuple(steps), str(keys[0]) if keys else ""
