import json
import pickletools
import sys

import pytest

from tests.architecture_search.test_candidates import FLAT, SMALL, _generator
from voxward.architecture_search.book import open_book
from voxward.architecture_search.candidates import candidate_space
from voxward.architecture_search.rungs import Score
from voxward.core.errors import MissingPackageError, UserError
from voxward.core.recipe import load_recipe


@pytest.fixture(scope="module")
def space():
    return candidate_space(load_recipe("msnas-2d", SMALL), FLAT)


def _filled(path, space, count=5, objective="dice"):
    book = open_book(path, space, objective)
    candidates = [space.uniform(_generator(seed)) for seed in range(count)]
    for n, candidate in enumerate(candidates):
        assert book.add(candidate, 10 * n) == n
        book.note(n, 0, Score(0.1 * n, None, 3, 1.5))
    return book, candidates


@pytest.mark.parametrize("objective", ["dice", "pareto"])
def test_a_book_that_is_opened_again_holds_all(tmp_path, space, objective):
    book, candidates = _filled(tmp_path / "journal.log", space, objective=objective)
    book.note(4, 0, Score(0.9))
    book.note(4, 1, Score(0.8, 0.2, 9, 4.0))
    again = open_book(tmp_path / "journal.log", space, objective)
    assert [again.candidate(n) for n in range(len(again))] == candidates
    assert [again.macs(n) for n in range(5)] == [0, 10, 20, 30, 40]
    assert again.score(4, 0) == Score(0.4, None, 3, 1.5)  # what is written stays
    assert again.score(4, 1) == Score(0.8, 0.2, 9, 4.0)
    assert again.score(3, 1) is None
    again.close(1)
    again.close(1)
    states = [trial.state.name for trial in again.study.get_trials()]
    assert states == ["PRUNED"] * 4 + ["COMPLETE"]


def test_the_journal_is_lines_of_json_and_no_pickle(tmp_path, space):
    _filled(tmp_path / "journal.log", space, count=2)
    content = (tmp_path / "journal.log").read_bytes()
    for line in content.splitlines():
        json.loads(line)
    with pytest.raises(ValueError, match="opcode"):
        list(pickletools.genops(content))


def test_a_line_that_a_killed_process_left_unfinished_is_lost_alone(tmp_path, space):
    path = tmp_path / "journal.log"
    _filled(path, space, count=3)
    whole = path.read_bytes()
    path.write_bytes(whole + b'{"op_code": 4, "worker_id": "x", "tri')
    again = open_book(path, space, "dice")
    assert len(again) == 3
    again.add(space.uniform(_generator(9)), 1)
    assert len(open_book(path, space, "dice")) == 4


@pytest.mark.parametrize("content", [b"no journal\n", b"{}\n{}\n", b"\x80\x04\x95\n"])
def test_what_is_no_journal_is_refused_by_name(tmp_path, space, content):
    path = tmp_path / "journal.log"
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"journal\.log is damaged"):
        open_book(path, space, "dice")


def test_the_choice_that_decides_is_the_important_one(tmp_path, space):
    book = open_book(tmp_path / "journal.log", space, "dice")
    assert book.importances() == {}
    for seed in range(40):
        candidate = space.uniform(_generator(seed))
        book.note(book.add(candidate, 1), 0, Score(0.9 if candidate.choices["norm"] == "batch" else 0.1))
    found = book.importances()
    assert max(found, key=found.__getitem__) == "norm"


def test_without_optuna_it_says_what_to_install(monkeypatch, tmp_path, space):
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(MissingPackageError, match=r"pip install 'voxward\[search\]'"):
        open_book(tmp_path / "journal.log", space, "dice")
