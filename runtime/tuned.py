"""Graphs that ONNX Runtime optimised on this device, with weights packed for its CPU: the folder ``tuned/``.

They stand beside the artifact's own graphs, which any device can run, and are used only where they were made:
with the same ONNX Runtime, on a CPU with the same features, from the same ``artifact.json``.
"""

import hashlib
import logging
import platform
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from propetl.bundle.format import check_format
from propetl.errors import ArtifactError
from propetl.files import path_inside, read_json, sha256_of_bytes, verify_files
from propetl.runtime.manifest import MANIFEST, TUNED

FORMAT, VERSION = "propetl-tuned", 1
TUNED_MANIFEST = "tuned.json"
PACKED_FILE = "packed.data"

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
        path: of the ONNX file, inside ``tuned/``.
        weights: folder of its packed weights, inside ``tuned/``; graphs with the same weights name the same.
    """

    path: str
    weights: str


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
        return {
            "format": FORMAT,
            "version": VERSION,
            "device": asdict(self.device),
            "artifact_sha256": self.artifact_sha256,
            "graphs": {path: asdict(graph) for path, graph in self.graphs.items()},
            "files": self.files,
        }

    def mismatch(self, artifact: Path, here: Device) -> str | None:
        """Why these graphs are not for ``artifact`` on the device ``here``; None if they are."""
        if self.artifact_sha256 != sha256_of_bytes((artifact / MANIFEST).read_bytes()):
            return "they were made from another artifact.json"
        return self.device.difference(here)

    def verify(self) -> None:
        """Hashes every file.

        Raises:
            ArtifactError: naming the file that was changed.
        """
        verify_files(self.root, self.files, ArtifactError)


def read_tuned(artifact: Path) -> Tuned | None:
    """What stands in ``tuned/`` of the artifact's folder; None if nothing does.

    Raises:
        ArtifactError: it is damaged, or names files outside the folder.
    """
    root = artifact / TUNED
    if not (root / TUNED_MANIFEST).is_file():
        return None
    source = str(root / TUNED_MANIFEST)
    value = read_json(root / TUNED_MANIFEST, "tuned graphs", ArtifactError)
    check_format(value, FORMAT, VERSION, source, ArtifactError)
    try:
        graphs = {str(path): TunedGraph(**item) for path, item in value["graphs"].items()}
        tuned = Tuned(root, Device(**value["device"]), value["artifact_sha256"], graphs, dict(value["files"]))
    except (KeyError, TypeError, AttributeError) as error:
        raise ArtifactError(f"{source}: not a valid manifest ({error}); remove {root} and run propetl tune") from error
    for graph in graphs.values():
        for name in (graph.path, f"{graph.weights}/{PACKED_FILE}"):
            if name not in tuned.files:
                raise ArtifactError(f"{source}: {name} is not among its files; remove {root} and run propetl tune")
    for name in tuned.files:
        path_inside(root, name, ArtifactError)
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
