"""A folded LoRA as PEFT loads it: the same logits, for every family and head."""

import json
from pathlib import Path

import numpy as np
import peft
import pytest
import torch
import transformers
from hypothesis import given, settings
from hypothesis import strategies as draw
from safetensors.numpy import load_file

from propetl.errors import ConfigurationError
from propetl.export.golden import text_inputs_of
from propetl.export.options import ExportOptions
from propetl.export.other_tools.peft_heads import FAMILIES as PEFT_FAMILIES
from propetl.export.other_tools.writer import export_for_other_tools
from propetl.families import FAMILIES
from propetl.model import ProPETLModel
from propetl.prototypes.spec import PrototypeConfig
from tests.export.random_artifact import Case, random_bundle, random_inputs, torch_logits

# PEFT asks transformers for an attribute under its old name.
pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")

TOLERANCE = 1e-5

LORA = PrototypeConfig("lora", rank=3, alpha=4.5, sparsity=0.6)
ON_ALL = PrototypeConfig("lora", rank=2, alpha=4.0, targets=("query", "key", "value"), sparsity=0.3)
UNSHARED = PrototypeConfig("lora", "unshared", rank=2)
HYBRID = PrototypeConfig("lora", masks="hybrid", rank=3, sparsity=0.3)

CASES = [
    *(Case(family, LORA, head="own", tasks={"value": 0, "three": 3}) for family in PEFT_FAMILIES),
    *(Case(family, ON_ALL, tasks={"two": 2}, layers=1) for family in PEFT_FAMILIES),
    Case("bert", UNSHARED, head="own", tasks={"two": 2, "five": 5}, layers=3),
    Case("roberta", HYBRID, head="own", tasks={"two": 2, "five": 5}),
]


@pytest.fixture(scope="module", params=CASES, ids=str)
def exported(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("peft")
    backbone, bundle = random_bundle(folder, request.param)
    export_for_other_tools(bundle.path, folder / "out", ExportOptions(forms=("peft",)))
    return folder, ProPETLModel.from_bundle(bundle, backbone)


def load(folder: Path, model: ProPETLModel, task: str):
    """As the folder's card says."""
    head = model.infos[model.tasks[0]].kind.peft_head(model.backbone.family.name, model.head_kind)
    base = getattr(transformers, head.model_class).from_pretrained(
        folder / "backbone", num_labels=model.infos[task].outputs
    )
    return peft.PeftModel.from_pretrained(base, folder / "out" / task).eval()


def logits_of(loaded, model: ProPETLModel, inputs: dict[str, np.ndarray]) -> np.ndarray:
    with torch.no_grad():
        logits = loaded(**{name: torch.from_numpy(array) for name, array in inputs.items()}).logits.numpy()
    return logits if model.head_kind == "own" else logits[:, 0]


def test_the_heads_are_of_families_there_are() -> None:
    assert set(PEFT_FAMILIES) <= set(FAMILIES)


def test_logits_are_those_of_the_torch_model(exported) -> None:
    folder, model = exported
    loaded = {task: load(folder, model, task) for task in model.tasks}

    @settings(max_examples=8, deadline=None, database=None)
    @given(seed=draw.integers(0, 2**32 - 1), rows=draw.integers(1, 4), length=draw.integers(1, 20))
    def agree(seed: int, rows: int, length: int) -> None:
        inputs = random_inputs(text_inputs_of(model), seed, rows, length)
        for task in model.tasks:
            found = logits_of(loaded[task], model, inputs)
            np.testing.assert_allclose(found, torch_logits(model, task, inputs), rtol=TOLERANCE, atol=TOLERANCE)

    agree()


def test_the_adapter_matters(exported) -> None:
    """So that a folder whose tensors PEFT ignored would be found out."""
    folder, model = exported
    inputs = random_inputs(text_inputs_of(model), 0, 4, 9)
    task = model.tasks[0]
    loaded = load(folder, model, task)
    whole = logits_of(loaded, model, inputs)
    for name, parameter in loaded.named_parameters():
        if "lora_B" in name:
            parameter.data.zero_()
    assert np.abs(logits_of(loaded, model, inputs) - whole).max() > 1e-3


def test_the_files_are_what_peft_itself_would_write(exported, tmp_path) -> None:
    folder, model = exported
    task = model.tasks[-1]
    load(folder, model, task).save_pretrained(tmp_path)
    ours, theirs = (load_file(path / "adapter_model.safetensors") for path in (folder / "out" / task, tmp_path))
    assert {name: value.shape for name, value in ours.items()} == {name: value.shape for name, value in theirs.items()}
    assert all(np.array_equal(ours[name], theirs[name]) for name in ours)
    written = json.loads((folder / "out" / task / "adapter_config.json").read_text())
    known = json.loads((tmp_path / "adapter_config.json").read_text())
    assert set(written) <= set(known)


def test_masked_weights_are_zero_in_the_file(exported) -> None:
    folder, model = exported
    tensors = load_file(folder / "out" / model.tasks[0] / "adapter_model.safetensors")
    shares = [np.mean(value != 0) for name, value in tensors.items() if "lora_A" in name]
    kept = {"unshared": 1.0, "masked": model.config.sparsity}[model.config.sharing]
    if model.config.masks == "hybrid":
        kept = 1 - (1 - kept) ** 2  # one or the other mask keeps it
    assert all(abs(share - kept) < 0.1 for share in shares)


def test_all_files_can_be_read_by_the_same_people(exported) -> None:
    """safetensors writes files of its own for their owner alone."""
    folder, model = exported
    assert len({path.stat().st_mode for path in (folder / "out" / model.tasks[0]).iterdir()}) == 1


def test_the_tokenizer_cuts_texts_as_the_bundle_does(exported) -> None:
    folder, model = exported
    read = transformers.AutoTokenizer.from_pretrained(folder / "out" / model.tasks[0])
    assert len(read("a good man " * 40, truncation=True)["input_ids"]) == read.model_max_length == 24


def test_the_card_says_how_to_load_it(exported) -> None:
    folder, model = exported
    card = (folder / "out" / model.tasks[0] / "README.md").read_text()
    head = model.infos[model.tasks[0]].kind.peft_head(model.backbone.family.name, model.head_kind)
    assert head.model_class in card and f"num_labels={model.infos[model.tasks[0]].outputs}" in card
    assert ("[:, 0]" in card) == (model.head_kind == "linear")
    (code,) = card.split("```python")[1].split("```")[:1]
    compile(code, "card", "exec")


@pytest.mark.parametrize("config", [PrototypeConfig(bottleneck=3), PrototypeConfig("head")])
def test_other_methods_are_refused(config, tmp_path) -> None:
    _, bundle = random_bundle(tmp_path, Case("bert", config, layers=1, tasks={"two": 2}))
    with pytest.raises(ConfigurationError, match=f"form peft is for LoRA.*this bundle is {config.method}"):
        export_for_other_tools(bundle.path, tmp_path / "out", ExportOptions(forms=("peft",)))
    assert not (tmp_path / "out").exists()


def test_a_head_on_a_decoder_is_refused(tmp_path) -> None:
    _, bundle = random_bundle(tmp_path, Case("gpt2", LORA, layers=1, tasks={"two": 2}))
    with pytest.raises(ConfigurationError, match=r"the heads of bert, .*; this is a head on gpt2"):
        export_for_other_tools(bundle.path, tmp_path / "out", ExportOptions(forms=("peft",)))
