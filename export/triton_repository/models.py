"""Which models a repository has, and their configurations: all out of the artifact's manifest.

=================  ===================================================  =======================================
propetl            form bank: task and text in; label, score, logits    ensemble of the next three
propetl-tokenise   text to token ids                                    Python
propetl-model      token ids and task_id to logits                      TensorRT by engines, else ONNX Runtime
propetl-answer     logits to label and score                            Python
propetl-task-TASK  form folded: one task, which requests do not name    ensemble; its parts end in -TASK
=================  ===================================================  =======================================
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from propetl.errors import ConfigurationError
from propetl.export.triton_repository.config_text import Name
from propetl.files import json_bytes
from propetl.runtime.engine_records import EngineInfo, GraphName
from propetl.runtime.manifest import BACKBONE_FILE, MODEL, TOKENIZER_FILE, GraphInfo, Manifest, TensorSignature
from propetl.runtime.signatures import BANK, BATCH, FOLDED, TASK_ID
from propetl.runtime.triton_server.answer import LABEL, SCORE
from propetl.runtime.triton_server.settings import SETTINGS, TOKENIZER, ServedTask, Settings
from propetl.runtime.triton_server.tokenise import TASK, TEXT

SERVED_FORMS = (BANK, FOLDED)

_PAD_TO = 16
_QUEUE_MICROSECONDS = 500
_TYPES = {"int64": Name("TYPE_INT64"), "float32": Name("TYPE_FP32")}
_STRING, _FLOAT = Name("TYPE_STRING"), Name("TYPE_FP32")

Config = dict[str, Any]


@dataclass(frozen=True)
class ServedModel:
    """One folder of the repository.

    Attributes:
        config: its ``config.pbtxt``.
        links: file of the version folder → file of the artifact that it is.
        contents: file of the version folder → its bytes.
    """

    config: Config
    links: dict[str, str] = field(default_factory=dict)
    contents: dict[str, bytes] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """Of the folder, and of the model."""
        return str(self.config["name"])


def served_models(manifest: Manifest, max_batch: int) -> tuple[ServedModel, ...]:
    """Models of every form that Triton can serve; others are passed over.

    Args:
        manifest: of the artifact.
        max_batch: rows that Triton puts into one batch at most.
    """
    return tuple(_models(manifest, max_batch))


def _models(manifest: Manifest, max_batch: int) -> Iterator[ServedModel]:
    bank = manifest.forms.get(BANK)
    if bank is not None and bank.graph is not None:
        model = _served_graph(manifest, BANK, None, bank.graph, "", max_batch)
        yield from _pipeline(manifest, bank.graph, model, bank.task_ids, "")
    for task, graph in manifest.forms[FOLDED].graphs.items() if FOLDED in manifest.forms else ():
        model = _served_graph(manifest, FOLDED, task, graph, f"-{task}", max_batch)
        yield from _pipeline(manifest, graph, model, {task: 0}, f"-{task}")


def _served_graph(
    manifest: Manifest, form: str, task: str | None, graph: GraphInfo, ending: str, max_batch: int
) -> ServedModel:
    name, plans = f"propetl-model{ending}", _plans_of(manifest, form, task)
    return _plan_model(graph, name, max_batch, plans) if plans else _onnx_model(graph, name, max_batch)


def _pipeline(
    manifest: Manifest, graph: GraphInfo, model: ServedModel, task_ids: Mapping[str, int], ending: str
) -> Iterator[ServedModel]:
    """Tokeniser, graph, answer, and the ensemble of the three."""
    tasks = {task: ServedTask(manifest.tasks[task].info, row) for task, row in task_ids.items()}
    settings = Settings(
        max_length=manifest.max_length,
        pad_token_id=manifest.pad_token_id,
        pad_to=_PAD_TO,
        inputs=manifest.token_inputs,
        names_task=any(item.name == TASK_ID for item in graph.inputs),
        tasks=tasks,
    )
    max_batch = model.config["max_batch_size"]
    named = [_tensor(TASK, _STRING, 1)] if settings.names_task else []
    asked = [*named, _tensor(TEXT, _STRING, -1)]
    logits = model.config["output"][0]
    answers = [_tensor(LABEL, _STRING, 1), _tensor(SCORE, _FLOAT, 1)]
    ids = [{key: item[key] for key in ("name", "data_type", "dims")} for item in model.config["input"]]
    tokenise = _python_model(f"propetl-tokenise{ending}", "tokenise", asked, ids, settings, max_batch)
    answer = _python_model(f"propetl-answer{ending}", "answer", [*named, logits], answers, settings, max_batch)
    tokenise.links[TOKENIZER] = TOKENIZER_FILE
    name = f"propetl-task{ending}" if ending else "propetl"
    yield from (tokenise, model, answer)
    yield _ensemble(name, asked, [*answers, logits], [tokenise, model, answer], max_batch)


def _tensor(name: str, kind: Name, size: int) -> Config:
    return {"name": name, "data_type": kind, "dims": [size]}


def _onnx_model(graph: GraphInfo, name: str, max_batch: int) -> ServedModel:
    config = {
        "name": name,
        "platform": "onnxruntime_onnx",
        "max_batch_size": max_batch,
        "input": [_graph_tensor(item) for item in graph.inputs],
        "output": [_graph_tensor(item) for item in graph.outputs],
        "dynamic_batching": {"max_queue_delay_microseconds": _QUEUE_MICROSECONDS},
    }
    # Triton loads a graph by path, and ONNX Runtime looks for its weights beside it.
    return ServedModel(config, {"model.onnx": graph.path, BACKBONE_FILE: BACKBONE_FILE})


def _plan_model(graph: GraphInfo, name: str, max_batch: int, engines: list[EngineInfo]) -> ServedModel:
    """Plans, one for each kind of GPU; Triton picks by compute capability, and within a plan by profile."""
    files = {f"model_{capability}.plan": (capability, engine.path) for capability, engine in _by_gpu(engines).items()}
    profiles = max(len(engine.profiles) for engine in engines)
    config = {
        "name": name,
        "platform": "tensorrt_plan",
        "max_batch_size": min(max_batch, *(_most_rows(engine) for engine in engines)),
        "default_model_filename": next(iter(files)),
        "cc_model_filenames": [
            {"key": f"{capability // 10}.{capability % 10}", "value": file} for file, (capability, _) in files.items()
        ],
        "input": [_graph_tensor(item) for item in graph.inputs],
        "output": [_graph_tensor(item) for item in graph.outputs],
        "instance_group": [
            {"count": 1, "kind": Name("KIND_GPU"), "profile": [str(index) for index in range(profiles)]}
        ],
        "dynamic_batching": {"max_queue_delay_microseconds": _QUEUE_MICROSECONDS},
    }
    return ServedModel(config, {file: path for file, (_, path) in files.items()})


def _by_gpu(engines: list[EngineInfo]) -> dict[int, EngineInfo]:
    """The engine for each compute capability; of several the one that was built first."""
    found: dict[int, EngineInfo] = {}
    for engine in engines:
        for capability in engine.compute_capabilities:
            found.setdefault(capability, engine)
    return found


def _most_rows(engine: EngineInfo) -> int:
    return max(profile.sizes[BATCH][2] for profile in engine.profiles)


def _plans_of(manifest: Manifest, form: str, task: str | None) -> list[EngineInfo]:
    """Engines that Triton's TensorRT backend can load as they are: not RTX's, not stripped, not to be refitted."""
    return [
        engine
        for engine in manifest.engines
        if (engine.name, engine.target) == (GraphName(form, task, MODEL), "tensorrt")
        and engine.weights_graph is None
        and not engine.refits
    ]


def _graph_tensor(item: TensorSignature) -> Config:
    """A graph's input or output without the size that Triton batches along; it has to have another."""
    if item.shape[:1] != (BATCH,) or item.dtype not in _TYPES:
        raise ConfigurationError(f"Triton cannot batch {item}: its first size is not {BATCH}; export another form")
    sizes = [size if isinstance(size, int) else -1 for size in item.shape[1:]]
    config = {"name": item.name, "data_type": _TYPES[item.dtype], "dims": sizes or [1]}
    return config if sizes else config | {"reshape": {"shape": []}}


def _python_model(
    name: str, module: str, inputs: list[Config], outputs: list[Config], settings: Settings, max_batch: int
) -> ServedModel:
    config = {
        "name": name,
        "backend": "python",
        "max_batch_size": max_batch,
        "input": inputs,
        "output": outputs,
        "instance_group": [{"count": 1, "kind": Name("KIND_CPU")}],
    }
    line = f"from propetl.runtime.triton_server.{module} import TritonPythonModel  # noqa: F401\n"
    return ServedModel(config, {}, {"model.py": line.encode(), SETTINGS: json_bytes(settings.to_json())})


def _ensemble(
    name: str, inputs: list[Config], outputs: list[Config], parts: list[ServedModel], max_batch: int
) -> ServedModel:
    """Parts one after the other; tensors go from one to the next under their own names."""
    return ServedModel(
        {
            "name": name,
            "platform": "ensemble",
            "max_batch_size": max_batch,
            "input": inputs,
            "output": outputs,
            "ensemble_scheduling": {"step": [_step(part) for part in parts]},
        }
    )


def _step(part: ServedModel) -> Config:
    return {
        "model_name": part.name,
        "model_version": -1,
        "input_map": [{"key": item["name"], "value": item["name"]} for item in part.config["input"]],
        "output_map": [{"key": item["name"], "value": item["name"]} for item in part.config["output"]],
    }
