"""Configurations as Triton's own protobuf reads them, against the graphs that they describe."""

from dataclasses import replace

import onnx
import pytest
from onnx import TensorProto

from propetl.errors import ConfigurationError
from propetl.export.triton_repository.config_text import config_text
from propetl.export.triton_repository.models import served_models
from propetl.runtime.artifact import read_manifest
from propetl.runtime.engine_records import EngineInfo, Profile
from propetl.runtime.manifest import TensorSignature
from tests.export.triton_repository.client import read_configs
from tests.runtime.tiny_artifact import TASKS

pytestmark = pytest.mark.slow

TYPES = {"TYPE_INT64": TensorProto.INT64, "TYPE_FP32": TensorProto.FLOAT}
PARTS = ("tokenise", "model", "answer")


def sizes(value):
    """Sizes of a graph's input or output; -1 where a call chooses."""
    return [item.dim_value if item.HasField("dim_value") else -1 for item in value.type.tensor_type.shape.dim]


def dims(tensor):
    """What the model behind ``tensor`` is fed, without the batch."""
    stated = [int(size) for size in tensor["dims"]]
    return [int(size) for size in tensor["reshape"].get("shape", [])] if "reshape" in tensor else stated


def test_there_is_a_pipeline_for_the_bank_and_one_for_each_folded_task(configs):
    bank = {"propetl", *(f"propetl-{part}" for part in PARTS)}
    folded = {f"propetl-{part}-{task}" for part in ("task", *PARTS) for task in TASKS}
    assert set(configs) == bank | folded
    assert all(config["name"] == name and config["max_batch_size"] == 8 for name, config in configs.items())


def test_graphs_take_and_give_what_their_configurations_say(configs, served):
    names = [name for name in configs if name.startswith("propetl-model")]
    assert len(names) == 1 + len(TASKS)
    for name in names:
        path = served.path / "triton" / name / "1" / "model.onnx"
        graph = onnx.load(path, load_external_data=False).graph
        for stated, real in ((configs[name]["input"], graph.input), (configs[name]["output"], graph.output)):
            assert [item["name"] for item in stated] == [value.name for value in real]
            for item, value in zip(stated, real, strict=True):
                assert TYPES[item["data_type"]] == value.type.tensor_type.elem_type
                first, *rest = sizes(value)
                assert first == -1 and dims(item) == rest, (name, item)


def test_a_task_id_is_one_number_for_each_row(configs):
    (item,) = [item for item in configs["propetl-model"]["input"] if item["name"] == "task_id"]
    assert item["dims"] == ["1"] and item["reshape"] == {}


def test_the_bank_serves_all_tasks_and_is_batched_by_triton(configs):
    assert [item["name"] for item in configs["propetl"]["input"]] == ["task", "text"]
    assert configs["propetl-model"]["dynamic_batching"] == {"max_queue_delay_microseconds": "500"}
    assert configs["propetl-model"]["platform"] == "onnxruntime_onnx"
    assert [item["name"] for item in configs["propetl-task-mood"]["input"]] == ["text"]
    assert "task_id" not in {item["name"] for item in configs["propetl-model-mood"]["input"]}


def test_every_tensor_of_an_ensemble_is_made_by_one_step_and_fits_the_next(configs):
    for name in ("propetl", *(f"propetl-task-{task}" for task in TASKS)):
        config = configs[name]
        known = {item["name"]: item for item in config["input"]}
        for step in config["ensemble_scheduling"]["step"]:
            model = configs[step["model_name"]]
            wanted = {item["name"]: item for item in model["input"]}
            assert set(step["input_map"]) == set(wanted)
            for inner, outer in step["input_map"].items():
                assert (known[outer]["data_type"], known[outer]["dims"]) == (
                    wanted[inner]["data_type"],
                    wanted[inner]["dims"],
                )
            made = {item["name"]: item for item in model["output"]}
            assert set(step["output_map"]) == set(made)
            known |= {outer: made[inner] for inner, outer in step["output_map"].items()}
        for item in config["output"]:
            assert known[item["name"]]["dims"] == item["dims"]


def test_ensembles_are_not_batched_themselves(configs):
    ensembles = [config for config in configs.values() if config.get("platform") == "ensemble"]
    assert len(ensembles) == 1 + len(TASKS)
    assert not any("dynamic_batching" in config or "instance_group" in config for config in ensembles)


def plan(form, task, capabilities, path, rows=4, **changes):
    sizes = {"batch": (1, rows, rows), "sequence": (1, 8, 32)}
    engine = EngineInfo(
        path, form, task, "model", "tensorrt", "10.9", capabilities, "fp16", (Profile(sizes), Profile(sizes))
    )
    return replace(engine, **changes)


def test_engines_are_served_by_tensorrt(served, tmp_path, client_python):
    manifest = replace(
        read_manifest(served.path).manifest,
        engines=(
            plan("bank", None, (86,), "engines/bank_86.plan"),
            plan("bank", None, (89, 90), "engines/bank_89.plan"),
            plan("bank", None, (86,), "engines/bank_86_int8.plan", precision="int8"),
            plan("folded", "mood", (86,), "engines/rtx.plan", target="tensorrt-rtx"),
            plan("folded", "topic", (86,), "engines/stripped.plan", weights_graph="folded/topic/model.onnx"),
        ),
    )
    models = {model.name: model for model in served_models(manifest, 8)}
    assert models["propetl-model"].links == {
        "model_86.plan": "engines/bank_86.plan",
        "model_89.plan": "engines/bank_89.plan",
        "model_90.plan": "engines/bank_89.plan",
    }
    (tmp_path / "config.pbtxt").write_text(config_text(models["propetl-model"].config))
    config = read_configs(client_python, [tmp_path / "config.pbtxt"])[0]
    assert config["platform"] == "tensorrt_plan" and config["max_batch_size"] == 4
    assert config["cc_model_filenames"] == {"8.6": "model_86.plan", "8.9": "model_89.plan", "9.0": "model_90.plan"}
    assert config["instance_group"] == [{"count": 1, "kind": "KIND_GPU", "profile": ["0", "1"]}]
    assert models["propetl"].config["max_batch_size"] == models["propetl-tokenise"].config["max_batch_size"] == 4
    for task in ("mood", "topic"):
        assert models[f"propetl-model-{task}"].config["platform"] == "onnxruntime_onnx"


def test_an_input_without_rows_is_refused(served):
    manifest = read_manifest(served.path).manifest
    mask = TensorSignature("mask", "uint8", (2, 4))
    graph = manifest.forms["bank"].graph
    assert graph is not None
    manifest.forms["bank"] = replace(manifest.forms["bank"], graph=replace(graph, inputs=(*graph.inputs, mask)))
    with pytest.raises(ConfigurationError, match=r"Triton cannot batch mask: uint8\[2, 4\]"):
        served_models(manifest, 8)
