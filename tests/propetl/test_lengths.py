"""Nothing is longer than a backbone has positions for, and no answer is beyond what a tokenizer writes."""

import json

import pytest
import torch

from propetl.backbone import load_backbone
from propetl.bundle.text import TextInfo
from propetl.data.answer_words import check_answers
from propetl.errors import ConfigurationError
from propetl.lengths import check_lengths, positions_of
from propetl.training import run as run_module
from propetl.training.config_file import config_from
from propetl.training.tasks import tokenizer_of
from tests.tiny_backbone import tiny_backbone

SIZES = {"max_position_embeddings": 40}
LONGEST = {
    "bert": 40, "electra": 40, "distilbert": 40, "roberta": 39, "xlm-roberta": 39, "mpnet": 38, "bart": 40,
    "gpt2": 40, "llama": 40, "qwen2": 40, "t5": None, "mt5": None,
}  # fmt: skip


@pytest.fixture(scope="module")
def backbones(tmp_path_factory):
    root = tmp_path_factory.mktemp("positions")
    sizes = {"gpt2": {"n_positions": 40}, "t5": {}, "mt5": {}}
    return {
        family: load_backbone(str(tiny_backbone(root / family, family, layers=1, **sizes.get(family, SIZES))))
        for family in LONGEST
    }


@pytest.mark.parametrize("family", LONGEST)
def test_the_longest_input_is_one_that_the_backbone_reads(backbones, family):
    """And a longer one it does not read, where positions are a table."""
    backbone, longest = backbones[family], LONGEST[family]
    assert positions_of(backbone) == longest
    if longest is None:
        return
    ids = torch.full((1, longest), 5)
    inputs = {"decoder_input_ids": ids[:, :1]} if family == "bart" else {}
    backbone.model(input_ids=ids, **inputs)
    check_lengths(backbone, longest, {})
    with pytest.raises(ConfigurationError, match=rf"max_length {longest + 1} .*: {longest} is the largest"):
        check_lengths(backbone, longest + 1, {})
    if family not in ("llama", "qwen2"):
        with pytest.raises((IndexError, RuntimeError)):
            backbone.model(input_ids=torch.full((1, longest + 1), 5), **inputs)


@pytest.mark.parametrize(("family", "most"), [("gpt2", 16), ("llama", 16), ("bart", 40)])
def test_answers_fit_too(backbones, family, most):
    check_lengths(backbones[family], 24, {"echo": TextInfo("{}", max_target_length=most), "mood": None})
    with pytest.raises(ConfigurationError, match=f"task 'echo': max_target_length {most + 1} .*{most} is the largest"):
        check_lengths(backbones[family], 24, {"echo": TextInfo("{}", max_target_length=most + 1)})


def test_positions_without_an_end(backbones):
    check_lengths(backbones["t5"], 10_000, {"echo": TextInfo("{}", max_target_length=10_000)})


class TestAnswers:
    @pytest.fixture
    def tokenizer(self, backbones):
        return tokenizer_of(backbones["t5"])

    @pytest.mark.parametrize(
        ("words", "message"),
        [
            (("good", "<bad>"), "'<bad>', it reads back as 'bad'"),
            (("Good", "bad"), "'Good', it reads back as 'ood'"),
            (("good", "good\n"), "reads back as"),
            (("good", "</s>"), "'</s>', it reads back as ''"),
            (("good", "bad "), "'bad ', it reads back as 'bad'"),
        ],
    )
    def test_a_word_that_cannot_be_written(self, tokenizer, words, message):
        with pytest.raises(ConfigurationError, match=f"task 'mood': the tokenizer cannot write the answer .*{message}"):
            check_answers("mood", TextInfo("{}", words), tokenizer)

    def test_words_that_can_be_written(self, tokenizer):
        check_answers("mood", TextInfo("{}", ("good", "not bad", "-1.5")), tokenizer)
        check_answers("degree", TextInfo("{}", step=0.2), tokenizer, [0.0, 3.4, -2])

    def test_a_word_that_is_too_long(self, tokenizer):
        with pytest.raises(ConfigurationError, match=r"'not good' takes 3 tokens.*max_target_length is 2"):
            check_answers("mood", TextInfo("{}", ("bad", "not good"), max_target_length=2), tokenizer)


def write_rows(root, rows):
    (root / "data" / "mood").mkdir(parents=True)
    for split in ("train", "dev"):
        lines = [json.dumps({"text": row, "label": index % 2, "said": row}) for index, row in enumerate(rows)]
        (root / "data" / "mood" / f"{split}.jsonl").write_text("\n".join(lines))


def config_of(backbone, root, task, **more):
    fixed = {"backbone": backbone, "data": str(root / "data"), "output": str(root / "run"), "max_length": 12,
             "tasks": {"mood": task}, "batch_size": 4, "max_steps": 1, "tensorboard": False, "device": "cpu",
             "prototype": {"bottleneck": 4}}  # fmt: skip
    return config_from(fixed | more, {}, "test")


CLASSES = {"columns": "text", "labels": ["bad", "good"]}
ECHO = {"columns": "text", "label": "said", "problem": "text"}
LONGER = {"max_length": 24}


@pytest.mark.parametrize(
    ("family", "task", "more", "message"),
    [
        ("bert", CLASSES, {"max_length": 41}, "40 is the largest"),
        ("gpt2", ECHO | {"max_target_length": 17}, LONGER, "16 is the largest"),
        ("bart", ECHO | {"max_target_length": 41}, LONGER, "40 is the largest"),
        ("t5", CLASSES | {"problem": "text", "prompt": "a b c d e f g h i j k {}"}, {}, "leaves no room for its texts"),
        ("t5", CLASSES | {"labels": ["bad", "{good}"]}, {"max_length": 32}, "cannot write the answer '{good}'"),
    ],
)
def test_training_is_refused_before_anything_is_written(backbones, tmp_path, family, task, more, message):
    write_rows(tmp_path, ["a good man", "a bad dog"] * 2)
    with pytest.raises(ConfigurationError, match=message):
        run_module.train(config_of(backbones[family].info.name, tmp_path, task, **more))
    assert not (tmp_path / "run").exists()


def test_truncated_rows_are_said_and_kept(backbones, tmp_path):
    from rich.console import Console

    write_rows(tmp_path, ["a good man", "a dog " * 20, "bad dog", "no " * 30])
    console = Console(record=True, width=200)
    run_module.train(config_of(backbones["bert"].info.name, tmp_path, CLASSES), console=console)
    expected = {"rows": 4, "truncated": 2, "share": 0.5, "longest": 42}
    assert "2 of 4 rows (50.0%) are longer than max_length 12 and were truncated; the longest has 42 tokens" in (
        console.export_text()
    )
    report = json.loads((tmp_path / "run" / "train.json").read_text())
    assert report["conditions"]["truncation"] == {"mood": {"train": expected, "dev": expected}}
    first = json.loads((tmp_path / "run" / "log.jsonl").read_text().splitlines()[0])
    assert (first["step"], first["truncation"]["mood"]["train"]) == (0, expected)
