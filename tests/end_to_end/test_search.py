"""What a search promises: networks that train anywhere, a search that resumes to the bit, and bad input refused."""

import json
import os
import shutil
import signal

import pytest
import torch

import voxward
from voxward.core.alone import alone
from voxward.core.choices import Compute, Fold, Output, Reuse
from voxward.core.genotype import load_genotype
from voxward.core.interrupt import Interrupted
from voxward.core.progress import silent
from voxward.core.recipe import load_recipe
from voxward.core.strategy import Strategy
from voxward.core.structure import to_data
from voxward.runs.folder import RunFolder, load_run
from voxward.training.log import read_log

TINY = (
    "training.workers=0", "training.precision=fp32", "preparation.batch_size=2", "network.options.filters=2",
    "search.layers=2", "search.scales=2", "search.blocks=2", "search.part=2", "search.steps_per_epoch=2",
    "search.warmup_epochs=1", "search.cell_epochs=2", "search.network_epochs=1", "search.arch_lr=0.1",
)  # fmt: skip
SLICES = ("preparation.slice_size=[16,16]",)


class StopAt:
    def __init__(self, step):
        self.step = step

    def __call__(self, stage, done, total, /, **figures):
        if stage == "search" and done == self.step:
            os.kill(os.getpid(), signal.SIGINT)


@pytest.fixture(scope="module")
def found(phantoms, tmp_path_factory):
    out = tmp_path_factory.mktemp("search") / "out"
    overrides = (
        *TINY,
        *SLICES,
        "search.candidates=2",
        "search.adversarial_eps=0.03",
        "search.start=uniform-path",
        "search.arch_optimizer=adam",
    )
    return voxward.search(phantoms, out=out, recipe="msnas-2d", strategy=Strategy(paths=(1, 2)), overrides=overrides)


def test_a_search_writes_genotypes_recipes_drawings_history_and_a_table(found):
    names = {path.name for path in found.out.iterdir()}
    for name in ("paths-1", "paths-2", "untrained-1", "untrained-2"):
        assert {f"{name}.json", f"{name}.yaml", f"{name}.svg", f"{name}.png"} <= names
    assert (found.out / "logs" / "history.png").is_file()
    assert not [name for name in names if "unfinished" in name]
    assert [a.name for a in found.architectures] == ["paths-1", "paths-2", "untrained-1", "untrained-2"]
    for architecture in found.architectures:
        assert load_genotype(found.out / f"{architecture.name}.json") == architecture.genotype
        assert architecture.genotype.dimensions == 2
        options = load_recipe(found.out / f"{architecture.name}.yaml").network.options
        assert options["genotype"] == to_data(architecture.genotype)
        net = voxward.create_network("searched", 1, 4, **options)
        assert architecture.cost.parameters == sum(p.numel() for p in net.parameters())
    assert all(0 <= a.dice <= 1 for a in found.architectures[:2])
    table = (found.out / "architectures.md").read_text()
    assert "| paths-2 | 2 |" in table
    written = json.loads((found.out / "architectures.json").read_text())
    assert (written["format"], len(written["architectures"])) == (1, 4)
    for name in ("run.json", "plan.json", "splits.json", "paths-1.json"):
        assert next(iter(json.loads((found.out / name).read_text()).items())) == ("format", 1)


def test_the_halves_share_no_case_and_leave_the_validation_cases_out(found):
    split = json.loads((found.out / "splits.json").read_text())
    parts = [set(split[name]) for name in ("fit", "selection", "validation")]
    assert all(parts)
    assert len(set.union(*parts)) == sum(map(len, parts))
    assert abs(len(parts[0]) - len(parts[1])) <= 1


def test_the_log_follows_the_phases(found):
    rows = read_log(found.out / "logs" / "search.csv")
    assert [row["phase"] for row in rows] == [0, 1, 2]
    assert rows[0]["operation_entropy"] == pytest.approx(1)
    assert rows[1]["path_entropy"] == pytest.approx(1)
    assert rows[1]["operation_entropy"] < 1 - 1e-6
    assert rows[2]["path_entropy"] < 1 - 1e-6


def test_a_found_network_trains_and_its_run_needs_no_other_file(found, phantoms, tmp_path):
    genotype = tmp_path / "genotype.json"
    shutil.copy(found.out / "paths-2.json", genotype)
    overrides = (*TINY, *SLICES, f"network.options.genotype={genotype}", "training.epochs=1")
    run = voxward.train(phantoms, out=tmp_path / "run", recipe="msnas-2d", overrides=overrides)
    genotype.unlink()
    network = load_run(run).network
    assert to_data(network.network.genotype) == load_recipe(RunFolder(run).recipe).network.options["genotype"]
    assert network(torch.randn(1, 1, 16, 16, 3)).shape == (1, 4, 16, 16, 3)
    again = (*TINY, *SLICES, "training.epochs=1")
    same = voxward.train(phantoms, out=tmp_path / "same", recipe=str(found.out / "paths-2.yaml"), overrides=again)
    assert to_data(load_run(same).network.network.genotype) == to_data(network.network.genotype)


@pytest.mark.slow
def test_a_search_in_3d_that_goes_on_is_the_one_that_never_stopped(phantoms, tmp_path):
    def search(out, progress=silent, resume=False):
        return voxward.search(
            phantoms,
            out=Output(tmp_path / out, progress=progress),
            strategy=Strategy(paths=(1,)),
            overrides=TINY,
            resume=resume,
            reuse=Reuse(prepared=tmp_path / "cases"),
        )

    whole = search("whole")
    for step in (3, 5):
        with pytest.raises(Interrupted, match=f"stopped at step {step}; --resume continues"):
            search("parts", StopAt(step), resume=step > 3)
    parts = search("parts", resume=True)
    assert whole.architectures == parts.architectures
    assert whole.architectures[0].genotype.dimensions == 3
    logs = [
        [row | {"seconds": 0, "architecture_loss": repr(row["architecture_loss"])} for row in read_log(log)]
        for log in (whole.out / "logs" / "search.csv", parts.out / "logs" / "search.csv")
    ]
    assert logs[0] == logs[1]
    states = [torch.load(RunFolder(r.out).state, weights_only=True)["bilevel"]["net"] for r in (whole, parts)]
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


@pytest.mark.slow
def test_minutes_are_a_budget_that_a_resumed_search_keeps(phantoms, tmp_path):
    def search(progress=silent, **options):
        out = Output(tmp_path / "out", progress=progress)
        return voxward.search(phantoms, out=out, recipe="msnas-2d", strategy=Strategy(paths=(1,)), **options)

    asked = {"minutes": 0.1, "overrides": (*TINY, *SLICES)}
    with pytest.raises(Interrupted):
        search(**asked, progress=StopAt(1))
    with pytest.raises(ValueError, match=r"search\.steps_per_epoch=9999 contradicts"):
        search(minutes=0.1, resume=True, overrides=("search.steps_per_epoch=9999",))
    with pytest.raises(Interrupted):  # the same command again, which sets search.steps_per_epoch too
        search(**asked, resume=True, progress=StopAt(2))
    found = search(minutes=100.0, resume=True)
    assert json.loads(RunFolder(found.out).settings.read_text())["minutes"] == 0.1
    log = read_log(found.out / "logs" / "search.csv")
    assert [row["epoch"] for row in log] == [1, 2, 3]
    assert [row["phase"] for row in log] == [0, 1, 2]
    assert 0.85 * 6 < log[-1]["seconds"] < 60  # how exactly: tests/architecture_search/test_budget.py
    RunFolder(found.out).state.unlink()
    before = {path: path.read_bytes() for path in found.out.rglob("*") if path.is_file()}
    with pytest.raises(ValueError, match=r"holds the search's search\.csv, but not its .*nothing was changed"):
        search(resume=True)
    assert {path: path.read_bytes() for path in found.out.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"strategy": Strategy(paths=(0,))}, r"paths must hold different numbers from 1 up, got \(0,\)"),
        ({"strategy": Strategy(paths=(1, 1))}, r"paths must hold different numbers from 1 up, got \(1, 1\)"),
        ({"strategy": Strategy(paths=(1000,))}, "k must be between 1 and"),
        (
            {"strategy": Strategy(paths=(4,)), "overrides": (*TINY, "search.diverse=true")},
            "paths must be at most 3, .* got 4",
        ),
        ({"minutes": 0.0}, "minutes must be positive, got 0.0"),
        ({"recipe": "rog", "overrides": ()}, "needs a recipe with network.name searched, got 'rog'"),
        ({"overrides": ("search.part=3", *TINY[:4])}, "part must divide the 2 filters, got 3"),
        ({"overrides": ("search.layers=0",)}, "search.layers must be at least 1, got 0"),
        ({"resume": True}, "holds no search to resume"),
        ({"reuse": Reuse(start="run")}, "start must be None, got run"),
        ({"compute": Compute(devices=2)}, "devices must be 1, got 2"),
        ({"fold": Fold(folds=1)}, "folds must be at least 2, got 1"),
    ],
)
def test_bad_input_is_refused_and_nothing_written(phantoms, tmp_path, options, problem):
    with pytest.raises((ValueError, FileNotFoundError), match=problem):
        voxward.search(
            phantoms, out=tmp_path / "out", **{"overrides": TINY, "strategy": Strategy(paths=(1,))} | options
        )
    assert not (tmp_path / "out").exists()


def test_training_msnas_without_a_genotype_says_what_is_missing(phantoms, tmp_path):
    with pytest.raises(ValueError, match="needs the option genotype"):
        voxward.train(phantoms, out=tmp_path / "run", recipe="msnas")
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_regions_are_searched_and_trained_for(phantoms, tmp_path):
    overrides = (*TINY, *SLICES, "regions={lesion: [3], organ: [1, 3], all: [1, 2, 3]}", "search.adversarial_eps=0.03")
    found = voxward.search(
        phantoms, out=tmp_path / "out", recipe="msnas-2d", strategy=Strategy(paths=(1,)), overrides=overrides
    )
    assert 0 <= found.architectures[0].dice <= 1
    run = voxward.train(
        phantoms,
        out=tmp_path / "run",
        recipe=str(found.out / "paths-1.yaml"),
        overrides=(*TINY, *SLICES, "training.epochs=1"),
    )
    model = load_run(run)
    assert model.plan.labels.scored == ("lesion", "organ", "all")
    assert model.network(torch.randn(1, 1, 16, 16, 2)).shape == (1, 3, 16, 16, 2)


def test_a_search_that_another_process_works_on_is_refused(phantoms, tmp_path):
    """Both would write the same state."""
    with alone(tmp_path / "s", "a search"), pytest.raises(ValueError, match="another process works in"):
        voxward.search(
            phantoms, out=tmp_path / "s", recipe="msnas-2d", strategy=Strategy(paths=(1,)), overrides=(*TINY, *SLICES)
        )
