"""A training that begins with the weights of a run on other cases: what is taken over, and what is new."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace

from torch import nn

from voxward.core.case import Dataset
from voxward.core.channels import kind_of
from voxward.core.errors import UserError
from voxward.core.labels import LabelSet
from voxward.core.plan import Plan, load_json, load_plan
from voxward.core.recipe import Recipe
from voxward.data.channels import in_order_of
from voxward.data.identity import read_identity, same_image
from voxward.nets.registry import class_tensors, network_for_plan
from voxward.runs.cases import known_cases
from voxward.runs.folder import RunFolder, RunSettings, RunSplit, load_weights

_LISTED = 4
_LOOKED_AT = 3
"""How many of a run's cases are compared with a dataset's to tell whether they are the same."""


@dataclass(frozen=True)
class Transfer:
    """What a new run takes over from the run that it begins with.

    Attributes:
        plan: The plan of the new run: geometry, channels and normalisation of the old one, labels of the new dataset.
        new: The names of the network's tensors that begin with random values, because they belong to classes that the
            old run does not know.
    """

    plan: Plan
    new: tuple[str, ...]


def is_own_dataset(run: RunFolder, dataset: Dataset) -> bool:
    """Return whether a dataset is the one that a run was trained on, wherever it lies now.

    Args:
        run: The run.
        dataset: The dataset, which is the run's own if it lies where that lay, or has the ids of the run's training
            cases and, for the first of them, its images.
    """
    settings, split = load_json(RunSettings, run.settings), load_json(RunSplit, run.splits)
    if str(dataset.root.resolve()) == settings.dataset:
        return True
    if not {*split.fit, *split.selection} <= {case.id for case in dataset.cases}:
        return False
    known = known_cases(run, dataset)
    if known is None:
        return load_plan(run.plan).dataset == dataset.name
    before = known.of("fit", "selection")
    ids = [id for id in split.fit if id in before][:_LOOKED_AT]
    return any(_is_image(dataset, id, before[id]) for id in ids)


def _is_image(dataset: Dataset, id: str, before: object) -> bool:
    try:
        return same_image(read_identity(dataset.case(id)), before)  # type: ignore[arg-type]
    except (UserError, OSError):
        return False


def transferred(run: RunFolder, dataset: Dataset, recipe: Recipe, measured: Plan) -> Transfer:
    """Decide what a run on another dataset takes over from the run that it begins with.

    Args:
        run: The run to begin with.
        dataset: The other dataset, with the regions of the recipe.
        recipe: The recipe of the new run.
        measured: The plan that the recipe makes for the other dataset; only what depends on its classes is taken.

    Raises:
        UserError: The channels are not the run's, or its weights do not fit the network of the recipe.
    """
    before = load_plan(run.plan)
    names = _channels(run, dataset, before)
    plan = replace(
        before,
        dataset=dataset.name,
        labels=dataset.labels,
        channels=tuple(replace(one, name=name) for one, name in zip(before.channels, names, strict=True)),
        min_object_mm3=measured.min_object_mm3,
        nan="zero" if "zero" in (before.nan, recipe.preparation.nan) else "refuse",
        affine_tolerance=max(before.affine_tolerance, recipe.preparation.affine_tolerance),
        batch_size=recipe.preparation.batch_size or before.batch_size,
    )
    network = network_for_plan(recipe.network.name, plan, recipe.network.options)
    new = () if _same_outputs(before.labels, plan.labels) else class_tensors(recipe.network, plan)
    _refuse_other_weights(network, run, new)
    if new:
        shown = ", ".join(new[:_LISTED]) + (", ..." if len(new) > _LISTED else "")
        warnings.warn(
            f"{dataset.root} has the classes {', '.join(_outputs(plan.labels))}, and {run.root} those of "
            f"{before.dataset}, {', '.join(_outputs(before.labels))}: the last layers begin with random values "
            f"({shown}), all others with those of {run.root}",
            stacklevel=2,
        )
    return Transfer(plan, new)


def _refuse_other_weights(network: nn.Module, run: RunFolder, new: Sequence[str]) -> None:
    try:
        load_weights(network, run.weights("auto"), new)
    except UserError as error:
        raise UserError(
            f"{error}; a run that begins with {run.root} needs its network: --recipe {run.recipe}"
        ) from error


def _same_outputs(first: LabelSet, second: LabelSet) -> bool:
    """Whether the outputs of a network mean the same for two sets of labels; file values may differ."""
    return first.head == second.head and _outputs(first) == _outputs(second)


def _outputs(labels: LabelSet) -> tuple[str, ...]:
    return labels.scored if labels.regions else labels.predicted.names


def _channels(run: RunFolder, dataset: Dataset, plan: Plan) -> tuple[str, ...]:
    """The names of the channels in the run's order: matched by name, or by number where no name is the same."""
    wanted = tuple(channel.name for channel in plan.channels)
    try:
        return _matched(dataset, wanted)
    except UserError:
        kinds = [set(map(kind_of, names)) for names in (wanted, dataset.channels)]
        if len(wanted) != len(dataset.channels) or kinds[0] & kinds[1]:
            raise
    warnings.warn(
        f"the channels {', '.join(dataset.channels)} of {dataset.root} are taken for {', '.join(wanted)} of "
        f"{run.root}, in this order: no name is the same",
        stacklevel=3,
    )
    return dataset.channels


def _matched(dataset: Dataset, wanted: tuple[str, ...]) -> tuple[str, ...]:
    if len(in_order_of(dataset, wanted).channels) != len(wanted):
        raise UserError(
            f"{dataset.root} has the channels {', '.join(dataset.channels)}, but the run takes {', '.join(wanted)}"
        )
    return wanted
