"""A file that holds a hash over itself: whatever else was changed in it shows."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from propetl.errors import BundleError
from propetl.sealed import CONTENT_SHA256, FILES, sealed, unsealed

VALUE = {"format": "x", "labels": ["a", "ü"], "files": {"a": {"bytes": 1}}, "scores": {"f1": 0.1, "n": 1}}


def test_what_was_sealed_is_read_as_it_was():
    written = json.loads(json.dumps(sealed(VALUE, FILES), indent=4))
    assert list(written) == [*VALUE, CONTENT_SHA256]
    assert unsealed(written, "here", BundleError, FILES) == VALUE
    assert sealed(written, FILES) == written


@pytest.mark.parametrize(
    "change",
    [
        {"labels": ["b", "ü"]},
        {"labels": ["ü", "a"]},
        {"scores": {"f1": 0.1, "n": 2}},
        {"further": None},
        {CONTENT_SHA256: None},
        {CONTENT_SHA256: "0" * 64},
    ],
    ids=str,
)
def test_a_change_shows(change):
    with pytest.raises(BundleError, match=r"^here: its content is not what its content_sha256 says"):
        unsealed(sealed(VALUE, FILES) | change, "here", BundleError, FILES)


@pytest.mark.parametrize("key", [*(key for key in VALUE if key != FILES), CONTENT_SHA256])
def test_a_loss_shows(key):
    lost = {name: item for name, item in sealed(VALUE, FILES).items() if name != key}
    with pytest.raises(BundleError, match=r"^here: "):
        unsealed(lost, "here", BundleError, FILES)


def test_records_of_files_vouch_for_themselves():
    changed = sealed(VALUE, FILES) | {"files": {}}
    assert unsealed(changed, "here", BundleError, FILES)["files"] == {}
    with pytest.raises(BundleError, match="changed or damaged; train"):
        unsealed(sealed(VALUE) | {"files": {}}, "here", BundleError, remedy="train again")


@given(st.dictionaries(st.text(), st.none() | st.booleans() | st.integers() | st.text(), min_size=1), st.data())
def test_every_key_counts(value, data):
    key = data.draw(st.sampled_from(sorted(value)))
    other = data.draw(st.integers() | st.text())
    if key == CONTENT_SHA256 or json.dumps(value[key]) == json.dumps(other):
        return
    with pytest.raises(BundleError):
        unsealed(sealed(value) | {key: other}, "here", BundleError)
