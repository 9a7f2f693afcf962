"""What errors say."""

import pytest

from propetl.errors import AnswerError, BundleError, ProPETLError
from propetl.runtime.engine_records import Profile


@pytest.mark.parametrize("kind", [ProPETLError, BundleError, AnswerError])
def test_a_message_as_long_as_the_file_keeps_its_ends(kind):
    said = str(kind("pack.safetensors: found " + "x" * 1_000_000 + "; restore it from its source"))
    assert said.startswith("pack.safetensors: found xx") and said.endswith("xx; restore it from its source")
    assert " … " in said and len(said) < 4000


def test_any_other_message_is_whole():
    for message in ("", "a", "x" * 3900):
        assert str(ProPETLError(message)) == message


def test_a_profile_that_is_none_is_shown_in_short():
    with pytest.raises(ValueError, match=r"profile of 'batch': expected .*; got \[1, 1, \[0, 1, ") as caught:
        Profile.from_json({"batch": [1, 1, list(range(10_000))]})
    assert len(str(caught.value)) < 400
