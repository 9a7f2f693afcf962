"""A damaged tokenizer is one error of ours, also where the library panics."""

import json
import subprocess
import sys

import pytest

from propetl.errors import ArtifactError, TaskError
from propetl.runtime.tokenise import Tokeniser
from propetl.runtime.tokenizer_library import library_errors, load_tokenizer
from tests.runtime.tiny_tokenizer import INPUTS, tokenizer_json


def written(path, **changes):
    path.write_text(json.dumps(tokenizer_json() | changes))
    return path


def without_separator():
    """A template that names ``[SEP]``, and no longer says what it is: the library panics at the first text."""
    processor = tokenizer_json()["post_processor"]
    return processor | {"special_tokens": {"[CLS]": processor["special_tokens"]["[CLS]"]}}


@pytest.mark.parametrize("content", ["", "{}", "[]", '{"version": "1.0"}', "\0", "[" * 1000, '{"a": 1e400}'])
def test_a_file_that_is_no_tokenizer(tmp_path, content):
    path = tmp_path / "tokenizer.json"
    path.write_text(content)
    with pytest.raises(ArtifactError, match=r"tokenizer\.json: not a readable tokenizer") as caught:
        load_tokenizer(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("wrap", [lambda part: part, lambda part: {"type": "Sequence", "processors": [part]}])
def test_a_template_with_an_undefined_token_is_refused_before_the_library_panics(tmp_path, capfd, wrap):
    path = written(tmp_path / "tokenizer.json", post_processor=wrap(without_separator()))
    with pytest.raises(ArtifactError, match=r"special token '\[SEP\]', which is not defined"):
        load_tokenizer(path)
    assert capfd.readouterr().err == ""


def test_a_panic_is_an_error_of_ours_at_loading(tmp_path, capfd):
    strip = {"type": "Strip", "content": "a", "start": 0, "stop": 3}
    path = written(tmp_path / "tokenizer.json", decoder=strip)
    with pytest.raises(ArtifactError, match="index out of bounds"):
        load_tokenizer(path)
    assert "panicked" in capfd.readouterr().err  # the library's own report


def test_what_the_library_says_of_a_text_is_an_error_of_ours(tmp_path):
    model = tokenizer_json()["model"] | {"unk_token": "[NONE]"}
    tokeniser = Tokeniser(written(tmp_path / "tokenizer.json", model=model), 32, 0, INPUTS)
    assert len(tokeniser.rows(["a b"])) == 1
    with pytest.raises(ArtifactError, match=r"Missing \[UNK\] token"):
        tokeniser.rows(["unheard"])


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(3), MemoryError(), TaskError("ours")])
def test_what_is_no_fault_of_the_library_passes(tmp_path, error):
    with pytest.raises(type(error)), library_errors(tmp_path):
        raise error


def test_this_library_still_panics_without_the_check(tmp_path):
    """If it no longer does, the check of templates can go."""
    path = written(tmp_path / "tokenizer.json", post_processor=without_separator())
    code = f"from tokenizers import Tokenizer\nTokenizer.from_file({str(path)!r}).encode('a')"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert ended.returncode == 1 and "PanicException" in ended.stderr
