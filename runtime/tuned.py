"""Graphs that ONNX Runtime optimised on this device, with weights packed for its CPU: the folder ``tuned/``.

They stand beside the artifact's own graphs, which any device can run, and are used only where they were made:
with the same ONNX Runtime, on a CPU with the same features, from the same ``artifact.json``.

Hashes lead from the artifact to every byte that is run: ``tuned.json`` names ``artifact.json`` by its hash, every file
beside it by its own, and itself by a hash over all that. They find damage and mistakes; who may write the folder may
also write hashes, as in the artifact itself.
"""

import hashlib
import logging
import platform
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from propetl import fields
from propetl.bundle.format import check_format
from propetl.errors import ArtifactError
from propetl.files import check_paths_inside, read_json, records_of, sha256_of_bytes, verify_bytes, whole_file
from propetl.runtime.external_data import check_external_data
from propetl.runtime.manifest import MANIFEST, TUNED
from propetl.sealed import sealed, unsealed

FORMAT, VERSION = "propetl-tuned", 2
TUNED_MANIFEST = "tuned.json"
PACKED_FILE = "packed.data"

_KEYS = ("device", "artifact_sha256", "graphs", "files")
_REMEDY = f"remove the folder {TUNED} and run propetl tune"

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class Device:
    """What a tuned graph depends on.

    Attributes:
        onnxruntime: its version.
        machine: such as ``x86_64``.
        cpu: SHA-256 over the CPU's features, as the system names them.
    """

    onnxruntime: str
    machine: str
    cpu: str

    @classmethod
    def from_json(cls, value: Any) -> "Device":
        """Inverse of ``dataclasses.asdict``."""
        found = fields.record(value, "device", cls.__dataclass_fields__)
        return cls(**fields.each(fields.text, found, "device"))

    def difference(self, here: "Device") -> str | None:
        """What is another ``here``, in words; None if nothing is."""
        for name in ("onnxruntime", "machine"):
            made, found = getattr(self, name), getattr(here, name)
            if made != found:
                return f"{name} was {made} and is {found}"
        return None if self.cpu == here.cpu else "the CPU has other features"


def this_device(onnxruntime: str) -> Device:
    """The device that this process runs on, with ``onnxruntime`` of that version."""
    return Device(onnxruntime, platform.machine(), hashlib.sha256(_cpu_features().encode()).hexdigest())


def _cpu_features() -> str:
    """Linux lists them; elsewhere the processor's name has to do."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    found = [line.partition(":")[2].split() for line in lines if line.startswith(("flags", "Features"))]
    return " ".join(sorted(found[0])) if found else platform.processor()


@dataclass(frozen=True)
class TunedGraph:
    """One tuned graph.

    Attributes:
        path: of the ONNX file, inside ``tuned/``: that of the artifact's own graph.
        weights: folder of its packed weights, inside ``tuned/``; graphs with the same weights name the same.
    """

    path: str
    weights: str

    @classmethod
    def from_json(cls, value: Any, key: str, path: str) -> "TunedGraph":
        """The record of the tuned graph for the artifact's graph at ``path``; ``key`` names it in errors."""
        graph = cls(**fields.each(fields.text, fields.record(value, key, cls.__dataclass_fields__), key))
        if graph.path != path:
            raise ValueError(f"the tuned graph of {path} stands at {graph.path}")
        return graph


@dataclass(frozen=True)
class Tuned:
    """``tuned/tuned.json``.

    Attributes:
        root: the folder ``tuned``.
        device: that it was made on.
        artifact_sha256: of the ``artifact.json`` that it was made from.
        graphs: by path of the artifact's own graph.
        files: size and SHA-256 of every file by path.
    """

    root: Path
    device: Device
    artifact_sha256: str
    graphs: dict[str, TunedGraph]
    files: dict[str, dict[str, Any]]

    def to_json(self) -> dict[str, Any]:
        """As written."""
        return sealed(
            {
                "format": FORMAT,
                "version": VERSION,
                "device": asdict(self.device),
                "artifact_sha256": self.artifact_sha256,
                "graphs": {path: asdict(graph) for path, graph in self.graphs.items()},
                "files": self.files,
            }
        )

    @property
    def weights(self) -> tuple[str, ...]:
        """Files of packed weights."""
        return tuple(dict.fromkeys(map(self.weights_of, self.graphs)))

    def weights_of(self, graph: str) -> str:
        """The file of packed weights of the artifact's graph at path ``graph``."""
        return f"{self.graphs[graph].weights}/{PACKED_FILE}"

    def graph_bytes(self, graph: str, hashing: bool) -> bytes:
        """The tuned ONNX file for the artifact's graph at path ``graph``, hashed if that is asked for.

        Raises:
            ArtifactError: it is missing or damaged, or takes weights from another file than its own.
        """
        path = self.graphs[graph].path
        try:
            content = whole_file(str(self.root / path))
        except OSError as error:
            raise ArtifactError(f"{self.root}: {path} cannot be read ({error.strerror}); {_REMEDY}") from error
        if hashing:
            verify_bytes(content, self.files[path], self.root, path, ArtifactError)
        check_external_data(content, PACKED_FILE, str(self.root / path))
        return content

    def is_of(self, artifact: Path) -> bool:
        """Whether these graphs were made from the artifact in folder ``artifact`` as it is now."""
        return self.artifact_sha256 == sha256_of_bytes((artifact / MANIFEST).read_bytes())

    def mismatch(self, artifact: Path, here: Device) -> str | None:
        """Why these graphs are not for ``artifact`` on the device ``here``; None if they are."""
        if not self.is_of(artifact):
            return "they were made from another artifact.json"
        return self.device.difference(here)


def read_tuned(artifact: Path) -> Tuned | None:
    """What stands in ``tuned/`` of the artifact's folder; None if nothing does.

    Raises:
        ArtifactError: it is damaged, or names files outside the folder.
    """
    root = artifact / TUNED
    file = root / TUNED_MANIFEST
    if not file.is_file():
        return None
    value = read_json(file, "tuned graphs", ArtifactError)
    check_format(value, FORMAT, VERSION, str(file), ArtifactError, _REMEDY)
    try:
        tuned = _parsed(root, unsealed(value, str(file), ArtifactError, remedy=_REMEDY))
    except ValueError as error:
        raise ArtifactError(f"{file}: not a valid manifest ({error}); {_REMEDY}") from error
    check_paths_inside(artifact, (f"{TUNED}/{TUNED_MANIFEST}",), ArtifactError)
    check_paths_inside(root, tuned.files, ArtifactError)
    return tuned


def _parsed(root: Path, value: dict[str, Any]) -> Tuned:
    said = fields.record(value, "manifest", ("format", "version", *_KEYS))
    graphs = {
        path: TunedGraph.from_json(item, f"graphs.{path}", path)
        for path, item in fields.entries(said["graphs"], "graphs").items()
    }
    made_from = fields.text(said["artifact_sha256"], "artifact_sha256")
    tuned = Tuned(root, Device.from_json(said["device"]), made_from, graphs, records_of(said["files"]))
    for name in (*(graph.path for graph in graphs.values()), *tuned.weights):
        if name not in tuned.files:
            raise ValueError(f"{name} is not among its files")
    return tuned


def tuned_for_this_device(artifact: Path, version: str) -> Tuned | None:
    """Tuned graphs of ``artifact`` that ONNX Runtime ``version`` may run here; the log says why others are not.

    Raises:
        ArtifactError: what is there is damaged.
    """
    tuned = read_tuned(artifact)
    if tuned is None:
        return None
    reason = tuned.mismatch(artifact, this_device(version))
    if reason is not None:
        _LOG.warning("%s: its tuned graphs are not used: %s; run propetl tune again", artifact, reason)
        return None
    return tuned
