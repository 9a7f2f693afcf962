"""From a checkpoint of the reference implementation to a bundle."""

from collections.abc import Callable
from pathlib import Path

from propetl.bundle.writer import write_bundle
from propetl.errors import BundleError
from propetl.reference_import.encoder import convert_encoder
from propetl.reference_import.options import Imported, ImportOptions
from propetl.reference_import.t5 import convert_t5
from propetl.reference_import.t5_weights import WEIGHTS_FILE

# Tensors and settings of kinds and shapes that the layout does not have: nobody vetted the files.
_UNEXPECTED = (TypeError, ValueError, KeyError, IndexError, AttributeError, RuntimeError, OverflowError)

Report = Callable[[str], None]


def import_checkpoint(path: Path, output: Path, options: ImportOptions, report: Report = lambda line: None) -> Imported:
    """Writes the bundle of the checkpoint at ``path``; it appears whole at ``output`` or not at all.

    Args:
        path: an encoder's folder with ``adapter_config.json``, or the run folder around it; or T5's
            ``propetl_weight.bin``, or its folder.
        output: folder of the bundle.
        options: what the checkpoint does not say.
        report: called with a line about each step.

    Raises:
        BundleError: a file is missing or damaged, or holds what cannot be imported.
        ConfigurationError: the backbone cannot be loaded, an option is missing, or ``output`` exists.
        TaskError: a name in it cannot be a task's.
    """
    report("reading and converting the checkpoint")
    weights = path / WEIGHTS_FILE if path.is_dir() else path
    is_t5 = weights.is_file() and weights.name == WEIGHTS_FILE
    try:
        converted = convert_t5(weights, options) if is_t5 else convert_encoder(path, options)
    except _UNEXPECTED as error:
        reason = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
        raise BundleError(f"{path}: it is not of the layout that the reference's code writes ({reason})") from error
    report("writing the bundle")
    info = write_bundle(output, converted.contents, overwrite=options.overwrite)
    return Imported(info, converted.not_mapped, converted.assumed)
