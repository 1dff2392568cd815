import pytest

from voxward.core.errors import UserError
from voxward.core.reading import read_csv, read_json, read_text


def test_whole_files_are_read(tmp_path):
    path = tmp_path / "x"
    path.write_text('case,loss\n"a, ""x""",1\n\nb,2\n', encoding="utf-8")
    assert read_csv(path, ("loss",)) == [{"case": 'a, "x"', "loss": "1"}, {"case": "b", "loss": "2"}]
    path.write_text('{"ü": [1, null]}', encoding="utf-8")
    assert read_json(path) == {"ü": [1, None]}


@pytest.mark.parametrize("read", [read_text, read_json, read_csv])
def test_what_is_no_text_is_refused_by_name(tmp_path, read):
    (tmp_path / "scan.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UserError, match=r"scan\.txt is not a text file"):
        read(tmp_path / "scan.txt")
    with pytest.raises(FileNotFoundError):
        read(tmp_path / "absent")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "must be a CSV file with the column 'case', got"),
        ("a,b\n", "got .'a', 'b'"),
        ("case\na,b\n", "a row of 2 cells"),
    ],
)
def test_a_table_that_is_none_is_refused(tmp_path, text, message):
    (tmp_path / "x.csv").write_text(text)
    with pytest.raises(UserError, match=message):
        read_csv(tmp_path / "x.csv", ("case",))
