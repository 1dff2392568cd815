import pytest
import torch
from lightning_fabric import Fabric

from tests.end_to_end.conftest import TINY
from voxward.commands.suspects import suspects as listed
from voxward.commands.train import train
from voxward.core.choices import Fold
from voxward.core.plan import load_json
from voxward.runs.folder import RunFolder, RunSplit
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
    [
        ({"threshold": 0.0}, "must be positive with the rule 'mad'"),
        ({"epochs": 0}, "epochs must be at least 1"),
        ({"rule": "median"}, "unknown rule 'median'"),
        ({"rule": "quantile", "threshold": 3.0}, "between 0 and 1 with the rule 'quantile'"),
    ],
)
def test_bad_rules_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        suspects(_ledger(a=0.1), **changes)
    with pytest.raises(ValueError, match="empty"):
        suspects({})


def test_rows_behind_the_last_save_are_dropped(tmp_path):
    path, cases, fabric = tmp_path / "ledger.csv", ("b", 'a, "x"'), Fabric(accelerator="cpu", devices=1)
    ledger = LossLedger(path, 0, cases, fabric)
    for step in range(1, 5):
        ledger.note(step, step // 3, ('a, "x"', "b"), torch.tensor([step / 10, step / 5]))
        ledger.flush()
    LossLedger(path, 3, cases, fabric)
    assert read_ledger(path) == {
        'a, "x"': {0: pytest.approx(0.15), 1: pytest.approx(0.3)}, "b": {0: pytest.approx(0.3), 1: pytest.approx(0.6)}
    }  # fmt: skip


class _Two(Fabric):
    """The first of two processes; the second noted the next case each time, with ten times the loss."""

    def all_gather(self, data):
        return torch.stack([data, (data + 1) % 3 if data.dtype == torch.int64 else 10 * data])


def test_the_cases_of_all_processes_are_written(tmp_path):
    ledger = LossLedger(tmp_path / "ledger.csv", 0, ("a", "b", "c"), _Two(accelerator="cpu", devices=1))
    ledger.note(1, 0, ("a", "b"), torch.tensor([0.25, 0.5]))
    ledger.note(2, 1, ("c", "a"), torch.tensor([0.125, 0.75]))
    ledger.flush()
    assert [line.rpartition(",")[0] for line in (tmp_path / "ledger.csv").read_text().splitlines()] == [
        "step,epoch,case,loss", "1,0,a,0.25", "1,0,b,0.5", "1,0,b,2.5", "1,0,c,5.0",
        "2,1,c,0.125", "2,1,a,0.75", "2,1,a,1.25", "2,1,b,7.5",
    ]  # fmt: skip


def test_a_run_keeps_its_ledger_and_a_reviewed_list_is_excluded(phantoms, trained, tmp_path):
    split = load_json(RunSplit, RunFolder(trained).splits)
    ledger = read_ledger(RunFolder(trained).ledger)
    assert set(ledger) == set(split.fit)  # never a validation case
    assert {len(epochs) for epochs in ledger.values()} <= {1, 2}
    found = listed(trained, out=tmp_path / "list.csv", rule="quantile", threshold=0.5, epochs=2)
    assert found
    assert read_cases(tmp_path / "list.csv") == tuple(suspect.case for suspect in found)
    other = train(
        phantoms,
        out=tmp_path / "run",
        recipe="dynunet",
        overrides=(*TINY, "training.epochs=1"),
        fold=Fold(seed=1, exclude=tmp_path / "list.csv"),
    )
    kept = load_json(RunSplit, RunFolder(other).splits)
    assert not {suspect.case for suspect in found} & {*kept.fit, *kept.selection}
    assert kept.validation == split.validation


def test_unknown_cases_and_lists_without_a_column_are_refused(phantoms, tmp_path):
    (tmp_path / "list.csv").write_text("case\nnobody\n")
    with pytest.raises(ValueError, match="nobody are not in"):
        train(
            phantoms, out=tmp_path / "run", recipe="dynunet", overrides=TINY, fold=Fold(exclude=tmp_path / "list.csv")
        )
    (tmp_path / "list.csv").write_text("id\nnobody\n")
    with pytest.raises(ValueError, match="column 'case'"):
        train(
            phantoms, out=tmp_path / "run", recipe="dynunet", overrides=TINY, fold=Fold(exclude=tmp_path / "list.csv")
        )
    assert not (tmp_path / "run" / "recipe.yaml").exists()
