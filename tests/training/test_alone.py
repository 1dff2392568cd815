"""A launcher's processes must not each train the whole run."""

from __future__ import annotations

import pytest

from voxward.training.alone import refuse_launcher


def test_a_launcher_without_devices_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    refuse_launcher(1)
    monkeypatch.setenv("WORLD_SIZE", "2")
    refuse_launcher(2)
    with pytest.raises(ValueError, match=r"started 2 processes \(WORLD_SIZE=2\).*pass --devices 2"):
        refuse_launcher(1)
    monkeypatch.setenv("WORLD_SIZE", "1")
    refuse_launcher(1)
