"""Graphs with operators of ONNX Runtime's own compute what PyTorch computes, in every form, method and family."""

import dataclasses
from collections import Counter

import onnx_ir as ir
import pytest

from propetl.errors import ConfigurationError
from propetl.export.options import ExportOptions
from propetl.export.writer import export_bundle
from propetl.families import FAMILIES
from propetl.prototypes.spec import PrototypeConfig
from propetl.runtime import Session
from tests.export.agreement import assert_every_form_is_the_torch_model
from tests.export.random_artifact import ALL_FORMS, Case, make

ADAPTER = PrototypeConfig(bottleneck=3, sparsity=0.5, activation="gelu")
LORA = PrototypeConfig("lora", rank=2, alpha=3, sparsity=0.6)
PREFIX = PrototypeConfig("prefix", prefix_length=3, sparsity=0.5)
TASKS = {"value": 0, "three": 3}

# Every encoder, and every method where the attention around it differs; the portable graphs are tested in full. Of the
# decoders, whose attention test_lowered_generation.py looks at, one with heads.
CASES = [
    Case("bert", dataclasses.replace(ADAPTER, sites=("attention", "ffn")), head="own", tasks=TASKS),
    Case("bert", dataclasses.replace(LORA, targets=("query", "key", "value")), layers=1, tasks=TASKS),
    Case("roberta", PREFIX, layers=1, tasks=TASKS),
    Case("xlm-roberta", LORA, tasks=TASKS, layers=1),
    Case("electra", ADAPTER, head="own", layers=1, tasks=TASKS),
    Case("distilbert", dataclasses.replace(PREFIX, sharing="unshared"), layers=1, tasks=TASKS),
    Case("mpnet", ADAPTER, tasks=TASKS),
    Case("mpnet", LORA, layers=1, tasks=TASKS),
    Case("roberta", PrototypeConfig("ia3"), layers=1, tasks=TASKS),
    Case("gpt2", LORA, layers=1, tasks=TASKS),  # the library's fusions made a Gemm of rank 3 of this
]


def test_the_cases_cover_every_encoder_and_method():
    encoders = {name for name, family in FAMILIES.items() if family.kind == "encoder"}
    assert {case.family for case in CASES} == encoders | {"gpt2"}
    assert {case.config.method for case in CASES} == {"adapter", "lora", "prefix", "ia3"}


@pytest.fixture(scope="module", params=CASES, ids=str)
def fused(request, tmp_path_factory):
    options = ExportOptions(forms=ALL_FORMS, operators="onnxruntime")
    return make(tmp_path_factory.mktemp("fused"), request.param, options)


def test_every_fused_form_is_the_torch_model(fused):
    assert_every_form_is_the_torch_model(fused, drawn=10)


def test_attention_of_every_layer_is_fused(fused):
    graphs = sorted(fused.artifact.rglob("*/model.onnx"))
    applying = fused.artifact / "stages" / "apply" / "model.onnx"  # masks to weights: it sees no text
    for graph in [graph for graph in graphs if graph != applying]:
        operators = Counter(node.op_type for node in ir.load(graph).graph)
        assert operators["MultiHeadAttention"] == fused.backbone.info.layers, graph
        assert operators["Softmax"] == 0, graph


def test_an_artifact_says_which_operators_it_uses(fused):
    assert fused.manifest.operators == "onnxruntime"
    with pytest.raises(ConfigurationError, match=r"'tensorrt' cannot run .* can\); .*--operators standard"):
        Session.open(fused.artifact, provider="tensorrt")


def test_weights_are_those_of_standard_graphs(plain, tmp_path):
    """Fusing makes no copy of a weight: both kinds of artifact cost the same."""
    _, bundle = plain
    standard = export_bundle(bundle.path, tmp_path / "standard", ExportOptions(forms=("switchable",)))
    options = ExportOptions(forms=("switchable",), operators="onnxruntime")
    own = export_bundle(bundle.path, tmp_path / "own", options)
    assert own.files["backbone.data"]["bytes"] == standard.files["backbone.data"]["bytes"]
