"""PyTorch's answers to the bundle's sample rows."""

import numpy as np

from propetl.export.golden import golden_of, text_inputs_of
from propetl.runtime.artifact import read_artifact
from tests.export.random_artifact import torch_logits


def test_they_are_the_models_answers(exported):
    model = exported.model
    for task in exported.bundle.packs:
        golden = golden_of(model, exported.bundle, task)
        samples = exported.bundle.samples(task)
        assert {name: ids.dtype for name, ids in golden.feeds.items()} == dict.fromkeys(samples, np.int64)
        assert all(np.array_equal(golden.feeds[name], ids) for name, ids in samples.items())
        assert golden.logits.dtype == np.float32
        np.testing.assert_array_equal(golden.logits, torch_logits(model, task, golden.feeds))


def test_the_artifact_holds_them(exported):
    artifact, model = read_artifact(exported.artifact), exported.model
    for task in exported.bundle.packs:
        found, expected = artifact.golden(task), golden_of(model, exported.bundle, task)
        assert np.array_equal(found.logits, expected.logits)
        assert all(np.array_equal(found.feeds[name], ids) for name, ids in expected.feeds.items())


def test_inputs_are_those_that_the_backbone_takes(exported):
    assert text_inputs_of(exported.model) == ("input_ids", "attention_mask", "token_type_ids")
