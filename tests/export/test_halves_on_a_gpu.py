"""Artifacts at fp16 and bf16 on the GPU that is here, by ONNX Runtime: ``python -m pytest -m gpu``."""

import numpy as np
import pytest

from propetl.export.options import HALVES, ExportOptions
from propetl.prototypes.spec import PrototypeConfig
from propetl.runtime.report import TOLERANCES
from propetl.runtime.selftest import self_test
from tests.export.random_artifact import ALL_FORMS, Case, make
from tests.export.random_text_artifact import make_text_artifact
from tests.runtime.gpu import open_or_skip

pytestmark = [pytest.mark.gpu, pytest.mark.parametrize("precision", HALVES)]

CASES = {
    "adapter": Case("bert", PrototypeConfig(bottleneck=16, sparsity=0.5), hidden=64, layers=1),
    "lora": Case("roberta", PrototypeConfig("lora", rank=16, sparsity=0.5), head="own", hidden=64, layers=1),
    "prefix": Case("distilbert", PrototypeConfig("prefix", prefix_length=16), hidden=64, layers=1),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_every_form_answers_as_pytorch(precision, case, tmp_path):
    made = make(tmp_path, case, ExportOptions(forms=ALL_FORMS, quantize=precision))
    tolerance = TOLERANCES[precision]
    for form in ALL_FORMS:
        with open_or_skip(made.artifact, "cuda", form=form) as session:
            for task in made.manifest.tasks:
                inputs = made.inputs(4, 9)
                found, expected = session.run(task, inputs), made.logits(task, inputs)
                np.testing.assert_allclose(found, expected, atol=tolerance.absolute, rtol=tolerance.relative)
    report = self_test(made.artifact, provider="cuda")
    assert report.passed, report.breaches


@pytest.mark.parametrize(
    ("family", "config"), [("t5", PrototypeConfig(bottleneck=16)), ("llama", PrototypeConfig("lora"))]
)
def test_tasks_answered_in_text(precision, family, config, tmp_path):
    made = make_text_artifact(
        tmp_path, config, family, ("folded", "switchable"), hidden=64, std=0.1, quantize=precision
    )
    open_or_skip(made.artifact, "cuda", form="folded").close()
    report = self_test(made.artifact, provider="cuda")
    logits = [item for item in report.comparisons if item.of == "logits"]
    assert logits and all(item.passed for item in (*logits, *report.checks)), report.breaches
