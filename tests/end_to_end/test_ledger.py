import pytest
import torch

from tests.end_to_end.conftest import TINY
from voxward.commands.suspects import suspects as listed
from voxward.commands.train import train
from voxward.core.plan import load_json
from voxward.inference.run_folder import RunFolder, RunSplit
from voxward.training.ledger import LossLedger, read_cases, read_ledger, suspects


def _ledger(**losses):
    """Ten epochs of one loss per case."""
    return {case: dict.fromkeys(range(10), loss) for case, loss in losses.items()}


def test_mad_finds_what_stands_out():
    ledger = _ledger(a=0.20, b=0.22, c=0.24, d=0.21, e=0.23, bad=0.60)
    (found,) = suspects(ledger, "mad", 3.0, 5)
    # Median 0.225, deviations 0.025, 0.005, 0.015, 0.015, 0.005, 0.375: their median is 0.015.
    assert (found.case, found.loss) == ("bad", pytest.approx(0.6))
    assert found.limit == pytest.approx(0.225 + 3 * 1.4826 * 0.015)
    assert suspects(ledger, "mad", 100.0, 5) == ()


def test_quantile_takes_the_upper_share():
    ledger = _ledger(**{f"c{n:02d}": n / 100 for n in range(1, 21)})
    assert [found.case for found in suspects(ledger, "quantile", 0.9, 10)] == ["c20", "c19"]


def test_only_the_last_epochs_count():
    ledger = {"late": {n: 1.0 if n < 8 else 0.1 for n in range(10)}} | _ledger(a=0.1, b=0.11, c=0.12, d=0.13)
    assert not suspects(ledger, "mad", 3.0, 2)
    assert [found.case for found in suspects(ledger, "mad", 3.0, 10)] == ["late"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [({"threshold": 0.0}, "range"), ({"epochs": 0}, "epochs"), ({"rule": "quantile", "threshold": 3.0}, "range")],
)
def test_bad_rules_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        suspects(_ledger(a=0.1), **changes)
    with pytest.raises(ValueError, match="empty"):
        suspects({})


def test_rows_behind_the_last_save_are_dropped(tmp_path):
    ledger = LossLedger(tmp_path / "ledger.csv", 0)
    for step in range(1, 5):
        ledger.note(step, step // 3, ('a, "x"', "b"), torch.tensor(step / 10))
    ledger.flush()
    LossLedger(tmp_path / "ledger.csv", 3)
    found = read_ledger(tmp_path / "ledger.csv")
    assert found == {case: {0: pytest.approx(0.15), 1: pytest.approx(0.3)} for case in ('a, "x"', "b")}


def test_a_run_keeps_its_ledger_and_a_reviewed_list_is_excluded(phantoms, trained, tmp_path):
    split = load_json(RunSplit, RunFolder(trained).splits)
    ledger = read_ledger(RunFolder(trained).ledger)
    assert set(ledger) == set(split.fit)  # never a validation case
    assert {len(epochs) for epochs in ledger.values()} <= {1, 2}
    found = listed(trained, tmp_path / "list.csv", "quantile", 0.5, 2)
    assert found
    assert read_cases(tmp_path / "list.csv") == tuple(suspect.case for suspect in found)
    other = train(
        phantoms, tmp_path / "run", "dynunet", seed=1, exclude=tmp_path / "list.csv",
        overrides=(*TINY, "training.epochs=1"),
    )  # fmt: skip
    kept = load_json(RunSplit, RunFolder(other).splits)
    assert not {suspect.case for suspect in found} & {*kept.fit, *kept.selection}
    assert kept.validation == split.validation


def test_unknown_cases_and_lists_without_a_column_are_refused(phantoms, tmp_path):
    (tmp_path / "list.csv").write_text("case\nnobody\n")
    with pytest.raises(ValueError, match="nobody are not in"):
        train(phantoms, tmp_path / "run", "dynunet", exclude=tmp_path / "list.csv", overrides=TINY)
    (tmp_path / "list.csv").write_text("id\nnobody\n")
    with pytest.raises(ValueError, match="column 'case'"):
        train(phantoms, tmp_path / "run", "dynunet", exclude=tmp_path / "list.csv", overrides=TINY)
    assert not (tmp_path / "run" / "recipe.yaml").exists()
