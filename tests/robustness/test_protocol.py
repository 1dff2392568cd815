"""Protocols: the packaged ones, changes, and what is refused with the legal values."""

from __future__ import annotations

import warnings
from dataclasses import replace

import pytest

from voxward.attacks.budget import Budget
from voxward.attacks.registry import ATTACKS
from voxward.core.errors import UserError
from voxward.robustness.listing import listing
from voxward.robustness.protocol import AttackEntry, Protocol, load_protocol, protocol_names
from voxward.robustness.trials import TRIALS, plan_trials
from voxward.robustness.trials.attack import ensembles, within_budget
from voxward.robustness.trials.trial import Target, Trial


@pytest.mark.filterwarnings("ignore:APGD with")
@pytest.mark.parametrize("name", protocol_names())
def test_packaged_protocols_can_be_run(name, two_organs):
    protocol = load_protocol(name)
    assert protocol.name == name
    assert protocol.description
    trials = plan_trials(Target(protocol, two_organs))
    assert "clean" in trials
    assert all(isinstance(trial, Trial) and trial.name == key for key, trial in trials.items())
    assert [key for key, trial in trials.items() if trial.phase == "first"] == ["clean"]
    for group in ensembles(protocol, 3, False).values():
        assert set(group) <= set(trials)


def test_the_papers_numbers():
    """ROG, section 4: eps 5/255 to 16/255, 5 iterations and restarts, sweeps; ResDSN: 0.03 and 0.01 of 340 HU."""
    rog, resdsn = load_protocol("rog-paper"), load_protocol("resdsn-paper")
    assert [round(255 * eps) for eps in rog.threat.eps] == list(range(5, 17))
    assert (rog.budget.steps, rog.budget.restarts, rog.mode, rog.threat.reference) == (5, 5, "patch", "window")
    swept = {entry.name: entry.options for entry in rog.entries if entry.name}
    assert {options.get("steps") for name, options in swept.items() if name.startswith("apgd")} == {10, 15, 20}
    assert max(options.get("queries", 0) for options in swept.values()) == 5000
    assert (resdsn.threat.eps, resdsn.gradient) == ((0.03,), "window_mean")
    assert resdsn.entries[1] == AttackEntry("ifgsm-ce", None, {"steps": 5, "alpha": 0.01})


def test_entries_with_names_of_their_own_are_trials_of_their_own(two_organs):
    protocol = load_protocol(
        "quick", ["attacks=[apgd-ce, {attack: apgd-ce, name: long, options: {steps: 40}}]", "threat.eps=[4/255,8/255]"]
    )
    trials = plan_trials(Target(protocol, two_organs))
    assert trials["apgd-ce"].attack().steps == 10
    assert trials["long"].attack().steps == 40
    assert trials["long"].sizes(1) == (4 / 255, 8 / 255)


def test_a_threshold_travels_with_the_unit_unless_the_budget_names_one(two_organs):
    for changes, expected in (([], 0.4), (["budget.threshold=0.7"], 0.7)):
        protocol = load_protocol("quick", ["attacks=[fab-dice]", *changes])
        trial = plan_trials(Target(protocol, two_organs))["fab-dice"]
        assert trial.attack(0.4).threshold == expected
        assert trial.sizes(1) == (None,)


def test_controls_can_be_left_out(two_organs):
    protocol = load_protocol("quick", ["controls=[noise]"])
    names = set(plan_trials(Target(protocol, two_organs)))
    assert names == {"clean", "noise", "apgd-ce", "apgd-dice"}
    kinds = {"control", "probe", "reach", "attack", "transfer", "equal noise", "doubled", "certificate", "corruption"}
    assert kinds == set(TRIALS)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("attacks=[apgd-dicee]", r"unknown attack 'apgd-dicee'\. Did you mean 'apgd-dice'\? `voxward attack --list`"),
        ("attacks=[magic]", r"unknown attack 'magic'\. `voxward attack --list` prints all$"),
        ("attacks=[]", "attacks must name at least one of"),
        ("attacks=[fgsm-ce, fgsm-ce]", "different names"),
        ("controls=[cleen]", "Did you mean 'clean'"),
        ("threat.eps=[]", "at least one size"),
        ("threat.eps=[0]", "above 0"),
        ("threat.eps=[-1/255]", "above 0, got -0.0039"),
        ("threat.eps=[10]", r"got 10; .*threat\.unit=native"),
        ("threat.eps=[0.000001, 0.000002]", "five decimals"),
        ("threat.norm=l1", "threat.norm must be one of linf, l2"),
        ("budget.steps=0", "steps must be at least 1"),
        ("cases=0", "cases must be at least 1"),
        ("seeds=[]", "at least one seed"),
        ("policy=kind", "unknown policy"),
        ("mode=volumes", "mode must be one of"),
        ("keep=some", "keep must be one of none, first, worst, all"),
        ("require=[robust >= 1]", "unknown figure"),
        ("require=[robust_dice@0.03 >= 0.8]", r"one of threat.eps \(4/255, 8/255\)"),
        ("require=[clean_dice >= 80]", r"in \[0, 1\]"),
        ("sanity.tolerance=-1", "tolerance"),
        ("epss=[1]", "unknown key 'epss'"),
        ("epss", "dotted.key=value"),
    ],
)
def test_what_is_wrong_is_refused(change, message):
    with pytest.raises(UserError, match=message):
        load_protocol("quick", [change])


@pytest.mark.parametrize("name", ["sea-300", "tsallis-300"])
def test_a_budget_that_changes_nothing_is_refused(name, tmp_path):
    for change in ("budget.steps=50", "budget.steps=20", "budget.restarts=2"):
        key = change.partition("=")[0]
        with pytest.raises(UserError, match=rf"{key} changes nothing here, .* fixed by the name of {name}: leave it"):
            load_protocol(name, [change])
    path = tmp_path / "mine.yaml"
    path.write_text(f"name: mine\nattacks: [{name}]\nbudget: {{steps: 50}}\n")
    with pytest.raises(UserError, match=r"budget.steps changes nothing here"):
        load_protocol(path)
    assert load_protocol(name, ["budget.steps=50", f"attacks=[{name}, apgd-dice]"]).budget.steps == 50


@pytest.mark.parametrize(
    ("mode", "asked", "used"),
    [
        ("volume", "auto", "live"),
        ("patch", "auto", "frozen"),
        ("volume", "frozen", "frozen"),
        ("volume", "live", "live"),
    ],
)
def test_a_scan_is_normalised_as_the_deployed_system_does_unless_asked_otherwise(mode, asked, used):
    protocol = load_protocol("quick", [f"mode={mode}", *([] if asked == "auto" else [f"threat.statistics={asked}"])])
    assert protocol.threat.statistics == asked
    assert not protocol.problems()
    assert protocol.statistics == used
    assert protocol.settled.threat.statistics == used


def test_short_trials_of_attacks_with_a_budget_of_their_own_are_short(two_organs):
    """An estimate tries every attack: three gradients of each instead of 1200."""
    protocol = load_protocol("sea-300", ["attacks=[sea-300, tsallis-300, apgd-dice]", "controls=[]"])
    found = {}
    for n, one in enumerate((protocol, within_budget(protocol, Budget(steps=3)))):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found[n] = {name: trial.cost(3)[0] for name, trial in plan_trials(Target(one, two_organs)).items()}
    names = ("sea-masked-ce", "sea-balanced-ce", "sea-jsd", "tsallis-300", "apgd-dice")
    assert found[0] == {"clean": 0, **dict.fromkeys(names, 300), "apgd-dice": 20}
    assert found[1] == {"clean": 0, **dict.fromkeys(names, 3)}


def test_short_trials_of_a_sweep_have_the_names_of_its_members(two_organs):
    protocol = Protocol("swept", attacks=(AttackEntry("apgd-ce", sweep={"steps": (10, 20)}),), controls=())
    short = within_budget(protocol, Budget(steps=3))
    plans = [list(plan_trials(Target(one, two_organs))) for one in (protocol, short)]
    assert plans == [["clean", "apgd-ce-10", "apgd-ce-20"]] * 2


def test_a_member_of_a_sweep_stays_what_it_is():
    swept = Protocol("swept", attacks=(AttackEntry("apgd-ce", sweep={"steps": (10, 20)}),))
    assert [entry.name for entry in swept.entries] == ["apgd-ce-10", "apgd-ce-20"]
    assert replace(swept, attacks=swept.entries).entries == swept.entries


def test_an_own_file(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("name: mine\nattacks: [square]\nthreat: {eps: [2/255]}\n")
    assert load_protocol(path).threat.eps == (2 / 255,)
    path.write_text("format: 7\nname: mine\n")
    with pytest.raises(UserError, match=r"format 7.*update voxward"):
        load_protocol(path)
    with pytest.raises(UserError, match=r"unknown protocol 'quik'.*Did you mean 'quick'"):
        load_protocol("quik")
    with pytest.raises(FileNotFoundError):
        load_protocol(tmp_path / "none.yaml")


def test_a_trial_is_refused_where_the_attack_cannot_work(two_organs):
    with pytest.raises(UserError, match=r"square .*knows the norms linf"):
        plan_trials(Target(load_protocol("quick", ["attacks=[square]", "threat.norm=l2"]), two_organs))
    with pytest.raises(UserError, match="no option"):
        plan_trials(Target(load_protocol("quick", ["attacks=[{attack: square, options: {steps: 3}}]"]), two_organs))


@pytest.mark.filterwarnings("ignore:APGD with")
@pytest.mark.parametrize(
    ("attacks", "message"),
    [
        ("[autoattack, {attack: apgd-ce, options: {steps: 3}}]", "autoattack both have an attack 'apgd-ce'"),
        ("[{attack: pgd-dice, name: noise}]", "'noise' is taken by another trial"),
        ("[{attack: pgd-dice, name: clean}]", "'clean' is taken by another trial"),
    ],
)
def test_a_name_stands_for_one_trial(two_organs, attacks, message):
    """Or one would silently replace the other, and the table would call it by the same name."""
    with pytest.raises(UserError, match=message):
        plan_trials(Target(load_protocol("quick", [f"attacks={attacks}"]), two_organs))


def test_an_attack_that_is_named_twice_is_run_once(two_organs):
    names = list(plan_trials(Target(load_protocol("quick", ["attacks=[autoattack, strong, square]"]), two_organs)))
    assert len(names) == len(set(names))
    assert {"apgd-ce", "square", "strong"} <= set(names)


def test_everything_that_can_be_named_is_listed():
    found = listing()
    assert set(found["protocols"]) == {
        "quick",
        "autoattack",
        "strong",
        "rog-paper",
        "resdsn-paper",
        "blackbox",
        "certificate",
        "corruptions-ct",
        "corruptions-mri",
        "fast",
        "blade-300",
        "sea-300",
        "tsallis-300",
    }
    families = [name for name in found["attacks"] if "OBJECTIVE" in name]
    members = {name.replace("OBJECTIVE", objective) for name in families for objective in found["objectives"]}
    members -= {name for name in members if name not in ATTACKS and ("segpgd" in name or "cospgd" in name)}
    assert families == ["fgsm-OBJECTIVE", "ifgsm-OBJECTIVE", "pgd-OBJECTIVE", "apgd-OBJECTIVE", "apgd-OBJECTIVE-radii"]
    assert members | {*found["attacks"], *found["ensembles"]} - {*families} == set(ATTACKS)
    lines = [line for members in found.values() for line in members.values()]
    assert all(line and "\n" not in line for line in lines)


def test_strong_is_one_figure_together_with_the_other_attacks_and_the_surrogate():
    strong = load_protocol("strong")
    assert ensembles(strong, 3, False) == {"worst": ("strong", "fab-dice", "square")}
    assert ensembles(strong, 3, True) == {"worst": ("strong", "fab-dice", "square", "transfer")}
    alone = load_protocol("strong", ["attacks=[strong]"])
    assert ensembles(alone, 3, False) == {}
    assert ensembles(alone, 3, True) == {"worst": ("strong", "transfer")}
    named = load_protocol("strong", ["attacks=[strong, {attack: apgd-ce, name: mine}, sea-300]"])
    assert ensembles(named, 3, False)["worst"] == ("sea-masked-ce", "sea-balanced-ce", "sea-jsd", "strong", "mine")
    assert "worst" not in ensembles(load_protocol("autoattack"), 3, True)
    swept = load_protocol("strong", ["attacks=[{attack: strong, sweep: {steps: [5, 10]}}]"])
    assert ensembles(swept, 3, False) == {"worst": ("strong-5", "strong-10")}
    lent = load_protocol("quick", ["attacks=[{attack: apgd-ce, name: strong}, square]"])
    assert ensembles(lent, 3, False) == {}
