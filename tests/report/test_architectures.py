import io
import math
import xml.etree.ElementTree as ET

import numpy as np
from matplotlib.image import imread
from rich.console import Console

from voxward.architecture_search.cost import Cost
from voxward.core.genotype import CellGenes, Gene, Genotype
from voxward.report.architecture_figures import draw_architecture, search_history
from voxward.report.architectures import Architecture, architectures_table

GENES = (Gene(0, "sep3"), Gene(1, "dil3"))
GENOTYPE = Genotype(
    2, 4, 3, CellGenes(GENES, GENES, GENES), (("down", "down", "up", "up"), ("down", "skip", "same", "up"))
)
FOUND = (
    Architecture("paths-2", GENOTYPE, Cost(1_234_567, 2_500_000_000, 3_000_000), 0.71234),
    Architecture("untrained-2", GENOTYPE, Cost(1, 1, 1), None),
)


def test_the_table_says_what_each_network_costs():
    table = architectures_table(FOUND, (40, 56, 1))
    text = table.markdown()
    assert "| paths-2 | 2 | 6 | 2 | 1.235 | 2.500 | 3.00 | 0.712 |" in text
    assert "| untrained-2 | 2 | 6 | 2 | 0.000 | 0.000 | 0.00 | n/a |" in text
    assert "patch of 40 x 56 x 1" in text
    assert table.csv().splitlines()[1] == "paths-2,2,6,2,1234567,2500000000,3000000,0.71234"
    assert "patch of" not in architectures_table(FOUND).markdown()
    console = Console(width=120, record=True, file=io.StringIO())
    console.print(table.terminal())
    assert "1.235" in console.export_text()


def test_a_drawing_shows_paths_and_cells(tmp_path):
    for suffix in (".svg", ".png"):
        draw_architecture(GENOTYPE, tmp_path / f"net{suffix}", "toy")
    assert ET.parse(tmp_path / "net.svg").getroot().tag.endswith("svg")
    pixels = (imread(tmp_path / "net.png")[..., :3] * 255).round().astype(np.uint8).reshape(-1, 3)
    for colour in ((0x00, 0x72, 0xB2), (0xD5, 0x5E, 0x00)):
        assert (pixels == colour).all(1).any()


def test_a_history_of_any_length_is_drawn(tmp_path):
    names = ("weight_loss", "operation_entropy", "input_entropy", "path_entropy", "expected_gmac")
    row = dict.fromkeys(names, 0.5) | {"epoch": 1.0, "phase": 0.0, "architecture_loss": math.nan}
    for n, rows in enumerate(([], [row], [row, row | {"epoch": 2.0, "phase": 1.0}])):
        search_history(rows, tmp_path / f"{n}.png")
        assert imread(tmp_path / f"{n}.png").ndim == 3
