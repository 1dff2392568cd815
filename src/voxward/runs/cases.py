"""Which images a run was trained on, kept in its folder: they are recognised wherever they turn up later."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from voxward.core.case import Case, Dataset
from voxward.core.errors import UserError
from voxward.core.plan import Plan, load_json, load_plan
from voxward.data.formats import open_dataset
from voxward.data.identity import Identity, KnownImages, header_shape, read_identity, unchanged
from voxward.data.parallel import for_each_case
from voxward.data.store import recorded_identity
from voxward.runs.folder import RunFolder, RunSettings, RunSplit

Use = Literal["fit", "selection", "validation", "earlier"]

LISTED = 5
"""How many ids a message names; it gives the number of all."""


@dataclass(frozen=True)
class KnownCase:
    """A case that a run knows.

    Attributes:
        id: Its id.
        use: What it was used for, as in RunSplit; `earlier` if a run was trained on it whose weights this one began
            with.
        identity: What its image is recognised by.
    """

    id: str
    use: Use
    identity: Identity


@dataclass(frozen=True)
class RunCases:
    """The content of a run's cases.json.

    Attributes:
        cases: The cases of the run's split whose images could be read, and those of earlier runs.
    """

    cases: tuple[KnownCase, ...]

    @property
    def trained(self) -> KnownImages:
        """Return the images that the weights were trained or selected on."""
        return KnownImages((case.id, case.identity) for case in self.cases if case.use != "validation")

    def of(self, *uses: Use) -> dict[str, Identity]:
        """Return the images of cases that were used so, by id."""
        return {case.id: case.identity for case in self.cases if case.use in uses}


def recognised(
    dataset: Dataset, ids: Sequence[str], workers: int = 2, prepared: tuple[Plan, Path] | None = None
) -> dict[str, Identity]:
    """Return what the images of cases are recognised by: of prepared cases from their records, else from their files.

    Args:
        dataset: The dataset.
        ids: The ids of the cases.
        workers: How many cases are read at once.
        prepared: The plan and the folder of prepared cases; None reads all files.

    Returns:
        For every case whose image can be read its identity, in the order of `ids`.
    """
    found: dict[str, Identity] = {}

    def look(case: Case) -> None:
        with suppress(UserError, OSError):  # whatever needs the voxels of the case will say so
            known = None if prepared is None else recorded_identity(case, *prepared)
            found[case.id] = known or read_identity(case)

    for_each_case(look, [dataset.case(id) for id in ids], workers)
    return {id: found[id] for id in ids if id in found}


def cases_of_run(
    folder: RunFolder, dataset: Dataset, prepared: Path, start: RunFolder | None, workers: int
) -> RunCases:
    """Return the cases that a run knows which begins, and whose cases are prepared: the content of its cases.json.

    Validation cases are read for it, so that they are recognised later; nothing else is done with them. Where an image
    is in several parts of the split, a warning says so.

    Args:
        folder: The run's folder, with its plan and its split.
        dataset: The dataset.
        prepared: The folder of the prepared cases.
        start: The run whose weights this one begins with.
        workers: How many cases are read at once.
    """
    split, plan = load_json(RunSplit, folder.splits), load_plan(folder.plan)
    uses: dict[str, Use] = dict.fromkeys(split.validation, "validation")
    uses.update(dict.fromkeys(split.selection, "selection"))
    uses.update(dict.fromkeys(split.fit, "fit"))
    found = recognised(dataset, list(uses), workers, (plan, prepared))
    cases = [KnownCase(id, uses[id], identity) for id, identity in found.items()]
    if start is not None and (before := known_cases(start)) is not None:
        own = KnownImages((case.id, case.identity) for case in cases if case.use != "validation")
        trained = [case for case in before.cases if case.use != "validation"]  # of several sites, ids may repeat
        cases += [replace(case, use="earlier") for case in trained if own.find(case.identity) is None]
    known = RunCases(tuple(cases))
    for message in _repeated(known):
        warnings.warn(message, stacklevel=2)
    return known


def known_cases(folder: RunFolder, among: Dataset | None = None) -> RunCases | None:
    """Return the cases that a run knows; None if its folder does not say, and its dataset is not where it was.

    Args:
        folder: The run's folder. A run of version 0.2 or earlier has no cases.json: its training cases are read in its
            dataset.
        among: The dataset in which they will be looked for: cases whose shape does not occur there are not read.
    """
    if folder.cases.is_file():
        return load_json(RunCases, folder.cases)
    split = load_json(RunSplit, folder.splits)
    try:
        # Nothing of its files but their identity is used, so that nothing is lost where links lead elsewhere.
        dataset = open_dataset(load_json(RunSettings, folder.settings).dataset, follow_links=True)
        ids = [case.id for case in dataset.cases]
        wanted = [id for id in (*split.fit, *split.selection) if id in ids]
        if among is not None:
            shapes = {header_shape(case) for case in among.every}
            wanted = [id for id in wanted if header_shape(dataset.case(id)) in shapes]
    except (UserError, OSError):
        return None
    found = recognised(dataset, wanted)
    return RunCases(tuple(KnownCase(id, "fit", identity) for id, identity in found.items()))


def refuse_other_images(folder: RunFolder, dataset: Dataset, prepared: Path, workers: int) -> None:
    """Refuse to go on with a run where the images that it learns from are not those that it began with.

    Raises:
        UserError: An image has other voxels, or another voxel size. The message names the cases.
    """
    if not folder.cases.is_file():
        return
    began = load_json(RunCases, folder.cases).of("fit", "selection")
    now = recognised(dataset, list(began), workers, (load_plan(folder.plan), prepared))
    changed = [id for id, identity in now.items() if not unchanged(identity, began[id])]
    if changed:
        raise UserError(
            f"{dataset.root} holds other images than {folder.root} was begun with: {listed(changed)} "
            f"({len(changed)} of {len(began)} training cases). Give the dataset of the run, or begin a new run with "
            "another --out; nothing was changed"
        )


def listed(ids: Sequence[str]) -> str:
    """Return the first ids as a text, with dots if there are more."""
    return ", ".join(ids[:LISTED]) + (", ..." if len(ids) > LISTED else "")


def _repeated(known: RunCases) -> Iterator[str]:
    """A sentence for each two parts of the split that share images."""
    for first, second in (("fit", "validation"), ("selection", "validation"), ("fit", "selection")):
        images = KnownImages((case.id, case.identity) for case in known.cases if case.use == first)
        pairs = [(case.id, images.find(case.identity)) for case in known.cases if case.use == second]
        twins = [f"{id} = {twin}" for id, twin in pairs if twin is not None]
        if twins:
            left_out = "; evaluate and attack leave them out" if second == "validation" else ""
            yield (
                f"{len(twins)} {second} cases show the same image as a {first} case: {listed(twins)}{left_out}. "
                "`voxward check` lists all of them"
            )
