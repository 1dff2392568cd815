"""An ONNX network whose weights are in a file beside it."""

import numpy as np
import onnx
import pytest

from tests.nets.onnx.build import model, node
from tests.systems.network.build import described
from voxward.systems.open import open_system


@pytest.mark.parametrize("gradient", [True, False])
def test_data_files_count_in_the_fingerprint(gradient, tmp_path):
    made = model([node("Conv", ["x", "w"], pads=[1, 1, 0, 1, 1, 0])], {"w": np.ones((3, 1, 3, 3, 1), np.float32)})
    weights = made.graph.initializer[0]
    weights.ClearField("raw_data")
    weights.data_location = onnx.TensorProto.EXTERNAL
    weights.external_data.add(key="location", value="weights.bin")
    (tmp_path / "n.onnx").write_bytes(made.SerializeToString())
    path, found = described(tmp_path, "n.onnx", gradient=gradient), []
    for factor in (1, 2, 1):
        (tmp_path / "weights.bin").write_bytes((factor * np.arange(27, dtype=np.float32)).tobytes())
        found.append(open_system(path).fingerprint())
    assert found[0] == found[2] != found[1]
