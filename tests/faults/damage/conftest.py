"""A tiny dataset and a trained run, made once: every test has a copy of its own."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from voxward.commands.train import train
from voxward.phantoms.write import write_phantoms

TINY = (
    "training.workers=0", "training.precision=fp32", "network.options.filters=[4,8,8,8,8,8]",
    "preparation.batch_size=2", "training.epochs=3",
)  # fmt: skip


@pytest.fixture(scope="session")
def phantoms(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("faults") / "data"
    write_phantoms(root, 8, size=24)
    return root


@pytest.fixture(scope="session")
def trained(phantoms: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An undisturbed run, which nobody may change."""
    root = tmp_path_factory.mktemp("faults") / "trained"
    train(phantoms, out=root, recipe="dynunet", overrides=TINY)
    return root


@pytest.fixture
def run(trained: Path, tmp_path: Path) -> Path:
    """A copy of the run."""
    return Path(shutil.copytree(trained, tmp_path / "run"))
