"""What a folder says about where its results come from."""

from __future__ import annotations

import json
import shutil
import subprocess
from dataclasses import replace

import pytest
import torch

from voxward.core.errors import UserError
from voxward.core.invocation import Invocation
from voxward.core.machine import computes_on, source_revision, this_machine, this_software
from voxward.core.provenance import FILE, STEPS, Work, read_provenance, same_call, sitting

CALL = Invocation("voxward train data", False, "/here", "train", {"dataset": "data"})


class Steps:
    """Something that goes on step by step."""

    step = 0

    def sit(self, folder, to, kind="train", call=CALL, **options):
        with sitting(folder, kind, call, self.begin, done=lambda: self.step, **options):
            self.step = to

    def begin(self):
        return Work(STEPS, "/data", {"a": "abc"}, seeds=(7,))


def test_every_sitting_is_kept_and_none_twice(tmp_path):
    steps = Steps()
    steps.sit(tmp_path, 4)
    steps.sit(tmp_path, 9, call=Invocation("voxward train --resume", False, "/there", "train", {"resume": True}))
    whole = (tmp_path / FILE).read_text()
    steps.sit(tmp_path, 9)  # nothing was left to do
    assert (tmp_path / FILE).read_text() == whole
    work = read_provenance(tmp_path).works["train"]
    assert [(one.first, one.last, one.how, one.started_in) for one in work.sittings] == [
        (0, 4, "finished", "/here"), (4, 9, "finished", "/there"),
    ]  # fmt: skip
    assert (work.dataset, work.contents, work.seeds) == ("/data", {"a": "abc"}, (7,))
    assert work.data == replace(work, contents={"a": "abc"}).data != replace(work, contents={"a": "abd"}).data
    assert work.arguments == {"dataset": "data"}  # how it began, and not how it went on
    assert json.loads(whole)["format"] == 1


def test_an_error_ends_a_sitting_and_the_next_one_tells_of_a_killed_one(tmp_path):
    steps = Steps()
    with pytest.raises(KeyboardInterrupt), sitting(tmp_path, "train", CALL, steps.begin, done=lambda: steps.step):
        steps.step = 2
        raise KeyboardInterrupt
    killed = sitting(tmp_path, "train", CALL, steps.begin, done=lambda: steps.step)
    killed.__enter__()
    steps.step = 5
    assert [one.last for one in read_provenance(tmp_path).works["train"].sittings] == [2, None]
    steps.sit(tmp_path, 8)
    found = read_provenance(tmp_path).works["train"].sittings
    assert [(one.first, one.last, one.how) for one in found] == [(0, 2, "stopped"), (2, 5, ""), (5, 8, "finished")]


def test_works_of_one_folder_keep_each_other(tmp_path):
    Steps().sit(tmp_path, 1)
    Steps().sit(tmp_path, 2, "evaluate")
    Steps().sit(tmp_path, 3, "evaluate", fresh=True)
    found = read_provenance(tmp_path).works
    assert [one.last for one in found["train"].sittings] == [1]
    assert [one.last for one in found["evaluate"].sittings] == [3]


def test_no_file_of_the_user_is_replaced(tmp_path):
    (tmp_path / FILE).write_text("mine")
    with pytest.raises(UserError, match=r"provenance\.json is not JSON.*move it away"):
        Steps().sit(tmp_path, 1)
    assert (tmp_path / FILE).read_text() == "mine"
    assert read_provenance(tmp_path / "older").works == {}


def test_a_call_is_the_same_if_it_makes_the_same():
    work = Work(STEPS, command="train", arguments={"dataset": "data", "resume": True})
    assert same_call(work, CALL, ["resume"])
    assert not same_call(work, CALL, [])
    assert not same_call(work, Invocation("", function="harden", arguments={"dataset": "data"}), ["resume"])
    assert not same_call(None, CALL, [])


def test_the_machine_is_described():
    here = this_machine()
    assert here.cores >= 1
    assert here.threads == torch.get_num_threads()
    assert here.instructions == torch.backends.cpu.get_cpu_capability()
    assert (here.gpu, here.cuda) == ("", "")
    assert computes_on(torch.device("cpu")) == f"{here.processor} ({here.instructions})"
    found = this_software()
    assert found.packages["torch"] == torch.__version__
    assert {"numpy", "monai"} <= found.packages.keys()


@pytest.mark.skipif(shutil.which("git") is None, reason="needs git")
def test_a_checkout_has_a_revision_whatever_git_was_told(tmp_path, monkeypatch):
    def git(*words):
        who = ("-c", "user.name=a", "-c", "user.email=a@b")
        subprocess.run(["git", *who, "-C", str(tmp_path), *words], check=True, capture_output=True)

    monkeypatch.setenv("GIT_DIR", "/nowhere")
    assert source_revision(tmp_path) == ("", None)
    monkeypatch.delenv("GIT_DIR")
    git("init")
    (tmp_path / "pyproject.toml").write_text("a")
    git("add", ".")
    git("commit", "-m", "a")
    monkeypatch.setenv("GIT_DIR", "/nowhere")
    revision, changed = source_revision(tmp_path)
    assert len(revision) == 40
    assert changed is False
    (tmp_path / "pyproject.toml").write_text("b")
    assert source_revision(tmp_path) == (revision, True)
