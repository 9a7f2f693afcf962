"""A tiny backbone with a masked adapter, and the logits that numpy computes.

Embeddings; in each of two layers the mean over attended tokens is added and a masked adapter runs; a linear head on
the first token.
"""

from dataclasses import dataclass, field

import numpy as np

from propetl.bits import pack, unpack
from propetl.bundle.pack import TaskPack
from propetl.bundle.tensors import tensor_bytes
from propetl.files import sha256_of_bytes
from propetl.prototypes.layout import layout_of
from propetl.prototypes.spec import PrototypeConfig
from tests.runtime.tiny_tokenizer import VOCABULARY

HIDDEN, LAYERS, RANK = 10, 2, 3
CONFIG = PrototypeConfig(method="adapter", bottleneck=RANK, sparsity=0.5)
LAYOUT = layout_of(CONFIG, HIDDEN, LAYERS)
MASKED = {"down.weight": (RANK, HIDDEN), "up.weight": (HIDDEN, RANK)}


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
