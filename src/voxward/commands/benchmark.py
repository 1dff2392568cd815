"""voxward benchmark and voxward attack: attack trained runs and keep the books."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import get_args

import torch

import voxward
from voxward.attacks.ensemble import Budget
from voxward.attacks.registry import ATTACKS
from voxward.attacks.threat import Norm, Reference, ThreatModel, Unit
from voxward.commands.evaluate import cases_to_score
from voxward.core.case import Case, Dataset
from voxward.core.errors import UserError
from voxward.core.outputs import Outputs
from voxward.core.plan import load_json
from voxward.core.progress import Progress, silent
from voxward.core.structure import to_data
from voxward.data.formats import open_dataset
from voxward.metrics.policies import POLICIES
from voxward.pipeline.member import Statistics
from voxward.pipeline.model import Gradient
from voxward.pipeline.precision import Precision, resolve_device, resolve_precision
from voxward.pipeline.predictor import Tta
from voxward.report.attack_panel import attack_panel
from voxward.report.classes import classes_table
from voxward.report.hardening import Hardening, hardening_table
from voxward.report.leaderboard import leaderboard_table
from voxward.report.robustness import robustness_table
from voxward.report.robustness_figures import curves_figure, iterations_figure
from voxward.report.table import Table
from voxward.robustness.bench import Bench, Setting, class_count, ensembles, members
from voxward.robustness.estimate import estimate_hours
from voxward.robustness.record import Record
from voxward.robustness.sanity import Finding, sanity
from voxward.robustness.store import RecordStore
from voxward.robustness.subject import Mode, labels_under_attack
from voxward.runs.folder import Checkpoint, RunFolder, RunSettings
from voxward.systems.cascade import Cascade, MarginUnit
from voxward.systems.cascade_model import Stage
from voxward.systems.ensemble import Deployed, load_deployed
from voxward.training.log import read_log

EPS = (4 / 255, 8 / 255, 16 / 255)
_REPORTS = (
    "sanity.json", "robustness.md", "robustness.csv", "classes.md", "leaderboard.md", "leaderboard.csv", "curves.png",
    "iterations.png",
)  # fmt: skip


@dataclass(frozen=True)
class BenchmarkResult:
    """Every record, the checks on them, the tables, and where all of it lies.

    report: a row per model and attack. leaderboard: a row per model, where there are several. hours: the estimate that
    was asked for instead of the work; then there is nothing else.
    """

    records: tuple[Record, ...]
    findings: tuple[Finding, ...]
    report: Table | None
    out: Path
    leaderboard: Table | None = None
    hours: float | None = None

    @property
    def trustworthy(self) -> bool:
        """Whether no check failed."""
        return all(finding.passed is not False for finding in self.findings)


def benchmark(
    runs: Sequence[Path | str] | Path | str,
    dataset: Path | str,
    out: Path | str,
    attacks: Sequence[str] = ("autoattack", "strong"),
    eps: Sequence[float] = EPS,
    mode: Mode = "volume",
    norm: Norm = "linf",
    unit: Unit = "range",
    reference: Reference = "raw",
    steps: int = 20,
    restarts: int = 1,
    queries: int = 500,
    fab_steps: int = 20,
    threshold: float | None = None,
    cases: int | None = None,
    policy: str = "ignore",
    surrogate: Path | str | None = None,
    checkpoint: Checkpoint = "auto",
    device: str = "auto",
    precision: Precision = "auto",
    members: Sequence[Path | str] = (),
    tta: Tta | None = None,
    seed: int = 0,
    erase: str | None = None,
    save_volumes: bool = False,
    budget: bool = False,
    gradient: Gradient = "exact",
    statistics: Statistics = "frozen",
    cascade: Path | str | None = None,
    stage: Stage = "both",
    margin: float = 20.0,
    margin_unit: MarginUnit = "voxels",
    fraction: float = 0.2,
    graphs: int = 0,
    progress: Progress = silent,
    overwrite: bool = False,
) -> BenchmarkResult:
    """Attack one or several trained runs on a dataset's validation cases, and compare them in one table.

    attacks: single attacks and ensembles (`autoattack`, `strong`). eps: in `unit`: shares of the intensity window
    (`range`) or HU and raw intensities (`native`). mode: `volume` attacks the whole deployed pipeline, `patch` the
    network on one window. reference: `raw`, or `window` as in the papers (see attacks.threat). steps, restarts,
    queries, fab_steps: what APGD, Square and FAB may spend per case and eps. threshold: the Dice under which FAB calls
    a case broken (default: half of mu, the mean clean Dice). cases: only the first so many. surrogate: a run whose
    adversarial volumes are tried too (a transfer attack). erase: a class whose Dice alone counts: the attacks try to
    make it vanish, and the books are of that class. members: other runs that predict together with each of `runs`, an
    ensemble that is attacked as one; tta: see `predict`. save_volumes: keep the adversarial volumes under
    OUT/volumes. budget: only estimate the hours. gradient: `exact`, or `window_mean`: of each window's own objective,
    as in the ResDSN paper. statistics: what normalises an attacked scan where a recipe takes the scan's own figures:
    `frozen`, the clean scan's, or `live`, its own, which the attack then moves, too. cascade: a run that finds the
    region which each of the runs (with its members) then segments; both are attacked, or one `stage` of them, with the
    region of the clean case (see systems.cascade_model.freeze_cascade), and the deployed Dice is that of the cascade,
    which finds the region anew. margin, margin_unit, fraction: see systems.cascade.Cascade. graphs: windows whose
    graphs a gradient may hold at once; a volume of no more windows is attacked in about three quarters of the time, for
    that much memory. Figures are the same, so that calls that share one OUT may differ in it.

    OUT gets records/ (one file per unit of work), robustness.md, robustness.csv, classes.md (per class or region), with
    several runs leaderboard.md and .csv and, where one was hardened from another, hardening-RUN.md, sanity.json and
    figures. A call that was interrupted goes on where it stopped; several processes may work on one OUT at once. A
    later call with other settings needs another OUT. overwrite: replace files of these names in OUT that voxward did
    not write, or that were edited since. Raises ValueError before any work for what cannot be attacked so, and for
    files that are not replaced.
    """
    setting = Setting(
        tuple(attacks), tuple(sorted(set(eps))), ThreatModel(0.0, norm, unit, reference), mode,
        Budget(steps, restarts, queries, fab_steps, threshold), policy, seed, erase, gradient, stage, statistics,
    )  # fmt: skip
    _check(setting, cascade is not None)
    folders = _paths([runs] if isinstance(runs, str | Path) else runs)
    outputs, chosen = Outputs(Path(out), "part of a robustness report", overwrite), resolve_device(device)
    load = partial(load_deployed, checkpoint=checkpoint, device=chosen, precision=precision, graphs=graphs)
    helper = None if surrogate is None else load(surrogate, ())
    predictors = {name: load(folder, members, tta=tta) for name, folder in _named(folders).items()}
    finding = (margin, margin_unit, fraction)
    joined = None if cascade is None else _joined(load(cascade, (), tta=tta), [*predictors.values(), helper], *finding)
    beside = {"surrogate": _paths([surrogate]), "cascade": _paths([cascade]), "members": _paths(members)}
    bench = Bench(
        predictors, _cases(open_dataset(dataset), folders, beside, cases), setting, voxward.__version__,
        outputs.folder / "volumes", save_volumes, helper, _transferred(helper, predictors, setting), joined, overwrite,
    )  # fmt: skip
    if budget:
        return BenchmarkResult((), (), None, outputs.folder, hours=estimate_hours(bench))
    given = {"tta": tta, "finding": None if cascade is None else list(finding)}
    return _work(outputs, bench, folders, _settings(bench, folders, checkpoint, beside, given), progress)


def _paths(runs: Sequence[Path | str | None]) -> list[Path]:
    """Of the runs that are there."""
    return [Path(run) for run in runs if run is not None]


def _names(models: Iterable[str], hardenings: Sequence[Hardening]) -> list[str]:
    """The files that `_work` writes into OUT itself."""
    return [*_REPORTS, *map(_panel, models), *(_hardening_file(hardening) for hardening in hardenings)]


def _panel(model: str) -> str:
    return f"panel-{model}.png"


def _hardening_file(hardening: Hardening) -> str:
    return f"hardening-{hardening.after}.md"


def _work(
    outputs: Outputs, bench: Bench, folders: Sequence[Path], settings: Mapping[str, object], progress: Progress
) -> BenchmarkResult:
    """All units that nobody has done yet, the clean ones first: they settle FAB's thresholds. Then what they show."""
    store = RecordStore(outputs.folder)
    outputs.check(_names(bench.predictors, _hardenings(_named(folders))))
    store.settle(settings)
    store.work(tuple(bench.clean_units()), bench.work)
    bench.settle_thresholds(store.read_all())
    store.work(tuple(bench.units()), lambda work: bench.work(work, progress), progress)
    result = summarise(outputs, bench.setting, bench)
    for hardening in _hardenings(_named(folders)):
        table = hardening_table(result.records, hardening, bench.setting.mode == "volume")
        outputs.text(_hardening_file(hardening), table.markdown())
    return result


def summarise(outputs: Outputs, setting: Setting, bench: Bench) -> BenchmarkResult:
    """Tables, checks and figures from the records that lie in the outputs' folder."""
    records = RecordStore(outputs.folder).read_all()
    attacked = [labels_under_attack(p.model.plan.labels, setting.erase) for p in bench.predictors.values()]
    groups = ensembles(setting.attacks, max(map(class_count, attacked)), setting.budget, bench.surrogate is not None)
    findings = sanity(records)
    report = robustness_table(records, groups, findings)
    outputs.json("sanity.json", to_data(findings))
    outputs.text("robustness.md", report.markdown())
    outputs.text("robustness.csv", report.csv())
    outputs.text("classes.md", classes_table(records, setting.mode == "volume").markdown())
    for name in bench.predictors:
        attack_panel(bench, [record for record in records if record.model == name], outputs, _panel(name))
    board = leaderboard_table(records, None, findings) if len(bench.predictors) > 1 else None
    if board is not None:
        outputs.text("leaderboard.md", board.markdown())
        outputs.text("leaderboard.csv", board.csv())
    with outputs.write("curves.png") as path:
        curves_figure(path, records, groups, setting.mode == "volume")
    with outputs.write("iterations.png") as path:
        iterations_figure(path, records)
    return BenchmarkResult(records, findings, report, outputs.folder, board)


def _joined(
    coarse: Deployed, fines: Sequence[Deployed | None], margin: float, margin_unit: MarginUnit, fraction: float
) -> Callable[[Deployed], Cascade]:
    """What makes each of the models the fine stage behind `coarse`. Raises ValueError where one does not fit it."""

    def cascade(fine: Deployed) -> Cascade:
        return Cascade(coarse, fine, margin, margin_unit, fraction)

    for fine in fines:
        if fine is not None:
            cascade(fine)
    return cascade


def _check(setting: Setting, cascaded: bool) -> None:
    POLICIES[setting.policy]
    for name, kind in (("mode", Mode), ("gradient", Gradient), ("stage", Stage), ("statistics", Statistics)):
        if getattr(setting, name) not in get_args(kind):
            raise UserError(f"{name} must be one of {', '.join(get_args(kind))}, got {getattr(setting, name)!r}")
    if setting.mode == "patch" and (cascaded or (setting.gradient, setting.statistics) != ("exact", "frozen")):
        raise UserError(
            "mode 'patch' attacks one window: it has no cascade, only the exact gradient, and frozen statistics"
        )
    if not cascaded and setting.stage != "both":
        raise UserError(f"stage {setting.stage!r} needs a cascade")
    if not setting.eps:
        raise UserError("eps must hold at least one size")
    if not setting.attacks:
        raise UserError(f"attacks must name at least one of: {', '.join(ATTACKS)}")
    for eps in setting.eps:
        if eps == 0:
            raise UserError("eps must be above 0: the clean control is always run")
        setting.threat.with_eps(eps)
    for name in setting.attacks:
        ATTACKS[name]
    if setting.mode == "patch" and setting.threat.unit == "native":
        raise UserError("mode 'patch' attacks normalised intensities: unit must be 'range', got 'native'")


def _check_predictor(predictor: Deployed, setting: Setting) -> None:
    """Refuse attacks that this model cannot be attacked with."""
    if resolve_precision(predictor.precision, predictor.device) == "fp16":
        raise UserError("gradients in fp16 vanish: attack in bf16 or fp32")
    if setting.mode == "patch" and len(predictor.members) > 1:
        raise UserError("mode 'patch' attacks one network: an ensemble is attacked in mode 'volume'")
    labels = labels_under_attack(predictor.model.plan.labels, setting.erase)
    for name, attack in members(setting.attacks, class_count(labels), setting.budget).items():
        if setting.threat.norm not in attack.norms:
            able = [f"{family}-..." for family in ("pgd", "apgd")] + ["fab-t", "fab-dice"]
            raise UserError(
                f"{name} (among the attacks {', '.join(setting.attacks)}) knows the norms {', '.join(attack.norms)}, "
                f"got {setting.threat.norm!r}, which these know: {', '.join(able)}"
            )
        attack.check(labels.head, labels.outputs)


def _check_surrogate(surrogate: Deployed, name: str, predictor: Deployed) -> None:
    """A perturbation is carried over only between models that mean the same."""
    theirs, ours = surrogate.model.plan, predictor.model.plan
    if theirs.labels != ours.labels:
        raise UserError(f"the surrogate's classes are {theirs.labels.names}, those of {name} {ours.labels.names}")
    channels = [[channel.name for channel in plan.channels] for plan in (theirs, ours)]
    if channels[0] != channels[1]:
        raise UserError(f"the surrogate's channels are {channels[0]}, those of {name} {channels[1]}")


def _transferred(surrogate: Deployed | None, predictors: Mapping[str, Deployed], setting: Setting) -> frozenset[str]:
    """Check every model; of these, the ones that are not the surrogate itself, which learn nothing new from it."""
    for name, predictor in predictors.items():
        _check_predictor(predictor, setting)
        if surrogate is not None:
            _check_surrogate(surrogate, name, predictor)
    if surrogate is None:
        return frozenset()
    found = frozenset(name for name, predictor in predictors.items() if not _same_weights(surrogate, predictor))
    if not found:
        raise UserError(f"the surrogate is {', '.join(predictors)} itself: a transfer attack needs another model")
    return found


def _same_weights(first: Deployed, second: Deployed) -> bool:
    if len(first.members) != len(second.members):
        return False
    one, other = (list(predictor.model.network.state_dict().values()) for predictor in (first, second))
    return len(one) == len(other) and all(
        a.shape == b.shape and torch.equal(a, b) for a, b in zip(one, other, strict=True)
    )


def _hardenings(folders: Mapping[str, Path]) -> list[Hardening]:
    """Which of the runs began with the weights of which other one."""
    places = {folder.resolve(): name for name, folder in folders.items()}
    found = []
    for name, folder in folders.items():
        run = RunFolder(folder)
        start = load_json(RunSettings, run.settings).start if run.settings.is_file() else None
        before = None if start is None else places.get(Path(start))
        if before is not None and before != name:
            seconds = [read_log(RunFolder(folders[key]).log)[-1]["seconds"] for key in (before, name)]
            found.append(Hardening(before, name, *seconds))
    return found


def _named(folders: Sequence[Path]) -> dict[str, Path]:
    """The runs by their folders' names, by longer ones where these are the same."""
    names = [folder.resolve().name for folder in folders]
    if len(set(names)) < len(names):
        names = [f"{folder.resolve().parent.name}-{folder.resolve().name}" for folder in folders]
    if len(set(names)) < len(names):
        raise UserError(f"runs must have different names, got {', '.join(names)}")
    return dict(zip(names, folders, strict=True))


def _cases(
    dataset: Dataset, folders: Sequence[Path], beside: Mapping[str, Sequence[Path]], count: int | None
) -> Mapping[str, Case]:
    """The labelled cases that no run was trained on, in the order of the first run's validation list."""
    if not dataset.cases:
        raise UserError(f"{dataset.root} has no labels: an attack needs the truth")
    if count is not None and count < 1:
        raise UserError(f"cases must be at least 1, got {count}")
    runs = [*folders, *beside["members"], *beside["cascade"]]
    lists = [cases_to_score(RunFolder(folder), dataset)[0] for folder in runs]
    shared = [id for id in lists[0] if all(id in other for other in lists[1:])]
    if not shared:
        raise UserError("the runs have no validation case in common")
    return {id: dataset.case(id) for id in shared[:count]}


def _settings(
    bench: Bench,
    folders: Sequence[Path],
    checkpoint: Checkpoint,
    beside: Mapping[str, Sequence[Path]],
    given: Mapping[str, object],
) -> dict[str, object]:
    """What must not change between the calls that fill one folder. beside: runs that `folders` are attacked with.

    given: further arguments; what is None is left out.
    """
    return {
        **to_data(bench.setting),
        "version": bench.version,
        "precision": {
            name: resolve_precision(predictor.precision, predictor.device)
            for name, predictor in bench.predictors.items()
        },
        "cases": {id: _digest([*case.images, *filter(None, [case.label])]) for id, case in bench.cases.items()},
        "runs": {name: _digest(_run_files(folder, checkpoint)) for name, folder in _named(folders).items()},
        **{name: [_digest(_run_files(run, checkpoint)) for run in some] for name, some in beside.items() if some},
        **{name: value for name, value in given.items() if value is not None},
    }


def _run_files(folder: Path, checkpoint: Checkpoint) -> list[Path]:
    """All that decides what a run predicts."""
    run = RunFolder(folder)
    files = (run.weights(checkpoint), run.recipe, run.plan, run.postprocess)
    return [path for path in files if path.is_file()]


def _digest(files: Sequence[Path]) -> str:
    """Of the files' contents, wherever they lie."""
    found = hashlib.sha256()
    for path in files:
        with path.open("rb") as stream:
            found.update(hashlib.file_digest(stream, "sha256").digest())
    return found.hexdigest()[:16]
