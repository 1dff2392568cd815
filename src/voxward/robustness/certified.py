"""From runs under noise to certificates: the median of the Dice within each radius, and the mask that stays.

Everything here is a pure function of records, counts and the truth: with the same runs it says the same, whoever did
them, in whatever order and in how many calls.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median_low
from typing import Any

import numpy as np

from voxward.certificates.counts import Votes
from voxward.certificates.mask import CertifiedMask, Part, certify_mask, dice_bound, radius_of
from voxward.certificates.median import certified_median
from voxward.certificates.plan import CertificatePlan
from voxward.core.errors import UserError
from voxward.core.labels import LabelSet
from voxward.core.plan import load_json
from voxward.core.structure import to_data
from voxward.metrics.policies import POLICIES
from voxward.robustness.bench import Bench
from voxward.robustness.case_certificate import Attacked, CaseCertificate, Mask, Median
from voxward.robustness.finding import Finding
from voxward.robustness.noisy_runs import VOXELS, NoisyRuns, Scores
from voxward.robustness.parts import parts_of
from voxward.robustness.protocol import Protocol
from voxward.robustness.record import Record, mean_dice
from voxward.robustness.subject import truth_of
from voxward.robustness.unit import Unit

CERTIFICATES = "certificate.json"
"""The file of an attack folder that holds all certificates."""


@dataclass(frozen=True)
class _File:
    """The file certificate.json."""

    certificates: tuple[CaseCertificate, ...]


def certificates_data(certificates: Sequence[CaseCertificate]) -> dict[str, Any]:
    """Return certificates as plain data for certificate.json; see `read_certificates`."""
    return {"certificates": to_data(tuple(certificates))}


def read_certificates(folder: Path) -> tuple[CaseCertificate, ...]:
    """Read certificate.json of an attack folder.

    Raises:
        UserError: The file is damaged, or was edited.
    """
    return load_json(_File, folder / CERTIFICATES).certificates


def certificates_asked_for(
    folder: Path, protocol: Protocol | None, cases: Collection[str]
) -> tuple[CaseCertificate, ...]:
    """Return the certificates that the last call asked for; none where it asked for none, or is not finished.

    Raises:
        UserError: The file is damaged, or was edited.
    """
    if protocol is None or protocol.certificate is None or not (folder / CERTIFICATES).is_file():
        return ()
    return tuple(one for one in read_certificates(folder) if one.case in cases)


def findings_of(certificates: Sequence[CaseCertificate]) -> tuple[Finding, ...]:
    """Return the check of each system that attacks on the smoothed system stay above its certificates."""
    found = []
    for model in dict.fromkeys(one.model for one in certificates):
        attacks = [(one, attack) for one in certificates if one.model == model for attack in one.attacks]
        wrong = [
            f"an attack of {attack.radius:g} sigma on case {one.case} got below the certificate"
            for one, attack in attacks if not attack.holds
        ]  # fmt: skip
        promise = "attacks on the system under noise stay above what is certified"
        text = f"{model}: {'; '.join(wrong) or ('' if attacks else 'not tested: ') + promise}"
        found.append(Finding("certificate", not wrong if attacks else None, text))
    return tuple(found)


@dataclass(frozen=True)
class _Case:
    """Everything that belongs to one certificate."""

    bench: Bench
    plan: CertificatePlan
    records: Sequence[Record]
    attacks: Sequence[Record]

    @property
    def runs(self) -> list[NoisyRuns]:
        return sorted((one.noisy for one in self.records if one.noisy is not None), key=lambda runs: runs.first)


def certify(bench: Bench, records: Sequence[Record]) -> tuple[CaseCertificate, ...]:
    """Return the certificates of all cases whose runs are complete, in the order of systems, noises and cases.

    Args:
        bench: The benchmark.
        records: Its records, also those of other trials.

    Raises:
        UserError: A file of counts is missing or damaged; the message says what to do.
    """
    plan = bench.protocol.certificate
    if plan is None:
        return ()
    groups: dict[tuple[str, str, float, str], list[Record]] = {}
    attacks: dict[tuple[str, str, float, str], list[Record]] = {}
    for record in records:
        if record.noisy is not None:
            into = groups if record.noisy.radius is None else attacks
            key = record.model, record.noisy.noise, record.noisy.sigma, record.case
            into.setdefault(key, []).append(record)
    cases = {key: _Case(bench, plan, found, attacks.get(key, ())) for key, found in groups.items()}
    whole = {key: one for key, one in cases.items() if sum(len(runs.dice) for runs in one.runs) == plan.samples}
    order = list(bench.sources)
    return tuple(_certificate(whole[key]) for key in sorted(whole, key=lambda key: (order.index(key[0]), *key[1:])))


def _certificate(case: _Case) -> CaseCertificate:
    first, runs, plan = case.records[0], case.runs, case.plan
    scores = [dice for one in runs for dice in one.dice]
    means = [mean_dice(one, first.policy) for one in scores]
    labels = case.bench.labels[first.model]
    found = CaseCertificate(
        model=first.model, case=first.case, noise=runs[0].noise, sigma=runs[0].sigma, runs=len(scores),
        alpha=plan.alpha, voxels=runs[0].voxels, channels=runs[0].channels, parts=labels.scored,
        clean=first.clean_dice(first.deployed_clean is not None), median=median_low(means),
        medians=tuple(_median(radius, means, scores, first.policy, plan.alpha) for radius in plan.radii),
        machines=tuple(sorted({f"{one.processor or one.device}, PyTorch {one.torch}" for one in case.records})),
    )  # fmt: skip
    return _with_masks(found, case, labels) if runs[0].noise == VOXELS and all(one.counts for one in runs) else found


def _median(radius: float, means: Sequence[float], scores: Sequence[Scores], policy: str, alpha: float) -> Median:
    classes = [[_defined(value, policy) for value in column] for column in zip(*scores, strict=True)]
    return Median(
        radius,
        certified_median(means, radius, alpha),
        tuple(
            None
            if None in values
            else certified_median([value for value in values if value is not None], radius, alpha)
            for values in classes
        ),
    )


def _with_masks(found: CaseCertificate, case: _Case, labels: LabelSet) -> CaseCertificate:
    plan, policy = case.plan, case.records[0].policy
    parts = parts_of(labels, plan.coarser)
    votes, truth = _votes(case.bench, case.records), truth_of(case.bench.case(found.model, found.case), labels)
    unknown = labels.ignored(truth)
    known = np.ones(truth.shape, bool) if unknown is None else ~unknown
    truths = [np.isin(truth, part.classes) & known for part in parts]
    scored = len(labels.scored)
    masks = []
    for tau in plan.tau:
        certain = certify_mask(votes, parts, tau, plan.alpha, plan.correction, known)
        masks.append(_mask(certain, truths, known, scored, policy))
    found = replace(found, parts=tuple(part.name for part in parts), masks=tuple(masks))
    attacks = [
        _attacked(record, found, _agreed(_votes(case.bench, [record]), parts[:scored], truths, known, policy))
        for record in case.attacks
    ]
    return replace(found, attacks=tuple(sorted(attacks, key=lambda one: one.radius)))


def _mask(certain: CertifiedMask, truths: Sequence[np.ndarray], known: np.ndarray, scored: int, policy: str) -> Mask:
    dice = tuple(
        dice_bound(truth[known], inside[known], outside[known])
        for truth, inside, outside in zip(truths, certain.inside, certain.outside, strict=True)
    )
    decided, coarser = (int(np.count_nonzero(where & known)) for where in (certain.decided, certain.coarser))
    return Mask(
        tau=certain.tau, radius=radius_of(certain.tau), mean=mean_dice(dice[:scored], policy), dice=dice,
        enough=certain.enough, decided=decided, coarser=coarser, open=int(np.count_nonzero(known)) - decided - coarser,
    )  # fmt: skip


def _attacked(record: Record, found: CaseCertificate, agreed: float) -> Attacked:
    """What an attack left, beside what is certified as far as it went; `agreed` is the Dice of the mask."""
    noisy = record.noisy
    assert noisy is not None
    assert noisy.radius is not None
    median = median_low([mean_dice(one, record.policy) for one in noisy.dice])
    certified = next((one.mean for one in found.medians if one.radius == noisy.radius), None)
    bounds = tuple(one.mean for one in found.masks if one.radius >= noisy.radius)
    return Attacked(noisy.radius, median, certified, (agreed,) * len(bounds), bounds)


def _agreed(votes: Votes, parts: Sequence[Part], truths: Sequence[np.ndarray], known: np.ndarray, policy: str) -> float:
    """The mean Dice of what more than half of the runs say."""
    said = [(votes.of(part.classes) > votes.runs / 2)[known] for part in parts]
    return mean_dice([dice_bound(truth[known], mask, ~mask) for truth, mask in zip(truths, said, strict=False)], policy)


def _votes(bench: Bench, records: Sequence[Record]) -> Votes:
    """The counts of some units, added up.

    Raises:
        UserError: A file is missing, damaged, or not that of its record.
    """
    total: Votes | None = None
    for record in records:
        path, noisy = bench.counts_path(unit_of_runs(record)), record.noisy
        assert path is not None
        assert noisy is not None
        found = Votes.load(path)
        if found.digest != noisy.counts:
            raise UserError(
                f"{path} is not the file that its record was made with: delete it, and give the same command again"
            )
        if total is None:
            total = found
        else:
            total.merge(found)
    assert total is not None
    return total


def unit_of_runs(record: Record) -> Unit:
    """Return the unit of a record of runs under noise."""
    noisy = record.noisy
    assert noisy is not None
    return Unit(record.model, record.attack, record.case, record.eps, record.seed, samples=noisy.samples)


def _defined(value: float | None, policy: str) -> float | None:
    return POLICIES[policy].both_score if value is None else value
