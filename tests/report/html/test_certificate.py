"""The section and the table on certificates: every figure with what it means and what it does not."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.report.html.attack_source import attack_source, sources_of
from tests.robustness.books import book
from voxward.certificates import CHANGES, CertificatePlan
from voxward.report.certificate import certificate_table, certified
from voxward.report.html.page import Setting, render
from voxward.report.html.sections.certificate import certificate
from voxward.report.html.sections.verdict import verdict
from voxward.report.html.strings import say
from voxward.report.html.unmeasured import gaps
from voxward.robustness.case_certificate import Attacked, CaseCertificate, Mask, Median

PLAN = CertificatePlan(samples=200)


def certificate_of(case: str, dice: float, noise: str = "voxels", sigma: float = 0.25) -> CaseCertificate:
    medians = Median(1.0, dice, (dice, None)), Median(2.0, None, (None, None))
    mask = Mask(0.75, 0.674, dice - 0.1, (dice - 0.1, None), 180, 90, 5, 5)
    return CaseCertificate(
        "m", case, noise, sigma, 200, 0.001, 63_000, 1, ("liver", "tumour"), 0.9, 0.85, medians,
        (mask,) if noise == "voxels" else (),
    )  # fmt: skip


def source_with(*certificates: CaseCertificate, **changes):
    return replace(attack_source(book(), certificate=PLAN), certificates=certificates, **changes)


def test_the_figures_are_means_over_the_cases_and_one_without_a_bound_has_none():
    table = certificate_table([certificate_of("a", 0.8), certificate_of("b", 0.6)])
    (row,) = table.rows
    assert row.cells[:5] == ("m", "voxels 0.25", "200", "0.900", "0.850")
    assert row.cells[5].startswith("0.700 [")
    assert row.cells[6] == "too few runs"
    assert row.cells[7].startswith("0.600 [")
    lacking = replace(certificate_of("b", 0.6), medians=(Median(1.0, None, (None, None)),))
    assert certificate_table([certificate_of("a", 0.8), lacking]).rows[0].cells[5] == "too few runs"
    data = [dict(zip(table.fields, one, strict=True)) for one in table.data]
    found = {(one["case"], one["figure"], one["radius_sigma"], one["class"]): one["dice"] for one in data}
    assert found["a", "certified median", 1.0, "liver"] == 0.8
    assert found["b", "certified mask", 0.674, "mean"] == pytest.approx(0.5)
    assert found["a", "voxels decided", 0.674, None] == 90


def test_a_mask_that_no_number_of_agreeing_runs_could_certify_says_so():
    one = certificate_of("a", 0.8)
    few = replace(one, masks=(replace(one.masks[0], enough=None, mean=0.0),))
    table = certificate_table([few, one])
    assert table.rows[0].cells[7] == "too few runs"
    # 2 parts x 100 voxels x 2 tests: 0.75^45 < 0.001 / 400 <= 0.75^44
    assert any("tau 0.75" in note and "at least 45 of a case" in note for note in table.notes)
    assert not any("at least" in note and "tau" in note for note in certificate_table([one]).notes)
    (part,) = certificate(sources_of(source_with(few)), Setting())
    assert not any("the mask" in sentence for sentence in part.sentences)


def test_what_must_be_said_stands_beside_the_figures():
    (part,) = certificate(sources_of(source_with(certificate_of("a", 0.8))), Setting())
    text = " ".join([*part.sentences, *part.table.notes])
    assert "the median of noisy runs" in text
    assert "It certifies neither one run without noise" in text
    assert "8/255 of the window in 63.5 voxels" in text
    assert "0.25/255 in each of all 63,000 voxels" in text
    assert "says nothing about a change of 8/255 in all voxels (l_inf)" in text
    assert "voxward harden --method noise" in text
    assert "confidence of 0.999" in text
    assert "attack_steps=100" in text
    assert not part.warnings


def test_a_checked_certificate_says_so_and_a_broken_one_is_shouted():
    held = replace(certificate_of("a", 0.8), attacks=(Attacked(1.0, 0.83, 0.8, (0.75,), (0.7,)),))
    (part,) = certificate(sources_of(source_with(held)), Setting())
    assert any("1 attack" in note and "0.030" in note for note in part.table.notes)
    assert not any("attack_steps=100" in note for note in part.table.notes)
    broken = replace(held, attacks=(Attacked(1.0, 0.83, 0.8, (0.65,), (0.7,)),))
    (part,) = certificate(sources_of(source_with(broken)), Setting())
    assert "CERTIFICATE BROKEN" in part.warnings[0]
    assert "case a" in part.warnings[0]


def test_runs_of_two_kinds_of_machines_are_no_certificate_of_one_system():
    machines = ("AMD EPYC, PyTorch 2.7", "NVIDIA H200, PyTorch 2.7")
    (part,) = certificate(sources_of(source_with(replace(certificate_of("a", 0.8), machines=machines))), Setting())
    assert "different kinds of machines (AMD EPYC, PyTorch 2.7; NVIDIA H200, PyTorch 2.7)" in part.warnings[0]
    alone = replace(certificate_of("a", 0.8), machines=machines[:1])
    assert not certificate_table([alone]).warnings


def test_noise_in_parameters_is_read_in_them():
    groups = certified([certificate_of("a", 0.8, "gain", 0.1), certificate_of("a", 0.7, "offset", 0.05)])
    assert [group.reading(2.0) for group in groups] == [
        "gain -18% to +22%", "offset -10% to +10% of the intensity window",
    ]  # fmt: skip
    (part,) = certificate(sources_of(source_with(certificate_of("a", 0.8, "gain", 0.1))), Setting())
    text = " ".join([*part.sentences, *part.table.notes])
    assert "one kind of change alone" in text
    assert "l_inf" not in text
    assert "mask" not in " ".join(part.sentences)


def test_too_few_runs_and_unfinished_folders_say_what_to_do():
    few = replace(certificate_of("a", 0.8), medians=(Median(2.0, None, (None, None)),), masks=())
    (part,) = certificate(sources_of(source_with(few)), Setting())
    assert "too few to certify anything" in part.sentences[0]
    (part,) = certificate(sources_of(source_with()), Setting())
    assert part.table is None
    assert "give the same command again" in part.sentences[0]
    assert certificate(sources_of(attack_source(book())), Setting()) is None


def test_the_page_shows_it_and_keeps_its_figures():
    page = render(sources_of(source_with(certificate_of("a", 0.8))))
    assert 'id="certificate"' in page
    assert "What is certain under noise?" in page
    assert '"certificates":[{' in page


@pytest.mark.parametrize("name", ["voxels", *CHANGES])
def test_every_noise_has_a_name_and_a_reading(name):
    (group,) = certified([certificate_of("a", 0.8, name)])
    assert group.title == say("certificate", "noise", noise=say("certificate", f"noise_{name}"), sigma="0.25")
    assert group.reading(1.0)


def test_a_folder_of_certificates_alone_does_not_say_that_an_attack_is_still_to_come():
    untouched = [replace(record, model="m") for record in book() if record.attack == "clean"]
    source = replace(
        attack_source(untouched, attacks=(), certificate=PLAN), certificates=(certificate_of("a", 0.8),)
    )  # fmt: skip
    (folder,) = verdict(sources_of(source), Setting())
    assert folder.systems[0].sentences[1] == say("verdict", "no_attack_certified")
    titles = [one.title for one in gaps(source)]
    assert "Any attack: the protocol asks for none" in titles
    assert "Any attack: none has finished" not in titles
