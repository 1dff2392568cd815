"""A training by several processes is the training that one process would have done, to the rounding of floats."""

import csv
import json
import socket
import subprocess
import sys

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from tests.end_to_end.conftest import TINY
from tests.rounding import rounding
from voxward.runs.folder import RunFolder

# Plain gradient descent keeps differences of rounding as small as they are: Adam divides by the size of a gradient.
PLAIN = (*TINY, "training.epochs=4", "optimizer.name=sgd", "optimizer.options={lr: 0.01, momentum: 0.9}")
# The sign of a gradient that is all rounding is arbitrary, so the perturbations are kept small; which patches get them
# and from which starts is tested to the bit in tests/training/test_share.py.
PERTURBED = ("defence.method=pgd", "defence.clean=0.5", "defence.eps=1e-6", "defence.steps=1")

# How long it took, the checksum of a row, and how many voxels lie at the rim of a ball that is as small as rounding.
IGNORED = ("seconds", "saturation", "crc32")

# A program, because each process of a training runs it again. It stops itself by a signal where it is told to.
PROGRAM = """
import os, signal, sys
from voxward.commands.train import train
from voxward.core.choices import Compute
from voxward.core.interrupt import Interrupted

data, out, devices, nodes, stop, resume, *overrides = sys.argv[1:]

def progress(stage, done, total, /, **figures):
    if stage == "train" and done == int(stop):
        os.kill(os.getpid(), signal.SIGINT)

try:
    train(data, out=out, recipe="dynunet", overrides=overrides, resume=resume == "yes", progress=progress,
          compute=Compute("cpu", devices=int(devices), nodes=int(nodes)))
except Interrupted:
    sys.exit(7)
"""


@pytest.fixture
def run(phantoms, tmp_path):
    """Train in so many processes, for so many steps of the run or to its end."""
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)

    def train(name, devices, *overrides, stop=0, resume=False):
        command = [sys.executable, program, phantoms, tmp_path / name, devices, 1, stop, "yes" if resume else "no"]
        given = [] if resume else [*PLAIN, *overrides]
        done = subprocess.run([*map(str, command), *given], timeout=300, check=False, capture_output=True, text=True)
        assert done.returncode == (7 if stop else 0), done.stderr
        return RunFolder(tmp_path / name)

    return train


def _same_to_rounding(first, second):
    """Every step may round each weight, and each loss, by as much as one sum of floats does."""
    steps = int(_rows(first.log)[-1]["step"])
    for name in ("last", "best"):
        one, other = (load_file(folder.weights(name)) for folder in (first, second))
        allowed = steps * rounding(*one.values())
        assert all(torch.allclose(one[key], other[key], rtol=0, atol=allowed) for key in one)
    for path in ("log", "ledger"):
        here, there = (_rows(getattr(folder, path)) for folder in (first, second))
        assert len(here) == len(there) > 3
        for row, other in zip(here, there, strict=True):
            assert all(_close(row[key], other[key], steps) for key in row if key not in IGNORED), (row, other)


def _rows(path):
    with path.open() as file:
        return list(csv.DictReader(file))


def _close(first, second, steps):
    if first == second:  # also two figures that were not measured
        return True
    try:
        return abs(float(first) - float(second)) <= steps * rounding(np.float64(first))
    except ValueError:
        return False


@pytest.mark.slow
@pytest.mark.parametrize("overrides", [("loss.options={batch_dice: true}",), PERTURBED])
def test_two_processes_are_one_with_the_double_batch(run, overrides):
    one = run("one", 1, *overrides)
    two = run("two", 2, *overrides, "preparation.batch_size=1")
    assert [json.loads(folder.settings.read_text())["patches"] for folder in (one, two)] == [2, 2]
    _same_to_rounding(one, two)


@pytest.mark.slow
@pytest.mark.parametrize(("before", "after"), [(2, 1), (1, 2)])
def test_a_run_goes_on_in_another_number_of_processes(run, before, after):
    whole = run("whole", 1)
    run("other", before, f"preparation.batch_size={2 // before}", stop=5)
    other = run("other", after, resume=True)
    assert json.loads(other.settings.read_text())["patches"] == 2
    _same_to_rounding(whole, other)


@pytest.mark.slow
def test_two_nodes_train_one_network(run, phantoms, tmp_path):
    """Two agents of torchrun stand for two nodes; each starts one process."""
    one, out = run("one", 1), tmp_path / "two"
    with socket.socket() as free:
        free.bind(("", 0))
        meeting = f"{socket.gethostname()}:{free.getsockname()[1]}"
    agent = [sys.executable, "-m", "torch.distributed.run", "--nnodes", "2", "--nproc-per-node", "1"]
    agent += ["--rdzv-backend", "c10d", "--rdzv-id", "7", "--rdzv-endpoint", meeting]
    command = [*agent, tmp_path / "program.py", phantoms, out, 1, 2, 0, "no", *PLAIN, "preparation.batch_size=1"]
    nodes = [subprocess.Popen([*map(str, command)], stderr=subprocess.PIPE, text=True) for _ in range(2)]
    for node in nodes:
        assert node.wait(timeout=300) == 0, node.stderr.read()
        node.stderr.close()
    _same_to_rounding(one, RunFolder(out))
