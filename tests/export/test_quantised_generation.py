"""Graphs that generate, in integers and tuned."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest

from propetl.errors import ConfigurationError
from propetl.export.options import ExportOptions
from propetl.export.writer import export_bundle
from propetl.prototypes.spec import PrototypeConfig
from propetl.runtime.artifact import read_artifact
from propetl.runtime.engines import EngineOptions
from propetl.runtime.forms.choose import open_form
from propetl.runtime.selftest import self_test
from propetl.runtime.tuned import read_tuned
from tests.export.random_text_artifact import TASKS, make_text_artifact, prompts

QUANTISED = {
    "int8": ("t5", PrototypeConfig(bottleneck=16), "switchable", {}),
    "int4": ("gpt2", PrototypeConfig("lora", rank=16), "folded", {"operators": "onnxruntime", "max_drop": 100.0}),
}
OFF = {"int8": 0.05, "int4": 0.3}  # beside the spread of the logits; of a model whose attention is not all or nothing
WORDS = ["a man", "no good dog", "bad", "was not a good man"]


@pytest.fixture(scope="module", params=QUANTISED)
def quantised(request, tmp_path_factory):
    family, config, form, options = QUANTISED[request.param]
    folder = tmp_path_factory.mktemp(request.param)
    data = {"data": str(rows_in(folder / "rows"))} if form == "folded" else {}
    return make_text_artifact(
        folder, config, family, (form,), hidden=64, std=0.1, tune=True, quantize=request.param, **options, **data
    )


def rows_in(root: Path) -> Path:
    """A few rows of each task."""
    labels: dict[str, list[Any]] = {"echo": [*WORDS], "mood": [0, 1, 0, 1], "degree": [0.0, 0.5, 1.0, 1.5]}
    for task in TASKS:
        rows = zip(WORDS, labels[task], strict=True)
        lines = [{"text": text, "other": text, "label": label} for text, label in rows]
        (root / task).mkdir(parents=True)
        (root / task / "dev.jsonl").write_text("\n".join(map(json.dumps, lines)))
    return root


def test_quantised_graphs_are_within_the_tolerance_of_their_precision(quantised):
    assert self_test(quantised.artifact, threads=1).passed
    for form in quantised.manifest.forms:
        running = open_form(read_artifact(quantised.artifact), form, EngineOptions(threads=1))
        for task in TASKS:
            inputs = prompts(np.random.default_rng(1), rows=8, length=9)
            expected = quantised.first_logits(task, inputs)
            off = running.bind(task).infer(inputs) - expected
            assert 1e-3 < off.std() / expected.std() < OFF[quantised.manifest.precision]


def test_what_texts_lost_is_kept(quantised):
    losses, forms = quantised.manifest.losses, quantised.manifest.forms
    assert {(loss.task, loss.form.partition(",")[0]) for loss in losses} == {
        (task, form) for task in TASKS for form in forms
    }
    for loss in losses:  # by a metric where there are rows with labels
        assert (loss.metric is not None) == ("folded" in forms) and 0 <= loss.agreement <= 1


def test_parts_share_one_copy_of_each_matrix(quantised):
    """No two tensors of the shared file have the same bytes, however many graphs read them; no product is of floats."""
    contents: dict[bytes, set[int]] = {}
    for path in quantised.artifact.rglob("*.onnx"):
        if "tuned" in path.parts:
            continue
        for value in ir.load(path).graph.initializers.values():
            tensor = value.const_value
            if isinstance(tensor, ir.ExternalTensor):
                content = (quantised.artifact / "backbone.data").read_bytes()[tensor.offset :][: tensor.length]
                contents.setdefault(content, set()).add(tensor.offset or 0)
                readers = {use.node.op_type for use in value.uses()}
                assert tensor.dtype != ir.DataType.FLOAT or not readers & {"MatMul", "FusedMatMul"}, value.name
    assert len(contents) > 5 and all(len(offsets) == 1 for offsets in contents.values())


def test_every_graph_is_tuned_and_runs(quantised):
    tuned = read_tuned(quantised.artifact)
    assert tuned is not None
    paths = set().union(*(form.paths() for form in quantised.manifest.forms.values()))
    assert set(tuned.graphs) == paths


def test_measured_ranges_are_refused_by_name(quantised, tmp_path):
    with pytest.raises(ConfigurationError, match="--quantize int8-static is for tasks with heads"):
        export_bundle(quantised.bundle.path, tmp_path / "out", ExportOptions(quantize="int8-static"))
    assert not list(tmp_path.iterdir())
