"""A small valid artifact made by hand: no torch, no exporter, and logits that numpy computes beside it.

The model: embeddings; in each of two layers the mean over attended tokens is added and a masked adapter runs;
a linear head on the first token.
"""

import json
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from onnx import TensorProto, helper, numpy_helper
from onnx.external_data_helper import set_external_data

from propetl.bits import pack, unpack, unpacking_table
from propetl.bundle.format import BackboneInfo, TaskInfo
from propetl.bundle.pack import TaskPack
from propetl.bundle.tensors import tensor_bytes
from propetl.files import file_record, json_bytes, sha256_of_bytes
from propetl.prototypes.spec import PrototypeConfig, layout_of
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

HIDDEN, LAYERS, RANK, MAX_LENGTH = 10, 2, 3, 32
WORDS = ["a", "b", "c", "d", "e", "f", "g", "h", "good", "bad", "film", "rain", "sun", "wind"]
WORDS += ["north", "south", "one", "two", "three", "four"]
VOCABULARY = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *WORDS]
INPUTS = ("input_ids", "attention_mask", "token_type_ids")
FORMS = ("folded", "switchable", "bank", "bare")
CONFIG = PrototypeConfig(method="adapter", bottleneck=RANK, sparsity=0.5)
LAYOUT = layout_of(CONFIG, HIDDEN, LAYERS)
MASKED = {"down.weight": (RANK, HIDDEN), "up.weight": (HIDDEN, RANK)}

TASKS = {
    "mood": TaskInfo("classification", ("bad", "good"), ("text",), ("accuracy",)),
    "topic": TaskInfo("classification", ("film", "weather", "place"), ("text",), ("accuracy", "f1")),
    "entails": TaskInfo("classification", ("no", "yes"), ("premise", "hypothesis"), ("accuracy",)),
    "likeness": TaskInfo("regression", (), ("left", "right"), ("pearson",)),
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


@dataclass
class TinyModel:
    """Weights of the tiny backbone and its prototype, and the numpy reference."""

    seed: int = 0
    embedding: np.ndarray = field(init=False)
    types: np.ndarray = field(init=False)
    prototype: dict[str, np.ndarray] = field(init=False)

    def __post_init__(self):
        random = np.random.default_rng(self.seed)
        self.embedding = (0.4 * random.normal(size=(len(VOCABULARY), HIDDEN))).astype(np.float32)
        self.types = (0.4 * random.normal(size=(2, HIDDEN))).astype(np.float32)
        self.prototype = {
            tensor.name: (0.5 * random.normal(size=tensor.shape)).astype(np.float32) for tensor in LAYOUT.tensors
        }

    @property
    def prototype_sha256(self):
        return sha256_of_bytes(tensor_bytes(self.prototype, {"format": "propetl-prototype", "version": 1}))

    @property
    def fingerprint(self):
        return sha256_of_bytes(self.embedding.tobytes() + self.types.tobytes())

    def pack(self, task, info, seed):
        random = np.random.default_rng(seed)
        masks = {name: pack(random.random((LAYERS, np.prod(shape))) < 0.5) for name, shape in MASKED.items()}
        head = {
            "weight": (0.3 * random.normal(size=(info.outputs, HIDDEN))).astype(np.float32),
            "bias": random.normal(size=info.outputs).astype(np.float32),
        }
        return TaskPack(task, info, self.prototype_sha256, self.fingerprint, masks, {}, head)

    def effective(self, task_pack):
        """Masked weights ``[layers, *shape]``."""
        return {
            name: self.prototype[name] * unpack(task_pack.masks[name], int(np.prod(shape))).reshape(LAYERS, *shape)
            for name, shape in MASKED.items()
        }

    def logits(self, task_pack, feeds):
        """Reference logits float32 ``[rows, outputs]``."""
        weights, attended = self.effective(task_pack), feeds["attention_mask"][..., None].astype(np.float32)
        hidden = self.embedding[feeds["input_ids"]] + self.types[feeds["token_type_ids"]]
        for layer in range(LAYERS):
            hidden = hidden + (hidden * attended).sum(1, keepdims=True) / attended.sum(1, keepdims=True)
            inner = np.maximum(hidden @ weights["down.weight"][layer].T + self.prototype["down.bias"], 0)
            hidden = hidden + inner @ weights["up.weight"][layer].T + self.prototype["up.bias"]
        return (hidden[:, 0] @ task_pack.head["weight"].T + task_pack.head["bias"]).astype(np.float32)


class GraphMaker:
    """Collects nodes and initialisers of one graph."""

    def __init__(self, model):
        self.model = model
        self.nodes, self.initialisers, self.offset = [], [], 0
        for name, value in (("embedding", model.embedding), ("types", model.types)):
            self.external(name, value)

    def constant(self, name, value):
        self.initialisers.append(numpy_helper.from_array(np.asarray(value), name))
        return name

    def external(self, name, value):
        tensor = numpy_helper.from_array(value, name)
        set_external_data(tensor, BACKBONE_FILE, self.offset, value.nbytes)
        tensor.ClearField("raw_data")
        self.initialisers.append(tensor)
        self.offset += value.nbytes

    def node(self, kind, inputs, **attributes):
        output = f"{kind}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, inputs, [output], **attributes))
        return output

    def int_constant(self, *values):
        return self.constant(f"ints_{len(self.initialisers)}", np.array(values, dtype=np.int64))

    def unpacked(self, packed, lead, name):
        """Packed masks ``[*lead, bytes]`` times the prototype: ``[*lead, *shape]``; -1 is free."""
        shape = MASKED[name]
        size = int(np.prod(shape))
        table = self.constant(f"table_{len(self.nodes)}", unpacking_table())
        bits = self.node("Gather", [table, self.node("Cast", [packed], to=TensorProto.INT32)])
        flat = self.node("Reshape", [bits, self.int_constant(*lead, 8 * -(-size // 8))])
        cut = self.node("Slice", [flat, self.int_constant(0), self.int_constant(size), self.int_constant(len(lead))])
        masks = self.node("Reshape", [cut, self.int_constant(*lead, *shape)])
        return self.node("Mul", [masks, self.constant(f"prototype_{len(self.nodes)}", self.model.prototype[name])])

    def layer_weight(self, weights, layer, axis):
        """``[..., *shape]`` of one layer, last two axes transposed."""
        chosen = self.node("Gather", [weights, self.constant(f"layer_{len(self.nodes)}", np.int64(layer))], axis=axis)
        return self.node("Transpose", [chosen], perm=[1, 0] if axis == 0 else [0, 2, 1])

    def hidden(self, weights, axis):
        """Hidden states; ``weights`` None leaves the adapter out, a function gives the names of a layer's two."""
        words = self.node("Gather", ["embedding", "input_ids"])
        hidden = self.node("Add", [words, self.node("Gather", ["types", "token_type_ids"])])
        mask = self.node("Cast", ["attention_mask"], to=TensorProto.FLOAT)
        attended = self.node("Unsqueeze", [mask, self.int_constant(-1)])
        count = self.node("ReduceSum", [attended, self.int_constant(1)])
        biases = {name: self.constant(name, self.model.prototype[name]) for name in ("down.bias", "up.bias")}
        for layer in range(LAYERS):
            total = self.node("ReduceSum", [self.node("Mul", [hidden, attended]), self.int_constant(1)])
            hidden = self.node("Add", [hidden, self.node("Div", [total, count])])
            if weights is None:
                continue
            if callable(weights):
                down, up = weights(layer)
            else:
                down, up = (self.layer_weight(weights[name], layer, axis) for name in MASKED)
            inner = self.node("Add", [self.node("MatMul", [hidden, down]), biases["down.bias"]])
            outer = self.node("MatMul", [self.node("Relu", [inner]), up])
            hidden = self.node("Add", [self.node("Add", [hidden, outer]), biases["up.bias"]])
        return self.node("Gather", [hidden, self.constant("first", np.int64(0))], axis=1)

    def finish(self, inputs, width):
        self.nodes[-1].output[0] = "logits"
        return self.finish_with(inputs, [TensorSignature("logits", "float32", ("batch", width))])

    def finish_with(self, inputs, outputs):
        values, results = (
            [helper.make_tensor_value_info(i.name, ONNX_TYPES[i.dtype], list(i.shape)) for i in items]
            for items in (inputs, outputs)
        )
        graph = helper.make_graph(self.nodes, "tiny", values, results, self.initialisers)
        made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
        return made.SerializeToString()


ONNX_TYPES = {"int64": TensorProto.INT64, "uint8": TensorProto.UINT8, "float32": TensorProto.FLOAT}


def folded_graph(model, task_pack, inputs):
    maker = GraphMaker(model)
    weights = {name: maker.constant(name, value) for name, value in model.effective(task_pack).items()}
    return _headed(maker, maker.hidden(weights, 0), task_pack).finish(inputs, task_pack.info.outputs)


def bare_graph(model, task_pack, inputs):
    maker = GraphMaker(model)
    return _headed(maker, maker.hidden(None, 0), task_pack).finish(inputs, task_pack.info.outputs)


def _headed(maker, first, task_pack):
    matrix, bias = (maker.constant(f"head.{name}", task_pack.head[name]) for name in ("weight", "bias"))
    maker.node("Gemm", [first, matrix, bias], transB=1)
    return maker


def switchable_graph(model, inputs):
    maker = GraphMaker(model)
    weights = {name: maker.unpacked(f"mask.{name}", (LAYERS,), name) for name in MASKED}
    maker.node("Gemm", [maker.hidden(weights, 0), "head.weight", "head.bias"], transB=1)
    return maker.finish(inputs, "labels")


def bank_graph(model, packs, inputs):
    maker = GraphMaker(model)
    widest = max(item.info.outputs for item in packs)
    rows = {
        name: maker.node(
            "Gather", [maker.constant(f"bank.{name}", np.stack([p.masks[name] for p in packs])), "task_id"]
        )
        for name in MASKED
    }
    weights = {name: maker.unpacked(packed, (-1, LAYERS), name) for name, packed in rows.items()}
    first = maker.node("Unsqueeze", [maker.hidden(weights, 1), maker.int_constant(1)])
    padded = [widest - item.info.outputs for item in packs]
    matrices = np.stack([np.pad(p.head["weight"], ((0, n), (0, 0))) for p, n in zip(packs, padded, strict=True)])
    biases = np.stack([np.pad(p.head["bias"], (0, n)) for p, n in zip(packs, padded, strict=True)])
    matrix = maker.node("Gather", [maker.constant("bank.head.weight", matrices), "task_id"])
    bias = maker.node("Gather", [maker.constant("bank.head.bias", biases), "task_id"])
    product = maker.node("MatMul", [first, maker.node("Transpose", [matrix], perm=[0, 2, 1])])
    maker.node("Add", [maker.node("Squeeze", [product, maker.int_constant(1)]), bias])
    return maker.finish(inputs, widest)


def apply_graph(model, inputs, outputs):
    """Packed masks and head with a leading axis of rows to what the text meets."""
    maker = GraphMaker(model)
    weights = {name: maker.unpacked(f"mask.{name}", (-1, LAYERS), name) for name in MASKED}
    made = [maker.layer_weight(weights[name], layer, 1) for layer in range(LAYERS) for name in MASKED]
    made.append(maker.node("Transpose", ["head.weight"], perm=[0, 2, 1]))
    made.append(maker.node("Identity", ["head.bias"]))
    for value, output in zip(made, outputs, strict=True):
        maker.nodes.append(helper.make_node("Identity", [value], [output.name]))
    return maker.finish_with(inputs, outputs)


def run_graph(model, inputs):
    maker = GraphMaker(model)
    first = maker.hidden(lambda layer: (f"applied.{2 * layer}", f"applied.{2 * layer + 1}"), 1)
    row = maker.node("Unsqueeze", [first, maker.int_constant(1)])
    product = maker.node("MatMul", [row, f"applied.{2 * LAYERS}"])
    maker.node("Add", [maker.node("Squeeze", [product, maker.int_constant(1)]), f"applied.{2 * LAYERS + 1}"])
    return maker.finish(inputs, "labels")


def tokenizer_json():
    """A word-level tokenizer with BERT's special tokens."""
    special = [
        {
            "id": i,
            "content": t,
            "single_word": False,
            "lstrip": False,
            "rstrip": False,
            "normalized": False,
            "special": True,
        }
        for i, t in enumerate(VOCABULARY[:4])
    ]
    piece = [{"SpecialToken": {"id": "[CLS]", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}]
    single = [*piece, {"SpecialToken": {"id": "[SEP]", "type_id": 0}}]
    second = [{"Sequence": {"id": "B", "type_id": 1}}, {"SpecialToken": {"id": "[SEP]", "type_id": 1}}]
    tokens = {t: {"id": t, "ids": [VOCABULARY.index(t)], "tokens": [t]} for t in ("[CLS]", "[SEP]")}
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": special,
        "normalizer": None,
        "pre_tokenizer": {"type": "Whitespace"},
        "post_processor": {
            "type": "TemplateProcessing",
            "single": single,
            "pair": [*single, *second],
            "special_tokens": tokens,
        },
        "decoder": None,
        "model": {
            "type": "WordLevel",
            "vocab": {t: i for i, t in enumerate(VOCABULARY)},
            "unk_token": "[UNK]",
        },
    }


def token_ids(rows):
    """Feeds int64 ``[rows, longest]`` of rows that need no truncation; made without the tokeniser."""
    encoded = []
    for row in rows:
        parts = (row,) if isinstance(row, str) else row
        ids, types = [VOCABULARY.index("[CLS]")], [0]
        for kind, part in enumerate(parts):
            new = [VOCABULARY.index(w) if w in VOCABULARY else 1 for w in part.split()] + [VOCABULARY.index("[SEP]")]
            ids, types = ids + new, types + [kind] * len(new)
        encoded.append((ids, types))
    longest = max(len(ids) for ids, _ in encoded)
    filled = [
        (
            [*i, *[0] * (longest - len(i))],
            [1] * len(i) + [0] * (longest - len(i)),
            [*t, *[0] * (longest - len(t))],
        )
        for i, t in encoded
    ]
    return {name: np.array([row[k] for row in filled], dtype=np.int64) for k, name in enumerate(INPUTS)}


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
        (self.path / MANIFEST).write_bytes(json_bytes(value))

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
    (path / MANIFEST).write_bytes(json_bytes(finished.to_json()))
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
