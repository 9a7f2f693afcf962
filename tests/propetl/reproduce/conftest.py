"""Tiny backbones, and a few rows of every task that the paper's configurations name."""

from pathlib import Path
from typing import Any

import pytest
import torch

from propetl.data.tasks import TASKS
from tests.tiny_backbone import tiny_backbone

CONFIGS = Path(__file__).resolve().parents[3] / "examples" / "paper"

SMALL: dict[str, Any] = {
    "max_steps": 2,
    "batch_size": 8,
    "max_length": 64,
    "eval_batch_size": 16,
    "device": "cpu",
    "tensorboard": False,
}
"""What every configuration is run with here."""

ROWS = {"train": 16, "dev": 8}


@pytest.fixture(scope="session")
def roberta(tmp_path_factory) -> str:
    return str(tiny_backbone(tmp_path_factory.mktemp("reproduce") / "roberta", "roberta", hidden=16))


@pytest.fixture(scope="session")
def t5(tmp_path_factory) -> str:
    return str(tiny_backbone(tmp_path_factory.mktemp("reproduce") / "t5", "t5", hidden=16, layers=1))


@pytest.fixture(scope="session")
def texts(tmp_path_factory) -> str:
    """XSum and WMT16 ro-en, 16 and 8 rows each."""
    root = tmp_path_factory.mktemp("texts")
    for task, columns in (("xsum", "document\tsummary"), ("wmt16-ro-en", "ro\ten")):
        (root / task).mkdir()
        for split, count in ROWS.items():
            rows = [f"the man is not {row}\tgood man {row}" for row in range(count)]
            (root / task / f"{split}.tsv").write_text("\n".join([columns, *rows, ""]))
    return str(root)


@pytest.fixture(scope="session")
def glue(tmp_path_factory) -> str:
    """The eight tasks of GLUE, 16 and 8 rows each."""
    root = tmp_path_factory.mktemp("glue")
    for task, spec in TASKS.items():
        (root / task).mkdir()
        for split, count in ROWS.items():
            labels = [str(row % 5 + 0.5) if not spec.labels else str(row % len(spec.labels)) for row in range(count)]
            texts = ["\t".join(f"the {('man', 'dog')[row % 2]} is {row}" for _ in spec.columns) for row in range(count)]
            lines = ["\t".join([*spec.columns, "label"]), *(map("\t".join, zip(texts, labels, strict=True)))]
            (root / task / f"{split}.tsv").write_text("\n".join([*lines, ""]))
    return str(root)


@pytest.fixture(autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
