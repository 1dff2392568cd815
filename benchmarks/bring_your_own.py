"""How far a figure from the bare network of an nnU-Net is from that of the file that its pipeline reads.

    python -m benchmarks.bring_your_own SYSTEM ATTACKED DATASET OUT

SYSTEM is a results folder of nnU-Net, or a system.yaml of one; ATTACKED is a folder of `voxward attack` on it, whose
cases and eps are taken. For each of them the protocol of Apostolidis et al. (nnunet-prostate-adversarial-robustness):
the preprocessed volume is padded to sizes that the network can halve, and the network alone (no windows, no mirrored
copies, no file) is attacked in z-score units by random signs, FGSM, PGD (random start, 20 steps of 2.5 eps / 20) and
Auto-PGD (20 steps), which maximise cross-entropy plus soft Dice (Auto-PGD: soft Dice). A volume may take every value
between its smallest and its largest one. Their eps is ours times the range of the case over its deviation: the same
change of a voxel of the file.

Then the perturbed volume is brought back to intensities, written as a file of the source's own number type and read by
the deployed pipeline. Prints and writes OUT/bare.csv and OUT/bare.md. Only cases that nnU-Net does not resample can be
brought back without a loss; others are refused.
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from io import StringIO
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from voxward.attacks.apgd import APGD
from voxward.attacks.threat import ThreatModel
from voxward.core.case import Case, Volume
from voxward.core.errors import UserError
from voxward.core.files import write_text
from voxward.core.model import PatchModel
from voxward.core.wording import eps_text
from voxward.data.formats import open_dataset
from voxward.data.io import read_case, read_truth
from voxward.report.text import mean_text
from voxward.robustness.record import mean_dice
from voxward.robustness.store import RecordStore
from voxward.robustness.subject import volume_subject
from voxward.robustness.summary import View
from voxward.systems.nnunet import judge
from voxward.systems.nnunet.geometry import Geometry, geometry_of
from voxward.systems.nnunet.member import clean_figures
from voxward.systems.nnunet.system import NnUNetSystem
from voxward.systems.open import open_system

STEPS = 20
STEP_FACTOR = 2.5  # times eps / STEPS
"""The settings of the published protocol."""


@dataclass(frozen=True, eq=False)
class Bare:
    """A case as the published protocol sees it.

    Attributes:
        network: The network alone.
        image: The preprocessed volume, padded (1, 1, d, h, w).
        target: Class indices, padded (1, d, h, w).
        shape: The shape before the padding.
        scale: A change of 1 in the image is this change of the file's intensity.
        back: Turns the image (1, 1, d, h, w) into intensities (1, i, j, k).
    """

    network: nn.Module
    image: Tensor
    target: Tensor
    shape: tuple[int, int, int]
    scale: float
    back: Callable[[Tensor], np.ndarray]


def bare(system: NnUNetSystem, case: Case) -> Bare:
    """Prepare a case for its network alone.

    Raises:
        UserError: The case is resampled, or the network has several channels, regions, slices or another normalisation.
    """
    results, plan = system.results, system.results.plan
    (scheme, *more) = plan.schemes
    if more or scheme.name != "ZScoreNormalization" or scheme.masked or plan.labels.regions or plan.slicewise:
        raise UserError("the comparison is of one channel, normalised over all voxels, and of a softmax in 3D")
    volume = read_case(case)
    geometry = geometry_of(volume, plan)
    if geometry.grid != geometry.cropped:
        raise UserError(f"case {case.id!r} is resampled, so that it cannot be brought back to its file")
    image = judge.prepared(volume, geometry, plan)
    label = plan.labels.to_index(read_truth(case, volume).array)
    target = geometry.cut(torch.from_numpy(np.ascontiguousarray(label)).long())
    ((mean, std),) = clean_figures(volume, geometry, plan)
    stride = results.networks[0].of.total_stride
    margins = [(-length) % step for length, step in zip(target.shape, stride, strict=True)]
    flat = [value for margin in reversed(margins) for value in (0, margin)]
    return Bare(
        results.networks[0],
        nn.functional.pad(image, flat)[None],
        nn.functional.pad(target, flat)[None],
        geometry.cropped,
        float(std),
        _back(volume, geometry, float(mean), float(std)),
    )


def _back(volume: Volume, geometry: Geometry, mean: float, std: float) -> Callable[[Tensor], np.ndarray]:
    whole = torch.from_numpy(np.ascontiguousarray(volume.array, np.float32))

    def back(image: Tensor) -> np.ndarray:
        d, h, w = geometry.cropped
        inner = image[0, :, :d, :h, :w] * std + mean
        known = geometry.cut(torch.ones_like(whole)).new_ones(inner.shape)
        zero = inner.new_zeros(1)
        inside = geometry.paste(known, zero).bool()
        return torch.where(inside, geometry.paste(inner, zero), whole).numpy()

    return back


def dice_and_ce(logits: Tensor, target: Tensor) -> Tensor:
    """Return the published loss: the mean cross-entropy, plus one minus the mean soft Dice of the classes."""
    entropy = nn.functional.cross_entropy(logits, target)
    p = logits.softmax(1)[:, 1:]
    t = nn.functional.one_hot(target, logits.shape[1]).movedim(-1, 1)[:, 1:]
    axes = (0, 2, 3, 4)
    return entropy + (1 - (2 * (p * t).sum(axes) + 1e-5) / (p.sum(axes) + t.sum(axes) + 1e-5)).mean()


def _gradient(of: Bare, x: Tensor) -> Tensor:
    leaf = x.detach().requires_grad_()
    (found,) = torch.autograd.grad(dice_and_ce(of.network(leaf), of.target), leaf)
    return found


def _limited(of: Bare, x: Tensor, eps: float) -> Tensor:
    image = of.image
    near = x.clamp(image - eps, image + eps)
    return near.clamp(image.amin(), image.amax())


def noise(of: Bare, eps: float, generator: torch.Generator) -> Tensor:
    """Move every voxel by eps, up or down at random."""
    signs = torch.randint(0, 2, of.image.shape, generator=generator) * 2 - 1
    return _limited(of, of.image + eps * signs, eps)


def fgsm(of: Bare, eps: float, generator: torch.Generator) -> Tensor:
    """One step of eps along the sign of the gradient."""
    return _limited(of, of.image + eps * _gradient(of, of.image).sign(), eps)


def pgd(of: Bare, eps: float, generator: torch.Generator) -> Tensor:
    """Steps along the sign of the gradient from a random start; the last point counts."""
    start = (torch.rand(of.image.shape, generator=generator) * 2 - 1) * eps
    x = _limited(of, of.image + start, eps)
    for _ in range(STEPS):
        x = _limited(of, x + STEP_FACTOR * eps / STEPS * _gradient(of, x).sign(), eps)
    return x


def auto_pgd(of: Bare, eps: float, generator: torch.Generator) -> Tensor:
    """Auto-PGD on the soft Dice, from the clean volume."""
    bounds = ((float(of.image.amin()), float(of.image.amax())),)
    threat = ThreatModel(eps, unit="native", bounds=bounds)
    return APGD(objective="dice", steps=STEPS)(PatchModel(of.network), of.image, of.target, threat).adversarial


ARMS: Mapping[str, Callable[[Bare, float, torch.Generator], Tensor]] = {
    "noise": noise, "fgsm": fgsm, "pgd": pgd, "auto-pgd": auto_pgd,
}  # fmt: skip


@dataclass(frozen=True)
class Row:
    """What one arm found on one case.

    Attributes:
        arm: A name in `ARMS`.
        eps: The size, as a share of the case's intensity range.
        case: The case.
        units: The same size in z-score units.
        bare: The Dice of the network alone on the padded volume: the figure that the published protocol reports.
        deployed: The Dice of the written file, read by the deployed pipeline.
        bare_clean: The Dice of the network alone without an attack.
        deployed_clean: The Dice of the deployed pipeline without an attack.
    """

    arm: str
    eps: float
    case: str
    units: float
    bare: float
    deployed: float
    bare_clean: float
    deployed_clean: float


def compare(system: NnUNetSystem, case: Case, sizes: Sequence[float], seed: int = 0) -> list[Row]:
    """Attack the bare network on one case, and judge the files."""
    of = bare(system, case)
    subject = volume_subject(system, case, ThreatModel(0.0))
    assert subject.deploy is not None
    assert subject.threat.bounds is not None
    deploy, names = subject.deploy, subject.labels
    ((low, high),) = subject.threat.bounds

    def alone(x: Tensor) -> float:
        d, h, w = of.shape
        with torch.no_grad():
            mask = of.network(x).argmax(1)[0, :d, :h, :w]
        truth = of.target[0, :d, :h, :w]
        return mean_dice([_dice(mask == k, truth == k) for k in range(1, names.count)])

    def read(volume: np.ndarray) -> float:
        mask = torch.from_numpy(deploy(volume, None).mask.astype(np.int64))
        truth = subject.target[0]
        return mean_dice([_dice(mask == k, truth == k) for k in range(1, names.count)])

    clean = alone(of.image), read(subject.volume[0].numpy())
    rows = []
    for eps in sizes:
        units = eps * (high - low) / of.scale
        for arm, attack in ARMS.items():
            found = attack(of, units, torch.Generator().manual_seed(seed))
            assert float((found - of.image).abs().max()) <= units * (1 + 1e-5)
            rows.append(Row(arm, eps, case.id, units, alone(found), read(of.back(found)), *clean))
    return rows


def _dice(found: Tensor, truth: Tensor) -> float | None:
    total = int(found.sum() + truth.sum())
    return 2 * int((found & truth).sum()) / total if total else None


def table(rows: Sequence[Row], view: View) -> str:
    """Return the means over the cases as a Markdown table, with the worst case of the attacks through the pipeline."""
    lines = [
        "| attack | eps | z-score units | bare network | its file, deployed | difference |",
        "|---|---:|---:|---:|---:|---:|",
    ]

    def means(part: Sequence[Row], name: str) -> float:
        return float(np.mean([getattr(row, name) for row in part]))

    first = [row for row in rows if row.eps == rows[0].eps and row.arm == rows[0].arm]
    lines.append(_line("clean", "", "", means(first, "bare_clean"), means(first, "deployed_clean")))
    for eps in sorted({row.eps for row in rows}):
        for arm in ARMS:
            part = [row for row in rows if row.eps == eps and row.arm == arm]
            units = f"{means(part, 'units'):.3f}"
            lines.append(_line(arm, eps_text(eps, "range"), units, means(part, "bare"), means(part, "deployed")))
        (model,) = view.models
        worst = mean_text(view.robust_dice(model, eps))
        lines.append(f"| **through the pipeline** | {eps_text(eps, 'range')} | | | **{worst}** | |")
    return "\n".join(lines) + "\n"


def _line(name: str, eps: str, units: str, alone: float, deployed: float) -> str:
    return f"| {name} | {eps} | {units} | {alone:.3f} | {deployed:.3f} | {deployed - alone:+.3f} |"


def main(argv: Sequence[str] | None = None) -> None:
    """Run the comparison; see the module's docstring."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    for name in ("system", "attacked", "dataset", "out"):
        parser.add_argument(name, type=Path)
    args = parser.parse_args(argv)
    system = open_system(args.system, device="cpu")
    if not isinstance(system, NnUNetSystem):
        raise UserError(f"{args.system} must be an nnU-Net")
    view = View(RecordStore(args.attacked).read_all(), deployed=True)
    wanted = {record.case for record in view.records}
    cases = [case for case in open_dataset(args.dataset).cases if case.id in wanted]
    rows = [row for case in cases for row in compare(system, case, view.eps)]
    text = StringIO()
    writer = csv.writer(text, lineterminator="\n")
    names = list(Row.__dataclass_fields__)
    writer.writerows([names, *([getattr(row, name) for name in names] for row in rows)])
    write_text(args.out / "bare.csv", text.getvalue())
    write_text(args.out / "bare.md", table(rows, view))
    print(table(rows, view))


if __name__ == "__main__":
    main()
