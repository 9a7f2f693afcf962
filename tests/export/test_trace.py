"""Traces: what their graphs take and give. That they compute the right thing is for ``end_to_end/test_forms.py``."""

import contextlib
import io
import logging

import pytest

from propetl.export.program import Program, RowsProgram
from propetl.export.trace import trace
from propetl.model import ProPETLModel
from propetl.runtime.signatures import task_tensors

TEXTS = ("input_ids", "attention_mask", "token_type_ids")


def signature(value):
    return value.name, str(value.dtype), [str(size) if not isinstance(size, int) else size for size in value.shape]


@pytest.fixture(scope="module")
def model(plain):
    backbone, bundle = plain
    return ProPETLModel.from_bundle(bundle, backbone)


@pytest.fixture(scope="module")
def single(model):
    return trace(Program(model), TEXTS, task_tensors(model.layout, model.head_kind), 20)


def test_one_task_per_batch(single):
    assert [signature(value) for value in single.model.graph.inputs] == [
        *((name, "INT64", ["batch", "sequence"]) for name in TEXTS),
        ("head.bias", "FLOAT", ["labels"]),
        ("head.weight", "FLOAT", ["labels", 24]),
    ]
    assert [signature(value) for value in single.model.graph.outputs] == [("logits", "FLOAT", ["batch", "labels"])]
    assert (single.text_inputs, single.opset) == (TEXTS, 20)
    assert [tensor.name for tensor in single.task_inputs] == ["head.bias", "head.weight"]


def test_one_task_per_row(model):
    rows = trace(RowsProgram(model), TEXTS, task_tensors(model.layout, model.head_kind), 20)
    assert [signature(value) for value in rows.model.graph.inputs] == [
        *((name, "INT64", ["batch", "sequence"]) for name in TEXTS),
        ("head.bias", "FLOAT", ["batch", "labels"]),
        ("head.weight", "FLOAT", ["batch", "labels", 24]),
    ]
    assert [signature(value) for value in rows.model.graph.outputs] == [("logits", "FLOAT", ["batch", "labels"])]


def test_every_input_is_used(single):
    assert all(value.uses() for value in single.model.graph.inputs)


def test_tracing_prints_nothing_and_leaves_logging_as_it_was(model):
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "onnx_ir")]
    before = [logger.level for logger in loggers]
    with contextlib.redirect_stdout(io.StringIO()) as out:
        trace(Program(model), TEXTS, task_tensors(model.layout, model.head_kind), 20)
    assert out.getvalue() == "" and [logger.level for logger in loggers] == before
