"""A recipe: how a network is trained and used, as one readable file, and how it is read and written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from voxward.core.document import with_checksum, with_format, without_format
from voxward.core.errors import UserError
from voxward.core.reading import read_text
from voxward.core.recipe.augmentation import Augmentation
from voxward.core.recipe.averaging import Averaging
from voxward.core.recipe.defence import Defence
from voxward.core.recipe.inference import Inference
from voxward.core.recipe.postprocessing import PostProcessing
from voxward.core.recipe.preparation import Preparation
from voxward.core.recipe.sampling import Sampling
from voxward.core.recipe.search import Search
from voxward.core.recipe.training import Training
from voxward.core.structure import to_data
from voxward.core.yaml import dump_yaml, load_yaml, packaged_names, read_yaml

Options = Mapping[str, Any]


@dataclass(frozen=True)
class Choice:
    """A member of a registered family, and its options.

    Args:
        name: The name of the member in the registry of its family.
        options: The options of the member, by name.

    Example:
        >>> Choice("adam", {"lr": 1e-3})
        Choice(name='adam', options={'lr': 0.001})
    """

    name: str
    options: Options = field(default_factory=dict)


@dataclass(frozen=True)
class Recipe:
    """How a network is trained and used, from preparation to post-processing.

    Args:
        name: The name of the recipe.
        description: What the recipe does, and where it comes from.
        network: The network and its options, see `nets.registry`.
        loss: The loss and its options, see `losses.registry`.
        optimizer: The optimiser and its options, see `training.optim`.
        schedule: The learning-rate schedule and its options, see `training.schedule`.
        preparation: How volumes are prepared.
        sampling: Where training patches lie.
        augmentation: How training patches are transformed at random.
        training: How long and how the network is trained.
        inference: How a volume is predicted window by window.
        postprocessing: How a predicted label is cleaned up.
        defence: Adversarial training, or None for ordinary training.
        averaging: Averaging of the weights with restarts of the learning rate, or None. The mean of the weights is the
            checkpoint `swa`.
        regions: What is learnt instead of the classes, from a name to values in the label files, see
            `core.labels.LabelSet`. None takes the regions that the dataset declares, and {} learns the classes.
        regions_class_order: For regions that are not nested: for each region in the order of `regions`, the file value
            that is written where it is found; later ones are written over earlier ones (as in nnU-Net).
        ignore: The file value of voxels that nobody has annotated, see `core.labels.LabelSet`; if it is a class of the
            dataset, it is then none any more. None takes the ignore label that the dataset declares.
        search: How an architecture is searched, or None.
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
    regions_class_order: tuple[int, ...] | None = None
    ignore: int | None = None
    search: Search | None = None

    def problems(self) -> Sequence[str]:
        """Return a sentence about an order that orders nothing."""
        if self.regions_class_order is not None and not self.regions:
            return ["regions_class_order says nothing without regions: give both"]
        return []


_PARTS = (*(entry.name for entry in fields(Recipe) if entry.default is not None), "defence")
"""The parts that every run's recipe has had from the first version on, in the order in which they are written."""


def load_recipe(name_or_path: str | Path, overrides: Sequence[str] = ()) -> Recipe:
    """Read a packaged recipe by name, or any recipe by path (a name with a `.yaml` suffix).

    Args:
        name_or_path: The name or the path.
        overrides: Changes, each `dotted.key=value` with a YAML value, such as `augmentation.mirror_axes=[1,2]`.

    Returns:
        The recipe, every part of it checked.

    Raises:
        UserError: The name is unknown, or something in the file is wrong; all problems are listed.
        FileNotFoundError: There is no such file.

    Example:
        >>> load_recipe("dynunet", ["training.epochs=100"])
    """
    return load_yaml(Recipe, name_or_path, "recipes", overrides)


def load_run_recipe(path: Path, overrides: Sequence[str] = ()) -> Recipe:
    """Read the recipe that a run keeps, which is whole: what is missing would silently become the default.

    Args:
        path: The recipe.yaml of a run.
        overrides: Changes, as for `load_recipe`.

    Raises:
        UserError: The file is damaged or cut short, or something in it is wrong.
        FileNotFoundError: There is no such file.
    """
    data = without_format(read_yaml(read_text(path), str(path)), str(path))
    lacking = [part for part in _PARTS if not isinstance(data, Mapping) or part not in data]
    if lacking:
        raise UserError(
            f"{path} is cut short: it lacks {', '.join(lacking)}, and a run's recipe holds every part. Copy it from "
            "where it is whole"
        )
    return load_recipe(path, overrides)


def recipe_names() -> tuple[str, ...]:
    """Return the names of the packaged recipes."""
    return packaged_names("recipes")


def dump_recipe(recipe: Recipe, checksum: bool = False) -> str:
    """Return the recipe as YAML that `load_recipe` reads back to the same value.

    Args:
        recipe: The recipe.
        checksum: Whether the text holds a checksum, as in a run, whose recipe nobody edits.
    """
    return dump_yaml((with_checksum if checksum else with_format)(to_data(recipe)))
