import subprocess
import sys

import numpy as np
import pytest
import torch
from benchmarks.msnas_report import _cases, _differences, _tables
from benchmarks.msnas_tables import FOLDS, Experiment
from benchmarks.msnas_widths import LAST, PAPER, PATHS, sizes_of

import voxward
from voxward.architecture_search.run import super_net
from voxward.core.plan import load_plan
from voxward.core.recipe import load_recipe
from voxward.nets.registry import network_for_plan


@pytest.fixture(scope="module")
def plan(tmp_path_factory):
    root = tmp_path_factory.mktemp("tables")
    voxward.write_phantoms(root / "data", 2, 0, "organ", size=16)
    voxward.plan(root / "data", recipe="msnas-2d", out=root, overrides=["preparation.slice_size=[64, 64]"])
    return load_plan(root / "plan.json")


@pytest.mark.slow
def test_widths_cost_as_much_of_unet_as_in_the_paper(plan):
    recipe = load_recipe("msnas-2d", ("search.layers=4", "search.scales=3", "network.options.filters=4"))
    genotypes = {name: super_net(recipe, plan, 0).decode(paths) for name, paths in PATHS.items()}
    sizes = sizes_of(16, plan, genotypes)
    assert list(sizes) == list(PAPER)
    for name in ("nas-unet", "autodeeplab", "msnas-3"):
        ratio, wanted = sizes[name].cost.macs / sizes["unet-2d"].cost.macs, PAPER[name][1] / PAPER["unet-2d"][1]
        assert ratio == pytest.approx(wanted, rel=0.15), name
        assert network_for_plan(sizes[name].choice.name, plan, sizes[name].choice.options)(
            torch.zeros(1, 1, 64, 64, 1)
        ).shape[2:] == (64, 64, 1)
    assert sizes["msnas-5"].choice.options["filters"] == sizes["msnas-3"].choice.options["filters"]


def _row(network, fold, *counts):
    return {"task": "t", "network": network, "fold": fold, "counts": [np.transpose(one).tolist() for one in counts]}


def test_figures_are_means_of_cases_and_spreads_of_folds():
    # (agree, found, true) of two classes; the second class of the second case is neither there nor found.
    row = _row(LAST, 0, [(4, 5, 5), (1, 4, 2)], [(2, 2, 4), (0, 0, 0)])
    np.testing.assert_allclose(_cases([row], None, iou=False), [(0.8 + 1 / 3) / 2, (2 / 3 + 1) / 2])
    np.testing.assert_allclose(_cases([row], 0, iou=True), [4 / 6, 2 / 4])
    rows = [_row(name, fold, [(3 + fold, 5, 5)]) for name in PAPER for fold in (0, 1)]
    assert f"| {LAST} | 54.8 ± 16.8 | 70.0 ± 14.1 |" in _tables(rows)


def test_differences_are_paired_over_cases():
    rows = [_row(name, fold, [(3 + fold, 5, 5)], [(4, 5, 5)]) for name in PAPER for fold in (0, 1)]
    rows += [_row(name, 2, [(5 if name == LAST else 4, 5, 5)]) for name in PAPER]
    lines = _differences(rows)
    assert len(lines) == len(PAPER) - 1
    assert all(line.endswith(" DSC +4.00 [+0.00, +12.00] %") for line in lines)


def test_the_cases_of_the_search_are_in_no_fold(tmp_path):
    for name in ("first", "second"):
        voxward.write_phantoms(tmp_path / name, 15, 0, "organ", size=16)
    names = (str(tmp_path / "first"), str(tmp_path / "second"))
    first, second = Experiment(tmp_path, names, (64, 64), 16, 1.0, 1.0, "cpu", 1, 0).tasks
    apart, folds = first.cases
    assert (len(apart), len(folds)) == (2, FOLDS)
    assert sorted((*apart, *(id for ids in folds for id in ids))) == [f"phantom_{n:03d}" for n in range(15)]
    assert second.cases[0] == ()
    assert sum(map(len, second.cases[1])) == 15


@pytest.mark.slow
def test_every_table_comes_out_of_one_command(tmp_path):
    voxward.write_phantoms(tmp_path / "data", 28, 0, "organ", size=16)
    out = tmp_path / "out"
    command = [
        sys.executable, "-m", "benchmarks.msnas_tables", str(tmp_path / "data"), "--out", str(out), "--slices", "32",
        "--filters", "8", "--seconds", "0.5", "--search-seconds", "2",
    ]  # fmt: skip
    subprocess.run(command, check=True)
    text = (out / "results.md").read_text()
    assert all(f"\n| {name} |" in text for name in PAPER)
    assert text.count(f"{LAST} - ") == len(PAPER) - 1
    before = (out / "results.json").read_text()
    subprocess.run(command, check=True)  # everything is there
    assert (out / "results.json").read_text() == before
