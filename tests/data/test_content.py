"""Digests of what files hold."""

from voxward.core.case import Case
from voxward.data.content import contents_of, digest_of


def cases_in(folder, contents):
    folder.mkdir()
    for name, text in contents.items():
        (folder / f"{name}.nii").write_text(text)
        (folder / f"{name}-label.nii").write_text("1")
    return [Case(name, (folder / f"{name}.nii",), folder / f"{name}-label.nii") for name in contents]


def test_a_dataset_is_its_contents_wherever_it_lies(tmp_path):
    first = cases_in(tmp_path / "a", {"x": "1", "y": "2"})
    moved = cases_in(tmp_path / "b", {"y": "2", "x": "1"})
    assert contents_of(first) == contents_of(moved)
    (tmp_path / "b" / "y-label.nii").write_text("0")
    assert contents_of(first) != contents_of(moved)


def test_other_ids_are_other_data_and_what_is_gone_has_no_contents(tmp_path):
    swapped = cases_in(tmp_path / "a", {"x": "2", "y": "1"})
    found = contents_of(cases_in(tmp_path / "b", {"x": "1", "y": "2"}))
    assert contents_of(swapped) == {"x": found["y"], "y": found["x"]}
    swapped[0].images[0].unlink()
    assert contents_of(swapped) == {"x": "", "y": found["x"]}


def test_the_order_of_files_matters(tmp_path):
    one, two = (tmp_path / name for name in "ab")
    one.write_text("1")
    two.write_text("2")
    assert digest_of([one, two]) != digest_of([two, one])
