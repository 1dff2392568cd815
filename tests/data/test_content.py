"""Digests of what files hold."""

from voxward.core.case import Case
from voxward.data.content import content_digest, digest_of


def cases_in(folder, contents):
    folder.mkdir()
    for name, text in contents.items():
        (folder / f"{name}.nii").write_text(text)
        (folder / f"{name}-label.nii").write_text("1")
    return [Case(name, (folder / f"{name}.nii",), folder / f"{name}-label.nii") for name in contents]


def test_a_dataset_is_its_contents_wherever_it_lies(tmp_path):
    first = cases_in(tmp_path / "a", {"x": "1", "y": "2"})
    moved = cases_in(tmp_path / "b", {"y": "2", "x": "1"})
    assert content_digest(first) == content_digest(moved)
    (tmp_path / "b" / "y-label.nii").write_text("0")
    assert content_digest(first) != content_digest(moved)


def test_other_ids_are_other_data_and_what_is_gone_has_no_contents(tmp_path):
    swapped = cases_in(tmp_path / "a", {"x": "2", "y": "1"})
    assert content_digest(swapped) != content_digest(cases_in(tmp_path / "b", {"x": "1", "y": "2"}))
    before = content_digest(swapped)
    swapped[0].images[0].unlink()
    assert content_digest(swapped) != before


def test_the_order_of_files_matters(tmp_path):
    one, two = (tmp_path / name for name in "ab")
    one.write_text("1")
    two.write_text("2")
    assert digest_of([one, two]) != digest_of([two, one])
