"""Parity of tasks that answer in text: every row generated on both sides, and the metrics of the texts."""

import json
from typing import Any

import pytest

from propetl.export.parity import compare
from propetl.runtime.report import Report

ROWS = 9
WORDS = ["a man", "no good dog", "is", "bad", "was not a good man", "dog", "no", "man is", "a"]


@pytest.fixture(scope="module")
def text_data(text_artifact, tmp_path_factory):
    """A few rows of each task."""
    root = tmp_path_factory.mktemp("rows")
    rows: dict[str, list[dict[str, Any]]] = {
        "mood": [{"text": text, "label": number % 2} for number, text in enumerate(WORDS)],
        "degree": [{"text": text, "label": number / 2} for number, text in enumerate(WORDS)],
        "echo": [{"text": text, "other": text[::-1], "label": text} for text in WORDS],
    }
    for task, lines in rows.items():
        (root / task).mkdir()
        (root / task / "dev.jsonl").write_text("\n".join(map(json.dumps, lines)))
    return root


def test_every_text_is_compared_in_every_form(text_artifact, text_data):
    found = list(compare(text_artifact.artifact, text_artifact.bundle.path, str(text_data), threads=1))
    tasks = ("echo", "mood", "degree")
    assert {(item.task, item.form, item.batching) for item in found} == {
        *((task, form, "batch") for task in tasks for form in ("folded", "switchable", "bank")),
        *((task, "bank", "mixed tasks") for task in tasks),
    }
    assert all(item.passed and item.rows == ROWS and item.of == "texts" and item.agreement == 1.0 for item in found)
    assert all(item.metrics_artifact == item.metrics_reference != {} for item in found)


def test_another_text_is_a_breach_with_its_row(text_artifact, text_data, monkeypatch):
    from propetl.runtime.session import Session

    generate = Session.generate
    monkeypatch.setattr(Session, "generate", lambda *given: ["other", *generate(*given)[1:]])
    (item,) = [
        item
        for item in compare(text_artifact.artifact, text_artifact.bundle.path, str(text_data), form="folded", threads=1)
        if item.task == "mood"
    ]
    assert not item.passed and item.worst_row == 0 and item.agreement == pytest.approx((ROWS - 1) / ROWS)
    assert "row 0: other text" in item.breach
    report = Report("here", "cpu", "fp32", comparisons=(item,)).to_json()
    assert report["comparisons"][0]["max_abs"] is None  # JSON has no infinity
