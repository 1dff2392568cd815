"""Networks in ONNX: read as data and computed here with a gradient, or by onnxruntime without one."""
