"""A search by trainings: the winner is a run as if it had never paused, and a search that stopped ends as another."""

import json
import math
import os
import shutil
import signal

import pytest
import torch
from safetensors.torch import load_file

import voxward
from tests.end_to_end.test_search import SLICES
from voxward.cli import main
from voxward.core.choices import Compute, Fold, Output, Reuse
from voxward.core.interrupt import Interrupted
from voxward.core.plan import load_json, load_plan
from voxward.core.recipe import load_recipe, load_run_recipe
from voxward.core.strategy import Strategy
from voxward.data.loader import validation_patches
from voxward.nets.registry import network_for_plan
from voxward.runs.folder import RunFolder, RunSplit, load_weights
from voxward.training.validate import overlap, pooled_dice

TINY = (
    "training.workers=0", "training.precision=fp32", "preparation.batch_size=2", "network.options.filters=2",
    "search.layers=2", "search.scales=2", "search.blocks=2", "search.part=2", "search.steps_per_epoch=1",
    "search.warmup_epochs=0", "search.cell_epochs=1", "search.network_epochs=1", "training.epochs=2", *SLICES,
)  # fmt: skip
HALVING = Strategy("halving", rungs=("3:1/9", "1:1/3", "1:1"))


def _search(phantoms, out, strategy=HALVING, prepared=None, **options):
    return voxward.search(
        phantoms, out=out, recipe="msnas-2d", strategy=strategy, overrides=TINY, fold=Fold(seed=1),
        reuse=Reuse(prepared=prepared), **options,
    )  # fmt: skip


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    return tmp_path_factory.mktemp("contest-cases") / "cases"


@pytest.fixture(scope="module")
def found(phantoms, prepared, tmp_path_factory):
    return _search(phantoms, tmp_path_factory.mktemp("contest") / "out", prepared=prepared)


def test_a_third_of_the_candidates_is_of_each_origin_and_one_is_trained_to_the_end(found):
    origins = [one.origin for one in sorted(found.candidates, key=lambda one: one.number)]
    assert origins[:2] == ["uniform", "super-net"]
    assert origins[2].startswith("mutation of ")
    assert [len(one.scores) for one in found.candidates] == [3, 1, 1]
    winner = found.candidates[0]
    assert winner.scores[0].dice == max(one.scores[0].dice for one in found.candidates)
    *paused, whole = (score.steps for score in winner.scores)
    assert paused == [math.ceil(whole / 9), math.ceil(whole / 3)]
    assert {path.name for path in found.out.iterdir()} >= {
        "journal.log", "best.yaml", "candidates.md", "candidates.csv", "candidates.json", "rungs.png", "rungs.svg",
        "super-net", "trials", "plan.json", "provenance.json",
    }  # fmt: skip
    written = json.loads((found.out / "candidates.json").read_text())
    assert (written["format"], len(written["candidates"])) == (1, 3)
    assert f"**{winner.number}" in (found.out / "candidates.md").read_text()


def test_the_winner_is_the_training_of_its_recipe_that_never_paused(found, phantoms, prepared, tmp_path):
    again = voxward.train(
        phantoms, out=tmp_path / "run", recipe=str(found.out / "best.yaml"), fold=Fold(seed=1),
        reuse=Reuse(plan=found.out / "plan.json", prepared=prepared),
    )  # fmt: skip
    for checkpoint in ("last", "best", "swa"):
        ours, theirs = (load_file(RunFolder(run).weights(checkpoint)) for run in (found.run, again))
        assert ours.keys() == theirs.keys()
        assert all(bool((ours[name] == theirs[name]).all()) for name in ours), checkpoint
    scored = voxward.evaluate(found.run, out=tmp_path / "scores")
    assert {case.id for case in scored.cases} == set(json.loads((found.out / "splits.json").read_text())["validation"])


def test_the_last_score_is_of_the_weights_that_are_deployed(found, prepared):
    folder = RunFolder(found.run)
    recipe, plan = load_run_recipe(folder.recipe), load_plan(folder.plan)
    network = network_for_plan(recipe.network.name, plan, recipe.network.options).eval()
    load_weights(network, folder.weights("swa"))
    selection, counts = load_json(RunSplit, folder.splits).selection, 0
    for look in range(8):
        for batch in validation_patches(prepared, selection, plan, 1 + look):
            with torch.no_grad():
                counts = counts + overlap(network(batch.images), batch.labels, plan.labels)
    assert pooled_dice(counts) == pytest.approx(found.candidates[0].scores[-1].dice, abs=1e-12)


class _StopAfter:
    """A Ctrl-C when so many steps of trainings are done."""

    def __init__(self, steps):
        self.left = steps

    def __call__(self, stage, done, total, /, **figures):
        if stage != "train":
            return
        self.left -= 1
        if self.left == 0:
            os.kill(os.getpid(), signal.SIGINT)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:what runs now is finished first:UserWarning")
@pytest.mark.parametrize("steps", [1, 3, 4])
def test_a_search_that_stopped_ends_like_one_that_never_did(found, phantoms, prepared, tmp_path, steps):
    out = tmp_path / "out"
    with pytest.raises(Interrupted):
        _search(phantoms, Output(out, progress=_StopAfter(steps)), prepared=prepared)
    again = voxward.search(phantoms, out=out, resume=True, reuse=Reuse(prepared=prepared))
    for ours, theirs in zip(again.candidates, found.candidates, strict=True):
        assert (ours.number, ours.origin, ours.choices) == (theirs.number, theirs.origin, theirs.choices)
        assert [score.dice for score in ours.scores] == [score.dice for score in theirs.scores]


@pytest.mark.slow
@pytest.mark.parametrize("objective", ["robust", "pareto"])
def test_random_candidates_are_trained_to_the_end_for_any_objective(phantoms, prepared, tmp_path, objective):
    found = _search(phantoms, tmp_path / "out", Strategy("random", objective=objective, candidates=2), prepared)
    assert [len(one.scores) for one in found.candidates] == [1, 1]
    assert {one.origin for one in found.candidates} == {"uniform"}
    robust = [one.scores[0].robust for one in found.candidates]
    if objective == "robust":
        assert all(0 <= struck <= one.scores[0].dice for struck, one in zip(robust, found.candidates, strict=True))
        assert robust == sorted(robust, reverse=True)
    else:
        assert robust == [None, None]
        assert found.candidates[0].on_front


@pytest.mark.slow
def test_a_time_budget_is_that_of_all_trainings_together(phantoms, prepared, tmp_path):
    found = _search(phantoms, tmp_path / "out", Strategy("random", candidates=2), prepared, minutes=0.1)
    assert sum(one.scores[-1].seconds for one in found.candidates) == pytest.approx(6.0, abs=3.0)


@pytest.mark.slow
def test_on_a_cluster_the_scores_are_the_same(found, phantoms, prepared, tmp_path):
    again = _search(phantoms, tmp_path / "out", prepared=prepared, compute=Compute(cluster="local:2"))
    assert [[s.dice for s in one.scores] for one in again.candidates] == [
        [s.dice for s in one.scores] for one in found.candidates
    ]


def test_a_candidate_that_diverges_is_left_behind_and_the_others_go_on(
    found, phantoms, prepared, tmp_path, monkeypatch
):
    from voxward.architecture_search import trial

    fit = trial.fit

    def diverging(run, *given, **options):
        if run.folder.root.name == "00":
            raise FloatingPointError("the loss is nan")
        fit(run, *given, **options)

    monkeypatch.setattr(trial, "fit", diverging)
    result = _search(phantoms, tmp_path / "out", Strategy("random", candidates=2), prepared)
    assert [one.number for one in result.candidates] == [1, 0]
    assert "diverged" in (result.out / "candidates.md").read_text()
    monkeypatch.setattr(trial, "fit", lambda run, *given, **options: (_ for _ in ()).throw(FloatingPointError("nan")))
    with pytest.raises(ValueError, match=r"no candidate of .* could be trained"):
        _search(phantoms, tmp_path / "none", Strategy("random", candidates=2), prepared)


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"recipe": "rog", "overrides": ()}, "needs a recipe with network.name searched, got 'rog'"),
        ({"resume": True}, "holds no search to resume"),
        ({"minutes": 0.0}, "minutes must be positive"),
    ],
)
def test_bad_input_is_refused_and_nothing_written(phantoms, tmp_path, options, problem):
    with pytest.raises((ValueError, FileNotFoundError), match=problem):
        voxward.search(phantoms, out=tmp_path / "out", **{"strategy": "halving", "overrides": TINY} | options)
    assert not (tmp_path / "out" / "recipe.yaml").exists()


def test_another_folder_is_asked_for_where_a_search_is(found, phantoms):
    with pytest.raises(ValueError, match="pass --resume to continue it"):
        _search(phantoms, found.out)


def test_the_command_line_says_what_was_found(found, phantoms, prepared, tmp_path, capsys):
    out = tmp_path / "again"
    shutil.copytree(found.out, out)
    line = [
        "search",
        str(phantoms),
        "--out",
        str(out),
        "--resume",
        "--prepared",
        str(prepared),
        "--strategy",
        "halving",
    ]
    assert main(line) == 0
    assert f"best: candidate {found.candidates[0].number}" in capsys.readouterr().out
    assert load_recipe(out / "best.yaml").averaging.decay == 0.99
