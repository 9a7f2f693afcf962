"""LoRA of models that answer in text as PEFT loads it: the same logits and the same answers."""

import dataclasses
from pathlib import Path

import numpy as np
import peft
import pytest
import torch
import transformers

from propetl.backbone import load_backbone
from propetl.bundle import read_bundle, write_bundle
from propetl.bundle.text import TextInfo
from propetl.errors import ConfigurationError
from propetl.export.options import ExportOptions
from propetl.export.other_tools.writer import export_for_other_tools
from propetl.harvest import bundle_contents
from propetl.model import ProPETLModel
from propetl.prototypes.spec import PrototypeConfig
from propetl.task import TaskSpec
from tests.tiny_backbone import TEXT_VOCABULARY, tiny_backbone

# PEFT asks transformers for an attribute under its old name.
pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")

TASKS = {
    "free": TaskSpec(
        "free",
        ("text",),
        problem="text",
        metrics=("rouge1",),
        text=TextInfo("say: {}", max_target_length=6, num_beams=2),
    ),
    "yes-no": TaskSpec(
        "yes-no",
        ("text",),
        problem="text",
        labels=("no", "yes"),
        text=TextInfo("is it? {}", ("0", "1"), max_target_length=3),
    ),
}
LORA = PrototypeConfig("lora", masks="hybrid", rank=3, alpha=4.5, sparsity=0.5)
EACH = dataclasses.replace(LORA, scope="stack")

# One target has A and B as they are; two stand in one matrix where one module makes both (GPT-2's).
CASES = {
    "t5": ("t5", LORA),
    "t5-each": ("t5", EACH),
    "t5-tasks": ("t5", PrototypeConfig("lora", "tasks", rank=3, alpha=4.5)),
    "mt5": ("mt5", LORA),
    "bart-each": ("bart", EACH),
    "gpt2": ("gpt2", LORA),
    "llama": ("llama", dataclasses.replace(LORA, targets=("value",))),
    "qwen2": ("qwen2", dataclasses.replace(LORA, targets=("query", "key", "value"))),
}

# As deep as the encoder: transformers' own cache has no place for more layers in the decoder.
DEPTH = {"t5": {"num_decoder_layers": 2}, "mt5": {"num_decoder_layers": 2}, "bart": {"decoder_layers": 2}}


@pytest.fixture(scope="module", params=CASES)
def exported(request, tmp_path_factory):
    """A random LoRA on a tiny backbone, exported."""
    folder = tmp_path_factory.mktemp("text")
    family, config = CASES[request.param]
    backbone = load_backbone(str(tiny_backbone(folder / "backbone", family, layers=2, **DEPTH.get(family, {}))))
    model = ProPETLModel(backbone, config, tasks=TASKS, seed=1)
    with torch.no_grad():
        for parameter in model.prototype.parameters():
            parameter.normal_(std=0.3)
    ids = np.array([[7, 8, 9, 1]])
    samples = {task: {"input_ids": ids, "attention_mask": np.ones_like(ids)} for task in TASKS}
    write_bundle(folder / "bundle", bundle_contents(model, 24, samples, {}))
    export_for_other_tools(folder / "bundle", folder / "out", ExportOptions(forms=("peft",)))
    return folder, ProPETLModel.from_bundle(read_bundle(folder / "bundle"), backbone)


def inputs_of(seed: int, model: ProPETLModel) -> dict[str, torch.Tensor]:
    """Random prompts, with padding where a plain call of transformers takes it on the right."""
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(5, len(TEXT_VOCABULARY), (3, 9), generator=generator)
    mask = torch.ones_like(ids)
    if model.backbone.family.kind == "encoder-decoder":
        mask[1, 5:] = 0
    return {"input_ids": ids, "attention_mask": mask}


def load(folder: Path, model: ProPETLModel, task: str | None):
    """As the folder's card says; the backbone alone for None."""
    head = next(iter(model.infos.values())).kind.peft_head(model.backbone.family.name, "linear")
    base = getattr(transformers, head.model_class).from_pretrained(folder / "backbone").eval()
    return base if task is None else peft.PeftModel.from_pretrained(base, folder / "out" / task).eval()


def logits_of(loaded, model: ProPETLModel, inputs: dict[str, torch.Tensor], answer: torch.Tensor) -> torch.Tensor:
    """At every place of ``answer``, given the prompt and what stands before."""
    with torch.no_grad():
        if model.backbone.family.kind == "encoder-decoder":
            return loaded(**inputs, labels=answer).logits
        ids = torch.cat([inputs["input_ids"], answer], dim=1)
        return loaded(input_ids=ids).logits[:, inputs["input_ids"].shape[1] - 1 : -1]


@pytest.mark.parametrize("task", TASKS)
def test_logits_and_answers_are_those_of_the_torch_model(exported, task) -> None:
    folder, model = exported
    loaded = load(folder, model, task)
    text = TASKS[task].text
    assert text is not None
    for seed in range(3):
        inputs = inputs_of(seed, model)
        answer = inputs_of(seed + 100, model)["input_ids"][:, :5].contiguous()
        found = logits_of(loaded, model, inputs, answer)
        with torch.no_grad():
            np.testing.assert_allclose(found, model(task, **inputs, labels=answer).logits, rtol=1e-5, atol=1e-5)
            options = {"num_beams": text.num_beams, "max_new_tokens": text.max_target_length, "do_sample": False}
            start = 1 if model.backbone.family.kind == "encoder-decoder" else inputs["input_ids"].shape[1]
            answers = loaded.generate(**inputs, **options)[:, start:]
            ours = model.generate(task, inputs)
        width = min(answers.shape[1], ours.shape[1])
        assert torch.equal(answers[:, :width], ours[:, :width])
        assert not answers[:, width:].any() and not ours[:, width:].any()  # padding


def test_the_adapter_matters(exported) -> None:
    folder, model = exported
    inputs = inputs_of(0, model)
    answer = inputs["input_ids"][:, :5].contiguous()
    found, bare = (logits_of(load(folder, model, task), model, inputs, answer) for task in ("free", None))
    assert (found - bare).abs().max() > 1e-2


def test_the_card_says_what_is_asked(exported) -> None:
    folder, _ = exported
    card = (folder / "out" / "yes-no" / "README.md").read_text()
    assert "AutoModelFor" in card and '"is it? {}"' in card and '["0", "1"]' in card
    (code,) = card.split("```python")[1].split("```")[:1]
    compile(code, "card", "exec")


def test_onnx_adapters_are_refused(exported, tmp_path) -> None:
    folder, _ = exported
    with pytest.raises(ConfigurationError, match="is answered in text"):
        export_for_other_tools(folder / "bundle", tmp_path / "out", ExportOptions(forms=("onnx-adapter",)))
