"""LoRA of an encoder-decoder as PEFT loads it: the same logits and the same answers."""

import numpy as np
import peft
import pytest
import torch
from transformers import AutoModelForSeq2SeqLM

from propetl.backbone import load_backbone
from propetl.bundle import read_bundle, write_bundle
from propetl.bundle.format import TaskInfo
from propetl.bundle.text import TextInfo
from propetl.errors import ConfigurationError
from propetl.export.options import ExportOptions
from propetl.export.other_tools.writer import export_for_other_tools
from propetl.harvest import bundle_contents
from propetl.model import ProPETLModel
from propetl.prototypes.spec import PrototypeConfig
from tests.tiny_backbone import TEXT_VOCABULARY, tiny_backbone

# PEFT asks transformers for an attribute under its old name.
pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")

TASKS = {
    "free": TaskInfo("text", (), ("text",), ("rouge1",), text=TextInfo("say: {}", max_target_length=6, num_beams=2)),
    "yes-no": TaskInfo("text", ("no", "yes"), ("text",), ("accuracy",), text=TextInfo("is it? {}", ("0", "1"))),
}
LORA = PrototypeConfig("lora", masks="hybrid", rank=3, alpha=4.5, sparsity=0.5)


@pytest.fixture(scope="module", params=["t5", "mt5"])
def exported(request, tmp_path_factory):
    """A random LoRA on a tiny backbone, exported."""
    folder = tmp_path_factory.mktemp("text")
    # As deep as the encoder: transformers' own cache has no place for more layers in the decoder.
    backbone = load_backbone(str(tiny_backbone(folder / "backbone", request.param, layers=2, num_decoder_layers=2)))
    model = ProPETLModel(backbone, LORA, tasks=TASKS, seed=1)
    with torch.no_grad():
        for parameter in model.prototype.parameters():
            parameter.normal_(std=0.3)
    ids = np.array([[7, 8, 9, 1]])
    samples = {task: {"input_ids": ids, "attention_mask": np.ones_like(ids)} for task in TASKS}
    write_bundle(folder / "bundle", bundle_contents(model, 24, samples, {}))
    export_for_other_tools(folder / "bundle", folder / "out", ExportOptions(forms=("peft",)))
    return folder, ProPETLModel.from_bundle(read_bundle(folder / "bundle"), backbone)


def inputs_of(seed: int) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(5, len(TEXT_VOCABULARY), (3, 9), generator=generator)
    mask = torch.ones_like(ids)
    mask[1, 5:] = 0
    return {"input_ids": ids, "attention_mask": mask}


@pytest.mark.parametrize("task", TASKS)
def test_logits_and_answers_are_those_of_the_torch_model(exported, task) -> None:
    folder, model = exported
    base = AutoModelForSeq2SeqLM.from_pretrained(folder / "backbone")
    loaded = peft.PeftModel.from_pretrained(base, folder / "out" / task).eval()
    for seed in range(3):
        inputs = inputs_of(seed)
        labels = inputs_of(seed + 100)["input_ids"][:, :5].contiguous()
        with torch.no_grad():
            found = loaded(**inputs, labels=labels).logits
            expected = model(task, **inputs, labels=labels).logits
            np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)
            text = TASKS[task].text
            assert text is not None
            options = {"num_beams": text.num_beams, "max_new_tokens": text.max_target_length, "do_sample": False}
            answers = loaded.generate(**inputs, **options)[:, 1:]  # without the start token
            ours = model.generate(task, inputs)
        width = min(answers.shape[1], ours.shape[1])
        assert torch.equal(answers[:, :width], ours[:, :width])
        assert not answers[:, width:].any() and not ours[:, width:].any()  # padding


def test_the_adapter_matters(exported) -> None:
    folder, model = exported
    base = AutoModelForSeq2SeqLM.from_pretrained(folder / "backbone").eval()
    inputs = inputs_of(0)
    labels = inputs["input_ids"][:, :5].contiguous()
    with torch.no_grad():
        difference = base(**inputs, labels=labels).logits - model("free", **inputs, labels=labels).logits
    assert difference.abs().max() > 1e-2


def test_the_card_says_what_is_asked(exported) -> None:
    folder, _ = exported
    card = (folder / "out" / "yes-no" / "README.md").read_text()
    assert "AutoModelForSeq2SeqLM" in card and '"is it? {}"' in card and '["0", "1"]' in card
    (code,) = card.split("```python")[1].split("```")[:1]
    compile(code, "card", "exec")


def test_onnx_adapters_are_refused(exported, tmp_path) -> None:
    folder, _ = exported
    with pytest.raises(ConfigurationError, match="this bundle's answers are generated"):
        export_for_other_tools(folder / "bundle", tmp_path / "out", ExportOptions(forms=("onnx-adapter",)))
