"""Both decoders in one graph: each branch is what the graph of its own is."""

import shutil

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest

from propetl.errors import ConfigurationError
from propetl.export.merged_decoder import merged_decoder
from propetl.export.options import ExportOptions
from propetl.export.writer import export_bundle
from propetl.runtime import Session
from propetl.runtime.artifact import read_artifact

HEADS, HEAD_SIZE = 4, 12


@pytest.fixture(scope="module")
def folder(text_artifact, tmp_path_factory):
    """The three decoders of one task beside weights that are no link, which the ONNX checker refuses."""
    copied = tmp_path_factory.mktemp("merged") / "mood"
    shutil.copytree(text_artifact.artifact / "folded" / "mood", copied)
    two = [ir.load(copied / f"{name}.onnx") for name in ("decoder_model", "decoder_with_past_model")]
    ir.save(merged_decoder(*two), copied / "decoder_model_merged.onnx")
    return copied


def session(folder, name):
    return onnxruntime.InferenceSession(str(folder / f"{name}.onnx"), providers=["CPUExecutionProvider"])


def outputs(running, feeds):
    names = [item.name for item in running.get_outputs()]
    wanted = {item.name: feeds[item.name] for item in running.get_inputs()}
    return dict(zip(names, running.run(names, wanted), strict=True))


def first_feeds(random, rows=3, tokens=5):
    return {
        "input_ids": random.integers(5, 30, (rows, 1)),
        "encoder_attention_mask": np.ones((rows, tokens), dtype=np.int64),
        "encoder_hidden_states": random.normal(size=(rows, tokens, 24)).astype(np.float32),
    }


def test_each_branch_computes_what_its_graph_does(folder):
    merged, first, further = (
        session(folder, f"decoder_{name}") for name in ("model_merged", "model", "with_past_model")
    )
    feeds = first_feeds(np.random.default_rng(0))
    caches = [item.name for item in merged.get_inputs() if item.name.startswith("past_key_values.")]
    nothing = dict.fromkeys(caches, np.zeros((3, HEADS, 0, 6), dtype=np.float32))  # as optimum: of another head size
    expected = outputs(first, feeds)
    found = outputs(merged, {**feeds, **nothing, "use_cache_branch": np.array([False])})
    assert list(found) == list(expected)
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, atol=1e-6)
    feeds |= {name: expected[name.replace("past_key_values", "present")] for name in caches}
    feeds["input_ids"] = feeds["input_ids"] % 9 + 5  # another token: attention over equal ones gives what one gave
    later = outputs(further, feeds)
    found = outputs(merged, {**feeds, "use_cache_branch": np.array([True])})
    for name, value in found.items():
        if ".encoder." in name:
            assert value.shape == (0, HEADS, 1, HEAD_SIZE)
        else:
            np.testing.assert_allclose(value, later[name], atol=1e-6)
    assert np.abs(found["logits"] - expected["logits"]).max() > 1e-2


def test_it_is_a_valid_graph_that_holds_each_weight_once(folder):
    path = folder / "decoder_model_merged.onnx"
    onnx.checker.check_model(str(path), full_check=True)
    model = ir.load(path)
    places = [
        (value.const_value.offset, value.const_value.length)
        for value in model.graph.initializers.values()
        if isinstance(value.const_value, ir.ExternalTensor)
    ]
    assert len(places) == len(set(places)) > 0
    sizes = [value.const_value.nbytes for value in model.graph.initializers.values() if value.const_value is not None]
    assert len(sizes) == len(model.graph.initializers) and min(sizes) >= 1024
    (node,) = model.graph
    assert node.op_type == "If"
    separate = [(folder / f"{name}.onnx").stat().st_size for name in ("decoder_model", "decoder_with_past_model")]
    assert path.stat().st_size < 1.5 * sum(separate)


@pytest.mark.slow
def test_export_leaves_it_beside_the_two_and_sessions_run_them(text_artifact, tmp_path):
    options = ExportOptions(tasks=("mood",), merge_decoders=True)
    manifest = export_bundle(text_artifact.bundle.path, tmp_path / "artifact", options)
    path = "folded/mood/decoder_model_merged.onnx"
    assert path in manifest.files and path not in manifest.forms["folded"].paths()
    assert read_artifact(tmp_path / "artifact").manifest.files == manifest.files
    assert ir.load(tmp_path / "artifact" / path).metadata_props["propetl.form"] == "folded"
    with Session.open(tmp_path / "artifact", threads=1) as opened, Session.open(text_artifact.artifact) as other:
        assert opened.generate("mood", ["a man"]) == other.generate("mood", ["a man"])


def test_what_has_no_two_decoders_is_refused(text_artifact, exported, tmp_path):
    for bundle, forms in ((exported.bundle.path, ("folded",)), (text_artifact.bundle.path, ("bank",))):
        with pytest.raises(ConfigurationError, match="--merge-decoders joins the two decoders of a folded task"):
            export_bundle(bundle, tmp_path / "out", ExportOptions(forms=forms, merge_decoders=True))
    assert not (tmp_path / "out").exists()
