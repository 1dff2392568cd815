"""No code of voxward's runs what a file says: nothing is unpickled, evaluated, or handed to a shell."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[2] / "src" / "voxward"

MODULES = frozenset(
    ("pickle", "_pickle", "cPickle", "cloudpickle", "shelve", "marshal", "dill", "joblib", "jsonpickle", "pty")
)
HARMLESS = frozenset(("pickle.UnpicklingError", "pickle.PicklingError"))
"""What may be used of such a module: errors, which read nothing."""

BANNED = frozenset(
    (
        "builtins.eval", "builtins.exec", "builtins.compile", "builtins.__import__", "code.interact", "os.system",
        "os.popen", "tempfile.mktemp", "runpy.run_path", "runpy.run_module", "pandas.read_pickle", "torch.export.load",
        "torch.jit.load", "torch.hub.load", "torch.package.PackageImporter", "shutil.unpack_archive",
        "importlib.import_module", "importlib.util.spec_from_file_location",
        "yaml.load", "yaml.load_all", "yaml.full_load", "yaml.full_load_all", "yaml.unsafe_load",
        "yaml.unsafe_load_all",
        "yaml.Loader", "yaml.FullLoader", "yaml.UnsafeLoader", "yaml.CLoader", "yaml.CFullLoader", "yaml.CUnsafeLoader",
    )
)  # fmt: skip
BUILTINS = frozenset(name.removeprefix("builtins.") for name in BANNED if name.startswith("builtins."))
METHODS = frozenset(("extractall", "extract"))
"""Of archives, which may write outside of the folder that is meant."""

ASKED: dict[str, tuple[str, object]] = {
    "torch.load": ("weights_only", True),
    "torch.serialization.load": ("weights_only", True),
    "numpy.load": ("allow_pickle", False),
    "numpy.lib.format.read_array": ("allow_pickle", False),
    "blosc2.open": ("deserialize", "safe"),
}
"""Calls that must say a word by keyword, so that they read data alone."""

ALLOWED = frozenset(
    (
        # Names of modules from a table in the source.
        ("__init__.py", "importlib.import_module"),
        ("cli/arguments.py", "importlib.import_module"),
        # Optional packages by their own names.
        ("nets/onnx/file.py", "importlib.import_module"),
        ("training/optim.py", "importlib.import_module"),
        # Programs of a system, which only --trust starts.
        ("systems/code.py", "importlib.import_module"),
        ("systems/network/files.py", "torch.jit.load"),
    )
)
"""Which file may use what is banned elsewhere."""


def violations(source: str) -> list[str]:
    """Return what a source does that could run what a file holds, by the full names."""
    nodes = list(ast.walk(ast.parse(source)))
    names = _names(nodes)
    found = [name for node in nodes for name in _of_import(node)]
    for node in nodes:
        if isinstance(node, ast.Call):
            found += _of_call(node, names)
        if isinstance(node, ast.Attribute | ast.Name):
            found += _of_name(node, names)
    return found


def _names(nodes: Sequence[ast.AST]) -> dict[str, str]:
    """What the imports of a file call each thing."""
    found: dict[str, str] = {}
    for node in nodes:
        if isinstance(node, ast.Import):
            for each in node.names:
                first = each.name.partition(".")[0]
                found[each.asname or first] = each.name if each.asname else first
        elif isinstance(node, ast.ImportFrom):
            found |= {each.asname or each.name: f"{node.module}.{each.name}" for each in node.names}
    return found


def _full(node: ast.AST, names: dict[str, str]) -> str:
    """The full name of what an expression such as `t.load` refers to."""
    if isinstance(node, ast.Name):
        return names.get(node.id, f"builtins.{node.id}" if node.id in BUILTINS else node.id)
    if isinstance(node, ast.Attribute):
        return f"{_full(node.value, names)}.{node.attr}"
    return ""


def _of_import(node: ast.AST) -> Iterator[str]:
    if isinstance(node, ast.Import):
        yield from (each.name for each in node.names if each.name.partition(".")[0] in MODULES - {"pickle"})
    elif isinstance(node, ast.ImportFrom):
        for name in (f"{node.module}.{each.name}" for each in node.names):
            if name in BANNED or (name.partition(".")[0] in MODULES and name not in HARMLESS):
                yield name


def _of_name(node: ast.Attribute | ast.Name, names: dict[str, str]) -> Iterator[str]:
    full = _full(node, names)
    imported = isinstance(node, ast.Name) and node.id in names  # and found where it was imported
    of_module = isinstance(node, ast.Attribute) and full.count(".") == 1 and full.partition(".")[0] in MODULES
    if (full in BANNED and not imported) or (of_module and full not in HARMLESS):
        yield full


def _of_call(node: ast.Call, names: dict[str, str]) -> Iterator[str]:
    full = _full(node.func, names)
    said = {keyword.arg: keyword.value for keyword in node.keywords}
    if full in ASKED:
        word, value = ASKED[full]
        if not (word in said and isinstance(said[word], ast.Constant) and said[word].value == value):  # type: ignore[attr-defined]
            yield f"{full} without {word}={value!r}"
    shell = said.get("shell")
    if shell is not None and not (isinstance(shell, ast.Constant) and shell.value is False):
        yield f"{full} with shell"
    if isinstance(node.func, ast.Attribute) and node.func.attr in METHODS:
        yield f".{node.func.attr}"


PLANTED = {
    "import pickle\npickle.loads(b'')": "pickle.loads",
    "import pickle as p\np.load(f)": "pickle.load",
    "from pickle import loads": "pickle.loads",
    "from cloudpickle import dumps": "cloudpickle.dumps",
    "import shelve": "shelve",
    "import marshal": "marshal",
    "import dill.session": "dill.session",
    "import joblib": "joblib",
    "eval('1')": "builtins.eval",
    "run = exec": "builtins.exec",
    "import builtins\nbuiltins.eval('1')": "builtins.eval",
    "from builtins import exec as run": "builtins.exec",
    "compile('1', '', 'eval')": "builtins.compile",
    "__import__('os')": "builtins.__import__",
    "import yaml\nyaml.load(text, Loader=yaml.SafeLoader)": "yaml.load",
    "import yaml as y\ny.unsafe_load(text)": "yaml.unsafe_load",
    "from yaml import FullLoader": "yaml.FullLoader",
    "import yaml\nclass Mine(yaml.Loader): ...": "yaml.Loader",
    "import torch\ntorch.load(path)": "torch.load without weights_only=True",
    "import torch as t\nt.load(path, weights_only=False)": "torch.load without weights_only=True",
    "from torch import load\nload(path)": "torch.load without weights_only=True",
    "import torch\ntorch.load(path, weights_only=given)": "torch.load without weights_only=True",
    "import torch\ntorch.jit.load(path)": "torch.jit.load",
    "import torch\ntorch.export.load(path)": "torch.export.load",
    "import numpy as np\nnp.load(path)": "numpy.load without allow_pickle=False",
    "import numpy as np\nnp.load(path, allow_pickle=True)": "numpy.load without allow_pickle=False",
    "import blosc2\nblosc2.open(path, mode='r')": "blosc2.open without deserialize='safe'",
    "import subprocess\nsubprocess.run(line, shell=True)": "subprocess.run with shell",
    "from subprocess import Popen\nPopen(line, shell=given)": "subprocess.Popen with shell",
    "import os\nos.system(line)": "os.system",
    "import tempfile\ntempfile.mktemp()": "tempfile.mktemp",
    "from tempfile import mktemp": "tempfile.mktemp",
    "archive.extractall(folder)": ".extractall",
    "from importlib import import_module\nimport_module(given)": "importlib.import_module",
}

SOUND = (
    "import pickle\ntry: ...\nexcept pickle.UnpicklingError: ...",
    "import torch\ntorch.load(path, weights_only=True)",
    "import numpy\nnumpy.load(path, allow_pickle=False)",
    "import yaml\nclass Mine(yaml.SafeLoader): ...",
    "import subprocess\nsubprocess.run(['ls', folder])\nsubprocess.run(['ls'], shell=False)",
    "import re\nre.compile('a')\nnetwork.eval()\nself.compile()",
    "from blosc2 import open as stored\nstored(path, deserialize='safe')",
)


@pytest.mark.parametrize("planted", PLANTED)
def test_what_runs_a_file_is_found(planted: str):
    assert PLANTED[planted] in violations(planted)


@pytest.mark.parametrize("sound", SOUND)
def test_what_reads_data_alone_is_not(sound: str):
    assert violations(sound) == []


def test_nothing_in_the_source_runs_what_a_file_holds():
    files = sorted(SOURCE.rglob("*.py"))
    assert len(files) > 400
    found = {
        (path.relative_to(SOURCE).as_posix(), name)
        for path in files
        for name in violations(path.read_text(encoding="utf-8"))
    }
    assert found == ALLOWED
