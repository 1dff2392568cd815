"""Which cases of a dataset no run was trained on, by their images, so that a score on them does not flatter."""

from __future__ import annotations

import warnings
from collections.abc import Container, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from voxward.core.case import Case, Dataset
from voxward.core.choices import Cases
from voxward.core.errors import UserError
from voxward.core.labels import LabelSet
from voxward.core.plan import load_json, load_plan
from voxward.core.progress import Progress, counter, silent
from voxward.core.wording import counted
from voxward.data.identity import Identity, KnownImages, read_identity, same_image
from voxward.data.parallel import for_each_case
from voxward.runs.cases import RunCases, known_cases, listed
from voxward.runs.folder import RunFolder, RunSettings, RunSplit
from voxward.runs.foreign import Beside, Foreign


@dataclass(frozen=True)
class Scope:
    """The cases of a dataset that are scored or attacked.

    Attributes:
        ids: Their ids.
        seen: Those among them that a run was trained on.
        left_out: The ids of other cases, left out because a run was trained on them.
        own: Whether they are all validation cases of the first run, with the images that these had then.
        from_own: Whether they are cases of the dataset that the first run was trained on.
        notes: What a user should know about the choice, one sentence each.
    """

    ids: tuple[str, ...]
    seen: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()
    own: bool = False
    from_own: bool = False
    notes: tuple[str, ...] = ()

    def warn(self) -> None:
        """Tell the notes as warnings."""
        for note in self.notes:
            warnings.warn(note, stacklevel=3)


def scope_of(
    runs: Sequence[RunFolder],
    dataset: Dataset,
    cases: Cases = Cases(),
    count: int | None = None,
    workers: int = 2,
    progress: Progress = silent,
    others: Sequence[Foreign] = (),
) -> Scope:
    """Choose the cases to score: of the run's own dataset its validation cases, of another one all labelled ones.

    A dataset is the run's own, wherever it lies and whatever it is called, if it has all cases of the run and at least
    one validation case has the run's image. Cases whose image a run was trained on are left out, whatever their id.

    The dataset that a model of another tool was trained on is known by ids of cases that it was validated on; then only
    the cases count as unseen that it held out. A model that does not say what it was trained on has seen none of them,
    and a note says how much that is worth.

    Args:
        runs: The runs; without any, no case counts as seen by them.
        dataset: The dataset.
        cases: Which part of it, and whether cases that were seen in training are scored as well.
        count: How many cases are wanted, of which the first are taken; None takes all.
        workers: How many cases are read at once.
        progress: A function that is told about every case that is read.
        others: What models of other tools say about their training.

    Returns:
        The cases, in the order of the ids asked for, else of the first run's validation list, else of the dataset.

    Raises:
        UserError: There is no such case, or the labels are not the models'.
    """
    known, beside = [_Known(run, dataset) for run in runs], [Beside(model, dataset) for model in others]
    candidates = _among(_candidates(known, beside, dataset, cases), cases.ids, dataset)
    found, left_out = list[str](), list[str]()
    seen = dict[str, str]()
    for id, by in _looked_up(known, beside, candidates, count, workers, progress):
        if by is not None:
            seen[id] = by
        if by is None or cases.include_seen:
            found.append(id)
        else:
            left_out.append(id)
        if count is not None and len(found) == count:
            break
    if not found:
        raise UserError(_nothing(dataset, left_out, list(seen.values())))
    notes = [note for run in known for note in run.notes(found, seen)]
    notes += [note for model in beside for note in model.notes()]
    notes += _left_out_note(dataset, left_out, list(seen.values()), len(found) + len(left_out), len(candidates))
    own = bool(known) and not cases.include_seen and cases.split == "validation" and known[0].is_own(found)
    return Scope(
        ids=tuple(found),
        seen=tuple(id for id in found if id in seen),
        left_out=tuple(left_out),
        own=own,
        from_own=bool(known) and known[0].same,
        notes=tuple(notes),
    )


def undecided(
    runs: Sequence[RunFolder], dataset: Dataset, others: Sequence[Foreign], absent: Container[str]
) -> list[str]:
    """Return which cases must be read next before it can be said whether a dataset is the one of a model's training.

    Args:
        runs: The runs.
        dataset: The dataset, some of whose files need not be there.
        others: What models of other tools say about their training.
        absent: The ids of the cases whose files are not there.

    Returns:
        The ids of cases without files; empty where all is there that tells.
    """
    known = [_Known(run, dataset).undecided(absent) for run in runs]
    return list(
        dict.fromkeys(id for ids in (*known, *(Beside(one, dataset).undecided(absent) for one in others)) for id in ids)
    )


@dataclass(frozen=True, eq=False)
class _Known:
    """What a run knows about a dataset."""

    folder: RunFolder
    dataset: Dataset

    @cached_property
    def split(self) -> RunSplit:
        return load_json(RunSplit, self.folder.splits)

    @cached_property
    def cases(self) -> RunCases | None:
        return known_cases(self.folder, self.dataset)

    @cached_property
    def images(self) -> KnownImages:
        return KnownImages(()) if self.cases is None else self.cases.trained

    @cached_property
    def ids(self) -> frozenset[str]:
        return frozenset(case.id for case in self.dataset.cases)

    @cached_property
    def whole(self) -> bool:
        """Whether the dataset has all ids of the run."""
        return {*self.split.fit, *self.split.selection, *self.split.validation} <= self.ids

    @cached_property
    def same(self) -> bool:
        """Whether this is the run's own dataset, wherever it lies: its validation cases are the ones to score."""
        return self.whole and (self.in_place or self.cases is None or any(map(self.kept, self.split.validation)))

    @cached_property
    def in_place(self) -> bool:
        if not self.folder.settings.is_file():
            return False
        path = load_json(RunSettings, self.folder.settings).dataset
        return self.dataset.root.resolve() == Path(path).resolve()

    @cached_property
    def named_alike(self) -> bool:
        return load_plan(self.folder.plan).dataset == self.dataset.name

    @cached_property
    def validation(self) -> dict[str, Identity]:
        return {} if self.cases is None else self.cases.of("validation")

    def undecided(self, absent: Container[str]) -> list[str]:
        """The case that must be read next to tell whether the dataset is the run's own; in old runs, all."""
        if not self.folder.cases.is_file():
            return [case.id for case in self.dataset.every if case.id in absent]
        for id in self.split.validation if self.whole and not self.in_place else ():
            if id in self.validation and id in absent:
                return [id]
            if self.kept(id):
                break
        return []

    def kept(self, id: str) -> bool:
        """Whether a validation case has the image that it had when the run began; if that is unknown, names decide."""
        before = self.validation
        if id not in before:
            return self.named_alike
        try:
            return same_image(read_identity(self.dataset.case(id)), before[id])
        except (UserError, OSError):
            return False

    def is_own(self, ids: Sequence[str]) -> bool:
        return set(ids) == set(self.split.validation) and all(map(self.kept, ids))

    def saw(self, case: Case) -> bool:
        if self.cases is None:
            return (self.whole or self.named_alike) and case.id in (*self.split.fit, *self.split.selection)
        with suppress(UserError, OSError):  # what cannot be read cannot be scored either, which says so
            return self.images.find_case(case) is not None
        return False

    def refuse_labels(self) -> None:
        labels = load_plan(self.folder.plan).labels
        if self.dataset.labels.with_ignore(labels.ignore).classes != labels.classes:
            raise UserError(
                f"the model predicts {_named(labels)}, but {self.dataset.root} has {_named(self.dataset.labels)}"
            )

    def notes(self, scored: Sequence[str], seen: Container[str]) -> Iterator[str]:
        """What a user should know about cases of this dataset that are scored."""
        root = self.folder.root
        if not self.folder.cases.is_file():
            how = "by their ids" if self.cases is None else "by reading them again where its dataset lies now"
            yield f"{root} does not say which images it was trained on (it was made by version 0.2): known {how}"
        if self.same:
            changed = [id for id in scored if id in self.validation and not self.kept(id)]
            if changed:
                yield (
                    f"{len(changed)} validation cases in {self.dataset.root} have other images than when {root} was "
                    f"trained: {listed(changed)}"
                )
        elif self.cases is not None:
            trained = {*self.split.fit, *self.split.selection}
            if twins := [id for id in scored if id in trained and id not in seen]:
                yield (
                    f"{len(twins)} cases of {self.dataset.root} have the ids of cases that {root} was trained on, and "
                    f"other images ({listed(twins)}): they are scored as cases of another site. If they are the same "
                    "patients, processed otherwise, their scores flatter"
                )


def _left_out_note(
    dataset: Dataset, left_out: Sequence[str], by: Sequence[str], looked_at: int, every: int
) -> list[str]:
    """The note on cases that are left out; fewer cases than there are may have been looked at."""
    if not left_out:
        return []
    are, their = ("is", "its") if len(left_out) == 1 else ("are", "their")
    rest = every - looked_at
    part = (
        f"; {counted(rest, 'further case')} {'was' if rest == 1 else 'were'} not needed, nor looked at" if rest else ""
    )
    return [
        f"{counted(len(left_out), 'case')} of {dataset.root} {are} left out, because {_names(by)} was trained on "
        f"{their} images ({listed(left_out)}{part}); --include-seen scores such cases, too"
    ]


def _candidates(known: Sequence[_Known], beside: Sequence[Beside], dataset: Dataset, cases: Cases) -> list[Case]:
    """The cases that are scored unless they were seen."""
    for run in known:
        run.refuse_labels()
    for model in beside:
        model.refuse_labels()
        if cases.split == "validation" and not cases.include_seen:
            model.refuse_all_seen()
    if cases.split == "test" and not dataset.test:
        raise UserError(f"{dataset.root} has no test cases with labels: --split test needs them")
    parts = {"validation": dataset.cases, "test": dataset.test, "all": (*dataset.cases, *dataset.test)}
    wanted = list(parts[cases.split])
    own = [run for run in known if run.same]
    if cases.split != "validation" or cases.include_seen or not own:
        return wanted
    first, *others = (run.split.validation for run in own)
    common = [id for id in first if all(id in other for other in others)]
    if not common:
        if full := [str(run.folder.root) for run in own if not run.split.validation]:
            test = "score the test cases with --split test, " if dataset.test else ""
            raise UserError(
                f"{', '.join(full)} trained on every case of its dataset (--fold all), so that none of {dataset.root} "
                f"is unseen: {test}give another dataset, or score all cases with --include-seen"
            )
        raise UserError(
            "the runs have no validation case in common: every case was in the training of one of them. Train them "
            "with the same --fold and --seed, give another dataset, or score all cases with --include-seen"
        )
    return [dataset.case(id) for id in common]


def _among(candidates: Sequence[Case], ids: Sequence[str], dataset: Dataset) -> list[Case]:
    """Those cases that were asked for by their ids, in that order; without any ids, all."""
    if not ids:
        return list(candidates)
    if unknown := sorted({*ids} - {case.id for case in (*dataset.cases, *dataset.test)}):
        raise UserError(f"{dataset.root} has no labelled case {listed(unknown)}")
    there = {case.id: case for case in candidates}
    if not (found := [there[id] for id in ids if id in there]):
        raise UserError(
            f"none of the {counted(len(ids), 'case')} of {dataset.root} that were asked for ({listed(ids)}) was held "
            "out of the training: give other cases, or score these with --include-seen, which flatters"
        )
    return found


def _looked_up(
    known: Sequence[_Known],
    beside: Sequence[Beside],
    candidates: Sequence[Case],
    count: int | None,
    workers: int,
    progress: Progress,
) -> Iterator[tuple[str, str | None]]:
    """For each case the first model that was trained on its image; with a count no more are read than used."""

    def look(case: Case) -> tuple[str, str | None]:
        by = next((model.model.name for model in beside if model.saw(case)), None)
        return case.id, by or next((str(run.folder.root) for run in known if run.saw(case)), None)

    if count is None and known:
        yield from for_each_case(look, candidates, workers, counter(progress, "compare"))
    else:
        yield from map(look, candidates)


def _nothing(dataset: Dataset, left_out: Sequence[str], by: Sequence[str]) -> str:
    if not left_out:
        return f"{dataset.root} has no labelled case to score"
    return (
        f"there is no unseen case in {dataset.root}: {_names(by)} was trained on the images of all {len(left_out)}: "
        f"{listed(left_out)}; give other cases, or score these with --include-seen, which flatters"
    )


def _names(by: Iterable[str]) -> str:
    return " or ".join(dict.fromkeys(by))


def _named(labels: LabelSet) -> str:
    return ", ".join(f"{value} = {name}" for value, name in zip(labels.values, labels.names, strict=True))
