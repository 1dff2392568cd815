"""voxward suite: many tasks, many systems and one protocol, from datasets to tables over all of them."""

from __future__ import annotations

import os
import shutil
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import voxward
from voxward.core.alone import alone
from voxward.core.choices import Change, Compute, Fold, Output
from voxward.core.errors import CasesFailed, UserError
from voxward.core.outputs import Outputs
from voxward.core.progress import Progress
from voxward.data.formats import open_dataset
from voxward.engine.choose import engine_for
from voxward.engine.engine import Unfit
from voxward.engine.settings import settle
from voxward.report.html.write import check_page, page_of
from voxward.report.suite.source import SuiteSource, read_suite
from voxward.report.suite.tables import TABLES, write_tables
from voxward.runs.folder import RunFolder
from voxward.suites.costs import SuiteCosts, cases_within, costs_of
from voxward.suites.definition import load_suite
from voxward.suites.notes import Note
from voxward.suites.plan import ATTACK, SCORE, SUITE, TRAIN, SuitePlan, Unit
from voxward.suites.work import SuiteWork, done
from voxward.systems.open import open_system
from voxward.systems.unseen import scope_for
from voxward.training.budget import check_minutes
from voxward.training.harden import begun_with_others

ENVIRONMENT = "VOXWARD_DATA"
"""The environment variable with the folder of the datasets."""


@dataclass(frozen=True)
class SuiteResult:
    """What a suite found.

    Attributes:
        out: The folder.
        source: The results of every task, and which cells failed; None where only the cost was estimated.
        costs: The estimate that was asked for in place of the work.
    """

    out: Path
    source: SuiteSource | None = None
    costs: SuiteCosts | None = None


def suite(
    suite: Path | str,
    *,
    out: Path | str | Output,
    data: Path | str | None = None,
    tasks: Sequence[str] = (),
    overrides: Sequence[str] = (),
    estimate: bool = False,
    compute: Compute = Compute(),
) -> SuiteResult:
    """Train, harden, score and attack every system of a suite on every task, and write the tables over all of them.

    OUT/tasks/TASK/SYSTEM is the run of a cell, and OUT/tasks/TASK/SYSTEM/attack its attack: every other command opens
    them. A call that was interrupted goes on where it stopped. A cell that fails costs no other one; tables and page
    name it, and the next call tries it again, as it makes again what was deleted. It may add tasks and systems.

    Args:
        suite: A packaged suite (`small`, `decathlon`), or a .yaml file.
        out: The folder of everything, or an `Output` that also says what may be replaced there and who is told.
        data: The folder in which the datasets of the suite lie. None: that of the environment variable VOXWARD_DATA,
            else that of the suite's file.
        tasks: The tasks that this call works on; empty: all.
        overrides: Changes of the suite, each `dotted.key=value`, such as `systems.rog.minutes=30`.
        estimate: Only estimate the hours. Recipes that are not trained yet are set up for it on each task.
        compute: Where the work is done. Workers of a cluster must see `out`, the datasets and the models.

    Returns:
        The results, or the estimate.

    Raises:
        UserError: The suite or something that it names is wrong, or OUT was begun with other settings; before any work.
        FileNotFoundError: The suite's file, or another one, is not there.

    Example:
        >>> voxward.suite("small", out="small", data="datasets", tasks=["organ-mr"])  # doctest: +SKIP
    """
    output = Output.of(out)
    used = load_suite(suite, overrides).only(tasks)
    plan = SuitePlan(used, output.root.absolute(), _data(data, suite), _home(suite))
    plan.check()
    settings = plan.settings
    if estimate:
        return SuiteResult(output.root, costs=costs_of(plan, compute, output.progress, voxward.train))
    outputs = Outputs(output.root, "part of a suite", output.overwrite)
    outputs.check(TABLES)
    check_page(output)
    with alone(plan.root, "a suite"):
        changed = "{} of the suite, or its dataset or recipe, has changed since"
        settle(plan.root / SUITE, settings, "a suite", grows={"entries": changed}, free=("description",))
        plan.write_phantoms()
        doer = CellDoer(plan, replace(compute, cluster=None), output.overwrite)
        with engine_for(plan.root, compute.cluster, output.overwrite) as engine:
            SuiteWork(plan, doer).run(engine, output.progress)
        problems = list[str]()
        source = read_suite(plan.root, problems)
        for text in problems:
            warnings.warn(text, stacklevel=2)
        write_tables(source, outputs)
        page_of(output)
    return SuiteResult(output.root, source)


def _data(given: Path | str | None, suite: Path | str) -> Path:
    """The folder of the datasets."""
    if given is not None:
        if not Path(given).is_dir():
            raise UserError(f"data {given} is no folder: it is the one in which the datasets of the suite lie")
        return Path(given).absolute()
    if found := os.environ.get(ENVIRONMENT):
        return Path(found).absolute()
    return _home(suite) or Path.cwd()


def _home(suite: Path | str) -> Path | None:
    """The folder of the suite's file; None for a packaged one."""
    return Path(suite).absolute().parent if str(suite).endswith((".yaml", ".yml")) else None


@dataclass(frozen=True)
class CellDoer:
    """Does the stages of cells by the functions of the ordinary commands; implements engine.Doer.

    Attributes:
        plan: The suite.
        compute: The device, and how many cases are read at once.
        overwrite: Whether files that voxward did not write may be replaced.
    """

    plan: SuitePlan
    compute: Compute
    overwrite: bool

    def do(self, unit: Unit, folder: Path, progress: Progress) -> Note:
        """Do a stage of a cell, or go on with it.

        Raises:
            Unfit: This process does not see the folder of the suite, in which later units look for earlier results.
        """
        if folder.absolute() != self.plan.root:
            raise Unfit(f"the folder of the suite, {self.plan.root}, is not here: a suite needs workers that see it")
        began = time.monotonic()
        remarks = [text for text in _STAGES[unit.stage](self, unit, progress) if text]
        return done(time.monotonic() - began, "; ".join(remarks))


def _train(doer: CellDoer, unit: Unit, progress: Progress) -> Sequence[str]:
    plan, system = doer.plan, doer.plan.system(unit)
    folder, changes, resume = plan.folder(*unit.cell), plan.overrides(unit), plan.begun(*unit.cell)
    check_minutes(system.minutes)
    if system.harden is not None:
        method, eps = system.defence
        source = plan.source(unit.task, system.harden)
        if resume and begun_with_others(RunFolder(folder), RunFolder(source)):
            shutil.rmtree(folder)  # what it was made from was made again since
            resume = False
        voxward.harden(
            source, out=Output(folder, doer.overwrite, progress, report=False),
            method=method, eps=eps, overrides=changes, minutes=system.minutes, resume=resume,
            change=Change(plan.dataset(unit.task), plan.suite.seed), compute=doer.compute,
        )  # fmt: skip
        return ()
    assert system.recipe is not None
    fold = Fold(plan.suite.fold, plan.suite.folds, plan.suite.seed)
    voxward.train(
        plan.dataset(unit.task), out=folder, recipe=system.recipe, overrides=changes, minutes=system.minutes,
        resume=resume, fold=fold, compute=doer.compute, progress=progress,
    )  # fmt: skip
    return ()


def _score(doer: CellDoer, unit: Unit, progress: Progress) -> Sequence[str]:
    plan, cases = doer.plan, doer.plan.cases(unit.task)
    changes = plan.system(unit).overrides if plan.system(unit).path is not None else ()
    failed = _unless_all_fail(lambda: voxward.evaluate(
        plan.source(*unit.cell), cases, out=plan.folder(*unit.cell), overrides=changes,
        compute=doer.compute, resume=True, overwrite=doer.overwrite, progress=progress,
    ))  # fmt: skip
    if plan.system(unit).path is None:
        return (failed,)
    # What is known of the training of a model that was not trained here; its warning is gone with the terminal.
    opened = open_system(plan.source(*unit.cell), changes, doer.compute.device)
    return (failed, *scope_for([opened], open_dataset(plan.dataset(unit.task)), cases).notes)


def _attack(doer: CellDoer, unit: Unit, progress: Progress) -> Sequence[str]:
    plan = doer.plan
    count, remark = cases_within(plan, unit, doer.compute.device)
    changes = plan.system(unit).overrides if plan.system(unit).path is not None else ()
    failed = _unless_all_fail(lambda: voxward.attack(
        [str(plan.source(*unit.cell))], plan.cases(unit.task),
        out=Output(plan.attack_folder(*unit.cell), doer.overwrite, progress, report=False),
        protocol=plan.suite.protocol, device=doer.compute.device,
        overrides=[*plan.suite.overrides, *changes, *([] if count is None else [f"cases={count}"])],
    ))  # fmt: skip
    return (failed, remark)


def _unless_all_fail(work: Callable[[], object]) -> str:
    """Work on cases, and return which of them failed, in words; where all failed, there is nothing to go on with."""
    try:
        work()
    except CasesFailed as failed:
        if not failed.result:
            raise
        return " ".join(str(failed).split())
    return ""


_Stage = Callable[[CellDoer, Unit, Progress], Sequence[str]]
_STAGES: Mapping[str, _Stage] = {TRAIN: _train, SCORE: _score, ATTACK: _attack}
"""What each stage does. It returns what must be known of the figures, a sentence each."""
