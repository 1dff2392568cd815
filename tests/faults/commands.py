"""The commands that are disturbed, each on the smallest honest input, and how each is called again."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

from tests.end_to_end.conftest import TINY
from tests.faults.harness import run
from voxward.phantoms.write import write_phantoms

DATA, RUN, ATTACK = "data", "run", "attack"
"""What a command may need in the folder where it runs: a dataset, a run on it, and an attack of the run."""


def _set(*entries: str) -> list[str]:
    return [word for entry in entries for word in ("--set", entry)]


_TRAINING = ["--recipe", "dynunet", "--workers", "1", *_set(*TINY)]
_SHORT_SEARCH = (
    "search.layers=4", "search.scales=2", "search.blocks=1", "network.options.filters=4", "search.warmup_epochs=1",
    "search.cell_epochs=2", "search.network_epochs=2", "search.steps_per_epoch=1", "search.batch_size=1",
    "search.part=1", "training.workers=0",
)  # fmt: skip
_ONE_ATTACK = ["--protocol", "quick", "--eps", "8/255", *_set("budget.steps=2", "cases=2")]


@dataclass(frozen=True)
class Task:
    """A command that is disturbed.

    Attributes:
        words: The words after `voxward`. It writes into the folder `out`.
        needs: What it finds in its folder.
        again: What is added when it is called again.
        codes: The exit codes of an undisturbed call.
        growing: Patterns of the files in `out` that are rewritten as the work goes on; every other file is final as
            soon as it has its name.
        units: Patterns of the files in `out` that are finished work, which is not done twice.
    """

    words: list[str]
    needs: tuple[str, ...] = (DATA,)
    again: tuple[str, ...] = ()
    codes: tuple[int, ...] = (0,)
    growing: tuple[str, ...] = ()
    units: tuple[str, ...] = ()

    def set_up(self, made: Path, folder: Path) -> Path:
        """Make the folder in which the command runs, with all that it needs.

        Args:
            made: The folder that holds everything that a command may need.
            folder: The folder, which is replaced.
        """
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        if ATTACK in self.needs and not (made / ATTACK).is_dir():
            _make_attack(made)
        for name in self.needs:
            if name == DATA:
                (folder / name).symlink_to(made / name)
            else:
                shutil.copytree(made / name, folder / name)
        return folder

    def grows(self, name: str) -> bool:
        """Return whether a file in `out` is rewritten as the work goes on."""
        return any(fnmatch(name, pattern) for pattern in (*_GROWING, *self.growing))

    def is_unit(self, name: str) -> bool:
        """Return whether a file in `out` is finished work."""
        return any(fnmatch(name, pattern) for pattern in self.units)


RESUME = ("--resume",)
_GROWING = ("*.voxward", "*checkpoints/*", "*logs/*")
_CASES = ("*prepared/*/*",)
TASKS = {
    "prepare": Task(["prepare", DATA, "--recipe", "dynunet", "--out", "out", "--workers", "1"], units=("*/*.b2nd",)),
    "train": Task(["train", DATA, *_TRAINING, "--out", "out"], again=RESUME, units=_CASES),
    "train-workers": Task(
        ["train", DATA, *_TRAINING, *_set("training.workers=2"), "--out", "out"], again=RESUME, units=_CASES
    ),
    "train-long": Task(
        ["train", DATA, *_TRAINING, *_set("training.workers=2", "training.epochs=8"), "--out", "out"],
        again=RESUME, units=_CASES,
    ),
    "harden": Task(
        ["harden", RUN, "--method", "pgd", *_set("training.epochs=2", "defence.steps=1"), "--out", "out"],
        needs=(DATA, RUN), again=RESUME, units=_CASES,
    ),
    "harden-free": Task(
        ["harden", RUN, "--method", "free", *_set("training.epochs=2", "defence.replays=2"), "--out", "out"],
        needs=(DATA, RUN), again=RESUME, units=_CASES,
    ),
    "search": Task(
        ["search", DATA, "--recipe", "msnas", "--paths", "1", "--workers", "1", *_set(*_SHORT_SEARCH), "--out", "out"],
        again=RESUME, units=_CASES,
    ),
    "attack": Task(
        ["attack", RUN, "--dataset", DATA, *_ONE_ATTACK, "--attacks", "fgsm-ce", "apgd-dice", "--out", "out"],
        needs=(DATA, RUN), codes=(0, 1), units=("records/*",),
    ),
    "cv": Task(
        ["cv", DATA, "--folds", "2", *_TRAINING, *_set("training.epochs=1"), "--out", "out"],
        units=(*_CASES, "fold-*/metrics.json"),
    ),
    "predict": Task(
        ["predict", RUN, DATA, "--save-probabilities", "--out", "out"],
        needs=(DATA, RUN), again=RESUME, units=("*.nii.gz",),
    ),
    "evaluate": Task(
        ["evaluate", RUN, DATA, "--include-seen", "--split", "all", "--workers", "1", "--out", "out"],
        needs=(DATA, RUN), again=RESUME, units=("*.nii.gz",),
    ),
    "report": Task(
        ["report", ATTACK, RUN, "--out", "out/page.html", "--card", "out/card.md"], needs=(DATA, RUN, ATTACK)
    ),
    "report-figures": Task(
        ["report", ATTACK, "--out", "out/page.html", "--figures", "out/figures", "--embed", "none"],
        needs=(DATA, RUN, ATTACK),
    ),
}  # fmt: skip


def make_needs(made: Path) -> Path:
    """Make the dataset and the run that commands may need.

    Args:
        made: The folder for them, which exists.
    """
    write_phantoms(made / DATA, 6, size=24)
    run(["train", DATA, *_TRAINING, "--out", RUN], made).fine()
    return made


def _make_attack(made: Path) -> None:
    quick = ["--protocol", "quick", "--eps", "8/255", "--attacks", "fgsm-ce", "--cases", "1", "--no-report"]
    run(["attack", RUN, "--dataset", DATA, *quick, "--out", ATTACK], made).fine(0, 1)
