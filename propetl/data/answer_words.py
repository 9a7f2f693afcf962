"""Answers in text that a tokenizer can write: a model answers by what its tokens read as, and by nothing else."""

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from numpy.typing import NDArray

from propetl.bundle.text import TextInfo
from propetl.data.tokenise import encode_answers
from propetl.errors import ConfigurationError
from propetl.problems.text import text_of
from propetl.runtime.tokenise import Tokeniser
from propetl.task import TaskSpec


def fitted_text(task: TaskSpec, labels: NDArray[Any], tokeniser: Tokeniser, *, continues: bool) -> TextInfo:
    """How ``task`` is asked and answered, which the tokenizer can do; a class or value just long enough.

    Raises:
        ConfigurationError: the prompt leaves no room for texts, or an answer cannot be written.
    """
    text, values = text_of(task), labels.tolist()
    if task.asks is not task.kind:
        answers = text.words or sorted({text.target(label) for label in values})
        encoded = encode_answers(list(answers), tokeniser, None, continues=continues)
        text = replace(text, max_target_length=max(map(len, encoded), default=text.max_target_length))
    tokeniser.check_prompt(task.name, text)
    check_answers(task.name, text, tokeniser, values if text.step is not None else [], continues=continues)
    return text


def check_answers(
    task: str, text: TextInfo, tokeniser: Tokeniser, values: Iterable[float] = (), *, continues: bool = False
) -> None:
    """Refuses classes and values that no generated text could ever be read as.

    Args:
        task: its name.
        text: how it is answered; of one that answers by any text, nothing is checked.
        tokeniser: of the backbone.
        values: of a task that answers by a value, those of its rows.
        continues: answers continue the prompt, as a decoder's do.

    Raises:
        ConfigurationError: naming the answer and what it reads back as, or how long it is.
    """
    answers = list(text.words) or (sorted({text.target(value) for value in values}) if text.step is not None else [])
    encoded = encode_answers(answers, tokeniser, None, continues=continues)
    for answer, ids, read in zip(answers, encoded, tokeniser.decode_batch(encoded), strict=True):
        wanted = text.words.index(answer) if text.words else float(answer)
        if text.answer(read) != wanted:
            raise ConfigurationError(
                f"task {task!r}: the tokenizer cannot write the answer {answer!r}, it reads back as {read.strip()!r}; "
                "choose other words for the labels (words), of letters that the tokenizer knows"
            )
        if len(ids) > text.max_target_length:
            raise ConfigurationError(
                f"task {task!r}: the answer {answer!r} takes {len(ids)} tokens, its end included, and "
                f"max_target_length is {text.max_target_length}; raise it or choose a shorter word"
            )
