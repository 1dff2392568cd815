"""Faults that really happen: kills, signals, full and read-only disks, dead loader workers, clocks that jump."""

import pytest

pytest.register_assert_rewrite("tests.faults.harness", "tests.faults.repeats")
