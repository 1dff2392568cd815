import pytest

from voxward.core.errors import UserError
from voxward.core.reading import read_csv, read_json, read_text


@pytest.mark.parametrize("read", [read_text, read_json, read_csv])
def test_a_file_that_is_absent_or_no_text_is_named(tmp_path, read):
    path = tmp_path / "a.txt"
    with pytest.raises(FileNotFoundError, match=r"a\.txt"):
        read(path)
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UserError, match=r"a\.txt is not a text file in UTF-8"):
        read(path)


@pytest.mark.parametrize("text", ["", "{", "{'a': 1}", "[" * 100_000])
def test_what_is_no_json_is_named(tmp_path, text):
    path = tmp_path / "a.json"
    path.write_text(text)
    with pytest.raises(UserError, match=r"a\.json is not JSON"):
        read_json(path)


def test_a_table_is_read_by_its_columns(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text('case,loss\n"a,b",1\n\nc,2\n')
    assert read_csv(path, ("loss",)) == [{"case": "a,b", "loss": "1"}, {"case": "c", "loss": "2"}]


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("", r"a\.csv must be a CSV file with the column 'case', got \[\]"),
        ("loss\n1\n", "with the column 'case'"),
        ("case,loss\na\n", "has 2 columns, but a row of 1 cells"),
    ],
)
def test_a_table_that_does_not_fit_is_refused(tmp_path, text, fault):
    path = tmp_path / "a.csv"
    path.write_text(text)
    with pytest.raises(UserError, match=fault):
        read_csv(path, ("case",))
