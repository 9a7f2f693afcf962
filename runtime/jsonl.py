"""Rows as lines of JSON: read as they come, answered before the input ends."""

import json
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any, Protocol, Unpack

from propetl.errors import AnswerError, ConfigurationError, ProPETLError
from propetl.files import json_line
from propetl.runtime.finite import no_answer
from propetl.runtime.generation.options import GenerationChoices
from propetl.runtime.prediction import Prediction, TaggedWord
from propetl.runtime.rows import Text
from propetl.runtime.session import Session

_READ_BYTES = 1 << 16
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"

Answer = tuple[str, Prediction]
"""Task and prediction of one row."""


class ByteStream(Protocol):
    """What is read from: a file, a pipe, bytes in memory."""

    def read1(self, size: int, /) -> bytes:
        """What is there, at most ``size`` bytes; waits only if nothing is; empty at the end."""


def lines_as_they_come(stream: ByteStream) -> Iterator[list[bytes]]:
    """Complete lines in groups: all that arrived since the last one, so that none waits for a full batch."""
    rest = b""
    while chunk := stream.read1(_READ_BYTES):
        *lines, rest = (rest + chunk).split(b"\n")
        if lines:
            yield lines
    if rest:
        yield [rest]


def answers(
    stream: ByteStream, session: Session, task: str | None, **choices: Unpack[GenerationChoices]
) -> Iterator[list[Answer]]:
    """Answers for lines ``{"text": …}`` or ``{"text": …, "text_pair": …}``, in order, group by group.

    Args:
        stream: UTF-8, one JSON object on each line; blank lines are passed over.
        session: runs the rows.
        task: of rows that have no key ``task``.
        choices: how tasks that answer in text are to generate, as for :meth:`Session.generate`.

    Raises:
        ConfigurationError: naming the line that cannot be used, after all lines before it were answered;
            or there was no row at all.
        TaskError: likewise, for a task that is not there or takes other columns.
        AnswerError: likewise, for a line whose logits are not finite.
    """
    count, found = 0, False
    for lines in lines_as_they_come(stream):
        rows, failure = _rows_of(lines, count, session, task)
        count += len(lines)
        found = found or bool(rows)
        answered, unanswered = _answered(rows, session, choices)
        if answered:
            yield answered
        if error := unanswered or failure:
            raise error
    if not found:
        raise ConfigurationError('the input has no rows; give lines such as {"text": "…"}')


def _answered(
    rows: dict[str, tuple[str, Text]], session: Session, choices: GenerationChoices
) -> tuple[list[Answer], AnswerError | None]:
    """Answers up to the first row that has none, and the error of that one; ``rows`` are by the name of their line."""
    unanswered = None
    lines, asked = list(rows), list(rows.values())
    while asked:
        try:
            found = session.predict_mixed(asked, **choices)
            return list(zip((name for name, _ in asked), found, strict=True)), unanswered
        except AnswerError as error:  # rows that run first need not be those that stand first
            unanswered = no_answer(error.row, error.task, lines[error.row])
            del asked[error.row :]
    return [], unanswered


def _rows_of(
    lines: list[bytes], before: int, session: Session, task: str | None
) -> tuple[dict[str, tuple[str, Text]], ProPETLError | None]:
    """Rows by the name of their line, up to the first that cannot be used, and what is wrong with that one."""
    rows: dict[str, tuple[str, Text]] = {}
    for number, line in enumerate(lines, before + 1):
        if not line.strip():
            continue
        where = f"line {number}"
        try:
            name, text = _row_of(line.removeprefix(_BYTE_ORDER_MARK) if number == 1 else line, where, task)
            session.check(name, text, where)
        except ProPETLError as error:
            message = str(error)
            return rows, type(error)(message if message.startswith(where) else f"{where}: {message}")
        rows[where] = (name, text)
    return rows, None


def _row_of(line: bytes, where: str, task: str | None) -> tuple[str, Text]:
    value = _object_of(line, where)
    name = value.get("task", task)
    if not isinstance(name, str):
        raise ConfigurationError(f'{where}: no task; add "task" to the line, or pass --task')
    if "text" not in value:
        raise ConfigurationError(f'{where}: no key "text", found {", ".join(map(repr, value)) or "none"}')
    return name, (value["text"], value["text_pair"]) if "text_pair" in value else value["text"]


def _object_of(line: bytes, where: str) -> dict[str, Any]:
    try:
        value = json.loads(line.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise ConfigurationError(f"{where}: not UTF-8 ({error.reason} at byte {error.start})") from error
    except (json.JSONDecodeError, RecursionError) as error:
        raise ConfigurationError(f"{where}: not JSON ({error}); one object on each line") from error
    if not isinstance(value, dict):
        raise ConfigurationError(f"{where}: expected a JSON object, found {type(value).__name__}")
    return value


def answer_line(answer: Answer, scores: bool) -> bytes:
    """An answer as one line of JSON; ``scores`` adds the probability of every label, or of every tag of each word."""
    task, prediction = answer
    if prediction.words:
        return json_line({"task": task, "words": [_word(word, scores) for word in prediction.words]})
    value: dict[str, Any] = {"task": task, "label": prediction.label, "score": prediction.score}
    if prediction.generated is not None:
        value["generated"] = prediction.generated
    if scores:
        value["scores"] = prediction.scores
    return json_line(value)


def _word(word: TaggedWord, scores: bool) -> dict[str, Any]:
    value = asdict(word)
    return value if scores else {name: item for name, item in value.items() if name != "scores"}
