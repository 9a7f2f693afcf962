"""Every form generates, token for token, what transformers' ``generate`` does on the torch model."""

from itertools import product
from typing import Any, get_args

import numpy as np
import pytest
import torch

from propetl.bundle import add_task, read_bundle
from propetl.bundle.format import pack_path
from propetl.errors import TaskError
from propetl.families import FAMILIES
from propetl.model import ProPETLModel
from propetl.prototypes.spec import Combination, MaskKind, PrototypeConfig
from propetl.runtime import Session
from propetl.runtime.artifact import read_artifact
from propetl.runtime.engines import EngineOptions
from propetl.runtime.forms.choose import open_form
from propetl.runtime.forms.staged_generating import StagedGeneratingForm
from propetl.runtime.forms.text_tasks import MixingTextForm
from propetl.runtime.generation.options import GenerationOptions
from tests.export.random_artifact import ALL_FORMS
from tests.export.random_text_artifact import TASKS, make_text_artifact, prompts, random_text_task
from tests.tiny_backbone import transformers_tokenizer

TOLERANCE = 1e-5

CASES = {
    "bart-lora-only-layers": (
        "bart",
        PrototypeConfig("lora", masks="only-layers", rank=3, alpha=9.0, targets=("query", "key", "value")),
    ),
    "bart-adapters-each": (
        "bart", PrototypeConfig(scope="stack", masks="hybrid", combine="and", bottleneck=5, sites=("attention", "ffn"))
    ),
    "mt5-loras-each-or-languages": (
        "mt5", PrototypeConfig("lora", scope="stack", masks="hybrid", languages=("de", "en"), rank=3, alpha=3.0)
    ),
    "t5-prefixes-only-tasks": ("t5", PrototypeConfig("prefix", scope="stack", masks="only-tasks", prefix_length=3)),
    "t5-loras-of-all-tasks": ("t5", PrototypeConfig("lora", "tasks", rank=2, alpha=3.0)),
    "gpt2-lora-only-tasks": ("gpt2", PrototypeConfig("lora", masks="only-tasks", rank=3, alpha=9.0)),
    "llama-prefix": ("llama", PrototypeConfig("prefix", prefix_length=3)),
    "qwen2-adapter-only-layers": (
        "qwen2", PrototypeConfig(masks="only-layers", bottleneck=5, sites=("attention", "ffn"))
    ),
    "gpt2-prefix-hybrid-add": ("gpt2", PrototypeConfig("prefix", masks="hybrid", combine="add", prefix_length=3)),
    "t5-ia3": ("t5", PrototypeConfig("ia3")),
    "llama-lora-hybrid-and-languages": (
        "llama", PrototypeConfig("lora", masks="hybrid", combine="and", languages=("de", "en"), rank=3, alpha=9.0)
    ),
}  # fmt: skip

WAYS: list[dict[str, Any]] = [
    {},
    {"beams": 2},
    {"beams": 3, "length_penalty": 2.0, "early_stopping": True},
    {"beams": 4, "length_penalty": -0.5, "early_stopping": "never"},
    {"beams": 5, "min_new_tokens": 3, "no_repeat_ngram": 2},
]


def in_transformers(way: dict[str, Any]) -> dict[str, Any]:
    """The same options as transformers calls them, none left to what a task says."""
    names = {"beams": "num_beams", "no_repeat_ngram": "no_repeat_ngram_size"}
    return {names.get(name, name): value for name, value in {"beams": 1, "length_penalty": 1.0, **way}.items()}


@pytest.fixture(scope="module", params=["t5-adapter", *CASES])
def made(request, tmp_path_factory):
    if request.param not in CASES:
        return request.getfixturevalue("text_artifact")
    family, config = CASES[request.param]
    return make_text_artifact(tmp_path_factory.mktemp("text"), config, family)


@pytest.fixture(scope="module")
def running(made):
    """Every form, and in one graph what has stages."""
    artifact = read_artifact(made.artifact)
    forms = {form: open_form(artifact, form, EngineOptions(threads=1)) for form in ALL_FORMS}
    whole = EngineOptions(threads=1, staged=False)
    return forms | {f"{form}, one graph": open_form(artifact, form, whole) for form in ("switchable", "bank")}


def test_the_cases_cover_whose_masks_there_are_in_both_kinds_of_backbone() -> None:
    met = {(FAMILIES[family].kind, config.masks) for family, config in CASES.values()}
    assert met == set(product(("encoder-decoder", "decoder"), get_args(MaskKind)))
    hybrid = [(family, config) for family, config in CASES.values() if config.masks == "hybrid"]
    assert {config.combine for _, config in hybrid} == set(get_args(Combination))
    assert {config.method for _, config in hybrid} == {"adapter", "lora", "prefix"}
    spoken = {FAMILIES[family].kind for family, config in hybrid if config.languages}
    assert spoken == {"encoder-decoder", "decoder"}


def test_stages_take_what_a_task_owns_and_run_without_bits(made) -> None:
    """Layers' masks are in the stage; a task's and its language's go in, and into no graph that runs."""
    stages = made.manifest.forms["switchable"].stages
    owned = made.bundle.packs["echo"].tensors()
    assert (stages is not None) == bool(owned) and stages == made.manifest.forms["bank"].stages
    if stages is not None:
        assert {item.name for item in stages.apply.inputs} == owned.keys()
        assert all(item.dtype != "uint8" for graph in stages.run.values() for item in graph.inputs)


@pytest.mark.parametrize("way", WAYS, ids=str)
def test_every_form_generates_what_transformers_does(made, running, way) -> None:
    random = np.random.default_rng(len(str(way)))
    lengths, texts = set(), set()
    theirs = in_transformers(way)
    for length in (1, 4, 9, 17):
        for task in TASKS:
            inputs = prompts(random, rows=int(random.integers(1, 5)), length=length)
            expected = made.generated(task, inputs, max_new_tokens=11, **theirs)
            for form in running.values():
                found = form.bind(task).generate(inputs, GenerationOptions(11, **way))
                assert [row.tolist() for row in found] == expected
            lengths |= set(map(len, expected))
            texts |= set(map(tuple, expected))
    assert len(lengths) > 1 and len(texts) > len(TASKS)  # not one answer for all prompts of a task


def test_logits_of_the_first_token_are_torchs(made, running) -> None:
    random = np.random.default_rng(0)
    for rows, length in [(1, 1), (3, 1), (1, 9), (5, 14)]:
        inputs = prompts(random, rows, length)
        for task in TASKS:
            expected = made.first_logits(task, inputs)
            for form in running.values():
                assert np.abs(form.bind(task).infer(inputs) - expected).max() <= TOLERANCE


def test_tasks_differ(made) -> None:
    """So that a form which mixed tasks up would be found out; but those that own nothing are one."""
    inputs = prompts(np.random.default_rng(1), 3, 9)
    first, *others = (made.first_logits(task, inputs) for task in TASKS)
    differ = [np.abs(first - other).max() > 1e-2 for other in others]
    assert all(differ) if made.bundle.packs["echo"].tensors() else not any(differ)


@pytest.mark.parametrize("form", ["switchable", "bank", "bank, one graph"])
def test_rows_of_a_batch_each_have_their_task(made, running, form) -> None:
    random, mixing = np.random.default_rng(2), running[form]
    if form == "switchable" and not made.bundle.packs["echo"].tensors():
        assert not isinstance(mixing, MixingTextForm)  # tasks that own nothing have no rows to mix, and no stages
        return
    assert isinstance(mixing, MixingTextForm) and not isinstance(running["folded"], MixingTextForm)
    for way in WAYS[:3]:
        inputs = prompts(random, rows=7, length=8)
        tasks = [str(task) for task in random.choice(sorted(TASKS), 7)]
        bound = [mixing.bind(task) for task in tasks]
        found = mixing.generate_mixed(bound, inputs, GenerationOptions(9, **way), np.arange(7))
        theirs = in_transformers(way)
        for row, task in enumerate(tasks):
            alone = {name: ids[row : row + 1] for name, ids in inputs.items()}
            assert [found[row].tolist()] == made.generated(task, alone, max_new_tokens=9, **theirs)


def test_a_session_answers_what_the_model_does(made) -> None:
    texts = {"echo": [("a man", "no dog"), ("bad dog", "is")], "mood": ["good", "not a man"], "degree": ["no", "a man"]}
    tokenizer = transformers_tokenizer(made.backbone)
    for form in ALL_FORMS:
        with Session.open(made.artifact, form=form, threads=1) as session:
            for task, rows in texts.items():
                text = TASKS[task].text
                assert text is not None
                sources = [text.source((row,) if isinstance(row, str) else row) for row in rows]
                encoded = tokenizer(sources, padding=True, return_tensors="pt", return_token_type_ids=False)
                expected = tokenizer.backend_tokenizer.decode_batch(
                    made.model.generate(task, dict(encoded)).tolist(), skip_special_tokens=True
                )
                assert session.generate(task, rows) == expected
                assert [prediction.generated for prediction in session.predict(task, rows)] == expected


def test_a_task_that_came_later_generates_in_the_switchable_graphs(made, running) -> None:
    path = made.bundle.path
    if "later" not in read_bundle(path).packs:
        random = np.random.default_rng(8)
        add_task(path, "later", random_text_task(made.model.config, made.backbone, TASKS["echo"], random))
    grown = ProPETLModel.from_bundle(read_bundle(path), made.backbone)
    inputs = prompts(np.random.default_rng(3), 3, 7)
    tensors = {name: torch.from_numpy(ids) for name, ids in inputs.items()}
    with Session.open(made.artifact, form="switchable", threads=1) as session:
        with pytest.raises(TaskError, match="later"):
            session.generate("later", inputs)
        session.add_task(path / pack_path("later"))
        expected = transformers_tokenizer(made.backbone).backend_tokenizer.decode_batch(
            grown.generate("later", tensors, max_new_tokens=8).tolist(), skip_special_tokens=True
        )
        assert session.generate("later", inputs, max_new_tokens=8) == expected


def test_engines_of_a_form_are_its_parts(made, running) -> None:
    for form in running.values():
        applied = ["model.onnx"] if isinstance(form, StagedGeneratingForm) else []
        files = [graph.path.rsplit("/", 1)[1] for graph, _ in form.engines("echo")]
        parts = (["encoder_model.onnx", "decoder_model.onnx", "decoder_with_past_model.onnx"], ["model.onnx"])
        assert files in [applied + names for names in parts]
    staged = {name for name, form in running.items() if isinstance(form, StagedGeneratingForm)}
    assert staged == ({"switchable", "bank"} if made.bundle.packs["echo"].tensors() else set())
