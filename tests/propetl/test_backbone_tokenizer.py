"""The settings of a tokenizer change nothing: everybody reads the ids that transformers gives at its defaults."""

import itertools
import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer
from transformers import AutoTokenizer

from propetl.backbone import load_backbone
from propetl.backbone_tokenizer import checked_tokenizer, pad_token, tokenizer_files
from propetl.bundle.tokenizer_files import with_max_length
from propetl.data.tables import Rows
from propetl.data.tokenise import collate_with, encode_rows
from propetl.errors import ConfigurationError
from propetl.files import json_bytes
from propetl.runtime.tokenise import Tokeniser
from propetl.runtime.triton_server.settings import ServedTask, Settings
from propetl.runtime.triton_server.tokenise import TritonPythonModel
from propetl.task import TaskSpec
from propetl.training.tasks import tokenizer_of
from tests.runtime.triton_server.triton_double import install, request
from tests.runtime.triton_server.triton_double import strings as triton_strings
from tests.tiny_backbone import tiny_backbone
from tests.tiny_tokenizers import KINDS, NAMES, save_tokenizer, strings

MAX_LENGTH = 24
TRUNCATION = {"max_length": 7, "stride": 2, "strategy": "only_first", "direction": "left"}
SETTINGS = [
    {"padding_side": padding, "truncation_side": truncation, "model_max_length": length, "stored": stored}
    for padding, truncation, length, stored in itertools.product(
        ("right", "left"), ("right", "left"), (5, 10**30), (False, True)
    )
]
PADS = ("own", "missing", "end")


@pytest.fixture(scope="module")
def backends():
    return {kind: make() for kind, make in KINDS.items()}


class Loaded:
    """A tokenizer folder, as :func:`load_backbone` takes it."""

    def __init__(self, kind, folder):
        tokenizer = checked_tokenizer(AutoTokenizer.from_pretrained(folder), torch.nn.Embedding(1000, 1))
        self.family = SimpleNamespace(kind="decoder", inputs=("input_ids", "attention_mask"))
        if kind == "wordpiece":
            self.family.inputs += ("token_type_ids",)
        self.pad_token_id = pad_token(tokenizer, SimpleNamespace(pad_token_id=None), self.family)
        self.end_token_id = None
        self.tokenizer_files = tokenizer_files(tokenizer, self.pad_token_id, self.family.inputs)


def saved(kind, backend, folder, pad="own", stored=False, **settings):
    own = Tokenizer.from_str(backend.to_str())
    if pad != "own":
        end = NAMES[kind].get("eos_token") or NAMES[kind]["sep_token"]
        settings |= {"pad_token": end if pad == "end" else None}
    if stored:
        own.enable_truncation(**TRUNCATION)
        own.enable_padding(direction="left", pad_id=0, pad_token=own.id_to_token(0), length=30)
    return save_tokenizer(kind, folder, own, **settings)


@pytest.mark.parametrize("kind", KINDS)
def test_no_setting_changes_the_canonical_file(backends, kind, tmp_path):
    plain = json.loads(Loaded(kind, saved(kind, backends[kind], tmp_path / "plain")).tokenizer_files["tokenizer.json"])
    assert plain["truncation"] is None and plain["padding"]["direction"] == "Right"
    for number, (settings, pad) in enumerate(itertools.product(SETTINGS, PADS)):
        loaded = Loaded(kind, saved(kind, backends[kind], tmp_path / str(number), pad, **settings))
        found = json.loads(loaded.tokenizer_files["tokenizer.json"])
        assert found.pop("padding")["strategy"] == "BatchLongest"
        assert found == {key: value for key, value in plain.items() if key != "padding"}, (settings, pad)
        config = json.loads(loaded.tokenizer_files["tokenizer_config.json"])
        assert (config["padding_side"], config["truncation_side"]) == ("right", "right")


def everybody(loaded, folder, rows):
    """Ids, token by token, of training, of a session and of Triton, for ``rows`` of one kind."""
    files = with_max_length(loaded.tokenizer_files, MAX_LENGTH)
    (folder / "1").mkdir(parents=True, exist_ok=True)
    (folder / "1" / "tokenizer.json").write_bytes(files["tokenizer.json"])
    pair = not isinstance(rows[0], str)
    texts = rows if pair else [(row,) for row in rows]
    trained = encode_rows(Rows(texts, np.zeros(len(rows), int), "here"), tokenizer_of(loaded), MAX_LENGTH)
    batch = collate_with(tokenizer_of(loaded))([trained[index] for index in range(len(rows))])
    inputs = loaded.family.inputs
    yield "training", {name: batch[name].numpy() for name in inputs}
    read = Tokeniser(folder / "1" / "tokenizer.json", MAX_LENGTH, loaded.pad_token_id, inputs)
    yield "runtime", read(rows)
    task = ServedTask(TaskSpec("task", ("x", "y")[: 1 + pair], labels=("a", "b")), 0)
    settings = Settings(MAX_LENGTH, loaded.pad_token_id, 1, inputs, False, {"t": task})
    (folder / "1" / "propetl.json").write_bytes(json_bytes(settings.to_json()))
    model = TritonPythonModel()
    model.initialize({"model_repository": str(folder), "model_version": "1"})
    (answer,) = model.execute([request(text=triton_strings([list(row) for row in texts]))])
    assert answer.error is None, answer.error
    yield "Triton", answer.tensors


@pytest.mark.parametrize("kind", KINDS)
def test_everybody_reads_the_ids_of_transformers_at_its_defaults(backends, kind, tmp_path, monkeypatch):
    install(monkeypatch)
    texts = strings(2000, seed=len(kind))
    reference = AutoTokenizer.from_pretrained(saved(kind, backends[kind], tmp_path / "plain"))
    odd = {"padding_side": "left", "truncation_side": "left", "model_max_length": 5, "stored": True}
    loaded = Loaded(kind, saved(kind, backends[kind], tmp_path / "odd", **odd))
    reference.padding_side, reference.pad_token = "right", reference.convert_ids_to_tokens(loaded.pad_token_id)
    reference.model_input_names = list(loaded.family.inputs)
    for rows in (texts[:1400], list(zip(texts[1400:1700], texts[1700:], strict=True))):
        columns = [rows] if isinstance(rows[0], str) else [list(column) for column in zip(*rows, strict=True)]
        expected = reference(*columns, truncation="longest_first", max_length=MAX_LENGTH, padding=True)
        for who, found in everybody(loaded, tmp_path / "served", rows):
            for name in loaded.family.inputs:
                np.testing.assert_array_equal(found[name], np.array(expected[name]), err_msg=f"{who} {name}")


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_handed_out_truncates_and_pads_at_its_defaults(backends, kind, tmp_path):
    loaded = Loaded(kind, saved(kind, backends[kind], tmp_path / "own"))
    texts = [" ".join([text] * 9)[:160] for text in strings(200, seed=5)]
    (tmp_path / "out").mkdir()
    for name, content in with_max_length(loaded.tokenizer_files, MAX_LENGTH).items():
        (tmp_path / "out" / name).write_bytes(content)
    own = Tokeniser(tmp_path / "out" / "tokenizer.json", MAX_LENGTH, loaded.pad_token_id, loaded.family.inputs)
    theirs = AutoTokenizer.from_pretrained(tmp_path / "out")
    plain = Tokenizer.from_file(str(tmp_path / "out" / "tokenizer.json"))
    # Pairs are short: of two long texts the library keeps every pair of what was cut off, gigabytes of them.
    short = [text[:80] for text in strings(80, seed=6) if text[:80].strip()]
    for rows in (texts, list(zip(short, reversed(short), strict=True))):
        expected = own(rows)
        columns = [rows] if isinstance(rows[0], str) else [list(column) for column in zip(*rows, strict=True)]
        padded = theirs(*columns, truncation=True, padding=True, return_tensors="np")
        assert set(padded) == set(loaded.family.inputs)
        for name in loaded.family.inputs:
            np.testing.assert_array_equal(padded[name], expected[name], err_msg=name)
        found = plain.encode_batch(rows)
        np.testing.assert_array_equal([item.ids for item in found], expected["input_ids"])
        np.testing.assert_array_equal([item.attention_mask for item in found], expected["attention_mask"])


def test_a_start_token_that_the_configuration_adds_is_in_the_file(backends, tmp_path):
    folder = saved("gpt2", backends["gpt2"], tmp_path, add_bos_token=True)
    expected = AutoTokenizer.from_pretrained(folder)(["good film"])["input_ids"]
    loaded = Loaded("gpt2", folder)
    assert expected[0][0] == 0
    assert tokenizer_of(loaded).rows(["good film"])[0].input_ids.tolist() == expected[0]
    assert b"add_bos_token" not in loaded.tokenizer_files["tokenizer_config.json"]


def refused(folder):
    with pytest.raises(ConfigurationError) as error:
        load_backbone(str(folder))
    assert "\n" not in str(error.value)
    return str(error.value)


class TestRefusals:
    def test_more_tokens_than_embeddings(self, tmp_path):
        folder = tiny_backbone(tmp_path, "bert")
        tokenizer = AutoTokenizer.from_pretrained(folder)
        tokenizer.add_tokens(["<one>", "<two>"])
        tokenizer.save_pretrained(folder)
        rows = len(tokenizer) - 2
        assert f"id {rows + 1} ('<two>'), but it has {rows} embeddings (ids up to {rows - 1})" in refused(folder)

    def test_special_tokens_that_are_to_be_split(self, tmp_path):
        folder = tiny_backbone(tmp_path, "bert")
        config = json.loads((folder / "tokenizer_config.json").read_text()) | {"split_special_tokens": True}
        (folder / "tokenizer_config.json").write_text(json.dumps(config))
        assert "split_special_tokens" in refused(folder)


def test_answers_end_where_the_model_stops(tmp_path):
    folder = tiny_backbone(tmp_path, "gpt2", eos_token_id=4)
    assert load_backbone(str(folder)).end_token_id == 4
    own = tiny_backbone(tmp_path / "none", "gpt2", eos_token_id=None)
    (own / "generation_config.json").unlink()
    backbone = load_backbone(str(own))
    assert backbone.end_token_id == backbone.model.generation_config.eos_token_id == 1
