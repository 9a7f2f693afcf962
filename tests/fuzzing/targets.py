"""What is damaged and how it is read, while the hashes are those of the undamaged files: no change may be accepted."""

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random
from typing import Any

from propetl.bundle import read_bundle, read_pack
from propetl.bundle.format import MANIFEST as BUNDLE_MANIFEST
from propetl.bundle.reader import read_info
from propetl.runtime.artifact import read_artifact, read_manifest
from propetl.runtime.manifest import MANIFEST, TUNED
from propetl.runtime.tuned import TUNED_MANIFEST, read_tuned
from tests.fuzzing.files import TASK, Files
from tests.fuzzing.mutate import damaged, damaged_json
from tests.fuzzing.mutate_files import damaged_graph, damaged_tensors


@dataclass(frozen=True)
class Target:
    """One kind of file, damaged and read in one way.

    Attributes:
        name: for reports.
        share: how many of some thousand mutants are of this kind.
        kept: whether hashes are those of the undamaged file. Where they are, a mutant that is accepted has to mean what
            the file did; where they were made anew, it may mean anything.
        mutant: draws a damaged file: its bytes, or its path and its bytes.
        meaning: what the program makes of a mutant, as something that can be compared; or a ProPETLError.
        original: what stands for the undamaged file.
    """

    name: str
    share: int
    kept: bool
    mutant: Callable[[Random], Any]
    meaning: Callable[[Any], Any]
    original: Any


def kept_targets(files: Files) -> list[Target]:
    """All targets whose hashes are left as they are."""
    pack = files.artifact / f"tasks/{TASK}.safetensors"
    return [
        _single(files, "pack", 150, pack, damaged_tensors, lambda: _of_pack(pack)),
        _single(files, "artifact.json", 150, files.artifact / MANIFEST, json_or_bytes, lambda: _of_artifact(files)),
        _single(files, "bundle.json", 100, files.bundle / BUNDLE_MANIFEST, json_or_bytes, lambda: _of_bundle(files)),
        _single(
            files, "tuned.json", 80, files.artifact / TUNED / TUNED_MANIFEST, json_or_bytes, lambda: _of_tuned(files)
        ),
        _any_of(files, "files of a bundle", 60, files.bundle, lambda: read_bundle(files.bundle)),
        _any_of(files, "files of an artifact", 60, files.artifact, lambda: read_artifact(files.artifact)),
        _session(files),
    ]


def json_or_bytes(content: bytes, random: Random) -> bytes:
    """A JSON file, changed as what it says or as bytes."""
    if random.random() < 0.4:
        return damaged(content, random)
    return damaged_json(json.loads(content), random).encode("utf-8", "surrogatepass")


def damaged_file(path: Path, content: bytes, random: Random) -> bytes:
    """Any file, changed as befits its kind."""
    by_kind = {".safetensors": damaged_tensors, ".json": json_or_bytes, ".onnx": damaged_graph}
    return by_kind.get(path.suffix, damaged)(content, random)


def _single(
    files: Files,
    name: str,
    share: int,
    path: Path,
    damage: Callable[[bytes, Random], bytes],
    read: Callable[[], Any],
) -> Target:
    original = files.original(path)
    return Target(
        f"{name}, hashes kept",
        share,
        True,
        lambda random: damage(original, random),
        lambda mutant: files.reading(path, mutant, read),
        original,
    )


def _any_of(files: Files, name: str, share: int, folder: Path, read: Callable[[], Any]) -> Target:
    """Any file that the manifest of ``folder`` lists, each as likely; it is hashed, so only its own bytes will do."""

    def meaning(mutant: tuple[Path, bytes]) -> bool:
        path, content = mutant
        files.reading(path, content, read)
        return content == files.original(path)

    paths = _listed(folder)
    return Target(f"{name}, hashes kept", share, True, _draw(files, paths), meaning, (paths[0], paths[0].read_bytes()))


def _session(files: Files) -> Target:
    """A session over any file of the artifact's folder, tuned graphs among them: its answers are what they were."""
    paths = sorted(path for path in files.artifact.rglob("*") if path.is_file())
    manifest = files.artifact / MANIFEST
    return Target(
        "session, hashes kept",
        40,
        True,
        _draw(files, paths),
        lambda mutant: files.reading(mutant[0], mutant[1], files.answers),
        (manifest, files.original(manifest)),
    )


def _draw(files: Files, paths: list[Path]) -> Callable[[Random], tuple[Path, bytes]]:
    def draw(random: Random) -> tuple[Path, bytes]:
        path = random.choice(paths)
        return path, damaged_file(path, files.original(path), random)

    return draw


def _listed(folder: Path) -> list[Path]:
    (manifest,) = [folder / name for name in (MANIFEST, BUNDLE_MANIFEST) if (folder / name).is_file()]
    return [folder / name for name in sorted(json.loads(manifest.read_bytes())["files"])]


def _of_pack(path: Path) -> Any:
    pack = read_pack(path)
    tensors = {name: (tensor.dtype, tensor.shape, tensor.tobytes()) for name, tensor in pack.tensors().items()}
    return pack.task, pack.info, pack.prototype_sha256, pack.backbone_fingerprint, tensors


def _of_artifact(files: Files) -> Any:
    """Records of files are left out: each is held against its file, or is of a file that is not read."""
    return replace(read_manifest(files.artifact).manifest, files={})


def _of_bundle(files: Files) -> Any:
    return replace(read_info(files.bundle), files={})


def _of_tuned(files: Files) -> Any:
    """A tuning that is not there is passed over, and so the same answers come from the artifact's own graphs."""
    return read_tuned(files.artifact)
