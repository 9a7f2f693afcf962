"""What a manifest says of engines, and what readers refuse."""

import dataclasses
import json

import pytest

from propetl.errors import ArtifactError
from propetl.files import json_bytes
from propetl.runtime.artifact import read_artifact
from propetl.runtime.engine_records import EngineInfo, Profile
from propetl.runtime.manifest import MANIFEST
from propetl.sealed import FILES, sealed

FOLDED = EngineInfo(
    path="engines/folded/mood/tensorrt-rtx-fp16.plan",
    form="folded",
    task="mood",
    part="model",
    target="tensorrt-rtx",
    version="1.7.1.116",
    compute_capabilities=(86, 120),
    precision="fp16",
    profiles=(Profile({"batch": (1, 1, 8), "sequence": (1, 16, 32)}),),
    workspace_bytes=1 << 20,
    build_seconds=1.5,
)


@pytest.fixture
def write(own_tiny):
    """Writes engines into the manifest, and the files that they name."""

    def write(*engines, **keys):
        source = own_tiny.path / MANIFEST
        value = json.loads(source.read_text())
        value["engines"] = [engine.to_json() | keys for engine in engines]
        for path in (path for engine in engines for path in engine.files):
            value["files"].setdefault(path, {"sha256": "", "bytes": 0})
        source.write_bytes(json_bytes(sealed(value, FILES)))
        return read_artifact(own_tiny.path, verify=False)

    return write


def test_they_are_read_as_they_were_written(write):
    artifact = write(FOLDED)
    assert artifact.manifest.engines == (FOLDED,)
    assert EngineInfo.from_json(json.loads(json.dumps(FOLDED.to_json()))) == FOLDED


def test_a_profile_holds_sizes():
    (profile,) = FOLDED.profiles
    assert profile.holds(batch=8, sequence=32) and profile.holds(batch=1)
    assert not profile.holds(batch=9, sequence=32) and not profile.holds(batch=1, sequence=33)
    assert str(profile) == "batch 1/1/8, sequence 1/16/32"


def test_files_are_all_that_it_needs():
    refittable = dataclasses.replace(FOLDED, task=None, weights_graph="g.onnx", refits={"mood": "a", "topic": "b"})
    assert refittable.files == (FOLDED.path, "g.onnx", "a", "b")


def test_a_plan_that_serves_several_tasks_by_refitting(write):
    engine = dataclasses.replace(FOLDED, task=None, refits={"mood": "m.safetensors", "topic": "t.safetensors"})
    assert write(engine).manifest.engines == (engine,)
    unknown = dataclasses.replace(engine, refits={"mood": "m.safetensors", "weather": "t.safetensors"})
    with pytest.raises(ArtifactError, match="the artifact has no graph folded"):
        write(unknown)


@pytest.mark.parametrize(
    ("words", "keys"),
    [
        ("target 'tensorrt-llm' is not known", {"target": "tensorrt-llm"}),
        ("precision 'fp8' is not known", {"precision": "fp8"}),
        ("the artifact has no graph bend/mood", {"form": "bend"}),
        ("the artifact has no graph folded/weather", {"task": "weather"}),
        ("the artifact has no graph folded;", {"task": None}),
        ("the artifact has no graph bank/mood", {"form": "bank"}),
        ("the artifact has no graph folded/mood/encoder", {"part": "encoder"}),
        ("engines/no.plan is not among the artifact's files", {"path": "engines/no.plan"}),
        ("it has no profile", {"profiles": []}),
        ("its profile is of batch; expected batch, sequence", {"profiles": [{"batch": [1, 1, 1]}]}),
        ("expected smallest, best and largest", {"profiles": [{"batch": [2, 1, 3], "sequence": [1, 1, 1]}]}),
        ("expected smallest, best and largest", {"profiles": [{"batch": [0, 1, 3], "sequence": [1, 1, 1]}]}),
        ("expected smallest, best and largest", {"profiles": [{"batch": [True, 1, 3], "sequence": [1, 1, 1]}]}),
        ("compute_capabilities is", {"compute_capabilities": []}),
        ("compute_capabilities is", {"compute_capabilities": ["8.6"]}),
    ],
)
def test_records_that_do_not_fit(write, words, keys):
    with pytest.raises(ArtifactError, match=words):
        write(FOLDED, **keys)


def test_a_switchable_engine_needs_a_range_of_labels(write):
    engine = dataclasses.replace(FOLDED, form="switchable", task=None)
    with pytest.raises(ArtifactError, match="expected batch, labels, sequence"):
        write(engine)
    (profile,) = engine.profiles
    wide = Profile({**profile.sizes, "labels": (1, 3, 32)})
    assert write(dataclasses.replace(engine, profiles=(wide,))).manifest.engines[0].profiles == (wide,)


def test_a_stage_that_the_artifact_does_not_have(write, own_tiny):
    profile = Profile({"rows": (1, 1, 1), "labels": (1, 2, 8)})
    with pytest.raises(ArtifactError, match="the artifact has no graph stages/apply"):
        write(dataclasses.replace(FOLDED, form="stages", task=None, part="apply", profiles=(profile,)))


def test_the_past_alone_may_be_empty():
    assert Profile.from_json({"past": [0, 0, 4]}).sizes["past"] == (0, 0, 4)
    with pytest.raises(ValueError, match="rising from 0"):
        Profile.from_json({"past": [-1, 0, 4]})


def test_two_engines_in_one_file(write):
    with pytest.raises(ArtifactError, match="is listed twice"):
        write(FOLDED, FOLDED)


def test_every_key_is_needed(write):
    for key in FOLDED.to_json():
        value = {name: item for name, item in FOLDED.to_json().items() if name != key}
        with pytest.raises(ValueError, match=f"has no key '{key}'"):
            EngineInfo.from_json(value)


def test_an_engine_is_hashed_like_any_file(write, own_tiny):
    write(FOLDED)
    with pytest.raises(ArtifactError, match=r"fp16\.plan is missing"):
        read_artifact(own_tiny.path)
