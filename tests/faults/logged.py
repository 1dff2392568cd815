"""Lets a worker write down every unit of an attack that it begins; Dask imports this module in the worker.

VOXWARD_TEST_BEGUN is the file, and VOXWARD_TEST_PAUSE the seconds that each unit takes longer.
"""

import os
import time
from pathlib import Path

from voxward.robustness.doer import BenchDoer

_PLAIN = BenchDoer.do


def _logged(self, unit, folder, progress):
    line = f"{os.environ.get('SLURMD_NODENAME', 'local')} {os.getpid()} {unit.place}\n"
    with Path(os.environ["VOXWARD_TEST_BEGUN"]).open("a", encoding="utf-8") as file:
        file.write(line)
    time.sleep(float(os.environ["VOXWARD_TEST_PAUSE"]))
    return _PLAIN(self, unit, folder, progress)


BenchDoer.do = _logged
