"""Engines of TensorRT and TensorRT for RTX, built from the artifact's ONNX graphs, where possible without a GPU."""
