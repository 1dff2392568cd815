"""What voxward did not write stays as it is."""

import os
import shutil

import pytest

from voxward.core.outputs import MARKER, Outputs

NAMES = ["a.txt", "with space.nii.gz", 'quote".txt', "umlaut ä.txt", "lone \udce9.txt"]


@pytest.mark.parametrize("name", NAMES)
def test_its_own_files_are_replaced(tmp_path, name):
    for content in ("first", "second"):
        outputs = Outputs(tmp_path / "out", "prediction")
        outputs.check([name])
        outputs.text(name, content)
    assert (tmp_path / "out" / name).read_text() == "second"
    assert {path.name for path in (tmp_path / "out").iterdir()} == {name, MARKER}


def test_files_of_others_stay(tmp_path):
    (tmp_path / "thesis.txt").write_text("years of work")
    outputs = Outputs(tmp_path, "prediction")
    with pytest.raises(ValueError, match=r"thesis\.txt: not a file that voxward wrote as prediction.*--overwrite"):
        outputs.check(["new.txt", "thesis.txt"])
    with pytest.raises(ValueError, match="not a file that voxward wrote"):
        outputs.text("thesis.txt", "x")
    assert (tmp_path / "thesis.txt").read_text() == "years of work"
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]
    Outputs(tmp_path, "prediction", overwrite=True).text("thesis.txt", "x")
    assert (tmp_path / "thesis.txt").read_text() == "x"
    outputs.text("thesis.txt", "y")  # now it is one of its own


def test_a_file_that_was_edited_stays(tmp_path):
    outputs = Outputs(tmp_path, "suspects")
    outputs.text("suspects.csv", "case\na\nb\n")
    (tmp_path / "suspects.csv").write_text("case\na\n")
    with pytest.raises(ValueError, match="edited since"):
        outputs.text("suspects.csv", "case\na\nb\n")
    assert (tmp_path / "suspects.csv").read_text() == "case\na\n"


def test_another_kind_of_output_stays(tmp_path):
    Outputs(tmp_path, "decisions").json("plan.json", {"a": 1})
    with pytest.raises(ValueError, match="not a file that voxward wrote as suspects"):
        Outputs(tmp_path, "suspects").text("plan.json", "case\n")


def test_a_folder_in_the_place_of_a_file_stays(tmp_path):
    (tmp_path / "a.txt").mkdir()
    (tmp_path / "a.txt" / "b").write_text("b")
    for overwrite in (False, True):
        with pytest.raises((ValueError, OSError)):
            Outputs(tmp_path, "prediction", overwrite).text("a.txt", "x")
    assert (tmp_path / "a.txt" / "b").read_text() == "b"


def test_a_copied_folder_is_known(tmp_path):
    """Also without its times of modification."""
    Outputs(tmp_path / "out", "prediction").text("a.txt", "first")
    shutil.copytree(tmp_path / "out", tmp_path / "copy", copy_function=shutil.copyfile)
    Outputs(tmp_path / "copy", "prediction").text("a.txt", "second")
    assert (tmp_path / "copy" / "a.txt").read_text() == "second"


def test_a_marker_that_was_cut_short_costs_one_entry(tmp_path):
    """As on a full disk: the file itself is then not its own, but what comes behind it is."""
    outputs = Outputs(tmp_path, "prediction")
    outputs.text("a.txt", "a")
    marker = tmp_path / MARKER
    marker.write_text(marker.read_text()[:-20])
    outputs.text("b.txt", "b")
    outputs.text("b.txt", "c")
    with pytest.raises(ValueError, match="not a file that voxward wrote"):
        outputs.text("a.txt", "x")


def test_what_fails_is_not_listed_and_leaves_the_old_file(tmp_path):
    outputs = Outputs(tmp_path, "prediction")
    outputs.text("a.txt", "old")
    before = (tmp_path / MARKER).read_text()
    with pytest.raises(RuntimeError), outputs.write("a.txt") as path:
        path.write_text("half")
        raise RuntimeError
    assert (tmp_path / "a.txt").read_text() == "old"
    assert (tmp_path / MARKER).read_text() == before


def test_the_same_content_is_listed_once(tmp_path):
    outputs = Outputs(tmp_path, "prediction")
    for _ in range(3):
        outputs.text("a.txt", "a")
    assert (tmp_path / MARKER).read_text().count("a.txt") == 1


@pytest.mark.parametrize("kind", ["link", "link to nothing", "pipe", "folder"])
def test_a_marker_that_is_no_file_is_not_written_to(tmp_path, kind):
    """A shared folder may hold a link that leads to a file of the user's."""
    mine, marker = tmp_path / "mine", tmp_path / "out" / MARKER
    marker.parent.mkdir()
    if kind == "link":
        mine.write_text("mine")
    if kind.startswith("link"):
        marker.symlink_to(mine)
    elif kind == "pipe":
        os.mkfifo(marker)
    else:
        marker.mkdir()
    for overwrite in (False, True):
        outputs = Outputs(tmp_path / "out", "prediction", overwrite)
        with pytest.raises(ValueError, match="must be an ordinary file"):
            outputs.check(["a"])
        with pytest.raises(ValueError, match="must be an ordinary file"):
            outputs.text("a", "x")
    assert [path.name for path in (tmp_path / "out").iterdir()] == [MARKER]
    assert mine.exists() is (kind == "link")
    assert kind != "link" or mine.read_text() == "mine"


@pytest.mark.parametrize("name", ["../a", "/a", "", ".", "..", "a/b", "a\\b", "a\nb", ".voxward"])
def test_a_name_that_leads_elsewhere_is_refused(tmp_path, name):
    with pytest.raises(ValueError, match="cannot be the name of a file"):
        Outputs(tmp_path / "out", "prediction", overwrite=True).text(name, "x")
    assert list(tmp_path.iterdir()) == []


def test_only_own_files_are_removed(tmp_path):
    outputs = Outputs(tmp_path, "a volume")
    for name in ("mine.txt", "edited.txt"):
        outputs.text(name, "found")
    for name in ("edited.txt", "theirs.txt"):
        (tmp_path / name).write_text("precious")
    assert [outputs.remove(name) for name in ("mine.txt", "gone.txt")] == [True, True]
    assert [outputs.remove(name) for name in ("edited.txt", "theirs.txt")] == [False, False]
    assert Outputs(tmp_path, "a label").remove("mine.txt")
    assert sorted(path.name for path in tmp_path.glob("*.txt")) == ["edited.txt", "theirs.txt"]
    assert Outputs(tmp_path, "a volume", overwrite=True).remove("theirs.txt")
    assert not (tmp_path / "theirs.txt").exists()
