"""The command line tells errors of the user, which fit one line, from bugs, which keep their traceback."""

import json
import re
import shutil
import subprocess
import sys
import warnings

import pytest

import voxward
from tests.end_to_end.conftest import TINY
from voxward.cli import COMMANDS, Command, main, parser
from voxward.core.choices import Fold
from voxward.core.errors import MissingPackageError, UserError
from voxward.core.interrupt import Interrupted
from voxward.phantoms.write import write_phantoms


def _raises(error):
    def run(arguments):
        raise error

    return Command("fails", lambda parser: None, run)


@pytest.fixture
def fails(monkeypatch):
    """Replaces the command `check` by one that raises."""
    return lambda error: monkeypatch.setitem(COMMANDS, "check", _raises(error))


MENDABLE = [
    UserError("overlap must be in [0, 1), got 2"),
    FileNotFoundError("no folder there"),
    PermissionError(13, "Permission denied", "out"),
    OSError(28, "No space left on device", "out"),
    MissingPackageError("scan.nrrd needs SimpleITK"),
    FloatingPointError("the loss is nan"),
    MemoryError(),
]


@pytest.mark.parametrize("error", MENDABLE, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("words", [["check"], ["--debug", "check"], ["check", "--debug"]], ids=" ".join)
def test_what_a_user_can_mend_is_one_line_unless_debug_is_asked_for(fails, capsys, error, words):
    fails(error)
    assert main(words) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert lines[-1] == f"error: {str(error) or type(error).__name__}"
    assert (len(lines) > 1 and "Traceback" in lines[0]) == ("--debug" in words)


@pytest.mark.parametrize("error", [ValueError("shapes differ"), ImportError("no name x"), KeyError("k"), TypeError()])
def test_a_bug_keeps_its_traceback_and_says_what_to_report(fails, capsys, error):
    fails(error)
    assert main(["check"]) == 1
    first, *rest = capsys.readouterr().err.splitlines()
    assert "bug" in first
    assert voxward.__version__ in first
    assert first.endswith("voxward check")
    assert rest[0].startswith("Traceback")
    assert rest[-1].startswith(type(error).__name__)


def test_several_lines_of_an_error_become_one(fails, capsys):
    fails(UserError("a file:\n  line 1\n  line 2"))
    assert main(["check"]) == 2
    assert capsys.readouterr().err == "error: a file: line 1 line 2\n"


@pytest.mark.parametrize("stop", [Interrupted("resume with --resume"), KeyboardInterrupt()])
def test_an_interrupt_is_no_error(fails, capsys, stop):
    fails(stop)
    assert main(["check"]) == 130
    assert capsys.readouterr().err.startswith("interrupted: ")


@pytest.mark.parametrize("command", ["attack", "cv", "demo"])
@pytest.mark.parametrize("stop", [Interrupted("--resume continues it"), KeyboardInterrupt()])
def test_an_interrupt_says_where_the_same_command_goes_on(monkeypatch, capsys, command, stop):
    monkeypatch.setitem(COMMANDS, command, _raises(stop))
    assert main([command]) == 130
    assert capsys.readouterr().err == ("interrupted: what was finished is kept; give the same command again to go on\n")


def test_commands_import_no_more_than_they_need():
    """PyTorch takes a second, and Lightning Fabric, which only trainings need, another one."""
    code = "import sys; from voxward.cli import main\ntry: main(['--version'])\nexcept SystemExit: pass\n"
    code += "print('torch' in sys.modules)\n"
    code += "import voxward.commands.attack; print('torch' in sys.modules, 'lightning_fabric' in sys.modules)"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.split() == ["voxward", voxward.__version__, "False", "True", "False"]


def test_help_documents_the_exit_codes():
    assert re.findall(r"^  (\d+) ", parser().format_help(), re.M) == ["0", "1", "2", "3", "130"]


@pytest.fixture(scope="module")
def phantoms(tmp_path_factory):
    root = tmp_path_factory.mktemp("door") / "data"
    write_phantoms(root, 6, size=24)
    return root


@pytest.fixture(scope="module")
def trained(phantoms, tmp_path_factory):
    return voxward.train(
        phantoms, out=tmp_path_factory.mktemp("door") / "run", recipe="dynunet", overrides=TINY, fold=Fold(seed=1)
    )


@pytest.fixture
def here(phantoms, tmp_path, monkeypatch):
    shutil.copytree(phantoms, tmp_path / "data")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def refusal(capsys, *words):
    """The one line with which a command ends that is refused."""
    assert main([str(word) for word in words]) == 2, capsys.readouterr().err
    (line,) = (line for line in capsys.readouterr().err.splitlines() if line.startswith("error:"))
    return line


NOT_TEXT = b"\xff\xfe\x00\x01" * 20
DAMAGED_JSON = [b"", b"{", NOT_TEXT, b"[1, 2]", b"null", b"[" * 100_000]


@pytest.mark.parametrize("content", DAMAGED_JSON, ids=lambda content: repr(content[:8]))
@pytest.mark.parametrize("name", ["dataset.json", "splits.json"])
def test_a_damaged_description_of_a_dataset(here, capsys, name, content):
    (here / "data" / name).write_bytes(content)
    assert name in refusal(capsys, "plan", "data")


BAD_ENTRIES = [
    ("labels", {"²": "organ"}),
    ("labels", {"--1": "organ"}),
    ("labels", {"background": 0, "organ": [1, "x"]}),
    ("labels", {"background": 0, "organ": 1.5}),
    ("labels", {"background": 0, "a": 1, "b": 1}),
    ("labels", "organ"),
    ("modality", {"0": "MRI", "2": "CT"}),
    ("modality", 3),
    ("training", {"image": "x"}),
    ("training", [3]),
    ("training", [{"image": ["a", 3], "label": "b"}]),
    ("training", [{"image": "a.txt", "label": "b.txt"}]),
    ("training", [{"image": "\0.nii", "label": "b.nii"}]),
    ("test", [None]),
    ("regions", {"whole": "all"}),
    ("regions", {"whole": [1, 99]}),
]


@pytest.mark.parametrize(("key", "value"), BAD_ENTRIES)
def test_a_description_that_says_what_cannot_be(here, capsys, key, value):
    path = here / "data" / "dataset.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {key: value}))
    assert len("error: ") < len(refusal(capsys, "plan", "data"))


DAMAGED_YAML = [
    b"", b"name: [", b"name: 2024-13-45", b"- 1", b"{1: 2, [3]: 4}", b"name: \x01", b"? {a: 1}\n: 2", b"[" * 9999,
    NOT_TEXT,
]  # fmt: skip


@pytest.mark.parametrize("content", DAMAGED_YAML, ids=lambda content: repr(content[:12]))
def test_a_damaged_recipe(here, capsys, content):
    (here / "mine.yaml").write_bytes(content)
    assert "mine.yaml" in refusal(capsys, "plan", "data", "--recipe", "mine.yaml")


@pytest.mark.parametrize(
    "override", ["training.epochs", "training.epochs=[", "training.epochs=2024-13-45", "=", "a.b.c=1"]
)
def test_a_damaged_override(here, capsys, override):
    assert len("error: ") < len(refusal(capsys, "plan", "data", "--set", override))


@pytest.mark.parametrize("content", DAMAGED_JSON, ids=lambda content: repr(content[:8]))
def test_a_damaged_plan(here, capsys, content):
    (here / "plan.json").write_bytes(content)
    assert "plan.json" in refusal(capsys, "prepare", "data", "--out", "out", "--plan", "plan.json")


@pytest.mark.parametrize("content", [b"", b"not a volume", b"\x1f\x8b" + NOT_TEXT])
def test_a_damaged_volume(here, trained, capsys, content):
    (here / "scan.nii.gz").write_bytes(content)
    assert "scan.nii.gz" in refusal(capsys, "predict", trained, "scan.nii.gz", "--out", "out", "--device", "cpu")


@pytest.mark.parametrize("name", ["checkpoints/best.safetensors", "recipe.yaml", "plan.json", "postprocess.json"])
@pytest.mark.parametrize("content", [b"", b"{", NOT_TEXT], ids=["empty", "open", "no text"])
def test_a_damaged_run(here, trained, capsys, name, content):
    shutil.copytree(trained, here / "run")
    (here / "run" / name).write_bytes(content)
    image = next((here / "data").glob("images*/*.nii.gz"))
    assert name in refusal(
        capsys, "predict", "run", image, "--out", "out", "--set", "checkpoint=best", "--device", "cpu"
    )


@pytest.mark.parametrize("name", ["checkpoints/state.pt", "run.json", "splits.json"])
@pytest.mark.parametrize("content", [b"", b"{", NOT_TEXT], ids=["empty", "open", "no text"])
def test_a_damaged_run_is_not_resumed(here, trained, capsys, name, content):
    shutil.copytree(trained, here / "run")
    (here / "run" / name).write_bytes(content)
    again = [word for override in TINY for word in ("--set", override)]
    assert name in refusal(
        capsys, "train", "data", "--recipe", "dynunet", "--seed", "1", "--out", "run", "--resume", *again,
        "--device", "cpu",
    )  # fmt: skip


@pytest.mark.parametrize("content", [b"", b"step,case\n1,a\n", b"step,epoch,case,loss\n1,x,a,0.5\n", NOT_TEXT])
def test_a_damaged_ledger(here, trained, capsys, content):
    shutil.copytree(trained, here / "run")
    (here / "run" / "logs" / "ledger.csv").write_bytes(content)
    assert "ledger.csv" in refusal(capsys, "suspects", "run")


@pytest.mark.parametrize("eps", ["1e999", "1/0", "x", "nan"])
def test_an_eps_that_is_no_number(capsys, eps):
    with pytest.raises(SystemExit, match="2"):
        parser().parse_args(["harden", "run", "--out", "out", "--eps", eps])
    assert "8/255" in capsys.readouterr().err


@pytest.mark.parametrize("eps", ["10HU", "10 HU", "HU", "10raw"])
def test_a_size_in_hounsfield_units_is_told_how_it_is_written(capsys, eps):
    with pytest.raises(SystemExit, match="2"):
        parser().parse_args(["attack", "run", "--eps", "8/255", eps])
    assert "--eps 10 --set threat.unit=native" in capsys.readouterr().err.replace("\n", "")
    with pytest.raises(SystemExit, match="2"):
        parser().parse_args(["attack", "run", "--eps", "8/255", "eight"])
    assert "native" not in capsys.readouterr().err.partition("error:")[2]


def test_a_case_is_not_asked_for_by_its_name(capsys):
    with pytest.raises(SystemExit, match="2"):
        parser().parse_args(["attack", "run", "--cases", "hippocampus_001"])
    assert "the first ones" in capsys.readouterr().err


@pytest.mark.filterwarnings("default")
def test_a_warning_is_one_line_without_code(monkeypatch, capsys):
    monkeypatch.setattr(warnings, "showwarning", warnings.showwarning)

    def run(arguments):
        warnings.warn("the volume\n  is flat [0, 1]", stacklevel=1)
        other = "/usr/lib/python3.11/site-packages/torch/nn/functional.py"
        warnings.warn_explicit("it is deprecated", FutureWarning, other, 7)
        return 0

    monkeypatch.setitem(COMMANDS, "check", Command("warns", lambda parser: None, run))
    with warnings.catch_warnings(record=True) as told:
        assert main(["--debug", "check"]) == 0
    assert (len(told), capsys.readouterr().err) == (2, "")
    assert main(["check"]) == 0
    said = capsys.readouterr().err
    assert said.splitlines() == [
        "warning: the volume is flat [0, 1]", "warning: it is deprecated (FutureWarning of torch)",
    ]  # fmt: skip


def test_a_warning_is_printed_once_in_a_command(monkeypatch, capsys):
    monkeypatch.setattr(warnings, "showwarning", warnings.showwarning)

    def run(arguments):
        for text in ("few steps", "few steps", "something else"):
            warnings.showwarning(UserWarning(text), UserWarning, "file", 1)
        return 0

    monkeypatch.setitem(COMMANDS, "check", Command("warns", lambda parser: None, run))
    for _ in range(2):
        assert main(["check"]) == 0
        said = capsys.readouterr().err
        assert (said.count("few steps"), said.count("something else")) == (1, 1)


def test_no_line_of_code_while_arguments_are_read_nor_where_threads_reset_how_warnings_are_shown(monkeypatch, capsys):
    def warn(text):
        warnings.warn_explicit(text, UserWarning, "/lib/site-packages/torch/x.py", 5, registry={})
        return text

    def run(arguments):
        warnings.showwarning = warnings._showwarning_orig
        warn("late")
        return 0

    def write(message):
        sys.stderr.write(warnings._formatwarnmsg(message))

    monkeypatch.setitem(COMMANDS, "check", Command("warns", lambda parser: parser.add_argument("x", type=warn), run))
    with warnings.catch_warnings():
        warnings.simplefilter("default")
        monkeypatch.setattr(warnings, "showwarning", warnings._showwarning_orig)
        monkeypatch.setattr(warnings, "_showwarnmsg_impl", write)
        assert main(["check", "early"]) == 0
        assert warnings.showwarning is warnings._showwarning_orig
    told = "".join(f"warning: {text} (UserWarning of torch)\n" for text in ("early", "late"))
    assert capsys.readouterr().err == told
