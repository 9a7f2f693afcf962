"""Tasks that tag words beside tasks that answer once a row: all forms compute what PyTorch computes, to 1e-5."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as draw

from propetl.bundle.format import pack_path
from propetl.bundle.words import first_tokens, word_spans
from propetl.errors import ConfigurationError, TaskError
from propetl.export.options import ExportOptions
from propetl.export.writer import export_bundle
from propetl.prototypes.spec import PrototypeConfig
from propetl.runtime import Session
from propetl.runtime.forms import MixingForm
from propetl.runtime.selftest import self_test
from tests.export.agreement import (
    assert_a_later_task_runs_beside_the_others,
    assert_mixed_rows_are_those_alone,
    close,
    every_form,
    row_of,
)
from tests.export.random_artifact import ALL_FORMS, Case, make, random_bundle
from tests.tiny_backbone import transformers_tokenizer

NER = ("O", "B-X", "I-X", "B-Y", "I-Y")
BOTH = {"value": 0, "ner": NER, "two": 2, "pos": ("noun", "verb")}
TAGGERS = {"ner": NER, "pos": ("noun", "verb")}

ADAPTER = PrototypeConfig(bottleneck=5, sparsity=0.5, activation="gelu")
LORA = PrototypeConfig("lora", rank=3, alpha=4.5, sparsity=0.6)
PREFIX = PrototypeConfig("prefix", prefix_length=3, sparsity=0.5)

# Methods, kinds of tasks and heads take turns; that families tag as transformers does is tested in PyTorch.
CASES = [
    Case("bert", ADAPTER, layers=1, tasks=BOTH),
    Case("roberta", LORA, layers=1, tasks=TAGGERS, head="own"),
    Case("distilbert", dataclasses.replace(LORA, masks="hybrid", languages=("de", "en")), layers=1, tasks=BOTH),
    Case("gpt2", PrototypeConfig("adapter", "unshared", bottleneck=4), layers=1, tasks=TAGGERS),
    Case("llama", PREFIX, layers=1, tasks=BOTH),
    Case("electra", PrototypeConfig("ia3", "unshared"), layers=1, tasks=TAGGERS),
]

TEXTS = ["a man, a dog", "no good", "not bad at all, man! it was so bad", "is", "zoo  zoo\tzoo"]


@pytest.fixture(scope="module", params=CASES, ids=str)
def tagged(request, tmp_path_factory):
    return make(tmp_path_factory.mktemp("tagged"), request.param, ExportOptions(forms=(*ALL_FORMS, "bare")))


def test_every_form_is_the_torch_model(tagged) -> None:
    forms, tasks = every_form(tagged.artifact), sorted(tagged.bundle.packs)

    @settings(max_examples=8, deadline=None, database=None)
    @given(
        seed=draw.integers(0, 2**32 - 1),
        rows=draw.integers(1, 4),
        length=draw.integers(1, 15),
        chosen=draw.lists(draw.sampled_from(tasks), min_size=4, max_size=4),
    )
    def agree(seed: int, rows: int, length: int, chosen: list[str]) -> None:
        inputs = tagged.inputs(rows, length, seed)
        expected = {task: tagged.logits(task, inputs) for task in dict.fromkeys(chosen)}
        for form in forms:
            close(form.bind(chosen[0]).infer(inputs), expected[chosen[0]])
            if isinstance(form, MixingForm):
                found = form.infer_mixed([form.bind(task) for task in chosen[:rows]], inputs)
                for row, (task, logits) in enumerate(zip(chosen[:rows], found, strict=True)):
                    close(logits, expected[task][row])

    agree()


def test_tags_have_logits_for_every_token(tagged) -> None:
    inputs = tagged.inputs(3, 7)
    for task, info in tagged.bundle.info.tasks.items():
        shape = (3, 7, info.outputs) if info.kind.answers_words else (3, info.outputs)
        assert tagged.logits(task, inputs).shape == shape


def test_words_have_the_logits_of_their_first_tokens(tagged) -> None:
    """Against PyTorch and transformers' tokenizer."""
    expected = [_torch_words(tagged, "ner", text) for text in TEXTS]
    for form in ALL_FORMS:
        with Session.open(tagged.artifact, form=form, threads=1, batch_size=2) as session:
            found = session.run("ner", TEXTS)
            assert found.shape == (len(TEXTS), max(map(len, expected)), len(NER))
            for row, words in zip(found, expected, strict=True):
                close(row[: len(words)], words)
                assert np.isnan(row[len(words) :]).all()


def test_mixed_texts_are_answered_as_each_alone(tagged) -> None:
    tasks = list(tagged.manifest.tasks)
    rows = [(task, row_of(task, text)) for text in TEXTS for task in tasks]
    for form in ALL_FORMS:
        with Session.open(tagged.artifact, form=form, threads=1) as session:
            assert_mixed_rows_are_those_alone(session, rows)
            mixed, alone = session.predict_mixed(rows), [session.predict(task, [text])[0] for task, text in rows]
            assert [one.label for one in mixed] == [one.label for one in alone]
            tags = [[[word.tag for word in one.words] for one in found] for found in (mixed, alone)]
            assert tags[0] == tags[1]


def test_predictions_name_words_by_their_places(tagged) -> None:
    with Session.open(tagged.artifact, threads=1) as session:
        (answer,) = session.predict("ner", ["  man\tzoo "])
        logits = session.run("ner", ["  man\tzoo "])[0]
    assert [(word.word, word.start, word.end) for word in answer.words] == [("man", 2, 5), ("zoo", 6, 9)]
    assert (answer.label, answer.score, answer.scores) == (None, None, {})
    for word, row in zip(answer.words, logits, strict=True):
        assert word.tag == NER[row.argmax()]
        assert word.score == max(word.scores.values()) == word.scores[word.tag]
        assert sum(word.scores.values()) == pytest.approx(1)


def test_words_that_were_cut_off_have_no_tag(tagged) -> None:
    text = " ".join(["man"] * 40)  # max_length is 24
    with Session.open(tagged.artifact, threads=1) as session:
        (answer,) = session.predict("ner", [text])
    kept = [word.tag is not None for word in answer.words]
    assert len(kept) == 40
    assert kept.index(False) > 10
    assert not any(kept[kept.index(False) :])
    assert answer.words[-1].scores == {}


def test_token_ids_are_answered_at_every_token(tagged) -> None:
    inputs = tagged.inputs(3, 9)
    with Session.open(tagged.artifact, threads=1, batch_size=2) as session:
        close(session.run("ner", inputs), tagged.logits("ner", inputs))
        with pytest.raises(ConfigurationError, match="'ner' tags words"):
            session.predict("ner", inputs)


def test_an_artifact_checks_itself(tagged) -> None:
    report = self_test(tagged.artifact, threads=1)
    assert report.passed, report.breaches
    assert {item.task for item in report.comparisons} == set(tagged.manifest.tasks)


def test_a_tagger_that_came_later_runs_in_the_switchable_graph(tagged) -> None:
    with Session.open(tagged.artifact, form="switchable", threads=1) as session:
        assert_a_later_task_runs_beside_the_others(tagged, session, tuple("abcdefg"))


class TestRefusals:
    def test_own_heads_and_taggers_in_one_graph(self, tmp_path) -> None:
        _, bundle = random_bundle(tmp_path, Case("bert", ADAPTER, head="own", layers=1, tasks={"ner": NER, "two": 2}))
        with pytest.raises(ConfigurationError, match="tasks ner tag words and two answer once a row"):
            export_bundle(bundle.path, tmp_path / "artifact", ExportOptions(forms=("folded", "bank")))
        export_bundle(bundle.path, tmp_path / "artifact", ExportOptions(forms=("folded",)))
        with Session.open(tmp_path / "artifact", threads=1) as session:
            assert session.run("two", ["a man"]).shape == (1, 2)
            assert session.run("ner", ["a man"]).shape == (1, 2, 5)

    def test_a_tagger_added_to_graphs_that_answer_once_a_row(self, tmp_path) -> None:
        _, bundle = random_bundle(tmp_path, Case("bert", ADAPTER, layers=1, tasks={"ner": NER, "two": 2}))
        export_bundle(bundle.path, tmp_path / "artifact", ExportOptions(forms=("switchable",), tasks=("two",)))
        with (
            Session.open(tmp_path / "artifact", threads=1) as session,
            pytest.raises(TaskError, match=r"'ner' tags words, and no graph of .* answers at every token"),
        ):
            session.add_task(bundle.path / pack_path("ner"))

    def test_a_model_repository(self, tmp_path) -> None:
        _, bundle = random_bundle(tmp_path, Case("bert", ADAPTER, layers=1, tasks={"ner": NER}))
        with pytest.raises(ConfigurationError, match="--layout triton serves tasks that answer once a row, ner tags"):
            export_bundle(bundle.path, tmp_path / "artifact", ExportOptions(forms=("bank",), triton=True))


def _torch_words(tagged, task: str, text: str) -> np.ndarray:
    tokenizer = transformers_tokenizer(tagged.backbone)
    encoded = tokenizer([text], return_offsets_mapping=True, truncation=True, max_length=24, return_tensors="np")
    places = first_tokens(text, encoded.pop("offset_mapping")[0].tolist())
    assert len(places) == len(word_spans(text))
    logits = tagged.logits(task, {name: encoded[name] for name in tagged.inputs(1, 1)})[0]
    logits[-1] = np.nan  # behind the last token of any word: the place -1 is that of a word that was cut off
    return logits[places]
