"""The notebooks in examples/: each runs in an empty folder, and its two files hold the same cells."""

from __future__ import annotations

import json
import re
import tomllib
import warnings
from pathlib import Path

import matplotlib.pyplot as plt
import pytest

ROOT = Path(__file__).parents[1]
EXAMPLES = ROOT / "examples"
# What a reader sees in the first cell of a notebook, as small as it can be.
SMALL = {
    "attack_your_network": {"CASES": 3, "ATTACKED": 1, "STEPS": 2, "EPS": ["4/255", "16/255"]},
    "harden_and_compare": {"CASES": 5, "UNSEEN": 2, "EPOCHS": 4, "HARDENING": 1, "EPS": ["8/255"]},
    "read_records": {"CASES": 5, "EPOCHS": 1, "ATTACKS": ["fgsm-dice", "apgd-ce"], "EPS": ["4/255", "8/255"]},
}
WRITES = {
    "attack_your_network": ("dice-over-eps.png", "attacked/report.html"),
    "harden_and_compare": ("difference.png", "compared/hardening-hardened.md"),
    "read_records": ("dice-by-attack.png", "attacked/robustness.csv"),
}


def script(name):
    return (EXAMPLES / f"{name}.py").read_text(encoding="utf-8")


def with_settings(text, settings):
    for name, value in settings.items():
        text, count = re.subn(rf"^{name} = [^#\n]*", f"{name} = {value!r}  ", text, flags=re.M)
        assert count == 1, name
    return text


@pytest.fixture
def runs(tmp_path, monkeypatch, blank_pages):
    """Run a notebook with small settings in an empty folder, and return the names that it leaves."""

    def run(name):
        monkeypatch.chdir(tmp_path)
        found = {}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # voxward tells a reader how small all of it is
            exec(compile(with_settings(script(name), SMALL[name]), f"examples/{name}.py", "exec"), found)
        plt.close("all")
        assert all((tmp_path / path).stat().st_size for path in WRITES[name])
        return found

    return run


def test_every_notebook_has_a_test():
    assert {path.stem for path in EXAMPLES.glob("*.py")} == {path.stem for path in EXAMPLES.glob("*.ipynb")}
    assert {path.stem for path in EXAMPLES.glob("*.py")} == set(SMALL) == set(WRITES)


@pytest.mark.no_cover
def test_your_network_is_attacked_as_it_is_deployed(runs):
    found = runs("attack_your_network")
    assert (found["mine"] != found["theirs"]).mean() < 1e-3
    assert len(found["sizes"]) == 2
    assert found["curves"]["apgd-dice"][-1] <= found["clean"] + 1e-9


@pytest.mark.slow
@pytest.mark.no_cover
def test_the_difference_is_that_of_voxwards_table(runs):
    found = runs("harden_and_compare")
    told = Path("compared/hardening-hardened.md").read_text(encoding="utf-8")
    rows = dict(re.findall(r"^\| (clean|8/255) \|.*\| ([+-][\d.]+)[^|]*\|$", told, re.M))
    (clean, attacked) = (values.mean() for values in found["differences"].values())
    assert (float(rows["clean"]), float(rows["8/255"])) == pytest.approx((clean, attacked), abs=6e-4)


@pytest.mark.no_cover
def test_the_records_give_the_figures_of_the_tables(runs):
    pytest.importorskip("pandas", reason="pandas is not installed: pip install 'voxward[examples]'")
    from voxward.robustness.store import RecordStore
    from voxward.robustness.summary import View

    found = runs("read_records")
    assert found["apart"] < 1e-9
    view = View(RecordStore(Path("attacked")).read_all(), deployed=True)
    assert len(found["worst"]) == 2
    for (model, eps), dice in found["worst"].items():
        assert dice == pytest.approx(view.robust_dice(model, eps).mean)


def cells_of_script(text):
    """The cells of a file in percent format: their kind, and their text."""
    _, *parts = re.split(r"^# %%(.*)\n", text, flags=re.M)
    for heading, body in zip(parts[::2], parts[1::2], strict=True):
        if heading.strip() == "[markdown]":
            yield "markdown", "\n".join(line.removeprefix("#").removeprefix(" ") for line in body.strip().split("\n"))
        else:
            yield "code", body.strip()


@pytest.mark.parametrize("name", SMALL)
def test_both_files_hold_the_same_cells_and_the_notebook_no_outputs(name):
    notebook = json.loads((EXAMPLES / f"{name}.ipynb").read_text(encoding="utf-8"))
    found = [(cell["cell_type"], "".join(cell["source"]).strip()) for cell in notebook["cells"]]
    assert found == list(cells_of_script(script(name)))
    code = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert code
    assert all(not cell["outputs"] and cell["execution_count"] is None for cell in code)


def test_the_page_on_the_examples_names_each_and_its_links_lead_somewhere():
    page = (EXAMPLES / "README.md").read_text(encoding="utf-8")
    links = re.findall(r"\]\((?!https?:)([^)#]+)", page)
    assert {f"{name}.py" for name in SMALL} <= set(links)
    assert all((EXAMPLES / link).exists() for link in links)


def test_the_extra_holds_what_the_notebooks_need():
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    pandas = next(line for line in extras["examples"] if line.startswith("pandas"))
    assert pandas in extras["test"]
