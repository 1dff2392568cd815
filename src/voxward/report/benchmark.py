"""What the tables of a benchmark share: which records may be compared, and what is said beside the figures."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from voxward.core.errors import UserError
from voxward.core.wording import counted, in_hounsfield
from voxward.report.table import Row, Table, Value
from voxward.robustness.eps import eps_texts
from voxward.robustness.finding import Finding
from voxward.robustness.record import CONTROLS, EQUAL_NOISE, Record
from voxward.robustness.sanity import GRADIENTLESS, STANDARD, Thresholds
from voxward.robustness.summary import View


def comparable(records: Sequence[Record], deployed: bool | None = None) -> View:
    """The records of one table.

    Args:
        records: Records of one or several models.
        deployed: Whether the Dice is that of the written files; by default where every record has it.

    Returns:
        The records, and how they are read.

    Raises:
        UserError: There are none, or they differ in mode, threat model, policy for empty masks or classes.
    """
    if not records:
        raise UserError("a report needs at least one record, got none")
    for name, values in _settings(records).items():
        if len(values) > 1:
            raise UserError(f"a report needs records of one {name}, got {', '.join(sorted(values))}")
    return View(tuple(records), of_files(records) if deployed is None else deployed)


def of_files(records: Sequence[Record]) -> bool:
    """Return whether every Dice can be that of written files: of all attacks, and of the controls beside them.

    It is one answer for everything that is said about some records, so that figures of files and of arrays never mix.
    """
    counted = (*CONTROLS, *EQUAL_NOISE)
    return all(record.deployed is not None for record in records if record.kind == "attack" or record.attack in counted)


def sizes(view: View) -> tuple[str, ...]:
    """The sizes of the perturbations as headings."""
    return tuple(map(eps_texts(view.records), view.eps))


def with_size_texts(table: Table, records: Sequence[Record]) -> Table:
    """Return a table whose figures for programs say the size as people read it, too, such as 8/255.

    Args:
        table: A table with a field `eps`, which stays the number.
        records: The records that it is made from.
    """
    text, place = eps_texts(records, alone=True), table.fields.index("eps")
    data = tuple((*row, _size_text(row[place], text)) for row in table.data)
    return replace(table, fields=(*table.fields, "eps_text"), data=data)


def _size_text(eps: Value, text: Callable[[float], str]) -> str:
    return text(eps) if isinstance(eps, float | int) else ""


def members_text(view: View, attacks: Sequence[str]) -> str:
    """The attacks of an ensemble, and which of them were not run."""
    run = {record.attack for record in view.records}
    return ", ".join(attack if attack in run else f"{attack} (not run)" for attack in attacks)


def threat_title(view: View) -> str:
    """What was attacked: the mode and the threat model, in one line."""
    first = next((r for r in view.records if r.kind == "attack"), view.records[0])
    threat = first.threat
    native = "HU" if in_hounsfield(first.channels) else "raw intensities"
    unit = "share of the intensity range" if threat.unit == "range" else native
    return f"Robustness, {first.mode} mode; {threat.norm}, eps: {unit}, around the {threat.reference} volume"


def reading_notes(view: View, thresholds: Thresholds = STANDARD) -> tuple[str, ...]:
    """How the figures are read: each model's mu, what the Dice is of, and what empty classes count.

    Raises:
        UserError: A model has no clean control.
    """
    source = "written files read by the ordinary predictor" if view.deployed else "float arrays, not deployed files"
    return (
        "; ".join(_model_note(view, model) for model in view.models),
        f"Dice of {source}; [95 % bootstrap interval over cases]; robust accuracy: share of cases "
        f"that keep a Dice of mu / 2 or above, and of {thresholds.absolute:g} or above",
        f"empty classes: {view.records[0].policy}; a case without any counts 1",
        *(f"{model}: {GRADIENTLESS}" for model in view.models if _gradientless(view, model)),
    )


def warnings(findings: Sequence[Finding]) -> tuple[str, ...]:
    """A sentence per check that failed."""
    return tuple(f"NOT TRUSTWORTHY ({f.name}): {f.text}" for f in findings if f.passed is False)


def computers(records: Sequence[Record]) -> tuple[str, ...]:
    """Return the names of the processors and GPUs that some records were measured on.

    Records of older versions only say `cpu` or `cuda`, which is told where nothing better is known of such a device.
    """
    known = {(record.device.partition(":")[0], record.processor) for record in records}
    named = {kind for kind, name in known if name}
    return tuple(sorted(name or kind for kind, name in known if name or kind not in named))


def mixed(records: Sequence[Record]) -> tuple[str, ...]:
    """Return a sentence where records were measured on different kinds of machines, or with several PyTorches."""
    found = list[str]()
    if len(names := computers(records)) > 1:
        counts = [f"{name}: {sum(1 for r in records if name in (r.processor, _kind(r)))} results" for name in names]
        found.append(f"measured on different kinds of machines ({'; '.join(counts)})")
    if len(versions := sorted({record.torch for record in records})) > 1:
        found.append(f"measured with different versions of PyTorch ({', '.join(versions)})")
    lead = "Machines round differently, so that a search may end elsewhere: small differences between cases or attacks "
    return (f"{' and '.join(found)}. {lead}may come from that",) if found else ()


def _kind(record: Record) -> str:
    return "" if record.processor else record.device.partition(":")[0]


def folded_row(cells: tuple[str, ...], strong: bool = False, section: bool = False) -> Row:
    """A row in which a terminal shows an interval, and what follows a semicolon, below the mean."""
    narrow = tuple(cell.replace(" [", "\n[").replace("; ", "\n") for cell in cells)
    return Row(cells, strong, section, narrow)


def _model_note(view: View, model: str) -> str:
    mu, cases = view.mu(model), len(view.clean_dice(model))
    return f"{model}: mu (mean clean Dice) {mu:.3f}, broken below mu / 2 = {mu / 2:.3f}, {counted(cases, 'case')}"


def _gradientless(view: View, model: str) -> bool:
    attacks = [record for record in view.records if record.model == model and record.kind == "attack"]
    return bool(attacks) and not any(record.white_box for record in attacks)


def _settings(records: Sequence[Record]) -> dict[str, set[str]]:
    return {
        "mode": {r.mode for r in records},
        "norm": {r.threat.norm for r in records},
        "unit": {r.threat.unit for r in records},
        # The clip control is the papers' reference by definition.
        "reference": {r.threat.reference for r in records if r.kind == "attack"},
        "empty-class policy": {r.policy for r in records},
        "set of classes": {", ".join(r.classes) for r in records},
    }
