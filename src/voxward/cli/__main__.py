"""Runs voxward as `python -m voxward.cli`."""

import sys

from voxward.cli import main

sys.exit(main())
