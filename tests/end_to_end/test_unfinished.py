"""A run whose training has not ended is named as one, and one whose recipe is cut short is refused."""

from __future__ import annotations

import os
import re
import shutil
import signal
import warnings
from pathlib import Path

import pytest
import yaml

import voxward
from tests.end_to_end.conftest import TINY
from voxward.commands.train import train
from voxward.core.interrupt import Interrupted


@pytest.fixture(scope="module")
def stopped(phantoms: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of 2 epochs that was stopped after its first step."""

    def stop(stage: str, done: int, total: int, /, **figures: float) -> None:
        if stage == "train" and done == 1:
            os.kill(os.getpid(), signal.SIGINT)

    out = tmp_path_factory.mktemp("stopped") / "run"
    with pytest.raises(Interrupted):
        train(phantoms, out=out, recipe="dynunet", overrides=TINY, progress=stop)
    return out


def test_an_unfinished_run_is_named_with_its_step(stopped: Path, tmp_path: Path) -> None:
    shutil.copytree(stopped, tmp_path / "run")
    weights = tmp_path / "run" / "checkpoints"
    shutil.copy(weights / "last.safetensors", weights / "best.safetensors")  # as if it had been validated once
    with pytest.warns(UserWarning, match=r"run is an unfinished run \(step 1 of \d+\)"):
        voxward.load_run(tmp_path / "run")
    (weights / "state.pt").unlink()  # deleted to save space: nothing is known
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        voxward.load_run(tmp_path / "run")


def test_a_recipe_that_is_cut_short_is_refused(stopped: Path, tmp_path: Path) -> None:
    """At every line: what is missing must not become the default."""
    shutil.copytree(stopped, tmp_path / "run")
    path = tmp_path / "run" / "recipe.yaml"
    # As runs of version 0.2.0 have it; in those of today the checksum says so before.
    whole = re.sub(r"^checksum: .*\n", "", path.read_text(), flags=re.MULTILINE)
    places = [whole.index(f"\n{part}:") + 1 for part in yaml.safe_load(whole) if part not in ("format", "name")]
    needed = whole.index("\ndefence:") + 1
    for place in [place for place in places if place <= needed]:
        path.write_text(whole[:place])
        with pytest.raises(ValueError, match=r"recipe\.yaml is cut short: it lacks .*defence"):
            voxward.load_run(tmp_path / "run")
