"""Writes the model repository into an artifact's folder."""

from pathlib import Path
from typing import Any

from propetl.export.transformers_layout import add_file
from propetl.export.triton_repository.config_text import config_text
from propetl.export.triton_repository.models import ServedModel, served_models
from propetl.files import file_record
from propetl.runtime.manifest import Manifest

FOLDER = "triton"
_VERSION = "1"
_NOTE = "note.txt"
_NOTHING_HERE = (
    "This model is an ensemble and has no files of its own. Triton wants a folder for its version all the same, "
    "and git and object stores keep none that is empty.\n"
)

Records = dict[str, dict[str, Any]]


def add_repository(artifact: Path, manifest: Manifest, max_batch: int, standalone: bool) -> Records:
    """Writes the folder ``triton`` below ``artifact``.

    Args:
        artifact: a folder that holds the files of ``manifest``.
        manifest: what is served.
        max_batch: rows that Triton puts into one batch at most.
        standalone: copy graphs, weights and tokenizer instead of linking them.

    Returns:
        Records of the files written, by their path below ``artifact``.
    """
    records: Records = {}
    for model in served_models(manifest, max_batch):
        records |= _write(artifact, model, manifest.files, standalone)
    return records


def _write(artifact: Path, model: ServedModel, known: Records, standalone: bool) -> Records:
    folder = artifact / FOLDER / model.name
    version = folder / _VERSION
    version.mkdir(parents=True)
    (folder / "config.pbtxt").write_text(config_text(model.config), "utf-8")
    written = [folder / "config.pbtxt"]
    contents = model.contents if model.contents or model.links else {_NOTE: _NOTHING_HERE.encode()}
    for name, content in contents.items():
        (version / name).write_bytes(content)
        written.append(version / name)
    records = {path.relative_to(artifact).as_posix(): file_record(path) for path in written}
    for name, source in model.links.items():
        add_file(artifact / source, version / name, standalone)
        records[(version / name).relative_to(artifact).as_posix()] = known[source]
    return records
