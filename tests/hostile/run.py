"""The files of a small run that was never trained, and of its prepared cases."""

from __future__ import annotations

import functools
import io
import json
import tempfile
import warnings
from pathlib import Path

import torch

import voxward
from tests.hostile.reader import Files
from voxward.core.document import CHECKSUM, with_format
from voxward.core.files import write_json
from voxward.core.plan import load_plan
from voxward.core.recipe import dump_recipe, load_recipe
from voxward.core.structure import to_data
from voxward.data.formats import open_dataset
from voxward.nets.registry import network_for_plan
from voxward.phantoms.write import write_phantoms
from voxward.runs.cases import cases_of_run
from voxward.runs.folder import RunFolder, RunSettings, RunSplit, save_weights
from voxward.runs.postprocess import PostProcess

TINY = ["network.options.filters=[2,4,4]", "preparation.planner=fixed", "preparation.patch_size=[16,16,16]"]


@functools.cache
def files() -> Files:
    """Return the files of a run, and of one prepared case in the folder `prepared`."""
    with tempfile.TemporaryDirectory() as place, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        root = Path(place, "run")
        _write(root, Path(place, "data"))
        found = {str(path.relative_to(root)): path for path in sorted(root.rglob("*")) if path.is_file()}
        return {name: _unsealed(path.read_bytes(), path.suffix) for name, path in found.items()}


def _unsealed(content: bytes, suffix: str) -> bytes:
    """A document as older versions wrote it, without the checksum that would tell every change at once."""
    if suffix == ".json":
        return json.dumps({key: value for key, value in json.loads(content).items() if key != CHECKSUM}).encode()
    return content


def _write(root: Path, data: Path) -> None:
    write_phantoms(data, 3, 0, size=18)
    prepared = root / "prepared"
    voxward.prepare(data, out=prepared, recipe="dynunet", overrides=TINY)
    run, plan, recipe = RunFolder(root), load_plan(prepared / "plan.json"), load_recipe("dynunet", TINY)
    plan.save(run.plan)
    run.recipe.write_text(dump_recipe(recipe), encoding="utf-8")
    dataset = open_dataset(data)
    ids = [case.id for case in dataset.cases]
    split = RunSplit(tuple(ids[:1]), tuple(ids[1:2]), tuple(ids[2:]))
    write_json(run.settings, with_format(to_data(RunSettings(str(data), 0, 0, None, "0"))))
    write_json(run.splits, with_format(to_data(split)))
    write_json(run.cases, with_format(to_data(cases_of_run(run, dataset, prepared, None, 1))))
    write_json(run.postprocess, with_format(to_data(PostProcess())))
    network = network_for_plan(recipe.network.name, plan, recipe.network.options)
    save_weights(network, root / "checkpoints" / "best.safetensors")
    content = io.BytesIO()
    torch.save(_state(network), content)
    run.state.write_bytes(content.getvalue())


def _state(network: torch.nn.Module) -> dict[str, object]:
    optimiser = torch.optim.AdamW(network.parameters())
    return {
        "state": {"step": 3, "total_steps": 9, "validate_every": 3}, "network": network.state_dict(),
        "optimizer": optimiser.state_dict(), "schedule": {"lr": 0.1}, "precision": {}, "step": {}, "average": {},
    }  # fmt: skip
