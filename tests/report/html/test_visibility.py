"""How visible a change is: figures as in the records, sentences only as far as the figures go, and what is missing."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from statistics import fmean

import pytest

from tests.report.html.attack_source import attack_source, sources_of
from tests.robustness.books import book, record
from voxward.report.html.page import Setting
from voxward.report.html.sections.visibility import visibility
from voxward.report.sources import read_sources
from voxward.robustness.record import Record
from voxward.robustness.skipped import Skipped
from voxward.robustness.store import RecordStore
from voxward.robustness.unit import Unit
from voxward.robustness.visibility import Visibility


def seen(records: list[Record], psnr: float = 42.0, ssim: float | None = 0.98) -> list[Record]:
    """The records, in which attack y is as visible as asked and x much more."""
    added = {"x": 20.0, "y": 0.0}
    return [
        replace(r, visibility=Visibility(10 ** (-(psnr - added[r.attack]) / 20), psnr - added[r.attack], ssim))
        if r.kind == "attack" else r for r in records
    ]  # fmt: skip


def noises(gaussian: float) -> list[Record]:
    return [record("gaussian", case, (gaussian, gaussian), eps, kind="control") for case in "ab" for eps in (0.1, 0.2)]


def shown(records, **others):
    return visibility(sources_of(replace(attack_source(records), **others)), Setting())[0]


def test_each_case_counts_with_the_attack_that_hurt_it_most():
    part = shown(seen(book()))
    row = dict(zip(part.table.fields, part.table.data[0], strict=True))
    # At 0.1 case a falls most to y (42 dB), case b to x (22 dB).
    assert row["psnr_db"] == pytest.approx(fmean((42, 22)))
    assert row["rms"] == pytest.approx(fmean((10**-2.1, 10**-1.1)))
    assert row["ssim"] == pytest.approx(0.98)
    assert (row["eps"], row["cases"], row["dice"]) == (0.1, 2, pytest.approx(0.35))
    assert row["noise"] == pytest.approx(fmean((0.8, 0.698)))
    assert row["gaussian"] is None
    assert len(part.table.data) == 2


@pytest.mark.parametrize("psnr", [61, 42, 35])
def test_the_sentence_goes_as_far_as_the_figures(psnr):
    # The Dice is halved at 0.1 (0.35 of 0.75), where the mean PSNR is 10 dB below that of y.
    text, asked = shown(seen(book(), psnr)).sentences
    assert "25.5/255" in text
    assert f"PSNR of {psnr - 10:.1f} dB, SSIM 0.980" in text
    assert "from 0.750 to 0.350" in text
    # Whether a person sees it was not measured.
    assert "Nobody was asked" in asked
    assert "hard to see" not in text + asked
    assert "can be seen:" not in text + asked


@pytest.mark.parametrize(("gaussian", "blamed"), [(0.74, True), (0.5, False)])
def test_the_choice_is_blamed_only_where_noise_of_the_same_strength_is_harmless(gaussian, blamed):
    text = shown([*seen(book()), *noises(gaussian)]).sentences[0]
    assert f"Gaussian noise of the same RMS leaves {gaussian:.3f}" in text
    assert ("random changes do no such harm" in text) == blamed


def test_the_size_is_explained_by_its_norm():
    l2 = [replace(r, threat=replace(r.threat, norm="l2")) for r in seen(book())]
    for records, there, gone in (
        (l2, "sum of the squared", "eps is the largest"),
        (seen(book()), "eps is the largest", "squared"),
    ):
        notes = " ".join(shown(records).table.notes)
        assert there in notes
        assert gone not in notes


def test_a_change_that_harms_nothing_is_not_called_harmful():
    harmless = [replace(r, adversarial=r.clean) if r.kind == "attack" else r for r in seen(book())]
    assert "does not lower the mean Dice" in shown(harmless).sentences[0]
    unchanged = [replace(r, visibility=Visibility(0.0, None, 1.0)) if r.kind == "attack" else r for r in harmless]
    assert shown(unchanged).sentences[0] == "The attacks of 51/255 changed no scan."


def test_what_is_missing_is_said():
    old = shown(book())
    assert old.sentences == ()
    assert old.chart is None
    assert [row[3] for row in old.table.data] == [None, None]
    assert [sentence.split(" ")[0] for sentence in old.missing] == ["How", "Gaussian", "Rician"]
    no_ssim = shown(seen(book(), ssim=None)).missing
    assert 'pip install "voxward[report]"' in no_ssim[0]
    some = seen(book())
    some[6] = replace(some[6], visibility=None)  # x on a at 0.1, where y is worse
    assert not any("others" in sentence for sentence in shown(some).missing)
    some[7] = replace(some[7], visibility=None)  # x on b at 0.1, the worst there
    assert any("For 1 of 4 results" in sentence for sentence in shown(some).missing)
    assert not any("SSIM" in sentence for sentence in shown(some).missing)


def test_the_reason_for_missing_noise_is_given():
    skipped = (Skipped("m", "a", "rician", 0.1, "there are intensities below 0"),)
    missing = shown([*seen(book()), *noises(0.7)], skipped=skipped).missing
    assert missing == ("Rician noise of the same RMS was not measured: there are intensities below 0.",)


def test_reasons_are_read_from_the_folder(tmp_path: Path):
    store = RecordStore(tmp_path)
    for one in book():
        store.write(Unit(one.model, one.attack, one.case, one.eps, one.seed), [one])
    store.skip(Unit("m", "rician", "a", 0.1, 0), "there are intensities below 0")
    (source,) = read_sources([tmp_path]).attacks
    assert [(one.attack, one.reason) for one in source.skipped] == [("rician", "there are intensities below 0")]
    assert len(source.records) == len(book())


def test_the_chart_has_the_noise_at_the_strength_of_the_attack():
    chart = shown([*seen(book()), *noises(0.7)]).chart
    attack, noise = chart.panels[0].lines
    strengths = [255 * fmean((10**-2.1, 10**-1.1)), 255 * fmean((10**-1.1, 10**-2.1))]
    assert [point.x for point in attack.points] == pytest.approx(sorted({0.0, *strengths}))
    assert [point.x for point in noise.points] == [point.x for point in attack.points]
    assert math.isclose(noise.points[0].y, 0.75)
    assert math.isclose(noise.points[-1].y, 0.7)


def test_of_many_systems_the_first_are_drawn_and_the_others_can_be_chosen():
    many = [replace(r, model=f"run-{n:02}") for n in range(10) for r in [*seen(book()), *noises(0.7)]]
    chart = shown(many).chart
    assert [line.shown for line in chart.panels[0].lines if not line.kind] == [True] * 8 + [False] * 2
    assert not any(line.shown for line in chart.panels[0].lines if line.kind)
    assert "8 of 10 systems are drawn at first. The legend adds the others." in chart.notes
