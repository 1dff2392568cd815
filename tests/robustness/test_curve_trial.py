"""An attack on a whole curve of eps is one unit of work per case, whose records belong together."""

from __future__ import annotations

from dataclasses import replace

from tests.robustness.build import a_bench
from tests.robustness.lesion import lesion_case, lesion_predictor
from voxward.attacks.budget import Budget
from voxward.engine.engine import InProcess
from voxward.robustness.measure import measure
from voxward.robustness.protocol import Protocol, Threat
from voxward.robustness.trials import plan_trials
from voxward.systems.run import RunSystem

SIZES = (48 / 255, 96 / 255)
PROTOCOL = Protocol(
    "curve", attacks=("fast", "square"), threat=Threat(SIZES), budget=Budget(2, 1, 3, 1), controls=("doubled",),
    keep="all",
)  # fmt: skip


def test_one_unit_gives_a_record_and_a_file_for_every_size(tmp_path):
    case = lesion_case(tmp_path)
    cases = [case, replace(case, id="two")]
    worker = a_bench({"m": RunSystem(lesion_predictor())}, cases, PROTOCOL, volumes=tmp_path / "out" / "volumes")
    (fast,) = [trial for name, trial in plan_trials(worker.bench.target("m")).items() if name == "fast"]
    assert fast.sizes(0) == (None,)
    assert fast.cost(2)[0] == 40
    records = measure(worker, tmp_path / "out", InProcess(tmp_path / "out"))
    assert [path.name for path in sorted((tmp_path / "out").rglob("records/m/fast/one/*"))] == ["epsany-seed0.json"]
    for id in ("one", "two"):
        found = [record for record in records if (record.attack, record.case) == ("fast", id)]
        assert [record.eps for record in found] == list(SIZES)
        assert all(record.chained and record.kind == "attack" and record.white_box for record in found)
        assert sum(record.gradients for record in found) <= 40
        dice = [record.dice() for record in found]
        assert dice == sorted(dice, reverse=True)
        assert len([*(tmp_path / "out" / "volumes" / "m" / "fast").rglob(f"{id}.*")]) == 2
    assert not any(record.chained for record in records if record.attack == "square")
    again = [record for record in records if record.attack == "doubled"]
    assert {(record.case, record.eps) for record in again} == {(id, eps) for id in ("one", "two") for eps in SIZES}
    assert all(record.chained for record in again if record.options["doubles"] == "fast")
