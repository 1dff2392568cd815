"""Progress as a person sees it: lines that are few, a table that moves, and a time that is left for the whole."""

from __future__ import annotations

import io
import math
import re

import pytest
from rich.console import Console

import voxward
from tests.engine.names import names
from voxward.engine.course import Course
from voxward.engine.engine import InProcess
from voxward.report.progress import ShowProgress
from voxward.report.stages import Stage, clock_text


class Clock:
    """A clock that a test moves."""

    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self):
        return True


class Latin(io.StringIO):
    encoding = "iso-8859-1"


def in_lines(stream=None):
    """Progress in a log file, its clock, and a function that returns the lines so far."""
    stream, clock = io.StringIO() if stream is None else stream, Clock()
    return ShowProgress(Console(file=stream, width=40), clock), clock, lambda: stream.getvalue().splitlines()


def on_a_terminal(width=100, **options):
    """Progress on a terminal, its clock, and a function that returns what is shown."""
    clock, console = Clock(), Console(file=Terminal(), force_terminal=True, color_system="truecolor", width=width)
    progress = ShowProgress(console, clock)

    def screen():
        """The lines of the table as they would be drawn now."""
        paper = Console(file=io.StringIO(), width=console.width, color_system=None)
        paper.print(progress._table())
        return paper.file.getvalue().splitlines()

    return progress, clock, screen


def units(progress, clock, count, seconds, total=None, before=0):
    """Report units that take so many seconds each."""
    total = count if total is None else total
    for n in range(before, before + count):
        progress("attack", n, total, running=f"apgd-dice on case_{n} (run)", share=n / total, before=before / total)
        clock.now += seconds
    if before + count == total:
        progress("attack", total, total, share=1.0, before=before / total)


def test_a_line_says_all():
    """One line alone says model, case, attack, size, how much is done, whose Dice it is, and the time of the whole."""
    progress, clock, lines = in_lines()
    progress("attack", 0, 150, running="run-a \u00b7 case hippocampus_004 \u00b7 clean", share=0.0, before=0.0)
    clock.now += 1434
    running = "run-a \u00b7 case hippocampus_004 \u00b7 apgd-dice \u00b7 eps 8/255"
    progress("attack", 12, 150, running=running, share=0.3676923, before=0.0, lowest_dice=0.3)
    clock.now += 60
    progress("attack", 12, 150, running=running, share=0.37, before=0.0, lowest_dice=0.3, seconds_left=730.0)
    progress("apgd-dice", 5, 20, array_dice=0.4123)
    clock.now += 60
    progress("apgd-dice", 6, 20, array_dice=0.4)
    lead = f"attack {running} \u00b7 12/150 units"
    assert lines() == [
        "attack run-a \u00b7 case hippocampus_004 \u00b7 clean \u00b7 0/150 units",
        f"{lead} \u00b7 lowest Dice of all attacks so far, of arrays 0.300 \u00b7 00:41:06 left of 01:05:00 in all",
        f"{lead} \u00b7 lowest Dice of all attacks so far, of arrays 0.300 \u00b7 00:12:10 left of 00:37:04 in all",
        f"{lead} \u00b7 step 6/20 \u00b7 Dice of the array 0.400 \u00b7 00:12:10 left of 00:38:04 in all",
    ]


@pytest.mark.parametrize("seconds", [0.01, 1.0, 9.9, 10.0, 300.0])
def test_lines_are_few(seconds):
    progress, clock, lines = in_lines()
    units(progress, clock, 100, seconds)
    found = [line for line in lines() if line.startswith("attack")]
    assert found == lines()
    assert len(found) <= 2 + min(100, 100 * seconds / 10)
    assert found[0].startswith("attack apgd-dice on case_0 (run) · 0/100 units")
    assert found[-1].startswith("attack 100/100 units")
    if seconds >= 10:  # every unit has its line
        assert len(found) == 101


def test_a_long_unit_gives_a_sign_of_life_each_minute(tmp_path):
    progress, clock, lines = in_lines()
    course = Course("runs", progress, lambda unit: f"unit {unit}", lambda unit: 1.0)
    course.plan("ab", names(tmp_path))
    course.begin("a")
    for step in range(1, 601):
        clock.now += 1.0
        course.told("a", "train", step, 1000, {"loss": 0.5})
    assert len(lines()) == 11
    assert lines()[1] == "runs unit a · 0/2 runs · train 59/1000 steps · loss 0.500 · 00:32:20 left of 00:33:20 in all"
    assert lines()[-1].endswith("00:23:20 left of 00:33:20 in all")


def test_the_time_left_follows_a_constant_rate():
    progress, clock, lines = in_lines()
    units(progress, clock, 10, 60.0)
    left = [re.search(r"(\S+) left of (\S+)", line) for line in lines()]
    assert [(found[1], found[2]) for found in left if found] == [
        (clock_text(600.0 - 60 * n), "00:10:00") for n in range(1, 10)
    ]
    assert lines()[-1].endswith("00:10:00 in all")


def test_units_of_an_earlier_call_say_nothing_about_the_speed():
    progress, clock, lines = in_lines()
    units(progress, clock, 5, 60.0, total=100, before=90)
    assert lines()[0] == "attack apgd-dice on case_90 (run) · 90/100 units"
    assert lines()[1].endswith("00:09:00 left of 00:10:00 in all")


def test_units_that_are_expected_to_take_longer_count_more():
    clock, stage = Clock(), Stage("attack", 0, 3, 1000.0, {"share": 0.0, "before": 0.0})
    stage.done, stage.figures = 1, {"share": 0.1, "before": 0.0}
    clock.now += 10
    assert stage.seconds_left(clock.now) == pytest.approx(90)


def test_steps_count_from_where_the_call_began_and_a_budget_counts_for_itself():
    progress, clock, lines = in_lines()
    progress("train", 500, 1000, loss=1.0)
    clock.now += 100
    progress("train", 600, 1000, loss=0.25)
    assert lines()[-1] == "train 600/1000 steps · loss 0.250 · 00:06:40 left of 00:08:20 in all"
    clock.now += 100
    progress("train", 601, None, seconds_left=60.0)
    assert lines()[-1] == "train 601 steps · 00:01:00 left of 00:04:20 in all"


def test_a_time_that_nobody_knows_is_not_shown():
    progress, clock, lines = in_lines()
    progress("train", 1, None, seconds_left=math.inf)
    clock.now += 100
    progress("train", 2, 10, share=math.nan)
    assert lines() == ["train 1 step", "train 2/10 steps · 00:06:40 left of 00:08:20 in all"]


def test_nothing_is_shown_for_what_is_skipped(tmp_path):
    progress, clock, lines = in_lines()
    course = Course("attack", progress, lambda unit: f"unit {unit}", lambda unit: 1.0, inner="no")
    work = names(tmp_path, *"abc")
    course.plan("abcd", work)
    InProcess(tmp_path).run("abcd", work, course)
    clock.now += 5
    course.close()
    assert lines() == ["attack unit d · 3/4 units", "attack 4/4 units · 00:00:05 in all"]


def test_a_part_is_shown_with_its_whole_and_stages_follow_each_other():
    progress, clock, lines = in_lines()
    for n in (0, 1):
        progress("predict", n, 2, running=f"case_{n}")
        for window in range(1, 5):
            progress("windows", window, 4)
            clock.now += 4
    progress("predict", 2, 2)
    progress("score", 1, 1)
    progress("score", 1, 1)
    assert lines() == [
        "predict case_0 · 0/2 cases",
        "predict case_1 · 1/2 cases · 00:00:16 left of 00:00:32 in all",
        "predict 2/2 cases · 00:00:32 in all",
        "score 1/1 case",
    ]


def test_where_work_stood_when_it_was_stopped():
    progress, clock, lines = in_lines()
    with pytest.raises(RuntimeError), progress:
        units(progress, clock, 3, 4.0, total=10)
        raise RuntimeError
    assert lines()[-1] == "attack apgd-dice on case_2 (run) · 2/10 units · stopped after 00:00:12"
    assert "10/10" not in "".join(lines())


def test_an_error_after_the_end_adds_nothing():
    progress, clock, lines = in_lines()
    with pytest.raises(RuntimeError), progress:
        units(progress, clock, 1, 1.0)
        raise RuntimeError
    assert lines()[-1].startswith("attack 1/1 unit")


def test_a_log_file_of_another_encoding():
    progress, _, lines = in_lines(Latin())
    progress("attack", 0, 1, running="apgd on caf\u00e9_\u4e00\n (run)")
    assert lines() == ["attack apgd on caf\u00e9_? (run) - 0/1 unit"]


@pytest.mark.parametrize(
    "options",
    [
        {"file": io.StringIO()},
        {"file": Terminal(), "force_terminal": True, "no_color": True, "color_system": "truecolor"},
        {"file": Terminal(), "force_terminal": True, "color_system": None},
        {"file": io.StringIO(), "force_terminal": True, "color_system": "truecolor"},  # FORCE_COLOR in a log file
    ],
)
def test_lines_wherever_a_table_cannot_move(options):
    clock = Clock()
    with ShowProgress(Console(**options), clock) as progress:
        units(progress, clock, 1, 20.0)
    assert "\x1b" not in options["file"].getvalue()
    assert len(options["file"].getvalue().splitlines()) == 2


@pytest.mark.parametrize("name", ["dumb", "unknown"])
def test_a_terminal_that_says_it_is_dumb_gets_lines(monkeypatch, name):
    monkeypatch.setenv("TERM", name)
    console, clock = Console(file=Terminal(), force_terminal=True), Clock()
    with ShowProgress(console, clock) as progress:
        units(progress, clock, 1, 20.0)
    assert console.file.getvalue().count("\n") == 2


def test_the_table_shows_what_runs_the_lowest_dice_and_what_is_left():
    progress, clock, screen = on_a_terminal()
    with progress:
        progress("prepare", 0, 13)
        clock.now += 30
        progress("prepare", 13, 13)
        progress("attack", 0, 390, running="clean on a (run)", share=0.0, before=0.0)
        clock.now += 60
        progress("attack", 12, 390, running="apgd-dice at 8/255 on a (run)", share=0.25, before=0.0, lowest_dice=0.4)
        progress("apgd-dice", 14, 50, dice=0.5)
        shown = "\n".join(screen())
    for text in (
        "prepare", "13/13 cases", "00:00:30 in all", "12/390 units", "00:03:00 left of 00:04:00",
        "apgd-dice at 8/255 on a (run)", "lowest Dice of all attacks so far, of arrays 0.400", "378 units", "14/50",
        "Dice 0.500",
    ):  # fmt: skip
        assert text in shown, text
    written = progress.console.file.getvalue()
    assert "\x1b[?25l" in written  # the cursor is hidden while the table moves,
    assert written.rindex("\x1b[?25h") > written.rindex("\x1b[?25l")  # and shown at its end


@pytest.mark.parametrize("width", [1, 5, 20, 40, 59, 60, 200])
def test_no_terminal_is_too_narrow(width):
    progress, clock, screen = on_a_terminal(width)
    with progress:
        progress("attack", 12, 390, running="apgd-dice at 8/255 on a (run)", share=0.25, before=0.0, lowest_dice=0.4)
        clock.now += 60
        progress("apgd-dice", 14, 50, dice=0.5)
        assert all(len(line) <= width for line in screen())
        assert len(screen()) <= 7
        progress.console.width = 30  # the window is made smaller
        assert all(len(line) <= 30 for line in screen())


def test_a_table_that_is_stopped_keeps_its_state_and_frees_the_terminal():
    progress, clock, screen = on_a_terminal()
    with pytest.raises(RuntimeError), progress:
        units(progress, clock, 3, 4.0, total=10)
        raise RuntimeError
    assert "2/10 units" in "\n".join(screen())
    written = progress.console.file.getvalue()
    assert "2/10 units" in written
    assert "10/10" not in written
    assert written.rindex("\x1b[?25h") > written.rindex("\x1b[?25l")


def test_what_a_program_prints_into_a_file_stays_there(capsys):
    progress, _, _ = on_a_terminal()
    with progress:
        progress("train", 1, 2)
        print("a result")
    assert capsys.readouterr().out == "a result\n"
    assert "a result" not in progress.console.file.getvalue()


def test_the_public_name():
    assert voxward.ShowProgress is ShowProgress
    progress = voxward.ShowProgress()
    assert progress.console.stderr
