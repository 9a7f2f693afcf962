"""Damage behind the hashes: they are made anew, so that what reads the content meets it."""

import io
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import numpy as np

from propetl.bundle import read_bundle
from propetl.bundle.format import MANIFEST as BUNDLE_MANIFEST
from propetl.bundle.pack import content_sha256
from propetl.bundle.tensors import tensor_bytes, tensors_of
from propetl.errors import ArtifactError, BundleError
from propetl.files import json_bytes, read_json
from propetl.runtime import Session
from propetl.runtime.artifact import read_manifest
from propetl.runtime.engine_records import EngineInfo, Profile
from propetl.runtime.engines import EngineOptions, load_engine
from propetl.runtime.generation.info import GenerationInfo
from propetl.runtime.generation.options import SpecialTokens
from propetl.runtime.golden import read_golden
from propetl.runtime.jsonl import answers
from propetl.runtime.losses import Loss
from propetl.runtime.manifest import GOLDEN_FILE, MANIFEST, TOKENIZER_FILE, TUNED, Manifest
from propetl.runtime.tokenise import Tokeniser
from propetl.runtime.triton_server.settings import SETTINGS, Settings
from propetl.runtime.tuned import TUNED_MANIFEST
from propetl.sealed import CONTENT_SHA256, FILES, sealed
from tests.fuzzing.files import GRAPH, TASK, Files
from tests.fuzzing.mutate import damaged, damaged_json
from tests.fuzzing.mutate_files import damaged_graph, damaged_tensors
from tests.fuzzing.targets import Target, json_or_bytes
from tests.runtime.tiny_artifact import MAX_LENGTH, ROWS
from tests.runtime.tiny_tokenizer import INPUTS, token_ids

LINES = b"".join(
    json.dumps(line).encode() + b"\n"
    for line in (
        {"text": "good film"},
        {"text": "sun wind", "task": "topic", "id": 7, "more": {"a": [1.5, None]}},
        {"text": "a b", "text_pair": "b", "task": "entails"},
        {"text": "bad \u00e4\U0001f600"},
    )
)


def rewritten_targets(files: Files) -> list[Target]:
    """All targets whose hashes are made anew, or that have none."""
    session = Session.open(files.artifact, form="switchable", threads=1)
    manifest, bundle = files.artifact / MANIFEST, files.bundle / BUNDLE_MANIFEST
    tuned, golden = files.artifact / TUNED / TUNED_MANIFEST, files.artifact / GOLDEN_FILE
    settings, tokenizer = files.served / SETTINGS, files.artifact / TOKENIZER_FILE
    return [
        _pack(files, session),
        _header(files),
        _target(files, "artifact.json", 40, manifest, _resealed(FILES), files.answers),
        _whole_manifest(files, manifest),
        _target(files, "bundle.json", 40, bundle, _resealed(FILES), lambda: read_bundle(files.bundle).info),
        _target(files, "tuned.json", 30, tuned, _resealed(None), files.answers),
        _target(files, "golden", 50, golden, damaged_tensors, lambda: read_golden(golden, TASK, INPUTS).logits),
        _target(files, "propetl.json", 40, settings, json_or_bytes, lambda: Settings.read(files.served)),
        _target(files, "tokenizer.json", 40, tokenizer, json_or_bytes, lambda: _tokenised(tokenizer)),
        Target("JSONL", 60, False, _lines, lambda lines: _answered(session, lines), LINES),
        _graph(files, manifest),
    ]


def _target(
    files: Files,
    name: str,
    share: int,
    path: Path,
    damage: Callable[[bytes, Random], bytes],
    read: Callable[[], Any],
) -> Target:
    original = files.original(path)
    return Target(
        name,
        share,
        False,
        lambda random: damage(original, random),
        lambda mutant: files.reading(path, mutant, read),
        original,
    )


def _resealed(apart: str | None) -> Callable[[bytes, Random], bytes]:
    """Damage to a manifest that holds a hash over itself; what is no JSON any more keeps the hash it has."""

    def damage(content: bytes, random: Random) -> bytes:
        text = damaged_json(json.loads(content), random)
        try:
            value = json.loads(text)
            return json_bytes(sealed(value, apart)) if isinstance(value, dict) else text.encode()
        except (ValueError, RecursionError):
            return text.encode("utf-8", "surrogatepass")

    return damage


def _whole_manifest(files: Files, manifest: Path) -> Target:
    """A manifest with what few artifacts have: engines, losses, and how a backbone generates. It is only parsed."""
    engine = EngineInfo(
        path="engines/model.plan",
        form="folded",
        task=TASK,
        part="model",
        target="tensorrt",
        version="10.0",
        compute_capabilities=(86,),
        precision="fp16",
        profiles=(Profile({"batch": (1, 1, 8), "sequence": (1, 16, 32)}),),
        refits={"mood": "refit.safetensors"},
    )
    whole = replace(
        read_manifest(files.artifact).manifest,
        engines=(engine,),
        losses=(Loss(TASK, "folded", 8, 1.0, "accuracy", 0.5, 0.5),),
        generation=GenerationInfo("encoder-decoder", 32, 2, 2, 4, SpecialTokens(0, (1,), 0)),
    )
    original = json_bytes(whole.to_json())
    return Target(
        "artifact.json with engines",
        60,
        False,
        lambda random: json_or_bytes(original, random),
        lambda mutant: files.reading(manifest, mutant, lambda: _parsed(manifest)),
        original,
    )


def _parsed(manifest: Path) -> Manifest:
    return Manifest.from_json(read_json(manifest, "artifact", ArtifactError), str(manifest))


def _pack(files: Files, session: Session) -> Target:
    """A pack whose content fits its hash, added to a running session, and run."""
    path = files.artifact.parent / "added.safetensors"
    path.write_bytes(replace(files.tiny.packs[TASK], task="added").to_bytes())
    original = files.original(path)

    def damage(random: Random) -> bytes:
        try:
            found, described = tensors_of(damaged_tensors(original, random), "mutant")
            described.pop(CONTENT_SHA256, None)
            return tensor_bytes(found, described | {CONTENT_SHA256: content_sha256(found, described)})
        except (BundleError, TypeError, ValueError, AttributeError, RecursionError):
            return damaged(original, random)

    def added() -> Any:
        task = session.add_task(path)
        try:
            return session.predict(task, ROWS[TASK] if len(session.task(task).columns) == 1 else ROWS["entails"])
        finally:
            session.remove_task(task)

    return Target("pack", 40, False, damage, lambda mutant: files.reading(path, mutant, added), original)


def _header(files: Files) -> Target:
    original = files.original(files.artifact / f"tasks/{TASK}.safetensors")
    return Target(
        "safetensors header",
        100,
        False,
        lambda random: damaged_tensors(original, random),
        lambda mutant: len(tensors_of(mutant, "mutant")[0]),
        original,
    )


def _graph(files: Files, manifest: Path) -> Target:
    """A graph of ONNX Runtime's, loaded by its signature and run."""
    path = files.artifact / GRAPH
    original, feeds = files.original(path), token_ids(ROWS[TASK])

    def run() -> Any:
        artifact = read_manifest(files.artifact, hashing=True)
        info = artifact.manifest.forms["folded"].graphs[TASK]
        engine = load_engine(artifact, info, EngineOptions("cpu", 1, memory="small"))
        return engine.run(feeds, engine.prepare({}))

    return Target(
        "ONNX graph",
        40,
        False,
        lambda random: damaged_graph(original, random),
        lambda mutant: files.reading(path, mutant, run, manifest),
        original,
    )


def _tokenised(path: Path) -> Any:
    tokeniser = Tokeniser(path, MAX_LENGTH, 0, INPUTS)
    rows = tokeniser.rows(["good film a", ("a b", "c"), "x" * 100, "\0 \u00e4 [SEP]"], [True, False, False, True])
    padded = tokeniser.pad(rows)
    return [padded["input_ids"].tolist(), tokeniser.decode(np.array([2, 5, 99999]))]


def _lines(random: Random) -> bytes:
    lines = LINES.splitlines(keepends=True)
    index = random.randrange(len(lines))
    changed = json_or_bytes(lines[index], random)
    lines[index] = changed if changed.endswith(b"\n") or random.random() < 0.2 else changed + b"\n"
    return b"".join(lines) if random.random() < 0.9 else damaged(LINES, random)


def _answered(session: Session, lines: bytes) -> int:
    return sum(len(group) for group in answers(io.BytesIO(lines), session, TASK, "rows.jsonl", 2000))
