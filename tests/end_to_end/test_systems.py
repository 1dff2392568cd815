"""Systems from files: what a path stands for, nesting, changes, and what is refused."""

from __future__ import annotations

import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
import yaml

from tests.end_to_end.build import composed
from tests.systems.bundle.build import bundle
from tests.systems.network.build import described, exported
from tests.systems.nnunet.build import results
from voxward.core.case import Volume
from voxward.core.errors import UserError
from voxward.core.model import VolumeModel
from voxward.core.registry import Registry
from voxward.data.formats import open_dataset
from voxward.data.io import read_image
from voxward.runs.unseen import scope_of
from voxward.systems import open as module
from voxward.systems.blackbox import blackbox_system
from voxward.systems.open import KINDS, is_system, open_system
from voxward.systems.system import System


@pytest.fixture
def here(trained, tmp_path):
    for name in "ab":
        shutil.copytree(trained, tmp_path / name, ignore=shutil.ignore_patterns("prepared"))
    return tmp_path


def build(here, kind):
    systems = {"run": ["a"], "ensemble": ["a", "b"], "cascade": ["a", "b"]}[kind]
    return composed(here, kind, [here / name for name in systems], **({"margin": 3} if kind == "cascade" else {}))


@pytest.fixture
def volume(phantoms):
    return read_image(open_dataset(phantoms).cases[0].images)


OF_RUNS = ("run", "ensemble", "cascade")


@pytest.mark.parametrize("kind", OF_RUNS)
class TestContract:
    """What every kind of system that consists of runs promises."""

    def test_it_is_a_system(self, here, kind):
        system = open_system(build(here, kind))
        assert isinstance(system, System)
        assert system.name == kind
        assert system.options()["kind"] == kind
        assert len(system.channels) == 1
        assert system.runs
        assert is_system(here / f"{kind}.yaml")

    def test_what_it_segments_is_what_its_model_says(self, here, kind, volume):
        system = open_system(build(here, kind), ["precision=fp32"])
        found = system.segment(volume)
        assert found.label.shape == volume.shape
        model = system.freeze(volume)
        assert isinstance(model, VolumeModel)
        mask = model.segment(model.logits(torch.from_numpy(volume.array.astype(np.float32))[None]))[0].numpy()
        assert (mask == found.label).mean() > 0.999
        system.notes(model, found)

    def test_it_refuses_a_volume_by_its_header(self, here, kind, volume):
        system = open_system(build(here, kind))
        system.check(1, volume.affine)
        with pytest.raises(UserError, match="takes 1 channels"):
            system.check(2, volume.affine)

    def test_its_ranges_are_those_of_a_threat(self, here, kind, volume):
        (found,) = open_system(build(here, kind)).ranges(volume)
        assert found.low < found.high
        assert found.keeps_zero  # an MR recipe

    def test_its_fingerprint_is_of_weights_and_settings(self, here, kind, tmp_path):
        path = build(here, kind)
        first = open_system(path).fingerprint()
        assert first == open_system(path).fingerprint()
        assert first != open_system(path, ["tta=mirrors" if kind != "run" else "overlap=0.25"]).fingerprint()
        for same in ("graphs=4", "overlap=0.5", "tta=none"):  # figures do not depend on the first; the recipe says so
            assert first == open_system(path, [same]).fingerprint()
        moved = tmp_path / "moved"
        moved.mkdir()
        for name in ("a", "b", path.name):
            shutil.move(here / name, moved / name)
        assert open_system(moved / path.name).fingerprint() == first

    def test_cases_of_its_training_are_not_unseen(self, here, kind, phantoms):
        system, dataset = open_system(build(here, kind)), open_dataset(phantoms)
        assert 0 < len(scope_of(system.runs, dataset).ids) < len(dataset.cases)


def segment(volume):
    return volume.array[0] > 50


FOREIGN = {
    "nnunet": lambda folder: results(folder / "model"),
    "bundle": lambda folder: bundle(folder / "model"),
    "network": lambda folder: described(folder, exported(folder / "network.pt2").name),
    "blackbox": lambda folder: blackbox_system(segment, labels=["background", "organ"], channels=["MRI"]),
}


@pytest.mark.parametrize("kind", FOREIGN)
def test_models_of_other_tools_promise_the_same(tmp_path, kind):
    volume = Volume(np.random.default_rng(0).normal(60, 25, (1, 14, 15, 13)).astype(np.float32), np.eye(4))
    source = FOREIGN[kind](tmp_path)
    system = open_system(source)
    assert isinstance(system, System)
    assert system.options()["kind"] == kind
    assert len(system.channels) == 1
    assert system.runs == ()
    assert open_system(source).fingerprint() == system.fingerprint()
    with pytest.raises(UserError, match="takes 1 channels"):
        system.check(2, volume.affine)
    (limits,) = system.ranges(volume)
    assert limits.low < limits.high
    found, model = system.segment(volume), system.freeze(volume)
    assert found.label.shape == volume.shape
    assert isinstance(model, VolumeModel)
    mask = model.segment(model.logits(torch.from_numpy(volume.array)[None]))[0].numpy()
    assert (mask == found.label).mean() > 0.999
    system.notes(model, found)


def test_every_kind_keeps_the_contract():
    assert set(OF_RUNS) | set(FOREIGN) == set(KINDS)


def test_a_folder_of_a_run_is_a_system(here, volume):
    system = open_system(here / "a")
    assert system.name == "a"
    alone = system.predictor.segment(volume)
    assert np.array_equal(system.segment(volume).label, alone)


def test_systems_are_nested(here, volume):
    """A cascade whose fine stage is an ensemble, in one file and in two."""
    ensemble = build(here, "ensemble")
    nested = open_system(composed(here, "cascade", [here / "a", ensemble], margin=3))
    text = yaml.safe_load((here / "cascade.yaml").read_text())
    assert (text["format"], text["coarse"], text["fine"]) == (1, "a", "ensemble.yaml")
    text["fine"] = {"kind": "ensemble", "members": ["a", "b"]}
    (here / "written.yaml").write_text(yaml.safe_dump(text))
    written = open_system(here / "written.yaml")
    assert written.fingerprint() == nested.fingerprint()
    assert np.array_equal(written.segment(volume).label, nested.segment(volume).label)
    assert [run.root.name for run in written.runs] == ["a", "b", "a"]
    (here / "deep.yaml").write_text("kind: cascade\ncoarse: a\nfine: cascade.yaml\n")
    deep = open_system(here / "deep.yaml")
    assert deep.name == "deep"
    assert deep.segment(volume).label.shape == volume.shape
    model = deep.freeze(volume)
    logits = model.logits(torch.from_numpy(volume.array.astype(np.float32))[None])
    assert logits.shape[2:] == volume.shape


def test_an_ensemble_inside_an_ensemble_has_one_share(here):
    build(here, "ensemble")
    (here / "outer.yaml").write_text("kind: ensemble\nmembers: [a, ensemble.yaml]\n")
    outer = open_system(here / "outer.yaml")
    assert outer.weights == (0.5, 0.25, 0.25)
    assert open_system(here / "ensemble.yaml").weights is None


def test_an_entry_outside_wins_over_one_inside(here):
    (here / "outer.yaml").write_text("kind: ensemble\nmembers: [{kind: run, run: a, tta: mirrors, overlap: 0.25}, b]\n")
    inner, second = open_system(here / "outer.yaml", ["tta=none"]).predictors
    assert (inner.tta, inner.overlap, second.tta, second.overlap) == ("none", 0.25, "none", None)


def test_a_file_called_system_is_known_by_its_folder(here):
    (here / "joint").mkdir()
    (here / "joint" / "system.yaml").write_text("kind: ensemble\nmembers: [../a, ../b]\n")
    assert open_system(here / "joint").name == "joint"
    assert open_system(here / "joint" / "system.yaml").name == "joint"


def test_post_processing_can_be_left_out(here):
    system = open_system(here / "a", ["postprocessing=false"])
    assert system.predictor.model.postprocess.idle


def test_a_new_kind_is_one_line_of_the_registry(here, monkeypatch):
    monkeypatch.setattr(module, "KINDS", Registry("kind of system", {**KINDS, "solo": KINDS["run"]}))
    (here / "new.yaml").write_text("kind: solo\nrun: a\n")
    assert open_system(here / "new.yaml").runs[0].root.name == "a"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("members: [a, b]", "kind is missing; it must be one of run, ensemble, cascade"),
        ("kind: ensembel\nmembers: [a]", "Did you mean 'ensemble'"),
        ("kind: ensemble\nmember: [a]", r"new\.yaml: unknown key 'member'.*members is missing"),
        ("kind: ensemble\nmembers: []", "at least one member"),
        ("kind: ensemble\nmembers: [a, {kind: cascade, coarse: a, fine: b}]", "has only a mask"),
        (
            "kind: cascade\ncoarse: a\nfine: b\nmargin: -1\nstage: middle",
            "stage must be one of both, coarse, fine, got 'middle'",
        ),
        ("kind: cascade\ncoarse: a\nfine: b\nmargin: -1", "margin must be a finite number >= 0, got -1"),
        ("kind: ensemble\nmembers: [a, new.yaml]", "cannot be inside itself"),
        ("kind: run\nrun: a\ntta: all", "tta must be one of none, mirrors, symmetries, got 'all'"),
        ("format: 2\nkind: run\nrun: a", "format 2.*update voxward"),
        ("kind: [", "is not valid YAML"),
        ("- a", "must be a mapping"),
    ],
)
def test_what_is_wrong_in_a_file_is_refused(here, text, message):
    (here / "new.yaml").write_text(text)
    with pytest.raises(UserError, match=message):
        open_system(here / "new.yaml")


@pytest.mark.parametrize("change", ["run=../b", "kind=ensemble"])
def test_changes_do_not_make_it_another_system(here, change):
    """It would be called by the name of the first."""
    with pytest.raises(UserError, match="cannot be changed"):
        open_system(here / "a", [change])


def test_two_networks_with_the_same_weights_have_two_fingerprints(here):
    system = open_system(here / "a")
    model = system.predictor.model
    assert model.architecture.name == "dynunet"
    other = replace(model, architecture=replace(model.architecture, options={"residual": True}))
    assert replace(system, predictor=replace(system.predictor, model=other)).fingerprint() != system.fingerprint()


def test_the_precision_is_that_of_all_parts(here):
    (here / "mixed.yaml").write_text("kind: ensemble\nmembers: [{kind: run, run: a, precision: bf16}, b]\n")
    mixed = open_system(here / "mixed.yaml")
    second = mixed.parts[1].precision
    assert mixed.precision == ("bf16" if second == "bf16" else f"bf16+{second}")


def test_what_is_missing_is_named(here):
    with pytest.raises(FileNotFoundError, match="nowhere"):
        open_system(here / "nowhere")
    (here / "new.yaml").write_text("kind: ensemble\nmembers: [a, c]\n")
    with pytest.raises(FileNotFoundError, match=r"new\.yaml: there is no system .*c; paths .* start from"):
        open_system(here / "new.yaml")


def test_nothing_is_written_that_cannot_be_opened(here):
    for systems, message in (([here / "a"], "two systems"), ([here / "a"] * 3, "two systems")):
        with pytest.raises(UserError, match=message):
            composed(here, "cascade", systems)
    assert not (here / "cascade.yaml").exists()
    (here / "ensemble.yaml").write_text("mine")
    with pytest.raises(UserError, match="not a file that voxward wrote as a system"):
        build(here, "ensemble")
    assert (here / "ensemble.yaml").read_text() == "mine"


def test_an_ensembles_members_must_average_the_same(here):
    inner = open_system(build(here, "ensemble"))
    with pytest.raises(UserError, match="must have its mean 'probabilities'"):
        replace(inner, parts=(inner, inner), averaged="probabilities")
