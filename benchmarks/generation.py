"""Tokens per second of generation: PyTorch's ``generate`` beside each form without PyTorch.

    python benchmarks/generation.py OUT.json [--small]        # about ten minutes; --small is a try of half a minute

The backbone has the sizes of T5-small and random weights, which take as long as trained ones; every answer is as long
as asked. Each subject runs in a process of its own, one after the other, in rounds: A B C D, A B C D, …
"""

import json
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

ROUNDS = 3
THREADS = 1
SUBJECTS = ("torch", "folded", "switchable", "bank")
# Rows, beams, tokens of the text, tokens that are generated.
SHAPES = ((1, 1, 64, 48), (8, 1, 64, 48), (1, 4, 64, 48))
SIZES = {"d_model": 512, "d_kv": 64, "d_ff": 2048, "num_layers": 6, "num_heads": 8, "vocab_size": 32128}
SMALL = {"d_model": 64, "d_kv": 16, "d_ff": 128, "num_layers": 2, "num_heads": 4, "vocab_size": 512}


def main() -> None:
    """Measures, prints and writes."""
    if sys.argv[1] == "--run":
        print(json.dumps(_run(sys.argv[2], Path(sys.argv[3]))))
        return
    sizes = SMALL if "--small" in sys.argv else SIZES
    found: dict[str, list[list[float]]] = {subject: [] for subject in SUBJECTS}
    with tempfile.TemporaryDirectory() as folder:
        _write(Path(folder), sizes)
        for _ in range(ROUNDS):
            for subject in SUBJECTS:
                command = [sys.executable, __file__, "--run", subject, folder]
                found[subject].append(json.loads(subprocess.run(command, check=True, capture_output=True).stdout))
    report = _report(found, sizes)
    Path(sys.argv[1]).write_text(json.dumps(report, indent=2) + "\n")
    for row in report["rows"]:
        print(row)


def _report(found: dict[str, list[list[float]]], sizes: dict[str, int]) -> dict[str, Any]:
    """Medians over the rounds, and ratios to PyTorch of the same round."""
    rows = []
    for place, (batch, beams, length, tokens) in enumerate(SHAPES):
        for subject in SUBJECTS:
            speeds = [speed[place] for speed in found[subject]]
            ratios = [speed / torch[place] for speed, torch in zip(speeds, found["torch"], strict=True)]
            rows.append(
                {
                    "subject": subject,
                    "batch": batch,
                    "beams": beams,
                    "text tokens": length,
                    "new tokens": tokens,
                    "tokens per second": round(statistics.median(speeds), 1),
                    "ratio to torch": round(statistics.median(ratios), 3),
                }
            )
    conditions = {"machine": platform.machine(), "python": platform.python_version(), "threads": THREADS}
    return {"rows": rows, "sizes": sizes, "conditions": conditions | {"rounds": ROUNDS}}


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
    masks = {
        name: random.integers(0, 256, size=shape, dtype=np.uint8) for name, shape in layout.mask_shapes().items()
    }
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


def _run(subject: str, folder: Path) -> list[float]:
    """Tokens per second for each shape; the first call of each is not timed."""
    generate = _torch(folder) if subject == "torch" else _session(subject, folder)
    vocabulary = json.loads((folder / "backbone" / "config.json").read_text())["vocab_size"]
    random = np.random.default_rng(1)
    speeds = []
    for batch, beams, length, tokens in SHAPES:
        ids = random.integers(2, vocabulary, size=(batch, length))
        feeds = {"input_ids": ids, "attention_mask": np.ones_like(ids)}
        generate(feeds, beams, tokens)
        start = time.perf_counter()
        generate(feeds, beams, tokens)
        speeds.append(batch * tokens / (time.perf_counter() - start))
    return speeds


def _torch(folder: Path) -> Any:
    import torch

    from propetl.backbone import load_backbone
    from propetl.bundle import read_bundle
    from propetl.model import ProPETLModel

    torch.set_num_threads(THREADS)
    model = ProPETLModel.from_bundle(read_bundle(folder / "bundle"), load_backbone(str(folder / "backbone")))

    def generate(feeds: dict[str, np.ndarray], beams: int, tokens: int) -> None:
        inputs = {name: torch.from_numpy(value) for name, value in feeds.items()}
        model.generate("first", inputs, num_beams=beams, max_new_tokens=tokens, min_new_tokens=tokens)

    return generate


def _session(form: str, folder: Path) -> Any:
    from propetl.runtime import Session

    session = Session.open(folder / "artifact", form=form, threads=THREADS)

    def generate(feeds: dict[str, np.ndarray], beams: int, tokens: int) -> None:
        session.generate("first", feeds, beams=beams, max_new_tokens=tokens, min_new_tokens=tokens)

    return generate


if __name__ == "__main__":
    main()
