"""Rows as lines of JSON: read as they come, answered before the input ends."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol, Unpack

from propetl.errors import AnswerError, ConfigurationError, ProPETLError
from propetl.fields import shown
from propetl.files import json_line
from propetl.runtime.finite import no_answer
from propetl.runtime.generation.options import GenerationChoices
from propetl.runtime.prediction import Prediction
from propetl.runtime.rows import Text
from propetl.runtime.session import Session
from propetl.strict_json import any_length, parse_json

MAX_LINE = 16 << 20
"""Bytes of one line, unless somebody asks for more: some thousand pages of text."""

_LONGEST = 400  # characters of an error that repeats what somebody wrote
_READ_BYTES = 1 << 16
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"

Answer = tuple[str, Prediction]
"""Task and prediction of one row."""


class ByteStream(Protocol):
    """What is read from: a file, a pipe, bytes in memory."""

    def read1(self, size: int, /) -> bytes:
        """What is there, at most ``size`` bytes; waits only if nothing is; empty at the end."""


def lines_as_they_come(stream: ByteStream, most: int = MAX_LINE) -> Iterator[list[bytes]]:
    """Complete lines in groups: all that arrived since the last one, so that none waits for a full batch.

    A line of more than ``most`` bytes comes cut, as the last of all: no more of the stream is read.
    """
    pieces, held = list[bytes](), 0
    while held <= most and (chunk := stream.read1(_READ_BYTES)):
        first, *others = chunk.split(b"\n")
        pieces.append(first)
        held += len(first)
        if others:
            *lines, rest = (b"".join(pieces), *others)
            yield lines
            pieces, held = [rest], len(rest)
    if held:
        yield [b"".join(pieces)]


def answers(
    stream: ByteStream,
    session: Session,
    task: str | None,
    source: str = "",
    max_line: int = MAX_LINE,
    **choices: Unpack[GenerationChoices],
) -> Iterator[list[Answer]]:
    """Answers for lines ``{"text": …}`` or ``{"text": …, "text_pair": …}``, in order, group by group.

    Args:
        stream: UTF-8, one JSON object on each line; blank lines are passed over.
        session: runs the rows.
        task: of rows that have no key ``task``.
        source: name of the file, for errors; empty for a stream without one.
        max_line: bytes of a line at most; of a longer one no more is read than that.
        choices: how tasks that answer in text are to generate, as for :meth:`Session.generate`.

    Raises:
        ConfigurationError: naming the line that cannot be used, after all lines before it were answered;
            or there was no row at all.
        TaskError: likewise, for a task that is not there or takes other columns.
        AnswerError: likewise, for a line whose logits are not finite.
    """
    count, found = 0, False
    for lines in lines_as_they_come(stream, max_line):
        rows, failure = _rows_of(lines, Reading(count, source, max_line), session, task)
        count += len(lines)
        if rows:
            found = True
            yield from _answered(rows, session, choices)
        if failure is not None:
            raise failure
    if not found:
        where = f"{source}: " if source else ""
        raise ConfigurationError(f'{where}the input has no rows; give lines such as {{"text": "…"}}')


@dataclass(frozen=True)
class Reading:
    """Where in a stream a group of lines stands.

    Attributes:
        before: lines that came before.
        source: as for :func:`answers`.
        max_line: likewise.
    """

    before: int
    source: str
    max_line: int

    def where(self, index: int) -> str:
        """The line at ``index`` of the group, for errors."""
        line = f"line {self.before + index + 1}"
        return f"{self.source}, {line}" if self.source else line


@dataclass(frozen=True)
class _Row:
    where: str
    task: str
    text: Text


def _answered(rows: list[_Row], session: Session, choices: GenerationChoices) -> Iterator[list[Answer]]:
    """The answers to ``rows`` in one group; where that fails, those before the first that has none come first."""
    try:
        found = session.predict_mixed([(row.task, row.text) for row in rows], **choices)
    except AnswerError as error:  # rows that run first need not be those that stand first
        if error.row:
            yield from _answered(rows[: error.row], session, choices)
        raise no_answer(error.row, error.task, rows[error.row].where) from error
    except ProPETLError as error:
        if len(rows) == 1:
            raise _at(rows[0].where, error) from error
        for row in rows:
            yield from _answered([row], session, choices)
        return
    yield list(zip((row.task for row in rows), found, strict=True))


def _rows_of(
    lines: list[bytes], reading: Reading, session: Session, task: str | None
) -> tuple[list[_Row], ProPETLError | None]:
    """Rows up to the first line that cannot be used, and what is wrong with that one."""
    rows: list[_Row] = []
    for index, line in enumerate(lines):
        where = reading.where(index)
        try:
            if len(line) > reading.max_line:
                most = f"{reading.max_line:,} bytes"
                raise ConfigurationError(f"{where}: longer than {most}; cut it, or raise --max-line")
            if not line.strip():
                continue
            first = reading.before + index == 0
            name, text = _row_of(line.removeprefix(_BYTE_ORDER_MARK) if first else line, where, task)
            session.check(name, text, where)
        except ProPETLError as error:
            return rows, _at(where, error)
        rows.append(_Row(where, name, text))
    return rows, None


def _at(where: str, error: ProPETLError) -> ProPETLError:
    """``error`` with the line that it is about in front."""
    message = str(error)
    return type(error)(message if message.startswith(where) else f"{where}: {message}")


def _row_of(line: bytes, where: str, task: str | None) -> tuple[str, Text]:
    value = _object_of(line, where)
    name = value.get("task", task)
    if not isinstance(name, str):
        raise ConfigurationError(f'{where}: no task; add "task" to the line, or pass --task')
    if "text" not in value:
        raise ConfigurationError(f'{where}: no key "text", found {", ".join(map(shown, value)) or "none"}'[:_LONGEST])
    return name, (value["text"], value["text_pair"]) if "text_pair" in value else value["text"]


def _object_of(line: bytes, where: str) -> dict[str, Any]:
    try:
        value = parse_json(line, whole=any_length)
    except ValueError as error:
        raise ConfigurationError(f"{where}: not JSON ({error}); one object on each line") from error
    if not isinstance(value, dict):
        raise ConfigurationError(f"{where}: expected a JSON object, found {type(value).__name__}")
    return value


def answer_line(answer: Answer, scores: bool) -> bytes:
    """An answer as one line of JSON; ``scores`` adds the probability of every label, or of every tag of each word."""
    task, prediction = answer
    return json_line({"task": task} | prediction.line(scores))
