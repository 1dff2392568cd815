"""A search by trainings: candidates are drawn, trained rung by rung, and the best ones go on (`halving`, `random`)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path

import torch

import voxward
from voxward.architecture_search.begin import run_search
from voxward.architecture_search.book import JOURNAL, Book, open_book
from voxward.architecture_search.candidates import CandidateSpace, candidate_space, screened
from voxward.architecture_search.rungs import RANKINGS, SUPER_NET, Score, Scored, minutes_of_one, older_rungs
from voxward.architecture_search.supernet import SuperNet
from voxward.architecture_search.trial import Rung, Trainer
from voxward.core.choices import FoldNumber
from voxward.core.errors import UserError
from voxward.core.plan import Plan
from voxward.core.progress import Progress
from voxward.core.reading import read_json
from voxward.core.recipe import Recipe, Search
from voxward.core.strategy import Rungs
from voxward.engine.course import Course
from voxward.engine.engine import Engine
from voxward.runs.folder import RunFolder
from voxward.training.begin import Request
from voxward.training.budget import CLOCK, Clock
from voxward.training.setup import TrainingCases

SUPER_NET_FOLDER = "super-net"
# Mutations are of so many of the best candidates so far, in turn.
_PARENTS = 3
# The radius of the attack that measures robust Dice, where the recipe has none.
_EPS = 8 / 255


@dataclass(frozen=True)
class ContestSettings:
    """The settings that a search by trainings was started with, beside its recipe, plan and split.

    Args:
        dataset: The folder of the dataset.
        strategy: `halving` or `random`.
        objective: What decides who goes on, a name in `rungs.RANKINGS`.
        candidates: The number of candidates.
        fold: The fold that is held out.
        seed: The seed of everything that is drawn.
        version: The version of voxward.
        rungs: How many candidates are trained to which share, rung by rung; empty in a search that was begun when
            they were no setting.
        minutes: The time budget of the whole search, or None for trainings of the recipe's epochs.
    """

    dataset: str
    strategy: str
    objective: str
    candidates: int
    fold: FoldNumber
    seed: int
    version: str = voxward.__version__
    rungs: Rungs = ()
    minutes: float | None = None

    @property
    def settled_rungs(self) -> Rungs:
        """Return how many candidates are trained to which share, rung by rung."""
        return self.rungs or older_rungs(self.strategy, self.candidates)


@dataclass(frozen=True, eq=False)
class Contest:
    """A search by trainings that is ready to go on; implements engine.Work for Rung.

    Attributes:
        root: The folder of the search.
        recipe: The recipe that candidates change.
        plan: The plan.
        cases: The prepared cases.
        settings: The settings.
        request: What was asked for.
        clock: A function that returns the time in seconds.
    """

    root: Path
    recipe: Recipe
    plan: Plan
    cases: TrainingCases
    settings: ContestSettings
    request: Request
    clock: Clock = CLOCK

    @cached_property
    def space(self) -> CandidateSpace:
        """Return what candidates there are."""
        return candidate_space(self.recipe, self.plan)

    @cached_property
    def book(self) -> Book:
        """Return the book of the candidates and their scores."""
        return open_book(self.root / JOURNAL, self.space, self.settings.objective)

    @cached_property
    def doer(self) -> Trainer:
        """Return what trains a candidate on, in this process or another one."""
        settings = self.settings
        minutes = settings.minutes
        if minutes is not None:
            minutes = minutes_of_one(settings.strategy, self.rungs, minutes)
        eps = None
        if settings.objective == "robust":
            eps = (self.recipe.search or Search()).adversarial_eps or _EPS
        return Trainer(
            root=self.root.absolute(), plan=self.plan, cases=replace(self.cases, folder=self.cases.folder.absolute()),
            seed=settings.seed, minutes=minutes, eps=eps, compute=replace(self.request.compute, cluster=None),
            clock=self.clock,
        )  # fmt: skip

    @property
    def rungs(self) -> Rungs:
        """Return how many candidates are trained to which share, rung by rung."""
        return self.settings.settled_rungs

    def key(self, unit: Rung) -> str:
        """Return a text that stands for this rung of this candidate."""
        return f"{unit.number:02d}-{unit.rung}"

    def group(self, unit: Rung) -> str:
        """Return the candidate and its rung: candidates have nothing in common that a process could keep."""
        return self.key(unit)

    def finished(self, unit: Rung) -> bool:
        """Return whether a candidate has a score at this rung."""
        return self.book.score(unit.number, unit.rung) is not None

    def accept(self, unit: Rung, result: Score) -> None:
        """Write the score into the book."""
        self.book.note(unit.number, unit.rung, result)

    def failed(self, unit: Rung, error: Exception) -> None:
        """Note that a training diverged, which ends this candidate alone; any other error ends the search."""
        if not isinstance(error, FloatingPointError):
            raise error
        self.book.note(unit.number, unit.rung, Score(-1.0))

    def units(self, numbers: Sequence[int], rung: int) -> list[Rung]:
        """Return the units of a rung."""
        until = self.rungs[rung][1]
        before = self.rungs[rung - 1][1] if rung else 0.0
        return [Rung(number, rung, until, before, self.recipe_of(number)) for number in numbers]

    def recipe_of(self, number: int) -> Recipe:
        """Return the recipe of a candidate."""
        return self.space.recipe_of(self.book.candidate(number), f"{self.recipe.name}-{number:02d}")

    def ranked(self, rung: int, numbers: Sequence[int] | None = None) -> list[Scored]:
        """Return the candidates with a score at a rung, the best one first.

        Args:
            rung: The number of the rung.
            numbers: The candidates that count; None: all.
        """
        found = [one for one in self.book.scored(rung) if numbers is None or one.number in numbers]
        return RANKINGS[self.settings.objective](found)


def compete(contest: Contest, engine: Engine, progress: Progress) -> list[Scored]:
    """Draw the candidates, train them rung by rung, and return those that were trained to the end, the best one first.

    What is in the book is not done again, so that the same call goes on where an earlier one stopped.

    Args:
        contest: The search.
        engine: What trains the candidates, one after the other or several at once.
        progress: A function that is told about every step.

    Raises:
        UserError: No training was finite.
        Interrupted: A signal stopped the search, which can then be resumed.
    """
    first, (count, _) = _first_candidates(contest, progress), contest.rungs[0]
    alive = list(range(first))
    _train(contest, alive, 0, engine, progress)
    if first < count:
        _mutate(contest, count)
        alive = list(range(count))
        _train(contest, alive, 0, engine, progress)
    for rung, (size, _) in enumerate(contest.rungs[1:], 1):
        sound = [one.number for one in contest.ranked(rung - 1, alive) if one.score.dice >= 0]
        alive = sorted(sound[:size])
        _train(contest, alive, rung, engine, progress)
    last = len(contest.rungs) - 1
    best = [one for one in contest.ranked(last, alive) if one.score.dice >= 0]
    if not best:
        raise UserError(f"no candidate of {contest.root} could be trained to the end: every loss became not finite")
    contest.book.close(last)
    return best


def _first_candidates(contest: Contest, progress: Progress) -> int:
    """Draw those candidates that need no earlier ones, and return how many there are."""
    settings, space, book = contest.settings, contest.space, contest.book
    third = settings.candidates // 3
    if settings.strategy == "random":
        origins = ["uniform"] * settings.candidates
    else:
        origins = ["uniform"] * third + ["super-net"] * third
    net: SuperNet | None = None
    for number in range(len(book), len(origins)):
        generator = _generator(settings.seed, number)
        if origins[number] == "uniform":
            drawn = screened(space, partial(space.uniform, generator))
        else:
            net = net or trained_super_net(contest, progress)
            drawn = screened(space, partial(space.of_super_net, net, generator))
        book.add(*drawn)
    return len(origins)


def _mutate(contest: Contest, count: int) -> None:
    """Draw mutations of the best candidates so far until there are `count` candidates."""
    space, book = contest.space, contest.book
    drawn_first = 2 * (contest.settings.candidates // 3)
    best = [one.number for one in contest.ranked(0, range(drawn_first)) if one.score.dice >= 0][:_PARENTS]
    if not best:
        raise UserError(f"no candidate of {contest.root} could be trained: every loss became not finite")
    for number in range(len(book), count):
        parent, generator = best[(number - drawn_first) % len(best)], _generator(contest.settings.seed, number)
        child = screened(space, partial(space.mutated, book.candidate(parent), parent, generator))
        book.add(*child)


def trained_super_net(contest: Contest, progress: Progress) -> SuperNet:
    """Search for a short time as MS-NAS does, or go on with it, and return the super-net. Its time counts."""
    folder, minutes = RunFolder(contest.root / SUPER_NET_FOLDER), contest.settings.minutes
    reuse = replace(contest.request.reuse, plan=contest.root / "plan.json", prepared=contest.cases.folder)
    request = replace(
        contest.request, out=folder, reuse=reuse, resume=folder.recipe.is_file(), overrides=(),
        minutes=None if minutes is None else SUPER_NET * minutes,
    )  # fmt: skip
    return run_search(request, contest.recipe, (1,), progress, contest.clock).bilevel.net


def _train(contest: Contest, numbers: Sequence[int], rung: int, engine: Engine, progress: Progress) -> None:
    course = Course[Rung](
        "candidates", progress, lambda unit: f"candidate {unit.number}, rung {unit.rung + 1}",
        lambda unit: unit.until - unit.before, inner="train",
    )  # fmt: skip
    course.run(contest.units(numbers, rung), contest, engine)


def _generator(seed: int, number: int) -> torch.Generator:
    """What draws a candidate: it depends on the number alone, so that a resumed search draws the same ones."""
    return torch.Generator().manual_seed(1_000_003 * (seed + 1) + number)


def strategy_of(folder: RunFolder, asked: str, resume: bool) -> str:
    """Return the strategy of a search: what was asked for, or that of the search that is resumed.

    Args:
        folder: The folder of the search.
        asked: What was asked for.
        resume: Whether a search is resumed.
    """
    if not (resume and folder.settings.is_file()):
        return asked
    found = read_json(folder.settings)
    return str(found.get("strategy", "bilevel")) if isinstance(found, dict) else asked
