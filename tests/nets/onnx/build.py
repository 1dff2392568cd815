"""Small ONNX files, made node by node."""

from __future__ import annotations

import numpy as np
import onnx
import onnx.shape_inference
from onnx import TensorProto, helper, numpy_helper

# The format that onnxruntime 1.20 reads.
_IR = 8


def node(operator, inputs, outputs=("y",), **attributes):
    name = attributes.pop("name", f"make_{outputs[0]}")
    return helper.make_node(operator, list(inputs), list(outputs), name=name, **attributes)


def model(nodes, constants=None, shape=(None, 1, None, None, None), opset=17, outputs=("y",), kind=TensorProto.FLOAT):
    """A network from x to y. Constants are arrays by name."""
    sizes = [f"n{n}" if size is None else size for n, size in enumerate(shape)]
    graph = helper.make_graph(
        list(nodes),
        "network",
        [helper.make_tensor_value_info("x", kind, sizes)],
        [helper.make_tensor_value_info(name, kind, None) for name in outputs],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in (constants or {}).items()],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)])
    made.ir_version = _IR if opset <= 18 else 10
    made = onnx.shape_inference.infer_shapes(made)
    for output in made.graph.output:
        if not output.type.tensor_type.HasField("shape"):
            output.type.tensor_type.shape.CopyFrom(made.graph.input[0].type.tensor_type.shape)
            for n, each in enumerate(output.type.tensor_type.shape.dim):
                each.dim_param = f"m{n}"
    return made


def saved(path, *parts, **options):
    onnx.save(model(*parts, **options), path)
    return path
