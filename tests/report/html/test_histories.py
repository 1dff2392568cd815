"""What the page says about trainings, hardenings, searches and cross-validations."""

from __future__ import annotations

import base64
import math
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.report.folders import LOG, attack_folder, metrics_data, run_folder, write_json
from tests.robustness.books import book
from voxward.core.document import with_format
from voxward.core.genotype import CellGenes, Gene, Genotype
from voxward.core.recipe import Defence, dump_recipe, load_recipe
from voxward.core.structure import to_data
from voxward.report.html import run_history
from voxward.report.html.page import Setting
from voxward.report.html.run_history import History
from voxward.report.html.sections.histories import histories
from voxward.report.sources import Sources, read_sources
from voxward.report.training_charts import training_charts

SEARCH = (
    "step,epoch,phase,weight_loss,architecture_loss,operation_entropy,input_entropy,path_entropy,temperature,"
    "expected_gmac,seconds\n2,1,0,2.2,nan,1.0,1.0,0.9,1.0,0.5,30.0\n4,2,1,2.1,2.0,0.5,1.0,0.8,1.0,0.4,90.0\n"
)


def shown(*folders: Path) -> tuple[History, ...]:
    return histories(read_sources(folders), Setting()) or ()


def test_nothing_is_shown_where_nothing_was_trained(tmp_path: Path) -> None:
    assert histories(Sources(), Setting()) is None
    assert histories(read_sources([attack_folder(tmp_path / "found", book())]), Setting()) is None


def test_a_training_in_sentences(tmp_path: Path) -> None:
    (history,) = shown(run_folder(tmp_path / "run"))
    assert history.title == "Training: run"
    assert history.problems == ()
    assert history.facts == (
        "The recipe is dynunet: MONAI DynUNet with nnU-Net's planning rules, 16 to 128 channels.",
        "It was trained on the dataset Task04, without the scans of fold 0 of 5. The seed is 0.",
        "It took 0.5 minutes and 30 steps.",
        "Its time budget was 0.5 minutes.",
        "The training has ended as planned.",
        "The highest validation Dice was 0.800, at step 20.",
        "1 of 3 validations gave no number for the loss or the Dice. Such points are left out of the charts.",
    )


def test_the_widths_are_those_that_were_trained_and_not_those_of_the_packaged_recipe(tmp_path: Path) -> None:
    folder = run_folder(tmp_path / "run")
    recipe = load_recipe("dynunet", ["network.options.filters=[4,8,12]"])
    # As versions before this one described it.
    recipe = replace(recipe, description=f"{recipe.description}, 16 to 128 channels")
    (folder / "recipe.yaml").write_text(dump_recipe(recipe), encoding="utf-8")
    assert shown(folder)[0].facts[0] == (
        "The recipe is dynunet: MONAI DynUNet with nnU-Net's planning rules, 4 to 12 channels."
    )


def test_the_charts_of_a_training(tmp_path: Path) -> None:
    (history,) = shown(run_folder(tmp_path / "run"))
    loss, dice, rate = history.charts
    (panel,) = loss.panels
    assert [(line.name, [(p.x, p.y) for p in line.points]) for line in panel.lines] == [
        ("training", [(10, 2.0), (20, 1.5), (30, 1.2)]),
        ("validation", [(10, 1.9), (20, None), (30, 1.3)]),
    ]
    assert [point.y for point in dice.panels[0].lines[0].points] == [0.2, 0.8, 0.7]
    assert (dice.y.limits, rate.y.logarithmic, rate.steps) == ((0.0, 1.0), True, True)


def test_a_column_without_a_number_has_no_chart() -> None:
    row = {"training_loss": 1.0, "validation_dice": math.nan, "learning_rate": 0.0}
    log = tuple({"step": step, **row} for step in (1.0, 2.0))
    loss, rate = training_charts(log, "x", "X")
    assert [line.name for line in loss.panels[0].lines] == ["training"]
    assert not rate.y.logarithmic  # 0 has no logarithm
    assert training_charts((), "x", "X") == ()


def test_a_training_that_has_not_ended_stands_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("voxward.report.run_source.unfinished", lambda run: "step 12 of 180")
    (history,) = shown(run_folder(tmp_path / "run"))
    assert history.problems == (
        "This training has not ended: it is at step 12 of 180. What stands here is of an early state.",
    )
    assert "The training has ended as planned." not in history.facts


@pytest.mark.parametrize("log", [None, LOG.split("\n")[0] + "\n"], ids=["missing", "empty"])
def test_a_training_without_a_log(tmp_path: Path, log: str | None) -> None:
    (history,) = shown(run_folder(tmp_path / "run", log=log))
    assert history.charts == ()
    assert history.facts[-1] == "There is no log of this training yet, so that no chart can be drawn."


def test_scores_have_a_table_each(tmp_path: Path) -> None:
    run = run_folder(tmp_path / "run")
    write_json(run / "metrics.json", metrics_data({"a": 0.5, "b": 0.7}))
    write_json(run / "on-other" / "metrics.json", metrics_data({"c": 0.9}))
    (history,) = shown(run)
    assert [one.title for one in history.tables] == [
        "Scores on the validation scans, without an attack", "Scores without an attack: on-other",
    ]  # fmt: skip
    row = history.tables[0].table.rows[0]
    assert (row.cells[0], row.cells[1][:5], row.cells[-1]) == ("liver", "0.600", "2")


# Hardening.


def _hardened(folder: Path, start: Path) -> Path:
    run_folder(folder, start=str(start.resolve()))
    recipe = replace(load_recipe("dynunet"), defence=Defence("pgd", 4 / 255))
    (folder / "recipe.yaml").write_text(dump_recipe(recipe), encoding="utf-8")
    return folder


HARDENED = (
    "It was hardened from first: trained further on attacked scans, by the method pgd (an attack looks for the worst "
    "change before every step of the training), in which an attack may change every voxel by at most 4/255 of the "
    "intensity range."
)


def test_what_a_run_was_hardened_from(tmp_path: Path) -> None:
    (history,) = shown(_hardened(tmp_path / "second", tmp_path / "first"))
    assert history.facts[-1] == HARDENED


def test_noise_has_a_deviation_and_no_largest_change(tmp_path: Path) -> None:
    folder = run_folder(tmp_path / "second", start=str((tmp_path / "first").resolve()))
    recipe = replace(load_recipe("dynunet"), defence=Defence("noise", sigma=0.25))
    (folder / "recipe.yaml").write_text(dump_recipe(recipe), encoding="utf-8")
    (history,) = shown(folder)
    assert history.facts[-1] == (
        "It was hardened from first: trained further on noisy scans, by the method noise (Gaussian noise is added to "
        "every scan before it is learnt from). The standard deviation of the noise is 0.25 of the intensity range."
    )


def test_a_run_that_began_with_the_weights_of_another(tmp_path: Path) -> None:
    (history,) = shown(run_folder(tmp_path / "second", start="/runs/first"))
    assert history.facts[-1] == "It began with the weights of first."


@pytest.fixture
def both(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """A run, the hardened one, and an attack on both; the second one is 0.1 better, clean and attacked."""
    first = run_folder(tmp_path / "first")
    second = _hardened(tmp_path / "second", first)
    better = {"adversarial": lambda r: tuple(value + 0.1 for value in r.adversarial),
              "clean": lambda r: tuple(value + 0.1 for value in r.clean)}  # fmt: skip
    records = [replace(one, model="first", system="print of first") for one in book()]
    records += [
        replace(one, model="second", system="print of second", **{name: make(one) for name, make in better.items()})
        for one in book()
    ]
    monkeypatch.setattr(
        run_history, "open_system", lambda root: SimpleNamespace(fingerprint=lambda: f"print of {root.name}")
    )
    return SimpleNamespace(first=first, second=second, attack=attack_folder(tmp_path / "attack-both", records))


def test_what_the_hardening_bought(both: SimpleNamespace) -> None:
    history = shown(both.first, both.second, both.attack)[1]
    assert history.facts[-2:] == (HARDENED, "That run is on this page, too.")
    (part,) = history.tables
    assert part.title == "Before and after hardening, measured in attack-both"
    # Worked out by hand in books.py: clean 0.75, the worst case 0.35 and 0.1.
    assert [row[1:4] for row in part.table.data] == [
        (pytest.approx(before), pytest.approx(before + 0.1), pytest.approx(0.1)) for before in (0.75, 0.35, 0.1)
    ]
    drawn = [[point.y for point in line.points] for line in part.chart.panels[0].lines if not line.kind]
    assert sorted(drawn) == [pytest.approx([0.75, 0.35, 0.1]), pytest.approx([0.85, 0.45, 0.2])]
    assert (part.chart.name, history.charts[0].name) == ("hardening-2-1", "training-2-loss")


def test_other_weights_of_the_same_name_are_not_compared(
    both: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_history, "open_system", lambda root: SimpleNamespace(fingerprint=lambda: "another print"))
    history = shown(both.first, both.second, both.attack)[1]
    assert history.tables == ()
    assert history.facts[-1].startswith("attack-both has results of systems with these names, but not of the weights")


def test_runs_whose_weights_are_gone_are_not_compared(both: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    def gone(root: Path) -> None:
        raise FileNotFoundError(f"{root} is not a trained run: it has no weights")

    monkeypatch.setattr(run_history, "open_system", gone)
    history = shown(both.first, both.second, both.attack)[1]
    assert history.tables == ()
    assert "cannot be checked: " in history.facts[-1]


def test_a_hardening_that_nobody_measured(both: SimpleNamespace) -> None:
    history = shown(both.first, both.second)[1]
    assert history.facts[-1].startswith("No folder on this page measured both runs.")


# Searches.


def _search(folder: Path) -> Path:
    (folder / "logs").mkdir(parents=True)
    (folder / "logs" / "search.csv").write_text(SEARCH)
    return folder


def test_a_search_and_its_networks(tmp_path: Path) -> None:
    gene = (Gene(0, "sep3"), Gene(1, "skip"))
    found = Genotype(3, 2, 2, CellGenes(gene, gene, gene), (("same", "same"), ("down", "up")))
    network = {"genotype": to_data(found), "cost": {"parameters": 10, "macs": 20, "activations": 30}}
    entries = [{"name": "paths-2", **network, "dice": 0.5}, {"name": "untrained-2", **network, "dice": None}]
    folder = _search(tmp_path / "search")
    write_json(folder / "architectures.json", with_format({"architectures": entries}))
    (history,) = shown(folder)
    assert (history.title, history.problems) == ("Architecture search: search", ())
    assert history.facts == ("The search took 1.5 minutes and 2 epochs.",)
    assert [len(chart.panels[0].lines) for chart in history.charts] == [2, 3, 1]
    assert [row.cells[0] for row in history.tables[0].table.rows] == ["paths-2", "untrained-2"]
    ((address, text),) = history.drawings
    assert text.startswith("The network paths-2: 2 paths through 2 layers and 2 resolutions.")
    picture = base64.b64decode(address.removeprefix("data:image/svg+xml;base64,")).decode()
    assert "<svg" in picture
    assert "<script" not in picture


def test_a_search_that_has_not_ended(tmp_path: Path) -> None:
    (history,) = shown(_search(tmp_path / "search"))
    assert history.problems == ("This search has not ended: no network is chosen yet.",)
    assert history.tables == ()


# Cross-validations.


def test_a_cross_validation_says_which_trainings_have_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "cv"
    for fold in range(3):
        run_folder(folder / f"fold-{fold}" / "dynunet")
    write_json(folder / "cv.json", with_format({"recipes": ["dynunet"], "folds": 4}))
    write_json(folder / "fold-0" / "dynunet" / "metrics.json", metrics_data({"a": 0.5, "b": 0.7}))
    monkeypatch.setattr(
        "voxward.report.run_source.unfinished", lambda run: "step 2 of 9" if "fold-2" in str(run.root) else None
    )
    (history,) = shown(folder)
    assert history.problems == ("This cross-validation has not ended. The scores of all scans are not known yet.",)
    assert history.facts == ("1 of 4 trainings has ended and is scored.",)
    (runs,) = history.tables
    assert [row.cells for row in runs.table.rows] == [
        ("fold-0/dynunet", "ended and scored", "30", "0.5", "0.800", "0.600 [0.50, 0.70]", "2"),
        ("fold-1/dynunet", "ended, not scored yet", "30", "0.5", "0.800", "n/a", "n/a"),
        ("fold-2/dynunet", "not ended: step 2 of 9", "30", "0.5", "0.800", "n/a", "n/a"),
        ("fold-3/dynunet", "not begun", "n/a", "n/a", "n/a", "n/a", "n/a"),
    ]
    assert [line.name for line in history.charts[0].panels[0].lines] == [f"fold-{n}/dynunet" for n in range(3)]


def test_the_scores_of_a_finished_cross_validation(tmp_path: Path) -> None:
    folder = tmp_path / "cv"
    write_json(folder / "cv.json", with_format({"recipes": ["dynunet"], "folds": 1}))
    write_json(folder / "metrics.json", metrics_data({"a": 0.5, "b": 0.7}))
    (history,) = shown(folder)
    assert history.problems == ()
    assert history.tables[0].title == "Scores of all scans, each by networks that have not seen it"
    assert history.tables[0].table.rows[-1].cells[1].startswith("0.600")
