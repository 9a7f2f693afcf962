"""Packages that an export needs: checked before a file is read or a weight is loaded."""

from collections.abc import Iterator

from propetl.export.options import INT8_STATIC, ONNX_ADAPTER, ExportOptions
from propetl.export.quantisation_loss import is_measured
from propetl.extras import check_installed


def check_needed(options: ExportOptions) -> None:
    """Looks for every library that ``options`` will ask for.

    Raises:
        MissingExtraError: naming the option, and the line that installs what it needs.
    """
    if options.polygraphy:
        check_installed("--polygraphy", "polygraphy", "polygraphy")
    for option in _run_here(options):
        check_installed(option, "onnxruntime", "cpu")


def _run_here(options: ExportOptions) -> Iterator[str]:
    """Options for which graphs are run, or files of ONNX Runtime are written, where the export runs."""
    if options.quantize == INT8_STATIC or is_measured(options):
        yield f"--quantize {options.quantize}"
    if options.tune:
        yield "--tune cpu"
    if ONNX_ADAPTER in options.forms:
        yield f"form {ONNX_ADAPTER}"
