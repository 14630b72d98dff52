"""ONNX files: load, follow time and batch through reshapes, one node a layer."""
