"""Random bundles of backbones that generate, exported: what generation without PyTorch is tested on."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSeq2SeqLM

from propetl.backbone import Backbone, load_backbone
from propetl.bundle import Bundle, BundleContents, TaskContents, read_bundle, write_bundle
from propetl.bundle.text import TextInfo
from propetl.export.options import ExportOptions
from propetl.export.writer import export_bundle
from propetl.model import ProPETLModel
from propetl.prototypes.spec import PrototypeConfig
from propetl.runtime.manifest import Manifest
from propetl.task import TaskSpec
from tests.export.random_artifact import ALL_FORMS
from tests.tiny_backbone import TEXT_VOCABULARY, tiny_backbone
from tests.tiny_bundle import random_contents

Ids = NDArray[np.int64]

PAD, END = 0, 1

# Answers of three kinds, asked in three ways.
TASKS = {
    "echo": TaskSpec(
        "echo",
        ("text", "other"),
        problem="text",
        metrics=("exact_match",),
        text=TextInfo("echo {} after {}", (), None, 12),
    ),
    "mood": TaskSpec(
        "mood",
        ("text",),
        problem="text",
        labels=("bad", "good"),
        text=TextInfo("mood: {}", ("is", "dog"), None, 6, 3, 0.6),
    ),
    "degree": TaskSpec(
        "degree", ("text",), problem="text", metrics=("pearson",), text=TextInfo("degree {}", (), 0.2, 6)
    ),
}


@dataclass(frozen=True)
class TextArtifact:
    """A random bundle, the torch model it stands for, and its artifact."""

    bundle: Bundle
    backbone: Backbone
    model: ProPETLModel
    artifact: Path
    manifest: Manifest

    def generated(self, task: str, inputs: dict[str, Ids], **options: Any) -> list[list[int]]:
        """What transformers' ``generate`` gives with the task's prototype attached, up to the end of each row."""
        tensors = {name: torch.from_numpy(array) for name, array in inputs.items()}
        return [_until_end(row) for row in self.model.generate(task, tensors, **options).tolist()]

    def first_logits(self, task: str, inputs: dict[str, Ids]) -> NDArray[np.float32]:
        """PyTorch's logits of the first token."""
        tensors = {name: torch.from_numpy(array) for name, array in inputs.items()}
        with torch.no_grad():
            logits: NDArray[np.float32] = self.model(task, **tensors).logits[:, -1].numpy()
        return logits


def make_text_artifact(
    folder: Path,
    config: PrototypeConfig,
    family: str = "t5",
    forms: tuple[str, ...] = ALL_FORMS,
    *,
    hidden: int = 24,
    layers: int = 1,
    std: float = 0.4,
    **options: Any,
) -> TextArtifact:
    """Draws, writes and exports a bundle of :data:`TASKS`; ``options`` are those of the export."""
    backbone = load_backbone(str(lively(tiny_backbone(folder / "backbone", family, hidden=hidden, layers=layers), std)))
    drawn = random_contents(
        config,
        backbone.info,
        {"first": 2},
        tokenizer=backbone.tokenizer_files,
        token_inputs=("input_ids", "attention_mask"),
    )
    random = np.random.default_rng(3)
    tasks = {
        name: random_text_task(config, backbone, info, random, turn) for turn, (name, info) in enumerate(TASKS.items())
    }
    write_bundle(folder / "bundle", BundleContents(**{**drawn.__dict__, "tasks": tasks}))
    bundle = read_bundle(folder / "bundle")
    manifest = export_bundle(bundle.path, folder / "artifact", ExportOptions(forms=forms, **options))
    return TextArtifact(bundle, backbone, ProPETLModel.from_bundle(bundle, backbone), folder / "artifact", manifest)


def random_text_task(
    config: PrototypeConfig, backbone: Backbone, info: TaskSpec, random: np.random.Generator, turn: int = 0
) -> TaskContents:
    """Masks (or weights) and sample rows of one task that is answered in text; ``turn`` chooses its language."""
    seed = int(random.integers(1 << 30))
    drawn = random_contents(config, backbone.info, {"task": 2}, seed=seed).tasks["task"]
    language = config.languages[turn % len(config.languages)] if config.languages else None
    spoken = replace(info, language=language)
    return TaskContents(spoken, drawn.masks, drawn.weights, {}, prompts(random, rows=4, length=9))


def prompts(random: np.random.Generator, rows: int, length: int) -> dict[str, Ids]:
    """Token ids with an end token, and padding of any length behind."""
    lengths = random.integers(1, length + 1, size=(rows, 1))
    mask = (np.arange(length) < lengths).astype(np.int64)
    ids = random.integers(5, len(TEXT_VOCABULARY), size=(rows, length)) * mask
    ids[np.arange(rows), lengths[:, 0] - 1] = END
    return {"input_ids": ids, "attention_mask": mask}


def lively(folder: Path, std: float = 0.4) -> Path:
    """Changes the weights in ``folder`` so that texts depend on the prompt, and end at many lengths."""
    decoder = not AutoConfig.from_pretrained(folder).is_encoder_decoder
    model = (AutoModelForCausalLM if decoder else AutoModelForSeq2SeqLM).from_pretrained(folder)
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.dim() > 1:
                parameter.normal_(std=std, generator=generator)
            elif "norm" not in name and "ln_" not in name:
                parameter.normal_(std=0.1, generator=generator)
        model.get_output_embeddings().weight[END] *= 2.5
        _scale_head(model)
    model.save_pretrained(folder)
    return folder


def _scale_head(model: Any) -> None:
    """Scales the states that an encoder-decoder's head reads by ``d ** -0.5``, as T5 does, in the head's own weights.

    Logits would else be so large that PyTorch itself is more than 1e-5 away from its answers in float64. BART reads
    its text by the same matrix, through a norm: positions are scaled with it, and the sum is as before.
    """
    config = model.config
    if not config.is_encoder_decoder or getattr(config, "scale_decoder_outputs", False):
        return
    head = model.get_output_embeddings().weight
    for name, parameter in model.named_parameters():
        if parameter is head or "embed_positions" in name:
            parameter.mul_(config.d_model**-0.5)


def _until_end(row: list[int]) -> list[int]:
    return row[: row.index(END) + 1] if END in row else row
