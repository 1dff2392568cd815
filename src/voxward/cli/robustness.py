"""The commands that attack, and the demo."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from rich.markup import escape

from voxward.cli.arguments import (
    Arguments,
    cases_arguments,
    channels_argument,
    cluster_arguments,
    clustered,
    console,
    device_arguments,
    errors,
    given,
    links_argument,
    outcome,
    output_of,
    overwrite_argument,
    print_kept,
    reading_arguments,
    report_argument,
    set_argument,
    size,
    told,
    trust_argument,
    trusted,
)
from voxward.core.wording import counted
from voxward.report.progress import ShowProgress
from voxward.report.stages import clock_text

if TYPE_CHECKING:
    from voxward.report.attack import AttackReport

_WHICH = """\
which protocol, and what it costs (a gradient takes about as long as three forward passes; five eps, three classes):
  quick          a look in minutes. Can show that a system is not robust, never that it is
  autoattack     the default: four attacks as published in 2020; 241 gradients and 2600 forward passes for each case
  fast           a good curve over eps, cheaply: 100 gradients for each case
  strong         the figure that you publish: 716 gradients and 2600 forward passes for each case
  blade-300      BLADE, to compare with; 300 gradients for each case
  sea-300        SEA as published, to compare with; 4500 gradients for each case
  tsallis-300    Tsallis-PGD as published, to compare with; 1500 gradients for each case
  blackbox       for a system without a gradient
  corruptions-mri, corruptions-ct
                 what scanners do, and no attack: ten corruptions, five severities; 50 predictions for each case
The same --out again goes on where it stopped, and takes more: --cases 1, then --cases 3. See docs/attacks.md.
"""
UNMET = 3
"""The exit code where a system does not meet a requirement of the protocol."""


def attack_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `voxward attack`."""
    parser.formatter_class, parser.epilog = argparse.RawDescriptionHelpFormatter, _WHICH
    add = parser.add_argument
    add("systems", nargs="*", metavar="SYSTEM", help="run folders, models such as an nnU-Net, or system.yaml files")
    add(
        "--dataset",
        help="the dataset folder; the cases that no system was trained on are attacked; or a folder of DICOM files "
        "with SEG or RTSTRUCT, whose volumes OUT/from-dicom keeps",
    )
    add("--protocol", default="autoattack", help="a packaged protocol or a .yaml file (default autoattack); see --list")
    add("--out", help="the folder of records, tables and figures (default: RUN/attack, for a single run)")
    add(
        "--eps",
        nargs="+",
        type=_size,
        help="sizes of the perturbations, such as 4/255, or 20 with --set threat.unit=native (HU or raw intensities); "
        "short for --set threat.eps=[...]",
    )
    add("--attacks", nargs="+", metavar="NAME", help="attacks and ensembles; short for --set attacks=[...]")
    add(
        "--reference-system",
        metavar="NAME",
        help="with corruptions: the system of this call, by its name or path, whose errors the others' are compared "
        "with; short for --set corruptions.reference=NAME",
    )
    add("--cases", type=_count, help="how many cases, the first ones; a later call may ask for more; --set cases=N")
    set_argument(parser, "change an entry of the protocol or of the systems, for example --set budget.steps=50")
    channels_argument(parser)
    trust_argument(parser)
    reading_arguments(parser, "as the systems were trained, else refuse")
    add(
        "--estimate",
        action="store_true",
        help="only estimate how many hours the attack will take, with --cluster by its workers",
    )
    add("--list", action="store_true", dest="listed", help="print attacks, ensembles, objectives and protocols")
    cases_arguments(parser)
    overwrite_argument(parser)
    report_argument(parser)
    cluster_arguments(parser)
    device_arguments(parser)


def _size(text: str) -> float:
    """Read a size as `size` does, and say how one in HU is written."""
    try:
        return size(text)
    except argparse.ArgumentTypeError as error:
        if text.strip("0123456789./ ").lower() not in ("hu", "raw"):
            raise
        native = "sizes in HU or raw intensities are written as --eps 10 --set threat.unit=native"
        raise argparse.ArgumentTypeError(f"{error}; {native}") from error


def _count(text: str) -> int:
    """Read a number of cases; a user may expect to name one."""
    try:
        return int(text)
    except ValueError as error:
        what = f"must be a whole number, got {text!r}: so many cases are attacked, the first ones of the split"
        raise argparse.ArgumentTypeError(what) from error


def benchmark_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what `voxward benchmark` takes: the arguments of `attack`, and the dataset also in the last place."""
    attack_arguments(parser)
    parser.set_defaults(protocol="strong")


def attack(arguments: Arguments) -> int:
    """Run `voxward attack`."""
    from voxward.commands.attack import attack
    from voxward.core.choices import Cases, Reading
    from voxward.core.errors import UserError

    values = clustered(trusted(given(arguments, dataset=Cases, reading=Reading), "systems"))
    if values.pop("listed"):
        return _list()
    if not values["systems"] or values["dataset"].dataset is None:
        raise UserError("voxward attack needs at least one SYSTEM, and the dataset as --dataset DATASET")
    values["overrides"] = [*values["overrides"], *_changes(values)]
    with ShowProgress(errors) as progress:
        output = output_of(values, progress)
        result, failed = outcome(lambda: attack(**values, out=output))
    code = 0 if result is None else show(result, output.report)
    if not arguments.estimate:
        print_kept(arguments.out)
    return told(failed) or code


def benchmark(arguments: Arguments) -> int:
    """Run `voxward benchmark`, which is `voxward attack` by its former name."""
    errors.print(
        "[yellow]note:[/yellow] voxward benchmark is now voxward attack SYSTEM... --dataset DATASET --protocol strong",
        soft_wrap=True,
    )
    if arguments.dataset is None and len(arguments.systems) > 1:
        *arguments.systems, arguments.dataset = arguments.systems
    return attack(arguments)


def _changes(values: dict[str, object]) -> list[str]:
    """Return the short arguments as changes of the protocol, and take them out of the values."""
    eps, attacks, cases, other = (values.pop(name) for name in ("eps", "attacks", "cases", "reference_system"))
    found = [] if eps is None else [f"threat.eps={list(eps)!r}"]  # type: ignore[call-overload]
    found += [] if attacks is None else [f"attacks=[{', '.join(attacks)}]"]  # type: ignore[arg-type]
    found += [] if other is None else [f"corruptions.reference={other}"]
    return found + ([] if cases is None else [f"cases={cases}"])


def _list() -> int:
    """Print what a protocol can name, with one line each."""
    from voxward.robustness.listing import listing

    for family, members in listing().items():
        console.print(f"[bold]{family}[/bold]")
        for name, line in members.items():
            console.print(f"  {name:<28} {escape(line)}", soft_wrap=True, highlight=False)
    return 0


def show(result: AttackReport, report: bool = True) -> int:
    """Print the tables of an attack.

    Args:
        result: The tables and verdicts of the attack.
        report: Whether this call wrote a page, too; one that lies there may be older.

    Returns:
        The exit code: 1 where a check failed, so that no figure is to be trusted; 3 where a requirement is not met;
        else 0.
    """
    if result.costs is not None:
        _show_costs(result)
        return 0
    if result.report is not None:
        console.print(result.report.terminal())
    for table in result.corruptions[:2]:  # HD95 is in the files
        console.print(table.terminal())
    if result.certificate is not None:
        console.print(result.certificate.terminal())
    if result.leaderboard is not None:
        console.print(result.leaderboard.terminal())
    for verdict in result.verdicts:
        value = "was not measured" if verdict.value is None else f"is {verdict.value:.3f}"
        word = "met" if verdict.met else "[bold red]NOT MET[/bold red]"
        over = f", and {counted(verdict.failed, 'case')} failed" if verdict.failed else ""
        text = f"{word}: {escape(verdict.requirement)}: it {value} for {escape(verdict.system)}{over}"
        console.print(text, soft_wrap=True)
    page = report and (result.out / "report.html").is_file()
    written = "records, tables, figures and the page report.html" if page else "records, tables and figures"
    console.print(f"{written}: {escape(str(result.out))}", soft_wrap=True)
    if not result.trustworthy:
        return 1
    return 0 if result.met else UNMET


_WORKERS = (1, 4, 16)
"""For so many workers the time is told where their number is not known."""


def _show_costs(result: AttackReport) -> None:
    costs = result.costs
    if costs is None:
        return
    console.print(f"estimated: {costs.hours:.3g} {costs.kind} on one process like this one")
    for count in _WORKERS if costs.workers is None else (costs.workers,):
        workers, hours = counted(count, "worker"), costs.wall_hours(count)
        console.print(f"wall time with {workers} like this process: {hours:.3g} hours, {clock_text(3600 * hours)}")


def corrupt_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `voxward corrupt`."""
    add = parser.add_argument
    add("dataset", help="the folder of the dataset, or of DICOM files")
    add("--set", default="rood-mri", help="a set of corruptions: rood-mri, ct, or a .yaml file (default rood-mri)")
    add("--case", metavar="ID", help="the case (default: the first one)")
    add("--out", default="corruptions.png", help="the picture: .png, .pdf or .svg (default corruptions.png)")
    add("--names", nargs="+", default=(), metavar="NAME", help="which corruptions (default: all of the set)")
    add("--severities", nargs="+", type=int, default=(1, 2, 3, 4, 5), metavar="N", help="of 1 to 5 (default: all)")
    add("--channel", metavar="NAME", help="the channel that is drawn (default: the first one that the set changes)")
    add("--seed", type=int, default=0, help="the seed of what is drawn (default 0)")
    overwrite_argument(parser)


def corrupt(arguments: Arguments) -> int:
    """Run `voxward corrupt`."""
    from voxward.commands.corrupt import corrupt

    sheet = corrupt(**given(arguments))
    rows = counted(len(sheet.corruptions), "corruption")
    console.print(f"{rows} of {escape(sheet.case)}, channel {escape(sheet.channel)}: {escape(str(sheet.path))}")
    return 0


def demo_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `voxward demo`."""
    parser.add_argument("--data", help="the folder of a dataset (default: synthetic phantoms)")
    parser.add_argument("--out", default="demo", help="the folder of the demo (default demo)")
    parser.add_argument("--recipe", default="dynunet", help="the recipe to train (default dynunet)")
    parser.add_argument("--minutes", type=float, default=4.0, help="the training time in minutes (default 4)")
    parser.add_argument("--seed", type=int, default=0, help="the seed of everything that is drawn (default 0)")
    parser.add_argument("--cases", type=int, default=25, help="the number of phantoms (default 25)")
    links_argument(parser)
    overwrite_argument(parser)
    report_argument(parser)


def demo(arguments: Arguments) -> int:
    """Run `voxward demo`."""
    from voxward.commands.demo import demo
    from voxward.report.metrics import metrics_table

    with ShowProgress(errors) as progress:
        values = given(arguments)
        output = output_of(values, progress)
        result = demo(**values, out=output)
    console.print(metrics_table(result.evaluation).terminal())
    console.print(f"picture: {escape(str(result.picture))}\nrun:     {escape(str(result.run))}")
    show(result.robustness, report=False)
    page = output.root / "report.html"
    if output.report and page.is_file():
        console.print(f"page:    {escape(str(page))}", soft_wrap=True)
    return 0
