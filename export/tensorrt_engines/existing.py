"""Engines for an artifact that is there: what a device does with one that was exported elsewhere.

It needs neither PyTorch nor the bundle.
"""

import os
from dataclasses import replace
from pathlib import Path

from propetl.export.tensorrt_engines.build_progress import Progress
from propetl.export.tensorrt_engines.engines import ENGINES_FOLDER, Report, build_engines, builders_of
from propetl.export.tensorrt_engines.options import TensorRTOptions
from propetl.export.tensorrt_engines.requirements import Graphs, check_graphs
from propetl.files import flush, folder_records, json_bytes, make_folder, write_atomically
from propetl.runtime.artifact import read_artifact
from propetl.runtime.engine_records import EngineInfo
from propetl.runtime.manifest import MANIFEST, Manifest
from propetl.sealed import FILES, sealed
from propetl.staging import scratch_folder


def add_engines(path: Path, options: TensorRTOptions, report: Report, progress: Progress) -> Manifest:
    """Builds engines from the graphs of the artifact in folder ``path`` and adds them to it.

    One of the same graph, target and precision is replaced. If the process is killed, the artifact is whole: with the
    engines it had, with the new ones, or for a moment without those that are being replaced.

    Args:
        path: folder of the artifact.
        options: what to build.
        report: called with a line about each step; lines of detail start with two blanks.
        progress: called while an engine is built.

    Raises:
        ArtifactError: the artifact is damaged.
        ConfigurationError: its graphs are not such as engines can be built from, or the folder cannot be written.
        BackendError: an engine that cannot be built here.
    """
    report("checking the artifact")
    artifact = read_artifact(path)
    check_graphs(options, Graphs.of(artifact.manifest))
    builders = builders_of(options)
    with scratch_folder(path / ENGINES_FOLDER) as staging:
        built = build_engines(artifact, staging, builders, report, progress)
        return _merged(path, staging, artifact.manifest, built)


def _merged(path: Path, staging: Path, manifest: Manifest, built: tuple[EngineInfo, ...]) -> Manifest:
    """Moves the files of ``staging`` into the artifact; the manifest never lists a file that is not as it says."""
    records = folder_records(staging)
    kept = tuple(engine for engine in manifest.engines if not set(engine.files) & records.keys())
    others = {name: record for name, record in manifest.files.items() if name not in records}
    if len(others) < len(manifest.files):
        _write_manifest(path, replace(manifest, engines=kept, files=others))
    for name in records:
        make_folder((path / name).parent)
        flush(staging / name)
        os.replace(staging / name, path / name)
        flush((path / name).parent)
    merged = replace(manifest, engines=(*kept, *built), files=dict(sorted((others | records).items())))
    _write_manifest(path, merged)
    return merged


def _write_manifest(path: Path, manifest: Manifest) -> None:
    write_atomically(path / MANIFEST, json_bytes(sealed(manifest.to_json(), FILES)))
