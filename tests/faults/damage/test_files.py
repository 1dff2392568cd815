"""Every kind of file that voxward writes and reads again, damaged: an error that names it, or no effect."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from lightning_fabric import Fabric
from safetensors.torch import save_file
from torch import nn

from tests.core.test_genotype import GENOTYPE
from tests.data.test_store import PLAN, make_dataset
from tests.data.volumes import make_plan
from tests.faults.damage.conftest import TINY
from tests.faults.damage.damages import Read, report, tried
from tests.robustness.books import record
from voxward.commands.attack import attack
from voxward.commands.evaluate import evaluate
from voxward.commands.search import search
from voxward.commands.train import train
from voxward.core.choices import Reuse
from voxward.core.document import with_checksum
from voxward.core.errors import UserError
from voxward.core.files import write_json, write_text
from voxward.core.genotype import load_genotype
from voxward.core.log_file import read_rows
from voxward.core.plan import load_json, load_plan
from voxward.core.provenance import read_provenance
from voxward.core.recipe import Choice, dump_recipe, load_recipe, load_run_recipe
from voxward.core.strategy import Strategy
from voxward.core.structure import to_data
from voxward.data.preparation_digest import preparation_digest
from voxward.data.store import is_current, open_case, prepare_dataset
from voxward.engine.settings import settle
from voxward.nets.registry import network_for_plan
from voxward.report.run_source import _Architectures
from voxward.report.source_files import read_mapping
from voxward.robustness.description import read_cases, read_protocol
from voxward.robustness.store import RecordStore
from voxward.robustness.unit import Unit
from voxward.runs.cases import RunCases
from voxward.runs.folder import RunFolder, RunSettings, RunSplit, load_weights, read_state, save_weights
from voxward.runs.postprocess import PostProcess
from voxward.training.learner import Learner
from voxward.training.ledger import LossLedger
from voxward.training.log import COLUMNS, TrainingLog
from voxward.training.schedule import create_schedule
from voxward.training.state import TrainingState, load_state, save_state
from voxward.training.steps import StandardStep

FLIPS = int(os.environ.get("VOXWARD_FLIPS", "300"))
"""How many bits are flipped in each kind of file of the campaign."""
FEW = 10
"""How many in each one of the quick tests."""


def mapping(path: Path) -> Any:
    """What a report reads of a JSON file."""
    problems: list[str] = []
    found = read_mapping(path, problems)
    if problems:
        raise UserError(problems[0])
    # The name of the checksum may be damaged, which nobody reads then.
    return {key: value for key, value in found.items() if not re.fullmatch("[0-9a-f]{64}", str(value))}


def tensors(path: Path, network: Callable[[], nn.Module]) -> dict[str, torch.Tensor]:
    """The weights of a network after it has read them."""
    made = network()
    load_weights(made, path)
    return made.state_dict()


def of_a_run(folder: RunFolder) -> dict[Path, Read]:
    """The files of a run, and what reads them."""
    plan, recipe = load_plan(folder.plan), load_run_recipe(folder.recipe)

    def network() -> nn.Module:
        return network_for_plan(recipe.network.name, plan, recipe.network.options)

    readers: dict[Path, Read] = {
        folder.plan: lambda: load_plan(folder.plan),
        folder.recipe: lambda: load_run_recipe(folder.recipe),
        folder.splits: lambda: load_json(RunSplit, folder.splits),
        folder.settings: lambda: load_json(RunSettings, folder.settings),
        folder.cases: lambda: load_json(RunCases, folder.cases),
        folder.postprocess: lambda: load_json(PostProcess, folder.postprocess),
        folder.root / "provenance.json": lambda: read_provenance(folder.root),
        folder.root / "metrics.json": lambda: mapping(folder.root / "metrics.json"),
        folder.weights("best"): lambda: tensors(folder.weights("best"), network),
        folder.state: lambda: read_state(folder.state),
        folder.log: lambda: read_rows(folder.log, COLUMNS),
        folder.search_log: lambda: read_rows(folder.search_log, ("step",)),
        folder.ledger: lambda: read_rows(folder.ledger, ("case", "loss")),
    }
    return {path: read for path, read in readers.items() if path.is_file()}


@pytest.fixture
def small(tmp_path: Path) -> dict[Path, Read]:
    """The kinds of files, each as small as it can be."""
    folder, root = RunFolder(tmp_path / "run"), tmp_path
    plan = make_plan(strides=((2, 2, 2),) * 2, kernel_sizes=((3, 3, 3),) * 3)
    recipe = load_recipe("dynunet", ["network.options={filters: [2, 4, 4]}"])
    for path, value in (
        (folder.plan, plan), (folder.splits, RunSplit(("a",), ("b",), ("c",))), (folder.cases, RunCases(())),
        (folder.settings, RunSettings("data", 0, 0, None, "0.1.0")),
        (folder.postprocess, PostProcess(("organ", "none"), (0.0, 0.0))),
    ):  # fmt: skip
        write_json(path, with_checksum(to_data(value)))
    write_text(folder.recipe, dump_recipe(recipe, checksum=True))
    network = network_for_plan("dynunet", plan, recipe.network.options)
    save_weights(network, folder.weights("best"))
    learner = _learner()
    save_state(folder.state, TrainingState(step=3, total_steps=9, seconds=1.5), learner, StandardStep(learner))
    log = TrainingLog(folder.log, 0)
    log.add(dict.fromkeys(log.columns, 0.5) | {"step": 3.0, "epoch": 1.0})
    log.close()
    ledger = LossLedger(folder.ledger, 0, ("a", "b"), Fabric(accelerator="cpu", devices=1))
    ledger.note(1, 0, ("a", "b"), torch.tensor([0.25, 0.5]))
    ledger.flush()
    store, unit = RecordStore(root / "attack"), Unit("m", "x", "a", 0.1, 0)
    store.write(unit, [record("x", "a", (0.3, 0.4), 0.1)])
    settings = {"dataset": "d", "seed": 3, "eps": [0.01, 0.02]}
    settle(root / "cv.json", settings, "a cross-validation")
    write_json(root / "genotype.json", with_checksum(to_data(GENOTYPE)))
    return of_a_run(folder) | {
        store.path(unit): store.read_all,
        root / "cv.json": lambda: settle(root / "cv.json", settings, "a cross-validation"),
        root / "genotype.json": lambda: load_genotype(root / "genotype.json"),
    }


def _learner(outputs: int = 2) -> Learner:
    fabric = Fabric(accelerator="cpu", devices=1)
    network = nn.Linear(3, outputs)
    wrapped, optimizer = fabric.setup(network, torch.optim.Adam(network.parameters()))
    return Learner(fabric, wrapped, optimizer, nn.MSELoss(), create_schedule(Choice("plateau")))


@pytest.mark.slow
def test_a_damaged_file_is_refused_by_its_name_or_read_as_it_was(small: dict[Path, Read]) -> None:
    assert len(small) == 13
    for path, read in small.items():
        found = tried(path, read, FEW)
        assert not found.wrong, found.wrong[:3]
        assert found.counts["refused"] >= 12
        assert "warned" not in found.counts


def test_a_damaged_prepared_case_is_noticed(tmp_path: Path) -> None:
    dataset, out = make_dataset(tmp_path, 1), tmp_path / "out"
    prepare_dataset(dataset, PLAN, out)
    case = dataset.cases[0]

    def noticed() -> Any:
        """What training reads of a case; one that is not whole is prepared again before that."""
        if not is_current(case, out, preparation_digest(PLAN), whole=True):
            raise UserError(f"{sorted(path.name for path in (out / case.id).iterdir())}: prepared again")
        return contents(out, case.id)

    for path in sorted((out / case.id).iterdir()):
        found = tried(path, noticed, FEW)
        assert not found.wrong, found.wrong[:3]
        assert found.counts["refused"] >= 12


def contents(out: Path, id: str) -> Any:
    """All that is read of a prepared case."""
    stored = open_case(out / id, id)
    case, places = stored.load(), [stored.locations(k) for k in stored.classes]
    return [case.image, case.label, case.frame, places, stored.record.identity]


def test_weights_and_a_state_of_another_shape_or_without_a_part_are_refused(tmp_path: Path) -> None:
    weights, state = tmp_path / "best.safetensors", tmp_path / "state.pt"
    learner = _learner()
    whole = nn.Linear(3, 2).state_dict()
    for wrong in (
        {"weight": torch.zeros(2, 3)},
        whole | {"more": torch.zeros(1)},
        {n: v[:1] for n, v in whole.items()},
    ):
        save_file({name.removeprefix("_forward_module."): value.clone() for name, value in wrong.items()}, weights)
        with pytest.raises(UserError, match=r"best\.safetensors does not fit the network"):
            load_weights(nn.Linear(3, 2), weights)
    save_state(state, TrainingState(step=3, total_steps=9), learner, StandardStep(learner))
    content = torch.load(state, weights_only=True)
    others = [
        {key: value for key, value in content.items() if key != absent} for absent in content if absent != "average"
    ]
    others += [
        content | {"state": {}},
        content | {"state": None},
        content | {"optimizer": {}},
        content | {"network": {}},
    ]
    for other in others:
        torch.save(other, state)
        with pytest.raises(UserError, match=r"state\.pt is damaged, or no state of this run.* another --out"):
            load_state(state, again := _learner(), StandardStep(again))
    torch.save(content, state)
    with pytest.raises(UserError, match=r"state\.pt is damaged, or no state of this run: .* size mismatch|Error"):
        load_state(state, again := _learner(outputs=3), StandardStep(again))


def test_a_missing_key_is_named(small: dict[Path, Read]) -> None:
    """Without its checksum, a file is one that somebody has edited."""
    for path, read in small.items():
        if path.suffix not in (".json", ".yaml") or path.name in ("cases.json", "postprocess.json"):
            continue
        whole = path.read_text()
        content = yaml.safe_load(whole)
        del content["checksum"]
        absent = next(key for key in content if key != "format")
        del content[absent]
        path.write_text(json.dumps(content))
        with pytest.raises(UserError, match=path.name.replace(".", r"\.")):
            read()
        path.write_text(whole)


def _wrong(kind: str, path: Path, read: Read, seed: int = 0) -> list[str]:
    """Damage a file in many ways, print what came of it, and return the first outcomes that must not be."""
    found = tried(path, read, FLIPS, seed)
    print(report(kind, found))
    return list(found.wrong[:5])


@pytest.mark.slow
@pytest.mark.usefixtures("blank_pages")
def test_the_files_of_a_real_run(phantoms: Path, run: Path) -> None:
    evaluate(run)
    readers = of_a_run(RunFolder(run))
    assert len(readers) == 12
    for path, read in readers.items():
        assert _wrong(f"run: {path.name}", path, read) == []


@pytest.mark.slow
@pytest.mark.usefixtures("blank_pages")
def test_the_files_of_a_real_attack(phantoms: Path, run: Path, tmp_path: Path) -> None:
    out = tmp_path / "attack"
    overrides = ["budget.steps=2", "cases=2", "threat.eps=[8/255]"]
    with pytest.warns(UserWarning, match="APGD with 2 steps"):
        attack(run, phantoms, protocol="quick", out=out, overrides=overrides)
    store = RecordStore(out)
    records = sorted((out / "records").rglob("*.json"))
    for path in (records[0], records[-1]):
        assert _wrong("attack: a record", path, store.read_all) == []
    assert _wrong("attack: cases.json", out / "cases.json", lambda: read_cases(out)) == []
    assert _wrong("attack: protocol.json", out / "protocol.json", lambda: read_protocol(out)) == []
    assert _wrong("attack: sanity.json", out / "sanity.json", lambda: mapping(out / "sanity.json")) == []
    settings = mapping(out / "settings.json")
    assert (
        _wrong(
            "attack: settings.json", out / "settings.json", lambda: settle(out / "settings.json", settings, "records")
        )
        == []
    )


@pytest.mark.slow
@pytest.mark.usefixtures("blank_pages")
def test_the_files_of_a_real_search(phantoms: Path, tmp_path: Path) -> None:
    out, overrides = tmp_path / "search", (
        "training.workers=0", "training.precision=fp32", "preparation.batch_size=2", "preparation.slice_size=[16,16]",
        "network.options.filters=2", "search.layers=2", "search.scales=2", "search.blocks=2", "search.part=2",
        "search.steps_per_epoch=2", "search.warmup_epochs=1", "search.cell_epochs=2", "search.network_epochs=1",
    )  # fmt: skip
    search(phantoms, out=out, recipe="msnas-2d", overrides=overrides, strategy=Strategy(paths=(1,)))
    folder = RunFolder(out)
    readers: dict[Path, Read] = {
        folder.state: lambda: read_state(folder.state),
        folder.search_log: lambda: read_rows(folder.search_log, ("step",)),
        out / "paths-1.json": lambda: load_genotype(out / "paths-1.json"),
        out / "paths-1.yaml": lambda: load_recipe(out / "paths-1.yaml"),
        out / "architectures.json": lambda: load_json(_Architectures, out / "architectures.json"),
    }
    for path, read in readers.items():
        assert _wrong(f"search: {path.name}", path, read) == []


@pytest.mark.slow
@pytest.mark.parametrize("name", ["case.json", "image.b2nd", "label.b2nd", "locations.npz"])
def test_a_damaged_prepared_case_is_mended(tmp_path: Path, name: str) -> None:
    """Prepared again by running it again, whatever happened to its files."""
    dataset, out = make_dataset(tmp_path, 1), tmp_path / "out"
    prepare_dataset(dataset, PLAN, out)

    def again() -> Any:
        prepare_dataset(dataset, PLAN, out)
        return contents(out, dataset.cases[0].id)

    found = tried(out / dataset.cases[0].id / name, again, FLIPS)
    print(report(f"prepared: {name}", found))
    assert not found.wrong, found.wrong[:5]
    assert set(found.counts) == {"the same"}


@pytest.mark.slow
@pytest.mark.usefixtures("blank_pages")
def test_a_training_mends_what_it_learns_from(phantoms: Path, trained: Path, tmp_path: Path) -> None:
    """One flipped bit in a prepared image, before a training and before its resumption."""
    prepared = Path(shutil.copytree(trained / "prepared", tmp_path / "prepared"))
    image = next(iter(sorted(prepared.glob("*/image.b2nd"))))
    whole = image.read_bytes()

    def flip() -> None:
        damaged = bytearray(whole)
        damaged[len(whole) // 2] ^= 4
        image.write_bytes(damaged)

    flip()
    folder = RunFolder(tmp_path / "run")
    reuse = Reuse(prepared=prepared, plan=trained / "plan.json")
    train(phantoms, out=folder.root, recipe="dynunet", overrides=TINY, reuse=reuse)
    assert image.read_bytes() == whole
    assert folder.weights("last").read_bytes() == RunFolder(trained).weights("last").read_bytes()
    flip()
    train(phantoms, out=folder.root, resume=True, reuse=Reuse(prepared=prepared))
    assert image.read_bytes() == whole
