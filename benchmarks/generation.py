"""Generation of every form beside transformers' ``generate``: ``propetl bench`` on a backbone of T5-small's sizes.

    python benchmarks/generation.py OUT.json [--small]      # a quarter of an hour; --small is a try of two minutes

Weights are random, which takes as long as trained ones; every answer is as long as asked. Greedy at one and eight rows,
and four beams at one row.
"""

import json
import sys
import tempfile
from pathlib import Path

import numpy as np
from rich.console import Console

from propetl.runtime.bench.plan import BenchOptions, plan_of
from propetl.runtime.bench.run import run_bench
from propetl.runtime.bench.table import print_report

PROMPT, NEW_TOKENS = 64, 48
# Rows and beams of each run.
RUNS = (((1, 8), 1), ((1,), 4))
SIZES = {"d_model": 512, "d_kv": 64, "d_ff": 2048, "num_layers": 6, "num_heads": 8, "vocab_size": 32128}
SMALL = {"d_model": 64, "d_kv": 16, "d_ff": 128, "num_layers": 2, "num_heads": 4, "vocab_size": 512}


def main() -> None:
    """Measures, prints and writes."""
    small = "--small" in sys.argv
    reports = []
    with tempfile.TemporaryDirectory() as folder:
        _write(Path(folder), SMALL if small else SIZES)
        for batches, beams in RUNS:
            options = BenchOptions(
                batches=batches,
                sequences=(PROMPT,),
                new_tokens=NEW_TOKENS,
                beams=beams,
                rounds=1 if small else 5,
                bundle=Path(folder) / "bundle",
            )
            report = run_bench(plan_of(Path(folder) / "artifact", options))
            print_report(Console(), report)
            reports.append(report.to_json())
    Path(sys.argv[1]).write_text(json.dumps({"sizes": SMALL if small else SIZES, "reports": reports}, indent=2) + "\n")


def _write(folder: Path, sizes: dict[str, int]) -> None:
    """A backbone of ``sizes``, a bundle of two random tasks with an adapter, and its artifact in all forms."""
    from propetl.backbone import load_backbone
    from propetl.bundle import BundleContents, TaskContents, TaskInfo, write_bundle
    from propetl.bundle.text import TextInfo
    from propetl.export.options import ExportOptions
    from propetl.export.writer import export_bundle
    from propetl.prototypes.spec import PrototypeConfig

    _save_backbone(folder / "backbone", sizes)
    backbone = load_backbone(str(folder / "backbone"))
    config = PrototypeConfig(bottleneck=48, activation="gelu_new")
    layout, random = backbone.info.layout(config), np.random.default_rng(0)
    info = TaskInfo("text", (), ("text",), ("exact_match",), text=TextInfo("{}"))
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
        tasks={name: TaskContents(info, masks, {}, {}, samples) for name in ("first", "second")},
        tokenizer=dict(backbone.tokenizer_files),
        created_by="benchmarks/generation.py",
    )
    write_bundle(folder / "bundle", contents)
    export_bundle(folder / "bundle", folder / "artifact", ExportOptions(forms=("folded", "switchable", "bank")))


def _save_backbone(folder: Path, sizes: dict[str, int]) -> None:
    import torch
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast, T5Config, T5ForConditionalGeneration

    torch.manual_seed(0)
    special = {"decoder_start_token_id": 0, "pad_token_id": 0, "eos_token_id": 1}
    T5ForConditionalGeneration(T5Config(**sizes, **special)).save_pretrained(folder)
    words = {"<pad>": 0, "</s>": 1, **{f"w{index}": index for index in range(2, sizes["vocab_size"])}}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="w2"))
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>", eos_token="</s>").save_pretrained(folder)


if __name__ == "__main__":
    main()
