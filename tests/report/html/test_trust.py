"""What is said about trust follows from the records: checks, threat model, cost, and what was not measured."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from tests.report.html.attack_source import attack_source, sources_of
from tests.robustness import books
from tests.robustness.books import record
from voxward.attacks.threat import ThreatModel
from voxward.core.errors import Failure
from voxward.core.files import write_json
from voxward.core.machine import Machine, Software
from voxward.core.provenance import Sitting, Work
from voxward.core.yaml import read_yaml
from voxward.report.html.page import Setting, render
from voxward.report.html.sections.trust import FolderTrust, trust
from voxward.report.html.unmeasured import gaps
from voxward.report.sources import AttackSource, read_sources
from voxward.robustness.record import Record


def book() -> list[Record]:
    return [replace(one, mode="volume") for one in books.book()]


def trust_of(source: AttackSource) -> FolderTrust:
    found = trust(sources_of(source), Setting())
    assert found is not None
    return found[0]


def titles(source: AttackSource) -> str:
    return "\n".join(gap.title for gap in gaps(source))


def test_every_check_has_a_light_a_title_and_a_reason() -> None:
    noisy = [replace(one, adversarial=(0.2, 0.2)) if one.attack == "noise" else one for one in book()]
    checks = trust_of(attack_source(noisy)).checks
    assert {check.light.word for check in checks} == {"failed", "passed", "not testable"}
    assert all(check.title and check.why and check.title != check.found for check in checks)
    # What is wrong is read first.
    assert checks[0].light.kind == "bad"
    assert checks[-1].light.kind == "good"


def test_controls_have_their_dice_at_each_size() -> None:
    table = trust_of(attack_source(book())).controls
    assert table is not None
    rows = {row.cells[0]: row.cells[2:] for row in table.rows}
    assert rows["clean"] == ("0.750", "0.750")
    assert rows["noise"] == ("0.749", "n/a")
    assert "not of files" in table.caption


def test_a_control_over_fewer_scans_says_so() -> None:
    fewer = [one for one in book() if (one.attack, one.case) != ("noise", "a")]
    table = trust_of(attack_source(fewer)).controls
    assert table is not None
    assert {row.cells[0]: row.cells[2] for row in table.rows}["noise"] == "0.698 (1 scan)"


def test_the_noise_is_explained_by_its_norm() -> None:
    l2 = [replace(one, threat=replace(one.threat, norm="l2")) for one in book()]
    for records, words in ((book(), "by the whole size"), (l2, "all together by the whole size")):
        table = trust_of(attack_source(records)).controls
        assert table is not None
        (text,) = [row.cells[1] for row in table.rows if row.cells[0] == "noise"]
        assert words in text
        assert ("all together" in text) == (records is l2)


def test_attacks_have_their_budget_and_cost() -> None:
    records = [replace(one, options={"steps": 20, "restarts": 1, "radii": [2.0, 1.0]}) for one in book()]
    folder = trust_of(attack_source(records))
    assert folder.attacks is not None
    x = folder.attacks.rows[0].cells
    # Two sizes, 3 gradients, 4 forward passes and 2 seconds each.
    assert x == ("x", "yes", "steps 20, restarts 1, radii 2 1", "6", "8", "4.0")
    n = len(records)
    assert f"{2.0 * n:.1f} seconds, {3 * n} gradients and {4 * n} forward passes" in folder.cost


def test_the_threat_model_is_spelt_out() -> None:
    threat = " ".join(trust_of(attack_source(book())).threat)
    assert "each voxel by at most 51/255 of the intensity range" in threat
    assert "25.5/255 (10.0 % of the intensity range) and 51/255 (20.0 % of the intensity range)" in threat
    assert "from -100 to 240 in every scan" in threat
    assert "left out of its mean (policy ignore)" in threat
    wide = replace(book()[6], case="c", threat=ThreatModel(0.1, bounds=((0.0, 500.0),)))
    folder = trust_of(attack_source([*book(), wide]))
    assert "differs between them" in " ".join(folder.threat)
    facts = {fact.label: fact.value for fact in folder.facts}
    assert facts["Intensity ranges"] == "the lowest begins at -100, and the highest ends at 500"


def test_what_repeats_it_is_there() -> None:
    source = replace(attack_source(book()), command="voxward attack run data --out folder", digests={"a": "0123"})
    folder = trust_of(source)
    assert folder.command == "voxward attack run data --out folder"
    facts = {fact.label: fact.value for fact in folder.facts}
    assert facts["Versions"] == "voxward 0, PyTorch 2"
    assert facts["Device"] == "cpu"
    assert facts["Seeds of the attacks"] == "0"
    assert facts["System m"] == "no fingerprint recorded."
    assert read_yaml(folder.protocol, "page")["threat"]["eps"] == [0.1, 0.2]
    page = render(sources_of(source))
    assert "<code>voxward attack run data --out folder</code>" in page
    assert "0123" in page


def test_where_the_results_come_from_is_there() -> None:
    machine = Machine("A processor", "AVX2", 4, 2, 16.5, "Linux 6 x86_64")
    software = Software("0.3", "3.12", {"numpy": "2.2"}, "abc", True)
    sittings = (
        Sitting("2026-01-02T03:04:05+00:00", machine, software, last=12),
        Sitting("2026-01-03T03:04:05+00:00", replace(machine, gpu="A GPU", cuda="13"), software, first=12),
    )
    source = replace(attack_source(book()), work=Work("units", contents={"a": "01", "b": "23"}, sittings=sittings))
    facts = {fact.label: fact.value for fact in trust_of(source).facts}
    assert facts["Fingerprint of the data"] == f"{source.work.data}, over the files of 2 scans"
    assert facts["Python and packages"] == "Python 3.12, numpy 2.2"
    assert facts["Source of voxward (git revision)"] == "abc, with changes"
    first, second = facts["Machines"].split("; ", 1)
    assert first == "A processor (AVX2), 4 cores of which 2 threads computed, 16.5 GB of memory, Linux 6 x86_64"
    assert second.startswith("A GPU with 0 GB, CUDA 13")
    assert facts["When (2 calls)"] == (
        "2026-01-02T03:04:05+00:00: results 1 to 12; "
        "2026-01-03T03:04:05+00:00: from result 13, until it was killed, or it still runs"
    )


def test_results_of_different_machines_are_noticed() -> None:
    known = [replace(one, processor="one") for one in book()]
    assert trust_of(attack_source(known)).mixed == ""
    # A folder that an older version began says only that it was a processor, which may be the same one.
    assert trust_of(attack_source([book()[0], *known[1:]])).mixed == ""
    other = [replace(one, processor="two" if one.case == "b" else "one") for one in book()]
    folder = trust_of(attack_source(other))
    n = len(other) // 2
    assert folder.mixed.startswith(f"measured on different kinds of machines (one: {n} results; two: {n} results)")
    assert {fact.label: fact.value for fact in folder.facts}["Device"] == "one and two"
    assert "different kinds of machines" in render(sources_of(attack_source(other)))
    on_gpu = [replace(one, device="cuda:0") if one.case == "b" else one for one in book()]
    assert f"(cpu: {n} results; cuda: {n} results)" in trust_of(attack_source(on_gpu)).mixed


def test_a_system_that_changed_is_noticed() -> None:
    records = [replace(one, system="one" if one.case == "a" else "two") for one in book()]
    facts = {fact.label: fact.value for fact in trust_of(attack_source(records)).facts}
    assert facts["System m"].startswith("fingerprint one and two. The system changed during the measurement")


def test_gaps_follow_from_the_records() -> None:
    found = titles(attack_source(book()))
    for part in ("Other scans", "2 scans only", "larger than 51/255", "large in a few voxels", "Everyday faults",
                 "do not know",
                 "another, similar system", "A mathematical proof", "GPUs", "network than fp32",
                 "written file", "diagnosis"):  # fmt: skip
        assert part in found, part
    assert "Attacks that know the inside" not in found
    assert "window of each scan" not in found


@pytest.mark.parametrize(
    ("change", "gone", "there"),
    [
        ({"device": "cuda:0"}, "GPUs", "everything ran on cuda"),
        ({"white_box": False}, "Attacks that do not know", "Attacks that know the inside"),
        ({"mode": "patch"}, "The written file", "a window of each scan was attacked alone"),
        ({"attack": "transfer", "kind": "attack"}, "another, similar system", "Other random starts"),
        ({"precision": "bf16"}, "fp32", "than bf16"),
    ],
)
def test_a_gap_is_closed_by_what_was_run(change: dict[str, str], gone: str, there: str) -> None:
    assert gone in titles(attack_source(book()))
    everywhere = {"mode", "device", "precision"} & {*change}
    changed = [replace(one, **change) if everywhere or one.kind == "attack" else one for one in book()]
    found = titles(attack_source(changed))
    assert gone not in found
    assert there in found


def test_cases_that_failed_are_gaps() -> None:
    found = titles(attack_source(book(), failed=[Failure("z", "no label")], case_ids="abyz"))
    assert "1 scan that failed" in found
    assert "1 scan without results" in found


@pytest.mark.parametrize(
    ("history", "falling"),
    [((0.8, 0.5, 0.3, 0.3, 0.3), False), ((0.8, 0.7, 0.6, 0.5, 0.3), True), ((0.8, 0.3), False)],
)
def test_attacks_that_were_still_falling_are_named(history: tuple[float, ...], falling: bool) -> None:
    records = [*book(), record("z", "a", (0.3, 0.3), 0.1, history=history, mode="volume")]
    assert ("with more steps: z still lowered" in titles(attack_source(records))) == falling


def test_what_twice_the_budget_showed_replaces_the_ends_of_the_courses() -> None:
    falling = (0.8, 0.7, 0.6, 0.5, 0.3)
    records = [*book(), *(record("z", c, (0.1, 0.1), 0.1, history=falling, mode="volume") for c in "ab")]
    assert "no attack was run again with twice its budget" in titles(attack_source(records))

    def twice(dice: float) -> list[Record]:
        others = {"kind": "control", "options": {"doubles": "z"}, "mode": "volume"}
        return [record("doubled", case, (dice, dice), 0.1, **others) for case in "ab"]

    rested = titles(attack_source([*records, *twice(0.1)]))
    assert "more steps" not in rested
    told = titles(attack_source([*records, *twice(0.05)]))
    assert "z with twice its budget lowered the Dice by 0.050 at 25.5/255" in told
    assert "still lowered" not in told
    assert "was run again" not in told
    checks = {check.title: check for check in trust_of(attack_source([*records, *twice(0.05)])).checks}
    assert checks["More steps would not lower the figures"].light.kind == "bad"


def test_many_scans_are_not_called_few() -> None:
    clean = [replace(book()[0], case=f"c{n}") for n in range(20)]
    assert "scans only" not in titles(attack_source(clean))
    assert "19 scans only" in titles(attack_source(clean[1:]))


def test_nothing_is_said_without_records() -> None:
    assert trust(sources_of(attack_source([])), Setting()) is None
    assert gaps(attack_source([])) == ()


def test_fingerprints_of_cases_are_read(tmp_path: Path) -> None:
    (tmp_path / "records").mkdir()
    write_json(tmp_path / "settings.json", {"format": 1, "protocol": {}, "cases": {"a": "0123"}})
    source = read_sources([tmp_path]).attacks[0]
    assert (source.digests, source.case_ids) == ({"a": "0123"}, ("a",))
