"""The container definitions name what the package has; they are built where there is a builder."""

from __future__ import annotations

import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
DOCKERFILE, DEFINITION = ROOT / "containers" / "Dockerfile", ROOT / "containers" / "voxward.def"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def test_both_install_the_same_extras_and_these_exist():
    docker = re.search(r"^ARG EXTRAS=(\S+)$", DOCKERFILE.read_text(encoding="utf-8"), re.M)
    apptainer = re.search(r"^\s+extras=(\S+)$", DEFINITION.read_text(encoding="utf-8"), re.M)
    assert docker is not None
    assert apptainer is not None
    assert docker[1] == apptainer[1]
    extras = docker[1].split(",")
    assert set(extras) == set(PROJECT["optional-dependencies"]) - {"bench", "dev", "docs", "examples", "test"}


def test_what_they_copy_is_there_and_is_sent_to_the_builder():
    copied = re.findall(r"^COPY (?!--from)(.+) \S+$", DOCKERFILE.read_text(encoding="utf-8"), re.M)
    names = [name for line in copied for name in line.split()]
    files = DEFINITION.read_text(encoding="utf-8").split("%files")[1].split("%post")[0]
    assert sorted(names) == sorted(line.split()[0] for line in files.strip().splitlines())
    sent = (ROOT / "containers" / "Dockerfile.dockerignore").read_text(encoding="utf-8").split()
    assert all((ROOT / name).exists() and f"!{name}" in sent for name in names)


def test_their_python_is_one_that_is_admitted():
    minor = re.search(r"^ARG PYTHON=3\.(\d+)$", DOCKERFILE.read_text(encoding="utf-8"), re.M)
    assert minor is not None
    assert int(minor[1]) >= int(PROJECT["requires-python"].removeprefix(">=3."))
    assert f"From: python:3.{minor[1]}-slim" in DEFINITION.read_text(encoding="utf-8")


@pytest.mark.slow
def test_the_image_builds_and_says_its_version():
    docker = shutil.which("docker")
    if docker is None or subprocess.run([docker, "info"], capture_output=True, check=False).returncode != 0:
        pytest.skip("needs a Docker daemon")
    subprocess.run([docker, "build", "-f", DOCKERFILE, "-t", "voxward:test", ROOT], check=True)
    said = subprocess.run(
        [docker, "run", "--rm", "voxward:test", "--version"], capture_output=True, text=True, check=True
    )
    assert PROJECT["version"] in said.stdout
