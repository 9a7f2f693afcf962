"""The compiler: from a bundle to ONNX graphs and an artifact."""

# The folder stands at the top of the repository, where a bare import would find it under its own name.
if __name__ != "propetl.export":
    raise ImportError(f"import 'propetl.export', not {__name__!r}")
