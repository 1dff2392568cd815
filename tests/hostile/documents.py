"""Readers of voxward's own documents: recipes, protocols, systems, plans, genotypes, lists, and the files of a run."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Sequence
from importlib import resources
from pathlib import Path
from random import Random
from typing import Any

import yaml

from tests.hostile.mutations import bytes_changed, json_changed, lines_changed, value_changed
from tests.hostile.reader import Files, Reader
from voxward.core.errors import UserError
from voxward.core.genotype import load_genotype
from voxward.core.labels import LabelSet
from voxward.core.plan import load_json, load_plan
from voxward.core.recipe import load_recipe, recipe_names
from voxward.nets.registry import create_network
from voxward.robustness.protocol import load_protocol, protocol_names
from voxward.runs.cases import RunCases
from voxward.runs.folder import RunSettings, RunSplit, load_run
from voxward.runs.postprocess import PostProcess
from voxward.systems.open import open_system
from voxward.training.ledger import read_cases, read_ledger, suspects
from voxward.training.log import read_log
from voxward.training.setup import check_recipe

LABELS = LabelSet(("background", "a", "b", "c"), (0, 1, 2, 3))
YAML_LINES = tuple(
    line.encode()
    for line in (
        "!!python/object/apply:os.system ['id']", "!!python/name:os.system", "a: &a [*a]", "x: *y", "? [1]: 2",
        "<<: {a: 1}",
        "x: !!binary aGk=", "x: 2001-01-01", "x: !!set {a}", "- 1", "\t", "x: !!timestamp 1", "? {a: b}\n: c", "x: 0x",
        "x: !!int zz", "x: !!float zz", "1: 2", "null: 3", "%YAML 9.9", "---", "...", "x: 99-99-99", "x: 1/0",
        "x: 1" + "0" * 400,
        "x: 12:30:45", "x: .nan", "x: !!omap [a: 1]", "x: [[[[[[[[", "a: &b {c: *b}", "x: |", "x: 1e999",
        "x: 8/" + "9" * 400,
        "x: !!pairs [[1]]", "x: !!null z", "x: !!bool z", "x: !!str [1]", "x: !!map 1", "x: !!seq 1", "x: !fraction z",
    )
)  # fmt: skip


def yaml_changed(random: Random, data: bytes) -> bytes:
    """Return YAML with other values, odd lines, bombs of references, nested without end, or with other bytes."""
    kind = random.randrange(10)
    if kind < 6:
        changed = value_changed(random, yaml.safe_load(data))
        try:
            found = yaml.safe_dump(changed, sort_keys=False).encode("utf-8", "surrogatepass")
        except (yaml.YAMLError, UnicodeError):
            found = b"{}"
        return bytes_changed(random, found) if random.randrange(10) == 0 else found
    if kind == 6:
        return bytes_changed(random, data)
    if kind == 7:
        key = random.choice(data.split(b"\n")).partition(b":")[0]
        deep = random.choice((b"[", b"{a: ", b"- ")) * random.choice((50, 1000, 20_000))
        bomb = b"a0: &a0 [x, x]\n" + b"".join(b"a%d: &a%d [*a%d, *a%d]\n" % (n, n, n - 1, n - 1) for n in range(1, 30))
        return random.choice(
            (data + b"\n" + deep, bomb + data, key + b": " + deep, data + b"\n" + bomb + key + b": *a29\n")
        )
    return lines_changed(random, data, YAML_LINES, (b": ", b"- "))


def _one(name: str, change: Callable[[Random, bytes], bytes]) -> Callable[[Random, Files], Files]:
    """The change of one file among others."""

    def apply(random: Random, files: Files) -> Files:
        content = files[name]
        assert isinstance(content, bytes)
        return {**files, name: change(random, content)}

    return apply


def any_json(random: Random, files: Files) -> Files:
    """Change one of the JSON files."""
    name = random.choice([name for name in files if name.endswith(".json")])
    return _one(name, json_changed)(random, files)


@functools.cache
def recipes() -> tuple[Files, ...]:
    """Return all packaged recipes."""
    folder = resources.files("voxward") / "recipes"
    return tuple({"recipe.yaml": (folder / f"{name}.yaml").read_bytes()} for name in recipe_names())


def use_recipe(folder: Path) -> str:
    """Read a recipe and check it against labels."""
    recipe = load_recipe(folder / "recipe.yaml")
    assert recipe.training.epochs >= 0
    try:
        check_recipe(recipe, LABELS)
    except UserError:
        return "refused for these labels"
    except ImportError:
        return "needs a package"
    return "sound"


@functools.cache
def protocols() -> tuple[Files, ...]:
    """Return all packaged protocols."""
    folder = resources.files("voxward") / "protocols"
    return tuple({"protocol.yaml": (folder / f"{name}.yaml").read_bytes()} for name in protocol_names())


def use_protocol(folder: Path) -> str:
    """Read a protocol."""
    protocol = load_protocol(folder / "protocol.yaml")
    assert all(0 <= eps < float("inf") for eps in protocol.threat.eps)
    return "sound"


SYSTEMS: tuple[dict[str, Any], ...] = (
    {"kind": "run", "run": "run", "tta": "mirrors", "overlap": 0.5},
    {"kind": "ensemble", "members": ["run", {"kind": "run", "run": "run", "checkpoint": "best"}],
    "mean": "probabilities"},
    {"kind": "cascade", "coarse": "run", "fine": "run", "margin": 5},
    {"kind": "nnunet", "results": "results", "folds": [0], "configuration": "3d_fullres"},
    {"kind": "bundle", "bundle": "bundle"},
    {
        "kind": "network", "network": "net.onnx", "window": [8, 8, 8], "spacing": [1, 1, 1], "normalization": "zscore",
        "labels": {"background": 0, "a": 1}, "channels": ["MRI"],
    },
    {"kind": "network", "function": "os:getcwd", "window": [8, 8, 8], "labels": {"background": 0, "a": 1},
    "channels": ["x"]},
    {"kind": "blackbox", "function": "subprocess:run", "labels": {"background": 0, "a": 1}, "channels": ["MRI"]},
)  # fmt: skip


@functools.cache
def systems() -> tuple[Files, ...]:
    """Return the file of a system of each kind; the systems that they name are not there."""
    return tuple({"system.yaml": yaml.safe_dump({"format": 1, **data}, sort_keys=False).encode()} for data in SYSTEMS)


def use_system(folder: Path) -> str:
    """Open a system, whose parts are missing: that it is read says what is wrong with it first."""
    open_system(folder / "system.yaml", device="cpu")
    raise AssertionError("a system without its parts is opened")


@functools.cache
def trained() -> Files:
    """The files of a small run."""
    from tests.hostile.run import files

    return files()


def plans() -> tuple[Files, ...]:
    """Return the plan of a run."""
    return ({"plan.json": trained()["plan.json"]},)


def use_plan(folder: Path) -> str:
    """Read a plan, and build a network for it where that is small."""
    plan = load_plan(folder / "plan.json")
    assert all(size >= 1 for size in plan.patch_size)
    assert all(0 < edge < float("inf") for edge in plan.spacing)
    return "sound"


GENOTYPE = {
    "dimensions": 3, "layers": 4, "scales": 2,
    "cells": {k: [{"input": 0, "operation": "sep3"}, {"input": 1, "operation": "avg3"}] for k in ("down", "same",
    "up")},
    "paths": [["same"] * 4, ["down", "same", "up", "same"]], "weights": None,
}  # fmt: skip


@functools.cache
def genotypes() -> tuple[Files, ...]:
    """Return a genotype of two paths."""
    return ({"genotype.json": json.dumps(GENOTYPE).encode()},)


def use_genotype(folder: Path) -> str:
    """Read a genotype, and build some small networks of it."""
    path = folder / "genotype.json"
    genotype = load_genotype(path)
    assert genotype.edges
    if genotype.layers > 8 or path.stat().st_mtime_ns % 8:
        return "sound"
    try:
        create_network("searched", 1, 2, genotype=str(path), strides=((2, 2, 2), (2, 2, 2)), filters=2)
    except UserError:
        return "refused by the network"
    return "built"


def runs() -> tuple[Files, ...]:
    """Return a run without its logs."""
    return (trained(),)


def run_changed(random: Random, files: Files) -> Files:
    """Change one of the documents of a run."""
    return any_json(random, files) if random.randrange(3) else _one("recipe.yaml", yaml_changed)(random, files)


def use_run(folder: Path) -> str:
    """Read the documents of a run, each of which may be damaged."""
    load_json(RunSettings, folder / "run.json")
    load_json(RunSplit, folder / "splits.json")
    assert load_json(RunCases, folder / "cases.json").trained is not None
    load_json(PostProcess, folder / "postprocess.json")
    load_run(folder)
    return "sound"


LOG = (
    "step,epoch,training_loss,validation_loss,validation_dice,learning_rate,seconds\n"
    "10,1,2.0,1.9,0.2,0.001,6.0\n20,2,1.5,nan,0.8,0.0005,12.0\n30,3,1.2,1.3,0.7,0.0001,30.0\n"
)  # fmt: skip
LEDGER = "step,epoch,case,loss\n" + "".join(
    f"{epoch * 9 + n},{epoch},case_{n},{n / 10 + epoch}\n" for epoch in range(4) for n in range(5)
)
CELLS = tuple(
    cell.encode()
    for cell in (
        "",
        "nan",
        "inf",
        "-1",
        "1e999",
        "x",
        '"',
        '"a""b"',
        "a\rb",
        "=1+1",
        "1,2",
        "\x00",
        "é",
        "9" * 5000,
        "case",
        "1_0",
    )
)


@functools.cache
def tables() -> tuple[Files, ...]:
    """Return a list of cases, a log and a ledger."""
    listed = "case,loss,limit\n" + "".join(f"case_{n},{n}.5,1\n" for n in range(5))
    return ({"exclude.csv": listed.encode(), "training.csv": LOG.encode(), "ledger.csv": LEDGER.encode()},)


def table_changed(random: Random, files: Files) -> Files:
    """Change the cells, lines or bytes of a CSV file."""

    def change(random: Random, data: bytes) -> bytes:
        return bytes_changed(random, data) if random.randrange(3) == 0 else lines_changed(random, data, CELLS, (b",",))

    return _one(random.choice(sorted(files)), change)(random, files)


def use_tables(folder: Path) -> str:
    """Read a list of cases, a log and a ledger."""
    assert all(isinstance(case, str) for case in read_cases(folder / "exclude.csv"))
    read_log(folder / "training.csv")
    if losses := read_ledger(folder / "ledger.csv"):
        suspects(losses)
        assert all(isinstance(loss, float) for own in losses.values() for loss in own.values())
    return "sound"


DOCUMENTS: Sequence[Reader] = (
    Reader("recipe", recipes, _one("recipe.yaml", yaml_changed), use_recipe, "recipe.yaml"),
    Reader("protocol", protocols, _one("protocol.yaml", yaml_changed), use_protocol, "protocol.yaml"),
    Reader("system", systems, _one("system.yaml", yaml_changed), use_system, "system.yaml"),
    Reader("plan", plans, any_json, use_plan, "plan.json"),
    Reader("genotype", genotypes, any_json, use_genotype, "genotype.json"),
    Reader("run", runs, run_changed, use_run, "run.json"),
    Reader("tables", tables, table_changed, use_tables, "exclude.csv"),
)
