"""What a model of another tool says about the cases that it was trained on, and what follows for a dataset."""

from __future__ import annotations

from collections.abc import Container, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from voxward.core.case import Case, Dataset
from voxward.core.errors import UserError
from voxward.core.labels import LabelSet
from voxward.data.identity import header_shape
from voxward.data.io import read_header
from voxward.runs.cases import listed


@dataclass(frozen=True)
class Foreign:
    """A model that is no run of voxward.

    Attributes:
        name: Its name, for messages.
        labels: Its classes; None where a user's labels are never compared with them.
        held_out: The ids of the cases that no part of it was trained on, each with a mask on the grid of its image;
            None where there is no such mask. Empty where the model does not say.
        trained: The ids of other cases of the same dataset, as far as the model says.
        advice: What a user can do to have unseen cases where `held_out` is empty.
    """

    name: str
    labels: LabelSet | None = None
    held_out: Mapping[str, Path | None] = field(default_factory=dict)
    trained: Mapping[str, Path | None] = field(default_factory=dict)
    advice: str = ""


@dataclass(frozen=True, eq=False)
class Beside:
    """A model of another tool beside a dataset.

    Attributes:
        model: The model.
        dataset: The dataset.
    """

    model: Foreign
    dataset: Dataset

    @cached_property
    def same(self) -> bool:
        """Return whether this is the dataset that the model was trained on: a case has the id and grid of one of it."""
        return any(self._there(id, mask) for id, mask in {**self.model.trained, **self.model.held_out}.items())

    @cached_property
    def held_out(self) -> frozenset[str]:
        """Return the ids of the dataset's cases that no part of the model was trained on."""
        return frozenset(id for id, mask in self.model.held_out.items() if self._there(id, mask))

    def undecided(self, absent: Container[str]) -> list[str]:
        """Return the case that must be read next to tell whether the dataset is that of the training; empty if none.

        Args:
            absent: The ids of the cases whose files are not there.
        """
        for id, mask in {**self.model.held_out, **self.model.trained}.items():
            if id in self._cases and id in absent and mask is not None:
                return [id]
            if self._there(id, mask):
                break
        return []

    def saw(self, case: Case) -> bool:
        """Return whether the model was trained on a case: in its own dataset, on all that it did not hold out."""
        test = any(case.id == other.id for other in self.dataset.test)
        return self.same and not test and case.id not in self.held_out

    def notes(self) -> Iterator[str]:
        """Return what a user should know about figures of the model on this dataset."""
        model, root = self.model, self.dataset.root
        yield from self._unlike_names()
        if self.same:
            return
        if known := [*model.held_out, *model.trained]:
            alike = [id for id in known if id in self._cases]
            how = f"other images under the ids {listed(alike)}" if alike else f"none of the {len(known)} cases"
            yield (
                f"{root} has {how} that {model.name} was validated on: it is taken for another dataset than the one of "
                "its training. If the two share images, figures are too good"
            )
        else:
            yield (
                f"nothing is known about which images {model.name} was trained on: if there are cases of {root} among "
                "them, figures are too good. Give only cases that it has not seen"
            )

    def refuse_all_seen(self) -> None:
        """Refuse a dataset none of whose cases is unseen.

        Raises:
            UserError: The model was trained on this dataset, and held out none of its cases.
        """
        if self.same and not self.held_out:
            model, root = self.model, self.dataset.root
            advice = f"{model.advice}, " if model.advice else ""
            raise UserError(
                f"{model.name} was trained on {root}, as the ids of its cases say, and held out none of them: {advice}"
                "give another dataset, or score all cases with --include-seen, which flatters"
            )

    def refuse_labels(self) -> None:
        """Refuse a dataset whose label values mean something else to the model.

        Raises:
            UserError: A class has another value, or the model lacks a value of the dataset.
        """
        if self.model.labels is None:
            return
        own, theirs = self._values
        swapped = [
            f"{name} is {value} in the model, and {theirs[name]} there"
            for name, value in own.items()
            if theirs.get(name, value) != value
        ]
        lacking = sorted(set(theirs.values()) - set(own.values()))
        if swapped or lacking:
            why = "; ".join(swapped) or f"the model has no value {', '.join(map(str, lacking))}"
            raise UserError(
                f"the labels of {self.dataset.root} are not those of {self.model.name}: {why}. The model predicts "
                f"{_named(own)}, the dataset has {_named(theirs)}"
            )

    @cached_property
    def _values(self) -> tuple[dict[str, int], dict[str, int]]:
        """The value of each foreground class by its name in small letters, of the model and of the dataset."""
        assert self.model.labels is not None
        theirs = self.dataset.labels.with_ignore(self.model.labels.ignore)
        own, other = (
            {_plain(name): value for name, value in zip(labels.names, labels.values, strict=True) if value}
            for labels in (self.model.labels, theirs)
        )
        return own, other

    def _unlike_names(self) -> Iterator[str]:
        if self.model.labels is None:
            return
        own, theirs = ({value: name for name, value in values.items()} for values in self._values)
        root, name = self.dataset.root, self.model.name
        if unlike := [f"{v} is {own[v]} and {theirs[v]}" for v in theirs if own[v] != theirs[v]]:
            yield f"{name} and {root} call the same values otherwise, which are scored as the same: {'; '.join(unlike)}"
        if more := [own[value] for value in own if value not in theirs]:
            yield f"{len(more)} classes of {name} are not in {root}, and are scored against empty masks: {listed(more)}"

    @cached_property
    def _cases(self) -> Mapping[str, Case]:
        return {case.id: case for case in self.dataset.cases}

    def _there(self, id: str, mask: Path | None) -> bool:
        """Whether the dataset has a case, with an image on the grid of the mask; a mask that is gone says nothing."""
        case = self._cases.get(id)
        if case is None or mask is None or not mask.is_file():
            return case is not None
        with suppress(UserError, OSError):  # what cannot be read will say so when it is scored
            return header_shape(case) == tuple(sorted(read_header(mask).shape))
        return True


def _plain(name: str) -> str:
    return " ".join(name.replace("_", " ").replace("-", " ").casefold().split())


def _named(values: Mapping[str, int]) -> str:
    return ", ".join(f"{value} = {name}" for name, value in values.items())
