"""Systems are ranked against each other where they were measured alike, and only there."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

from tests.report.html.attack_source import attack_source, sources_of
from tests.robustness import books
from voxward.report.html.page import Setting
from voxward.report.html.sections.leaderboard import Comparison, leaderboard
from voxward.report.sources import AttackSource, Sources
from voxward.report.table import Table
from voxward.robustness.record import Record
from voxward.robustness.sanity import Thresholds


def book(model: str = "m") -> list[Record]:
    return [replace(one, model=model, mode="volume") for one in books.book()]


def weaker(model: str = "n") -> list[Record]:
    return [replace(one, adversarial=(0.1, 0.1)) if one.kind == "attack" else one for one in book(model)]


def boards_of(*attacks: AttackSource) -> tuple[Comparison, ...]:
    found = leaderboard(sources_of(*attacks), Setting())
    assert found is not None
    return found


def column(table: Table, heading: str) -> list[str]:
    place = [one.heading for one in table.columns].index(heading)
    return [row.cells[place] for row in table.rows]


def test_two_systems_of_a_folder_are_ranked() -> None:
    ranking, attacks = boards_of(attack_source([*book(), *weaker()]))
    (table,) = ranking.tables
    assert column(table, "model") == ["m", "n"]
    # Worst at 0.2: m 0.2 and 0.0, n 0.1 twice; mu / 2 is 0.375.
    (accuracy,) = [one.heading for one in table.columns if one.heading.startswith("robust accuracy")]
    assert column(table, accuracy) == ["0%", "0%"]
    # Two attacks at two sizes of 2 seconds each.
    assert column(table, "attack s / scan") == ["8.0", "8.0"]
    assert "weights (million)" not in [one.heading for one in table.columns]
    assert len(attacks.tables) == 1


def test_the_limits_are_those_of_the_protocol() -> None:
    (attacks,) = boards_of(attack_source(book(), sanity=Thresholds(absolute=0.25)))
    (table,) = attacks.tables
    assert any("a Dice of mu / 2 or above, and of 0.25 or above" in note for note in table.notes)


def test_systems_on_other_scans_are_ranked_with_a_warning() -> None:
    ranking, _ = boards_of(attack_source([*book(), *(one for one in weaker() if one.case == "a")]))
    assert "NOT COMPARABLE" in ranking.tables[0].warnings[0]
    assert "m 2 and n 1" in ranking.tables[0].warnings[0]
    assert not boards_of(attack_source([*book(), *weaker()]))[0].tables[0].warnings


def test_one_system_alone_is_not_ranked() -> None:
    assert [one.name for one in boards_of(attack_source(book()))] == ["folder"]


def test_folders_that_were_measured_alike_have_one_ranking() -> None:
    ranking, *attacks = boards_of(attack_source(book(), "one"), attack_source(weaker("m"), "two"))
    assert ranking.name == "Ranking: one and two"
    assert column(ranking.tables[0], "model") == ["one/m", "two/m"]
    assert [one.name for one in attacks] == ["one", "two"]
    other, *_ = boards_of(attack_source(book(), "one"), attack_source(weaker(), "two"))
    assert column(other.tables[0], "model") == ["m", "n"]


def test_folders_that_were_not_measured_alike_are_kept_apart() -> None:
    fewer = [one for one in weaker() if one.case == "a"]
    milder = [one for one in weaker() if one.attack != "y"]
    changed = replace(attack_source(weaker(), "two"), digests={"a": "other"})
    for source in (attack_source(fewer, "two"), attack_source(milder, "two"), changed,
                   attack_source(weaker(), "two", seeds=(1,)), replace(changed, protocol=None)):  # fmt: skip
        apart, *rest = boards_of(attack_source(book(), "one"), source)
        assert "must not be compared" in apart.problem
        assert [one.name for one in rest] == ["one", "two"]


def test_a_failed_check_stands_above_a_ranking_of_several_folders() -> None:
    noisy = [replace(one, adversarial=(0.2, 0.2)) if one.attack == "noise" else one for one in weaker()]
    ranking, *_ = boards_of(attack_source(book(), "one"), attack_source(noisy, "two"))
    assert any("n: noise at eps" in warning for warning in ranking.tables[0].warnings)


def test_weights_are_counted_in_the_run_around_the_attack(tmp_path: Path) -> None:
    run = tmp_path / "m"
    (run / "checkpoints").mkdir(parents=True)
    (run / "recipe.yaml").touch()
    arrays = {"conv.weight": np.zeros((500, 40, 2)), "norm.running_mean": np.zeros(500)}
    save_file(arrays, run / "checkpoints" / "best.safetensors")
    source = replace(
        attack_source([*book(), *weaker()]), folder=run / "attack", systems={"m": {"kind": "run"}, "n": {"kind": "x"}}
    )
    table = boards_of(source)[0].tables[0]
    assert column(table, "weights (million)") == ["0.04", "n/a"]
    (run / "checkpoints" / "best.safetensors").write_bytes(b"damaged")
    assert "weights (million)" not in [one.heading for one in boards_of(source)[0].tables[0].columns]


def test_without_records_there_is_no_section() -> None:
    assert leaderboard(Sources(), Setting()) is None


def test_all_attacks_have_a_row_where_no_group_holds_them_all() -> None:
    (folder,) = boards_of(replace(attack_source(book()), groups={"x": ("x",)}))
    (table,) = folder.tables
    rows = {row.cells[1]: row.cells[3] for row in table.rows}
    # Worst at 0.2: 0.2 and 0.0; x alone leaves 0.2 and 0.1.
    assert rows["all attacks"].startswith("0.100 [")
    assert rows["x"].startswith("0.150")
    (whole,) = boards_of(replace(attack_source(book()), groups={"both": ("x", "y")}))
    assert "all attacks" not in [row.cells[1] for row in whole.tables[0].rows]


def test_the_table_says_what_it_is_ranked_by_and_which_difference_is_none() -> None:
    (table,) = boards_of(attack_source([*book(), *weaker()]))[0].tables
    assert any(note.startswith("ranked by area: ") for note in table.notes)
    assert any("not distinguishable: its 95 % interval holds 0" in note for note in table.notes)
    # At 0.2 m keeps 0.2 and 0.0, and n 0.1 twice.
    assert column(table, "vs first") == ["", "+0.000 [-0.10, +0.10]; not distinguishable"]
    worse = [replace(one, adversarial=(0.0, 0.0)) if one.eps == 0.2 else one for one in weaker()]
    better = [replace(one, adversarial=(0.4, 0.4)) if one.eps == 0.2 else one for one in book()]
    assert column(boards_of(attack_source([*better, *worse]))[0].tables[0], "vs first") == ["", "-0.400 [-0.40, -0.40]"]
