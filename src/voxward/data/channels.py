"""Where a dataset meets a model: the channels of its cases are read in the model's order."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from voxward.core.case import Case, Dataset
from voxward.core.channels import order_of
from voxward.core.errors import UserError
from voxward.data.formats.description import channels_of, read_description
from voxward.data.formats.folder import declared_channels
from voxward.data.io import read_header


def in_order_of(dataset: Dataset, wanted: Sequence[str], names: Sequence[str] = ()) -> Dataset:
    """Return a dataset whose cases are read with the channels of a model, in the model's order.

    Channels are told apart by their names, see `core.channels.order_of`. What is assumed is warned of.

    Args:
        dataset: The dataset.
        wanted: The names of the model's channels, in its order.
        names: What the user says that the channels of the files are, in the order of the files; none leaves it to the
            dataset.

    Raises:
        UserError: The dataset lacks a channel, it cannot be told which one it is, or `names` are not as many as the
            channels of the dataset.
    """
    if names and len(names) != len(dataset.channels):
        raise UserError(
            f"channels names {len(names)} channels, {', '.join(names)}, but {dataset.root} has "
            f"{len(dataset.channels)}: {', '.join(dataset.channels)}"
        )
    order = _order(names or dataset.channels, wanted, str(dataset.root), bool(names))
    if order is None:
        return dataset
    ordered = dataset.with_cases(lambda case: _ordered(case, order, len(dataset.channels)))
    return replace(ordered, channels=tuple(wanted))


def files_in_order_of(
    cases: Sequence[Case], wanted: Sequence[str], source: str, names: Sequence[str] = (), forced: bool = False
) -> tuple[Case, ...]:
    """Return cases of files that belong to no opened dataset, to be read with a model's channels in its order.

    Args:
        cases: The cases.
        wanted: The names of the model's channels, in its order.
        source: The files' name in messages.
        names: The names of the files' channels, in their order; none where nothing declares them.
        forced: Whether the user named them for this call, so that every file must have as many.

    Raises:
        UserError: The files lack a channel, it cannot be told which one it is, or a file has more or fewer channels
            than `names` says.
    """
    for case in cases if forced else ():
        count = sum(read_header(path).channels for path in case.images)
        if count != len(names):
            raise UserError(f"channels names {len(names)} channels, {', '.join(names)}, but {case.id} has {count}")
    order = _order(names, wanted, source, forced)
    return tuple(cases) if order is None else tuple(_ordered(case, order, len(names)) for case in cases)


def names_beside(folder: Path) -> tuple[str, ...]:
    """Return the names of the channels of a folder of images, where the dataset that it belongs to declares them.

    Args:
        folder: The folder, such as imagesTs of a dataset of the Decathlon or of nnU-Net, or images of a plain one.

    Returns:
        The names; none where the folder lies in no dataset, or this declares none.
    """
    root = folder.resolve().parent
    if not folder.resolve().name.startswith("images"):
        return ()
    try:
        description = read_description(root)
        return channels_of(description, root) if description else declared_channels(root) or ()
    except (UserError, OSError):  # a file above the folder that was given need not be a dataset's
        return ()


def _order(given: Sequence[str], wanted: Sequence[str], source: str, forced: bool) -> tuple[int, ...] | None:
    """The order, or None where the files are read as they are."""
    found = order_of(given, wanted, source, forced)
    if found.notice:
        warnings.warn(found.notice, stacklevel=3)
    return found.channels


def _ordered(case: Case, order: Sequence[int], channels: int) -> Case:
    """The case, read in an order of the channels that it is read with now."""
    if case.order is not None:
        return replace(case, order=tuple(case.order[n] for n in order))
    return replace(case, order=tuple(order), channels=channels)
