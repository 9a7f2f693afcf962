"""A small valid artifact made by hand: no torch, no exporter, and logits that numpy computes beside it."""

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from propetl.bundle.format import BackboneInfo
from propetl.bundle.pack import TaskPack
from propetl.files import file_record, json_bytes
from propetl.runtime.artifact import (
    BACKBONE_FILE,
    GOLDEN_FILE,
    MANIFEST,
    TOKENIZER_FILE,
    ArtifactTask,
    Manifest,
)
from propetl.runtime.golden import Golden, golden_bytes
from propetl.runtime.manifest import MODEL, FormInfo, GraphInfo, Stages, TensorSignature
from propetl.runtime.signatures import ROWS as ROW_AXIS
from propetl.runtime.signatures import expected_inputs, task_tensors
from propetl.sealed import FILES, sealed
from propetl.task import TaskSpec
from tests.runtime.tiny_graphs import apply_graph, bank_graph, bare_graph, folded_graph, run_graph, switchable_graph
from tests.runtime.tiny_model import CONFIG, HIDDEN, LAYERS, LAYOUT, MASKED, TinyModel
from tests.runtime.tiny_tokenizer import INPUTS, token_ids, tokenizer_json

MAX_LENGTH = 32
FORMS = ("folded", "switchable", "bank", "bare")

TASKS = {
    "mood": TaskSpec("mood", ("text",), labels=("bad", "good")),
    "topic": TaskSpec("topic", ("text",), labels=("film", "weather", "place"), metrics=("accuracy", "f1")),
    "entails": TaskSpec("entails", ("premise", "hypothesis"), labels=("no", "yes")),
    "likeness": TaskSpec("likeness", ("left", "right"), problem="regression", metrics=("pearson",)),
}
ROWS: dict[str, list[Any]] = {
    "mood": ["good film", "bad", "a b c d e f g h good one two three", "rain"],
    "topic": ["sun wind rain", "north south", "film a b c"],
    "entails": [
        ("good film", "film"),
        ("a b c d e f g h one two", "c d e f g h one two three four"),
        ("rain", "sun"),
    ],
    "likeness": [("one two three", "one two"), ("north", "south wind rain")],
}


@dataclass(frozen=True)
class Tiny:
    """What was written, and what tests compare with."""

    path: Path
    model: TinyModel
    packs: dict[str, TaskPack]

    def expected(self, task, rows, task_pack=None):
        return self.model.logits(task_pack or self.packs[task], token_ids(rows))

    def edit_manifest(self, change):
        """Applies ``change`` to the parsed ``artifact.json`` and writes it back."""
        value = json.loads((self.path / MANIFEST).read_text())
        change(value)
        (self.path / MANIFEST).write_bytes(json_bytes(sealed(value, FILES)))

    def rewrite(self, relative, content):
        """Replaces a file and its record, as an exporter with a defect would."""
        (self.path / relative).write_bytes(content)
        record = file_record(self.path / relative)
        self.edit_manifest(lambda value: value["files"].__setitem__(relative, record))


def write_tiny_artifact(path, forms=FORMS, seed=0, tasks=TASKS, staged=False) -> "Tiny":
    """Writes the artifact to folder ``path`` and returns it with its reference; ``staged`` adds the two stages."""
    model = TinyModel(seed)
    packs = {task: model.pack(task, info, seed=100 + i) for i, (task, info) in enumerate(tasks.items())}
    manifest = _manifest(model, packs, {})
    made = _forms(model, packs, manifest)
    if staged:
        stages, files = _stages(model, manifest)
        for form in ("switchable", "bank"):
            made[form] = (replace(made[form][0], stages=stages), made[form][1] | files)
    chosen = {form: made[form][0] for form in forms}
    goldens = {}
    for task in tasks:
        feeds = token_ids(ROWS[task])
        goldens[task] = Golden(feeds, model.logits(packs[task], feeds))
    contents = {
        BACKBONE_FILE: model.embedding.tobytes() + model.types.tobytes(),
        GOLDEN_FILE: golden_bytes(goldens),
        TOKENIZER_FILE: json_bytes(tokenizer_json()),
        **{f"tasks/{task}.safetensors": item.to_bytes() for task, item in packs.items()},
        **{name: content for form in forms for name, content in made[form][1].items()},
    }
    for name, content in contents.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(content)
    finished = _manifest(model, packs, chosen, {name: file_record(path / name) for name in contents})
    (path / MANIFEST).write_bytes(json_bytes(sealed(finished.to_json(), FILES)))
    return Tiny(path, model, packs)


def _manifest(model, packs, forms, files=None):
    backbone = BackboneInfo("tiny", None, "tiny", model.fingerprint, model.embedding.size, HIDDEN, LAYERS)
    return Manifest(
        operators="standard",
        precision="fp32",
        opset=20,
        max_length=MAX_LENGTH,
        pad_token_id=0,
        head="linear",
        bundle_sha256="0" * 64,
        prototype_sha256=model.prototype_sha256,
        backbone=backbone,
        prototype=CONFIG,
        tasks={task: ArtifactTask(item.info, f"tasks/{task}.safetensors") for task, item in packs.items()},
        forms=forms,
        tools={"onnx": "by hand"},
        files=files or {},
    )


def _forms(model, packs, manifest):
    """``(FormInfo, files)`` of every form."""
    tokens = tuple(TensorSignature(name, "int64", ("batch", "sequence")) for name in INPUTS)
    fed = (*tokens, *expected_inputs("switchable", manifest))
    row = (*tokens, TensorSignature("task_id", "int64", ("batch",)))
    widest = max(item.info.outputs for item in packs.values())
    first = next(iter(packs.values()))
    folded = {task: _graph(f"folded/{task}/model.onnx", tokens, item.info.outputs) for task, item in packs.items()}
    switchable = _graph("switchable/model.onnx", fed, "labels")
    bank = _graph("bank/model.onnx", row, widest)
    bare = _graph("bare/model.onnx", tokens, first.info.outputs)
    return {
        "folded": (
            FormInfo(graphs=folded),
            {graph.path: folded_graph(model, packs[task], tokens) for task, graph in folded.items()},
        ),
        "switchable": (FormInfo(graph=switchable), {switchable.path: switchable_graph(model, fed)}),
        "bank": (
            FormInfo(graph=bank, task_ids={task: row for row, task in enumerate(packs)}),
            {bank.path: bank_graph(model, list(packs.values()), row)},
        ),
        "bare": (FormInfo(graph=bare), {bare.path: bare_graph(model, first, tokens)}),
    }


def _stages(model, manifest):
    """``(Stages, files)``: weights of each layer, then the head."""
    rows = tuple(replace(item, shape=(ROW_AXIS, *item.shape)) for item in task_tensors(LAYOUT, "linear"))
    shapes = [(ROW_AXIS, *reversed(shape)) for _ in range(LAYERS) for shape in MASKED.values()]
    shapes += [(ROW_AXIS, HIDDEN, "labels"), (ROW_AXIS, "labels")]
    applied = tuple(TensorSignature(f"applied.{index}", "float32", shape) for index, shape in enumerate(shapes))
    tokens = tuple(TensorSignature(name, "int64", ("batch", "sequence")) for name in INPUTS)
    apply = GraphInfo("stages/apply/model.onnx", rows, applied)
    run = _graph("stages/run/model.onnx", (*tokens, *applied), "labels")
    files = {apply.path: apply_graph(model, rows, applied), run.path: run_graph(model, run.inputs)}
    return Stages(apply, {MODEL: run}), files


def _graph(path, inputs, width):
    return GraphInfo(path, inputs, (TensorSignature("logits", "float32", ("batch", width)),))
