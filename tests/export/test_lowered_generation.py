"""Attention of graphs that generate as one operator of ONNX Runtime's: the texts stay those of transformers."""

from collections import Counter

import numpy as np
import onnx_ir as ir
import pytest

from propetl.families import FAMILIES
from propetl.prototypes.spec import PrototypeConfig
from propetl.runtime.artifact import read_artifact
from propetl.runtime.engines import EngineOptions
from propetl.runtime.forms.choose import open_form
from propetl.runtime.generation.options import GenerationOptions
from tests.export.random_text_artifact import TASKS, make_text_artifact, prompts
from tests.export.test_generation_agrees import CASES as GENERATING

# Attention is fused before any form is bound: every family and every form once, not each with each. T5 and BART are
# those of test_generation_agrees.py, whose traces are kept.
FUSED = {
    "t5": (GENERATING["t5-prefixes-only-tasks"][1], "switchable"),
    "bart": (GENERATING["bart-lora-only-layers"][1], "folded"),
    "gpt2": (PrototypeConfig("lora", rank=3, alpha=9.0), "bank"),
    "llama": (PrototypeConfig("prefix", prefix_length=3), "bank"),
    "qwen2": (PrototypeConfig(bottleneck=5, sites=("attention", "ffn")), "switchable"),
}


@pytest.mark.parametrize("family", FUSED)
def test_fused_graphs_generate_what_transformers_does(family, tmp_path):
    config, form = FUSED[family]
    # Padding in front of a decoder's prompt may look at nothing, and the second layer reads what comes of that.
    layers = 2 if FAMILIES[family].kind == "decoder" else 1
    made = make_text_artifact(tmp_path, config, family, (form,), layers=layers, operators="onnxruntime")
    running = open_form(read_artifact(made.artifact), form, EngineOptions(threads=1))
    random = np.random.default_rng(0)
    for beams, length in ((1, 1), (1, 9), (3, 9)):
        for task in TASKS:
            inputs = prompts(random, rows=3, length=length)
            expected = made.generated(task, inputs, max_new_tokens=9, num_beams=beams, length_penalty=1.0)
            found = running.bind(task).generate(inputs, GenerationOptions(9, beams=beams))
            assert [row.tolist() for row in found] == expected
    for path in made.artifact.rglob("*.onnx"):
        operators = Counter(node.op_type for node in ir.load(path).graph)
        assert not operators["Softmax"] and not operators["IsNaN"], path
        assert operators["MultiHeadAttention"] or "apply" in path.parts, path
