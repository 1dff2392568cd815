"""The book of a search by trainings: an Optuna study in a journal file, which holds every candidate and every score.

The journal is a file of JSON lines that only grows. Nothing in it is a pickle, and tools of Optuna can read it.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from voxward.architecture_search.candidates import Candidate, CandidateSpace
from voxward.architecture_search.rungs import Score, Scored
from voxward.core.errors import MissingPackageError, UserError
from voxward.core.genotype import Genotype
from voxward.core.structure import from_data, to_data

JOURNAL = "journal.log"
_STUDY = "search"
# More choices say little about a mean from so few candidates.
_FEWEST = 4


def optuna() -> Any:
    """Return the package Optuna.

    Raises:
        MissingPackageError: The extra `search` is not installed.
    """
    try:
        import optuna as package
    except ModuleNotFoundError as error:
        raise MissingPackageError(
            "a search with the strategy halving or random needs Optuna: pip install 'voxward[search]'"
        ) from error
    package.logging.set_verbosity(package.logging.WARNING)
    return package


@dataclass(frozen=True, eq=False)
class Book:
    """Every candidate of a search, with what it costs and what it scored; made by `open_book`.

    Attributes:
        path: The journal.
        study: The study of Optuna.
        storage: Its storage.
        distributions: What may be chosen, as Optuna describes it.
        fronts: Whether two values are told of a finished candidate, Dice and multiply-adds, and not Dice alone.
    """

    path: Path
    study: Any
    storage: Any
    distributions: Mapping[str, Any]
    fronts: bool

    def __len__(self) -> int:
        return len(self._trials)

    @property
    def _trials(self) -> list[Any]:
        return list(self.study.get_trials(deepcopy=False))

    def add(self, candidate: Candidate, macs: int) -> int:
        """Write a candidate into the book, and return its number.

        Args:
            candidate: The candidate.
            macs: Its multiply-adds for one patch.
        """
        package, number = optuna(), len(self)
        known = {"genotype": to_data(candidate.genotype), "origin": candidate.origin, "macs": macs}
        # All at once: a process that is killed leaves no half of a candidate.
        self.study.add_trial(
            package.trial.create_trial(
                state=package.trial.TrialState.RUNNING, params=dict(candidate.choices),
                distributions=dict(self.distributions), user_attrs=known,
            )
        )  # fmt: skip
        return number

    def candidate(self, number: int) -> Candidate:
        """Return a candidate."""
        trial = self._trials[number]
        genotype = from_data(Genotype, trial.user_attrs["genotype"], f"{self.path}, candidate {number}")
        return Candidate(genotype, dict(trial.params), str(trial.user_attrs["origin"]))

    def macs(self, number: int) -> int:
        """Return the multiply-adds of a candidate for one patch."""
        return int(self._trials[number].user_attrs["macs"])

    def score(self, number: int, rung: int) -> Score | None:
        """Return what a candidate scored at a rung; None where it was not there yet."""
        found = self._trials[number].user_attrs.get(f"rung {rung}")
        return None if found is None else from_data(Score, found, f"{self.path}, candidate {number}")

    def note(self, number: int, rung: int, score: Score) -> None:
        """Write what a candidate scored at a rung; writing it twice is harmless."""
        if self.score(number, rung) is None:
            place = self.storage.get_trial_id_from_study_id_trial_number(self.study._study_id, number)
            self.storage.set_trial_user_attr(place, f"rung {rung}", to_data(score))

    def scored(self, rung: int) -> list[Scored]:
        """Return all candidates that have a score at a rung."""
        found = [(number, self.score(number, rung)) for number in range(len(self))]
        return [Scored(number, score, self.macs(number)) for number, score in found if score is not None]

    def close(self, rung: int) -> None:
        """Tell Optuna how the candidates ended: those with a score at the last rung have a value, others were pruned.

        Args:
            rung: The number of the last rung.
        """
        states = optuna().trial.TrialState
        for number, trial in enumerate(self._trials):
            if trial.state.is_finished():
                continue
            score = self.score(number, rung)
            if score is None:
                self.study.tell(number, state=states.PRUNED)
            else:
                values = [score.dice, float(self.macs(number))] if self.fronts else score.dice
                self.study.tell(number, values)

    def importances(self) -> dict[str, float]:
        """Return how much each choice says about Dice at the end of the first rung, from 0; the sum is 1.

        It is PED-ANOVA (Watanabe et al. 2023). Nothing is returned for fewer than four candidates, or where Optuna
        cannot tell.
        """
        package = optuna()
        first = self.scored(0)
        if len(first) < _FEWEST or len({one.score.dice for one in first}) == 1:
            return {}
        study, trials = package.create_study(direction="maximize"), self._trials
        for one in first:
            study.add_trial(
                package.trial.create_trial(
                    params=trials[one.number].params, distributions=dict(self.distributions), value=one.score.dice
                )
            )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that it is experimental, or that some choice has one value
            evaluator = package.importance.PedAnovaImportanceEvaluator()
            try:
                found = package.importance.get_param_importances(study, evaluator=evaluator)
            except (ValueError, RuntimeError):  # too few different values
                return {}
        return {name: float(value) for name, value in found.items()}


def open_book(path: Path, space: CandidateSpace, objective: str) -> Book:
    """Open the book of a search, or begin it.

    Args:
        path: The journal.
        space: What may be chosen.
        objective: A name in `rungs.RANKINGS`.

    Raises:
        UserError: The journal is damaged, or is not one of such a search.
        MissingPackageError: The extra `search` is not installed.
    """
    package, fronts = optuna(), objective == "pareto"
    distributions = {
        name: package.distributions.CategoricalDistribution(values) for name, values in space.values.items()
    }
    directions = ["maximize", "minimize"] if fronts else ["maximize"]
    _cut_unfinished(path)
    try:
        storage = package.storages.JournalStorage(package.storages.journal.JournalFileBackend(str(path)))
        study = package.create_study(
            storage=storage, study_name=_STUDY, directions=directions, load_if_exists=True,
            sampler=package.samplers.RandomSampler(0),
        )  # fmt: skip
        book = Book(path, study, storage, distributions, fronts)
        _check(book)
    except (ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
        raise UserError(
            f"{path} is damaged, or not the journal of a search ({error}): restore it from a copy, or begin another "
            "search with another --out"
        ) from error
    return book


def _cut_unfinished(path: Path) -> None:
    """Cut off the line that a killed process left unfinished; the next one would be appended to it, and be lost."""
    if not path.is_file():
        return
    content = path.read_bytes()
    if whole := content.rfind(b"\n") + 1:
        os.truncate(path, whole)


def _check(book: Book) -> None:
    """Read everything once."""
    for number in range(len(book)):
        book.candidate(number)
        book.macs(number)
        book.score(number, 0)
