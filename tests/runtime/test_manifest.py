import json

import pytest

from propetl.errors import ArtifactError
from propetl.runtime.manifest import MANIFEST, FormInfo, Manifest, TensorSignature
from propetl.sealed import CONTENT_SHA256


@pytest.fixture
def value(tiny):
    written = json.loads((tiny.path / MANIFEST).read_text())
    return {key: item for key, item in written.items() if key != CONTENT_SHA256}


def test_json_round_trip(value):
    manifest = Manifest.from_json(value, "here")
    assert json.loads(json.dumps(manifest.to_json())) == value
    assert Manifest.from_json(json.loads(json.dumps(manifest.to_json())), "here") == manifest


def test_layout_and_token_inputs_follow_from_it(value, tiny):
    manifest = Manifest.from_json(value, "here")
    assert manifest.layout.mask_shapes() == {name: mask.shape for name, mask in tiny.packs["mood"].masks.items()}
    assert manifest.token_inputs == ("input_ids", "attention_mask", "token_type_ids")


def test_forms_write_only_the_keys_that_apply(value):
    assert set(value["forms"]["folded"]) == {"graphs"}
    assert set(value["forms"]["switchable"]) == {"graph"}
    assert set(value["forms"]["bank"]) == {"graph", "task_ids"}
    assert FormInfo.from_json(value["forms"]["bank"]).task_ids["topic"] == 1


def test_every_key_is_needed(value):
    for key in value:
        damaged = {name: item for name, item in value.items() if name != key}
        with pytest.raises(ArtifactError, match=r"^here: "):
            Manifest.from_json(damaged, "here")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": "propetl-bundle"}, "expected format 'propetl-artifact', found 'propetl-bundle'"),
        ({"version": 2}, "version 2 is not known here (known: 1); upgrade propetl"),
        ({"version": "1"}, "version '1' is not known here"),
        ({"max_length": 0}, "max_length is 0, expected a whole number of at least 1"),
        ({"max_length": True}, "max_length is True"),
        ({"pad_token_id": "0"}, "pad_token_id is '0'"),
        ({"tasks": {"../x": {}}}, "task name '../x'"),
        ({"tasks": []}, "not a valid manifest"),
        ({"tasks": {"a": {"problem": "classification"}}}, "not a valid manifest"),
        ({"backbone": {"name": "x"}}, "not a valid manifest"),
        ({"prototype": {"method": "adapter", "nonsense": 1}}, "unknown key 'nonsense'"),
        ({"files": {"a": {"bytes": "1", "sha256": ""}}}, "files.a.bytes is '1', expected a whole number"),
        ({"files": {"a": {}}}, "files.a has no key 'sha256'"),
        ({"forms": {"folded": {"graphs": {"mood": {"path": "x"}}}}}, "forms.folded.graphs.mood has no key 'inputs'"),
    ],
)
def test_what_cannot_be_used_is_refused_with_its_reason(value, change, message):
    with pytest.raises(ArtifactError) as caught:
        Manifest.from_json(value | change, "here")
    assert message in str(caught.value)
    assert str(caught.value).startswith("here: ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("whole", [None, [], "text", 3])
def test_json_that_is_no_object_is_refused(whole):
    with pytest.raises(ArtifactError, match="expected format"):
        Manifest.from_json(whole, "here")


@pytest.mark.parametrize("size", [True, 1.5, None, -1, 2**31])
def test_a_size_is_an_integer_or_a_name(size):
    with pytest.raises(ValueError, match=r"a size of tensor that is no name is .*, expected a whole number"):
        TensorSignature.from_json({"name": "x", "dtype": "int64", "shape": ["batch", size]})


def test_a_signature_reads_like_a_type():
    assert str(TensorSignature("logits", "float32", ("batch", 2))) == "logits: float32[batch, 2]"


def test_a_tensor_with_a_line_end_in_its_names_is_shown_in_one_line():
    assert str(TensorSignature("a\nb", "int64", ("\x19\n\x08lh", 2))) == r"a\nb: int64[\x19\n\x08lh, 2]"
