"""An attack on a whole curve of eps is one unit of work per case, whose records belong together."""

from __future__ import annotations

from dataclasses import replace
from unittest.mock import Mock

import torch

from tests.robustness.books import record
from tests.robustness.build import a_bench
from tests.robustness.lesion import lesion_case, lesion_predictor
from voxward.attacks.base import AttackResult
from voxward.attacks.budget import Budget
from voxward.attacks.ladder import Fast
from voxward.attacks.threat import ThreatModel
from voxward.core.progress import silent
from voxward.engine.engine import InProcess
from voxward.robustness.measure import measure
from voxward.robustness.protocol import Protocol, Threat
from voxward.robustness.stand import Stand
from voxward.robustness.trials import plan_trials
from voxward.robustness.trials.attack import AttackTrial
from voxward.robustness.unit import Unit
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


def test_a_file_is_never_better_than_that_of_a_smaller_size(monkeypatch):
    """Files may lose what the arrays had: here the second one does, and the file of the first is legal there, too."""
    sizes, written = (0.1, 0.2, 0.3), {1.0: 0.4, 2.0: 0.6, 3.0: 0.1}

    def along(self, model, volume, target, threat, sizes, seed, progress, warn):
        return tuple(
            AttackResult(
                "fast", ThreatModel(eps), torch.full((1, 1, 1), float(n)), *torch.tensor([[0.5 / n], [0.9], [eps]]),
                torch.ones(1, 2), n, 0, 0.0,
            )
            for n, eps in enumerate(sizes, 1)
        )  # fmt: skip

    def judged(unit, threat, found, attack):
        dice = written[float(found.volume)]
        return record("fast", "a", (0.5, 0.5), unit.eps, deployed=(dice, dice), gradients=found.gradients,
                      distance=found.distance, threat=threat)  # fmt: skip

    monkeypatch.setattr(Fast, "along", along)
    entry = PROTOCOL.entries[0]
    trial = AttackTrial("fast", "fast", entry, PROTOCOL.budget, 3, sizes, alone=True)
    stand = Mock(spec=Stand, subject=Mock(), record=judged)
    found = trial.run(Unit("m", "fast", "a", None, 0), stand, silent)
    assert [one.dice(True) for one in found] == [0.4, 0.4, 0.1]
    assert [(one.eps, one.gradients) for one in found] == [(0.1, 1), (0.2, 2), (0.3, 3)]
    assert [round(one.distance, 3) for one in found] == [0.1, 0.1, 0.3]
    assert all(one.chained for one in found)
