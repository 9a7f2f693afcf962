"""Graphs with operators of ONNX Runtime's own compute what PyTorch computes, in every form, method and family."""

from collections import Counter

import onnx_ir as ir
import pytest

from propetl.errors import ConfigurationError
from propetl.export.options import ExportOptions
from propetl.export.writer import export_bundle
from propetl.families import FAMILIES
from propetl.runtime import Session
from tests.export.agreement import assert_every_form_is_the_torch_model
from tests.export.cases import case_of
from tests.export.random_artifact import ALL_FORMS, make

# Every encoder, and every method where the attention around it differs; the portable graphs are tested in full. Of the
# decoders, whose attention test_lowered_generation.py looks at, one with heads.
CASES = [
    case_of("gpt2", "lora"),  # the library's fusions made a Gemm of rank 3 of this
    case_of("roberta", "ia3"),
    case_of("mpnet", "lora"),
    case_of("mpnet", "adapter"),
    case_of("distilbert", "prefix"),
    case_of("electra", "adapter"),
    case_of("xlm-roberta", "lora"),
    case_of("roberta", "prefix"),
    case_of("bert", "lora"),
    case_of("bert", "adapter"),
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
