"""A bundle of random tasks that are answered in text: they take as long as trained ones, and need no network."""

from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from propetl.backbone import load_backbone
from propetl.bundle import BundleContents, TaskContents, write_bundle
from propetl.bundle.text import TextInfo
from propetl.prototypes.spec import PrototypeConfig
from propetl.task import TaskSpec

TASKS = ("first", "second")


@dataclass(frozen=True)
class TextSize:
    """Sizes of a T5, as its configuration calls them."""

    d_model: int
    d_kv: int
    d_ff: int
    num_layers: int
    num_heads: int
    vocab_size: int


T5_SMALL = TextSize(512, 64, 2048, 6, 8, 32128)
SMALL_T5 = TextSize(64, 16, 128, 2, 4, 512)


def write_random_text_bundle(folder: Path, size: TextSize, longest_answer: int = 128) -> None:
    """A backbone of ``size`` in ``folder/backbone``, and a bundle of two tasks with an adapter in ``folder/bundle``."""
    _save_backbone(folder / "backbone", size)
    backbone = load_backbone(str(folder / "backbone"))
    config = PrototypeConfig(bottleneck=48, activation="gelu_new")
    layout, random = backbone.info.layout(config), np.random.default_rng(0)
    text = TextInfo("{}", max_target_length=longest_answer)
    info = TaskSpec("task", ("text",), problem="text", metrics=("exact_match",), text=text)
    masks = {name: random.integers(0, 256, size=shape, dtype=np.uint8) for name, shape in layout.mask_shapes().items()}
    samples = {"input_ids": np.full((2, 8), 5), "attention_mask": np.ones((2, 8), dtype=np.int64)}
    contents = BundleContents(
        backbone=backbone.info,
        config=config,
        head="linear",
        max_length=512,
        prototype={
            name: (0.02 * random.normal(size=shape)).astype(np.float32)
            for name, shape in layout.prototype_shapes().items()
        },
        tasks={name: TaskContents(info, masks, {}, {}, samples) for name in TASKS},
        tokenizer=dict(backbone.tokenizer_files),
        created_by="benchmarks/random_texts.py",
    )
    write_bundle(folder / "bundle", contents)


def _save_backbone(folder: Path, size: TextSize) -> None:
    import torch
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast, T5Config, T5ForConditionalGeneration

    torch.manual_seed(0)
    special = {"decoder_start_token_id": 0, "pad_token_id": 0, "eos_token_id": 1}
    T5ForConditionalGeneration(T5Config(**asdict(size), **special)).save_pretrained(folder)
    words = {"<pad>": 0, "</s>": 1, **{f"w{index}": index for index in range(2, size.vocab_size)}}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="w2"))
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>", eos_token="</s>").save_pretrained(folder)
