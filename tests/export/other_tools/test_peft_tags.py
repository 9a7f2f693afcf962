"""A folded LoRA of a task that tags, as PEFT loads it into transformers' token classifiers."""

import numpy as np
import peft
import pytest
import torch
import transformers

from propetl.errors import ConfigurationError
from propetl.export.golden import text_inputs_of
from propetl.export.options import ExportOptions
from propetl.export.other_tools.writer import export_for_other_tools
from propetl.model import ProPETLModel
from propetl.prototypes.spec import PrototypeConfig
from tests.export.random_artifact import Case, random_bundle, random_inputs, torch_logits

# PEFT asks transformers for an attribute under its old name.
pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")

NER = ("O", "B-X", "I-X")
LORA = PrototypeConfig("lora", rank=3, alpha=4.5, sparsity=0.6)


@pytest.mark.parametrize("family", ["bert", "roberta", "distilbert", "gpt2", "llama", "qwen2"])
def test_logits_at_every_token_are_those_of_the_torch_model(family: str, tmp_path) -> None:
    backbone, bundle = random_bundle(tmp_path, Case(family, LORA, head="own", layers=1, tasks={"ner": NER}))
    export_for_other_tools(bundle.path, tmp_path / "out", ExportOptions(forms=("peft",)))
    model = ProPETLModel.from_bundle(bundle, backbone)
    base = transformers.AutoModelForTokenClassification.from_pretrained(tmp_path / "backbone", num_labels=3)
    loaded = peft.PeftModel.from_pretrained(base, tmp_path / "out" / "ner").eval()
    inputs = random_inputs(text_inputs_of(model), 0, 4, 11)
    with torch.no_grad():
        found = loaded(**{name: torch.from_numpy(array) for name, array in inputs.items()}).logits.numpy()
    real = inputs["attention_mask"] == 1
    np.testing.assert_allclose(found[real], torch_logits(model, "ner", inputs)[real], rtol=1e-5, atol=1e-5)
    card = (tmp_path / "out" / "ner" / "README.md").read_text()
    assert "AutoModelForTokenClassification" in card and "[:, 0]" not in card


def test_one_graph_for_tags_and_classes_is_refused(tmp_path) -> None:
    _, bundle = random_bundle(tmp_path, Case("bert", LORA, layers=1, tasks={"ner": NER, "two": 2}))
    with pytest.raises(ConfigurationError, match="export each kind by itself with --task"):
        export_for_other_tools(bundle.path, tmp_path / "out", ExportOptions(forms=("onnx-adapter",)))
    assert not (tmp_path / "out").exists()
