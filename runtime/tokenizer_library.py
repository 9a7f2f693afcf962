"""Loading a tokenizer of the tokenizers library, which raises plain Exceptions, and where it panics a BaseException."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from propetl.errors import ArtifactError, ProPETLError
from propetl.strict_json import parse_json

if TYPE_CHECKING:
    from tokenizers import Tokenizer

_PANIC = "PanicException"
_SHOWN = 200


def load_tokenizer(path: Path, content: bytes | None = None) -> "Tokenizer":
    """The tokenizer in ``tokenizer.json``, or in its ``content`` where that is at hand, which has been tried.

    Raises:
        ArtifactError: the file cannot be read, or its tokenizer cannot work.
    """
    from tokenizers import Tokenizer  # here: the modules that hand texts on need numpy only

    with library_errors(path):
        # As bytes: the library takes a path as text alone, and not every path is text.
        tokenizer = Tokenizer.from_buffer(path.read_bytes() if content is None else content)
        _check_templates(tokenizer.post_processor)
    _try(tokenizer, path)
    return tokenizer


@contextmanager
def library_errors(source: Path) -> Iterator[None]:
    """Turns what the library raises into an :class:`ArtifactError`: texts were checked before it gets them.

    Its panics leave a report of their own on standard error, which cannot be kept from there.
    """
    try:
        yield
    except (MemoryError, ProPETLError):
        raise
    except BaseException as error:  # a panic is no Exception
        if not isinstance(error, Exception) and type(error).__name__ != _PANIC:
            raise
        reason = " ".join(str(error).split())[:_SHOWN]
        raise ArtifactError(f"{source}: not a readable tokenizer ({reason}); restore it") from error


def _check_templates(processor: Any) -> None:
    """Finds the commonest cause of a panic without one: a template with a special token that is nowhere defined."""
    state = [] if processor is None else [parse_json(processor.__getstate__())]
    while state:
        part = state.pop()
        state += part.get("processors", ())
        defined = part.get("special_tokens", {})
        for piece in (*part.get("single", ()), *part.get("pair", ())):
            name = piece.get("SpecialToken", {}).get("id")
            if name is not None and isinstance(defined, dict) and name not in defined:
                raise ValueError(f"its template has the special token {name!r}, which is not defined")


def _try(tokenizer: "Tokenizer", path: Path) -> None:
    """Texts and tokens that make it run all its parts; that it does not know a letter is no fault."""
    for text in ("a", ("a", "a")):
        with library_errors(path), suppress(Exception):
            tokenizer.decode(tokenizer.encode(*([text] if isinstance(text, str) else text)).ids)
