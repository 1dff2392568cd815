"""A recipe: the whole of a system as one readable file. Every part is checked, and all problems are raised at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

from voxward.core.document import with_format, without_format
from voxward.core.errors import UserError
from voxward.core.labels import LabelSet
from voxward.core.plan import Padding
from voxward.core.reading import read_text
from voxward.core.recipe.averaging import Averaging
from voxward.core.recipe.search import Search
from voxward.core.recipe.yaml import dump_yaml, override, packaged, packaged_names, read_yaml
from voxward.core.registry import unknown_name
from voxward.core.structure import from_data, to_data
from voxward.core.types import Size3

Options = Mapping[str, Any]


@dataclass(frozen=True)
class Preparation:
    """planner: whose rules choose patch and strides. memory_gib: what a training step may take (chooses the batch
    size). batch_size: overrides that choice. normalization: `auto` = `ct` for channels named CT, else `mr`; `clip`: cut
    off at `clip` (low, high, in the file's unit), then zero mean and unit variance of each case; others: see
    data.normalization. resample: to the plan's spacing; without it every case keeps its own voxels. patch_size: of
    the planner `fixed`, in voxels. slice_size: of the planner `slices`, voxels per axis that a slice is resized to;
    None keeps the median spacing.
    """

    planner: str = "rog"
    normalization: str = "auto"
    clip: tuple[float, float] | None = None
    resample: bool = True
    crop_nonzero: bool = True
    padding: Padding = "reflect"
    memory_gib: float = 10.0
    batch_size: int | None = None
    patch_size: Size3 = (128, 128, 128)
    slice_size: tuple[int, int] | None = None

    def problems(self) -> list[str]:
        """Values out of range."""
        found = [] if self.memory_gib > 0 else [f"memory_gib must be positive, got {self.memory_gib}"]
        if self.batch_size is not None and self.batch_size < 1:
            found.append(f"batch_size must be at least 1, got {self.batch_size}")
        if self.clip is not None and not self.clip[0] < self.clip[1]:
            found.append(f"clip must be low < high, got {self.clip}")
        if min(self.patch_size) < 1:
            found.append(f"patch_size must be positive, got {self.patch_size}")
        if self.slice_size is not None and min(self.slice_size) < 8:
            found.append(f"slice_size must be at least 8 voxels per axis, got {self.slice_size}")
        return found


@dataclass(frozen=True)
class Sampling:
    """foreground: share of the patches that are centred on a foreground voxel, its class drawn first.

    region: where the others lie: anywhere in the `case`, or within the `truth`'s bounding box, holding some of it.
    """

    foreground: float = 0.5
    region: Literal["case", "truth"] = "case"

    def problems(self) -> list[str]:
        """Values out of range."""
        return _outside("foreground", self.foreground, 0.0, 1.0)


@dataclass(frozen=True)
class Augmentation:
    """Random transforms of a training patch; a probability of 0 switches one off.

    rotation_degrees: each axis turns by U(-r, r). scale: zoom factor range. mirror_axes: axes (0, 1, 2) that may be
    flipped, each with mirror_probability; leave out axis 0 (left-right) where left and right are different classes.
    gamma: exponent range, applied to intensities rescaled to [0, 1]. quarter_turns: axes (0, 1, 2) about which a patch
    is turned by 0, 90, 180 or 270 degrees, by 0 or 180 where it is not as long as wide. Then, in the prepared image's
    unit and drawn once per sample: intensity_scale: factor range; intensity_shift: U(-s, s) is added; noise_std: of
    Gaussian noise; and with drop_channel_probability one channel is set to 0.
    """

    rotation_degrees: float = 15.0
    rotation_probability: float = 0.5
    scale: tuple[float, float] = (0.85, 1.15)
    scale_probability: float = 0.5
    mirror_axes: tuple[int, ...] = (0, 1, 2)
    mirror_probability: float = 0.5
    gamma: tuple[float, float] = (0.7, 1.5)
    gamma_probability: float = 0.2
    quarter_turns: tuple[int, ...] = ()
    intensity_scale: tuple[float, float] = (0.9, 1.1)
    intensity_scale_probability: float = 0.0
    intensity_shift: float = 0.1
    intensity_shift_probability: float = 0.0
    noise_std: float = 0.1
    noise_probability: float = 0.0
    drop_channel_probability: float = 0.0

    def problems(self) -> list[str]:
        """Values out of range."""
        found = [
            message
            for name in fields(self)
            if name.name.endswith("_probability")
            for message in _outside(name.name, getattr(self, name.name), 0.0, 1.0)
        ]
        found += _outside("rotation_degrees", self.rotation_degrees, 0.0, 180.0)
        found += [
            f"{name} must be 0 < low <= high, got {pair}"
            for name, pair in (("scale", self.scale), ("gamma", self.gamma), ("intensity_scale", self.intensity_scale))
            if not 0 < pair[0] <= pair[1]
        ]
        found += [
            f"{name} must be at least 0, got {value}"
            for name, value in (("intensity_shift", self.intensity_shift), ("noise_std", self.noise_std))
            if not value >= 0
        ]
        found += _axes_problems("quarter_turns", self.quarter_turns)
        return found + _axes_problems("mirror_axes", self.mirror_axes)


@dataclass(frozen=True)
class Choice:
    """A member of a registered family and its options."""

    name: str
    options: Options = field(default_factory=dict)


@dataclass(frozen=True)
class Training:
    """An epoch is one patch per training case. precision: `auto` = bf16 where the hardware multiplies it fast.

    plateau_patience and other schedule lengths are options of the schedule, in shares of the whole run, so a shorter
    budget keeps the schedule's shape. selection: share of the training cases held out to pick the best checkpoint.
    auxiliary: the weights of a network's auxiliary outputs in the loss (deep supervision), beside 1 for its main one.
    best: whether the checkpoint `best` has the highest Dice on the selection patches, or the lowest loss. min_steps:
    updates of the weights below which the result is poor, so that a time budget with room for fewer gives a warning.
    """

    epochs: int = 1000
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    selection: float = 0.1
    clip_gradient_norm: float | None = None
    workers: int = 1
    auxiliary: tuple[float, ...] = ()
    best: Literal["dice", "loss"] = "dice"
    min_steps: int = 0

    def problems(self) -> list[str]:
        """Values out of range."""
        found = _outside("selection", self.selection, 0.0, 0.5)
        found += [f"min_steps must not be negative, got {self.min_steps}"] if self.min_steps < 0 else []
        found += [f"epochs must be at least 1, got {self.epochs}"] if self.epochs < 1 else []
        found += [f"workers must not be negative, got {self.workers}"] if self.workers < 0 else []
        found += (
            [f"clip_gradient_norm must be positive, got {self.clip_gradient_norm}"]
            if self.clip_gradient_norm is not None and self.clip_gradient_norm <= 0
            else []
        )
        return found


@dataclass(frozen=True)
class Defence:
    """Adversarial training in the l_inf ball of `eps`, a share of each channel's intensity window.

    method: `free` (Shafahi et al. 2019): every minibatch is used `replays` times, and each backward pass moves weights
    and perturbation; `pgd` (Madry et al. 2018): the weights learn on what `steps` steps of a search from a random start
    have found; `trades` (Zhang et al. 2019): the loss on the clean patch plus `beta` times the divergence of the
    perturbed patch's prediction from the clean one's. step: a step of the perturbation in eps; None: 1 for free,
    2.5 / steps for the searches. objective: what `pgd` searches for (attacks.objectives); free has the training loss,
    trades the divergence. clean: share of the samples that are left unperturbed (not of trades). warmup: share of the
    run in which eps grows from 0. robust: weight of the robust Dice (or loss, as training.best says), against
    the clean one, in choosing the best checkpoint.
    """

    method: Literal["free", "pgd", "trades"] = "free"
    eps: float = 8 / 255
    replays: int = 5
    steps: int = 3
    step: float | None = None
    objective: str = "dice"
    clean: float = 0.0
    warmup: float = 0.0
    beta: float = 6.0
    robust: float = 0.5

    @property
    def length(self) -> float:
        """A step of the perturbation, in eps."""
        if self.step is not None:
            return self.step
        return 1.0 if self.method == "free" else 2.5 / self.steps

    def problems(self) -> list[str]:
        """Values out of range."""
        found = _outside("eps", self.eps, 0.0, 1.0) + _outside("clean", self.clean, 0.0, 1.0)
        found += _outside("warmup", self.warmup, 0.0, 1.0) + _outside("robust", self.robust, 0.0, 1.0)
        found += [
            f"{name} must be at least 1, got {value}"
            for name, value in (("replays", self.replays), ("steps", self.steps))
            if value < 1
        ]
        if self.step is not None and self.step <= 0:
            found.append(f"step must be positive, got {self.step}")
        return found + ([f"beta must be at least 0, got {self.beta}"] if self.beta < 0 else [])


@dataclass(frozen=True)
class Inference:
    """overlap: share of a window that neighbouring windows have in common. weights: how overlapping windows blend.

    mirror_axes: axes (0, 1, 2) over whose flips, in all combinations, the logits are averaged; none by default.
    placement: `step` puts windows at the overlap's distance; `count` spreads floor(length / window) + extra_windows of
    them evenly per axis (the ResDSN paper's), `heartseg` the same by the rule of that release. combine: `mean` of the
    logits, or `vote`: every window has one vote per voxel, so that the weights must be constant; an attack follows the
    mean, and its deployed Dice is the vote's; ensembles cannot vote. tta: the copies of
    a window that are averaged: `mirrors` (mirror_axes), or `symmetries`, the 16 of a volume with square axial slices.
    mean: what of these copies, and of the runs of an ensemble, is averaged. checkpoint: the weights that are deployed.
    """

    overlap: float = 0.5
    weights: str = "inverse-distance"
    mirror_axes: tuple[int, ...] = ()
    placement: str = "step"
    extra_windows: int = 6
    combine: Literal["mean", "vote"] = "mean"
    tta: Literal["mirrors", "symmetries"] = "mirrors"
    mean: Literal["logits", "probabilities"] = "logits"
    checkpoint: Literal["best", "last", "swa"] = "best"

    def problems(self) -> list[str]:
        """Values out of range."""
        found = [] if 0 <= self.overlap < 1 else [f"overlap must be in [0, 1), got {self.overlap}"]
        found += [] if self.extra_windows >= 1 else [f"extra_windows must be at least 1, got {self.extra_windows}"]
        return found + _axes_problems("mirror_axes", self.mirror_axes)


@dataclass(frozen=True)
class PostProcessing:
    """kind: `organ` keeps each class's largest component, `lesion` fuses small components with the class around them.

    `share` drops components with less than `fraction` of a class's voxels, never the largest. classes: the kind of
    single classes, by name, where it is another one (`{tumour: lesion}`). fill_holes: afterwards, background that a
    class encloses becomes that class. Either is kept for a class only if it raises that class's Dice on the selection
    cases.
    """

    kind: str = "organ"
    classes: Mapping[str, str] = field(default_factory=dict)
    fraction: float = 0.2
    fill_holes: bool = False

    def problems(self) -> list[str]:
        """Values out of range."""
        return _outside("fraction", self.fraction, 0.0, 1.0)

    def kinds(self, labels: LabelSet) -> tuple[str, ...]:
        """The kind of each foreground class. Raises ValueError when `classes` names a class that is none of them."""
        known = dict.fromkeys(labels.foreground)
        unknown = [unknown_name("class", name, known) for name in self.classes if name not in known]
        if unknown:
            raise UserError("postprocessing.classes: " + "; ".join(unknown))
        return tuple(self.classes.get(name, self.kind) for name in labels.foreground)


@dataclass(frozen=True)
class Recipe:
    """The whole of a system, from preparation to post-processing.

    averaging: of the weights, with restarts of the learning rate; their mean is the checkpoint `swa`. regions: what is
    learnt instead of the classes (name: file values), see core.labels.LabelSet; None: what the dataset declares, {}:
    none.
    """

    name: str
    description: str
    network: Choice
    loss: Choice
    optimizer: Choice
    schedule: Choice
    preparation: Preparation = Preparation()
    sampling: Sampling = Sampling()
    augmentation: Augmentation = Augmentation()
    training: Training = Training()
    inference: Inference = Inference()
    postprocessing: PostProcessing = PostProcessing()
    defence: Defence | None = None
    averaging: Averaging | None = None
    regions: Mapping[str, tuple[int, ...]] | None = None
    search: Search | None = None


def load_recipe(name_or_path: str | Path, overrides: Sequence[str] = ()) -> Recipe:
    """Read a packaged recipe by name, or any recipe by path (a name with a `.yaml` suffix).

    Args:
        name_or_path: The name or the path.
        overrides: Changes, each `dotted.key=value` with a YAML value, such as `augmentation.mirror_axes=[1,2]`.

    Raises:
        UserError: The name is unknown, or something in the file is wrong; all problems are listed.
        FileNotFoundError: There is no such file.

    Example:
        >>> load_recipe("dynunet", ["training.epochs=100"])
    """
    given = str(name_or_path)
    own = given.endswith((".yaml", ".yml"))
    text = read_text(given) if own else packaged("recipes", given, "recipe")
    source = given if own else f"recipe {given}"
    data = without_format(read_yaml(text, source), source)
    for change in overrides:
        override(data, change)
    return from_data(Recipe, data, source)


def recipe_names() -> tuple[str, ...]:
    """Return the names of the packaged recipes."""
    return packaged_names("recipes")


def dump_recipe(recipe: Recipe) -> str:
    """Return the recipe as YAML that `load_recipe` reads back to the same value."""
    return dump_yaml(with_format(to_data(recipe)))


def _outside(name: str, value: float, low: float, high: float) -> list[str]:
    return [] if low <= value <= high else [f"{name} must be in [{low:g}, {high:g}], got {value}"]


def _axes_problems(name: str, axes: tuple[int, ...]) -> list[str]:
    fits = set(axes) <= {0, 1, 2} and len(set(axes)) == len(axes)
    return [] if fits else [f"{name} may only hold 0, 1, 2, each once, got {axes}"]
