"""The table of the hardening benchmark, on records whose means are known."""

from argparse import Namespace

from benchmarks.hardening import Family, pooled, protocol_entries, table

from tests.robustness.books import CLEAN, clean, record
from voxward.report.attack import AttackReport
from voxward.robustness.protocol import load_protocol
from voxward.runs.folder import RunFolder
from voxward.training.log import TrainingLog

EPS = 8 / 255


def family(root, seed, dice, minutes):
    """Two runs in folders of names of their own; case a has `dice` under attack on the clean run, 0.5 on the other."""
    runs = {"clean": root / f"run-{seed}", "pgd": root / f"hard-{seed}"}
    for run in runs.values():
        log = TrainingLog(RunFolder(run).log, 0)
        log.add(dict.fromkeys(log.columns, 0.0) | {"step": 10.0, "seconds": 60.0 * minutes})
        log.close()
    records = []
    for run, worst in zip(runs.values(), (dice, 0.5), strict=True):
        records += [
            clean("a", run.name, deployed=CLEAN["a"]),
            record("x", "a", (worst, worst), EPS, run.name, deployed=(worst, worst), deployed_clean=CLEAN["a"]),
        ]
    result = AttackReport(tuple(records), (), None, root)
    return Family("net", seed, runs, result, {"clean": 0.8, "pgd": 0.7})


def test_seeds_are_pooled_by_the_name_of_the_defence(tmp_path):
    families = [family(tmp_path, 0, 0.1, 2), family(tmp_path, 1, 0.3, 4)]
    records = pooled(families)
    assert {(r.model, r.case) for r in records} == {(m, c) for m in ("clean", "pgd") for c in ("a 0", "a 1")}
    lines = table("net", families, records).splitlines()
    rows = {line.split("|")[1].strip(): [cell.strip() for cell in line.split("|")[2:-1]] for line in lines[4:6]}
    assert rows["clean"] == ["3.0", "10", "0.800", "0.800", "0.200"]
    assert rows["pgd"][:4] == ["3.0", "10", "0.700", "0.800"]
    assert rows["pgd"][4].startswith("0.500 (+0.300 ")
    assert "2 pairs" in lines[7]


def test_the_entries_are_those_of_a_protocol(tmp_path):
    given = Namespace(attacks=["strong"], eps=[1, 8], steps=30, queries=7, cases=None)
    surrogate = tmp_path / "run: 1"  # a name that YAML would take for a mapping
    protocol = load_protocol("strong", protocol_entries(given, surrogate, 3))
    assert (protocol.attacks, protocol.threat.eps, protocol.seeds) == (("strong",), (1 / 255, EPS), (3,))
    assert (protocol.budget.steps, protocol.budget.queries, protocol.cases) == (30, 7, None)
    assert protocol.surrogate == str(surrogate)
