"""``propetl predict``: a task of an artifact on text."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from io import BufferedReader
from pathlib import Path

import click
from rich.console import Console, JustifyMethod, OverflowMethod
from rich.markup import escape
from rich.table import Table

from propetl.cli.generation_options import generation_options
from propetl.cli.provider_options import provider_options
from propetl.errors import ConfigurationError
from propetl.runtime.generation.options import GenerationChoices
from propetl.runtime.jsonl import MAX_LINE, Answer, answer_line, answers
from propetl.runtime.rows import Text
from propetl.runtime.session import Session

_STANDARD_INPUT = "-"


@click.command("predict", short_help="Run a task on text.")
@click.argument("artifact", type=click.Path(path_type=Path))
@click.argument("texts", nargs=-1)
@click.option("--task", help="Which task; may be left out if there is only one.")
@click.option("--pair", "pairs", multiple=True, help="Second text, once for each text; of one text, all others.")
@click.option(
    "--file",
    "source",
    type=click.Path(exists=True, dir_okay=False, allow_dash=True, path_type=Path),
    help="Lines of JSON instead of texts; - for standard input.",
)
@click.option(
    "--max-line",
    type=click.IntRange(min=1),
    default=MAX_LINE,
    show_default=True,
    help="Bytes of a line of --file at most; of a longer one no more is read.",
)
@click.option("--scores", is_flag=True, help="The probability of every label as well.")
@click.option("--form", help="folded, switchable or bank.  [default: the first of switchable, folded, bank]")
@click.option("--threads", type=click.IntRange(min=1), help="Threads.  [default: all cores]")
@provider_options
@click.option("--batch-size", type=click.IntRange(min=1), default=32, show_default=True)
@generation_options
@click.option("--stream", is_flag=True, help="Print generated text as it comes, one text after the other.")
def command(
    artifact: Path,
    texts: tuple[str, ...],
    task: str | None,
    pairs: tuple[str, ...],
    source: Path | None,
    max_line: int,
    scores: bool,
    form: str | None,
    threads: int | None,
    provider: str,
    device: int,
    precision: str | None,
    engine_cache: Path | None,
    batch_size: int,
    choices: GenerationChoices,
    stream: bool,
) -> None:
    """Run a task of ARTIFACT on TEXTS, or on lines of JSON.

    A line is {"text": "…"} or {"text": "…", "text_pair": "…"}, or {"text": ["…", "…", "…"]} for tasks of more
    columns; a key "task" overrides --task. Each line is
    answered by one, as soon as it is read: {"task": "…", "label": "…", "score": …}, where score is the
    probability of the label, or the value of a regression (label null). Texts are answered by a table on a
    terminal, and by such lines elsewhere. Of tasks that answer in text a line also has "generated"; label and
    score are null where the text is neither a label nor a value. Of tasks that tag, a line is
    {"task": "…", "words": [{"word": "…", "start": …, "end": …, "tag": "…", "score": …}, …]}; a word that was
    cut off has tag null.

    \b
    Examples:
      propetl predict out --task sst2 "a moving film" "a waste of time"
      propetl predict out --task rte "It rains in Rome." --pair "Rome is wet."
      propetl predict out --task ner "Ada Lovelace lived in London ."
      tail -f reviews.jsonl | propetl predict out --task sst2 --file -
      propetl predict out --task xsum --beams 4 --max-new-tokens 60 --file articles.jsonl
      propetl predict out --task xsum --sample --top-p 0.9 --stream "It rained in Rome today."
    """  # noqa: D301 (click looks for the control character)
    if (source is None) == (not texts) or (pairs and source is not None):
        raise ConfigurationError("give texts, or --file with lines of JSON (- for standard input), not both")
    texts, pairs = _as_unicode("TEXTS", texts), _as_unicode("--pair", pairs)
    if stream and source is not None:
        raise ConfigurationError("--stream prints the answers to TEXTS; leave it out with --file")
    with Session.open(
        artifact, provider, form, threads, batch_size, device=device, engine_cache=engine_cache, precision=precision
    ) as session:
        if source is not None:
            _answer_stream(session, source, max_line, task or _only_task(session), scores, choices)
        elif stream:
            _stream_texts(session, task or _needed_task(session), _rows(texts, pairs), choices)
        else:
            _answer_texts(session, task or _needed_task(session), _rows(texts, pairs), scores, choices)
        if session.truncated.truncated:
            click.echo(f"propetl: {session.truncated.line(session.max_length)}", err=True)


def _only_task(session: Session) -> str | None:
    return session.tasks[0] if len(session.tasks) == 1 else None


def _needed_task(session: Session) -> str:
    task = _only_task(session)
    if task is None:
        raise ConfigurationError(f"pass --task; the artifact has {', '.join(session.tasks)}")
    return task


def _as_unicode(argument: str, texts: tuple[str, ...]) -> tuple[str, ...]:
    """Arguments read as UTF-8, as files and standard input are, whatever the locale is."""
    try:
        return tuple(os.fsencode(text).decode() for text in texts)
    except UnicodeError as error:
        raise ConfigurationError(
            f"{argument}: a text is not UTF-8 ({error}); give texts in UTF-8, or lines of JSON with --file"
        ) from error


def _rows(texts: tuple[str, ...], pairs: tuple[str, ...]) -> list[Text]:
    if not pairs:
        return list(texts)
    if len(texts) == 1:
        return [(texts[0], *pairs)]
    if len(pairs) != len(texts):
        raise ConfigurationError(f"--pair goes with each text; found {len(texts)} texts, {len(pairs)} --pair")
    return list(zip(texts, pairs, strict=True))


def _answer_stream(
    session: Session, source: Path, max_line: int, task: str | None, scores: bool, choices: GenerationChoices
) -> None:
    if task is not None:
        session.task(task)  # an unknown task is no fault of a line
    name = "" if str(source) == _STANDARD_INPUT else str(source)
    with _bytes_of(source) as stream:
        for group in answers(stream, session, task, name, max_line, **choices):
            _write(group, scores)


@contextmanager
def _bytes_of(source: Path) -> Iterator[BufferedReader]:
    if str(source) == _STANDARD_INPUT:
        yield sys.stdin.buffer  # type: ignore[misc]  # typed as BinaryIO, has read1 all the same
        return
    with source.open("rb") as stream:
        yield stream


def _write(answered: list[Answer], scores: bool) -> None:
    sys.stdout.buffer.write(b"".join(answer_line(answer, scores) for answer in answered))
    sys.stdout.buffer.flush()  # a reader behind a pipe is to see it now


def _stream_texts(session: Session, task: str, rows: list[Text], choices: GenerationChoices) -> None:
    for row in rows:
        session.generate(task, [row], stream=_print_piece, **choices)
        click.echo()


def _print_piece(row: int, piece: str) -> None:
    click.echo(piece, nl=False)
    sys.stdout.flush()


def _answer_texts(session: Session, task: str, rows: list[Text], scores: bool, choices: GenerationChoices) -> None:
    found = [(task, prediction) for prediction in session.predict(task, rows, **choices)]
    console = Console()
    if console.is_terminal:
        console.print(_table(session, task, rows, found, scores))
    else:
        _write(found, scores)


def _table(session: Session, task: str, rows: list[Text], found: list[Answer], scores: bool) -> Table:
    info = session.task(task)
    table = Table(title=f"{escape(task)} ({session.form})")
    for column in info.columns:
        table.add_column(escape(column), overflow="fold")
    for item in info.kind.columns(info, scores):
        side: JustifyMethod = "right" if item.number else "left"
        fold: OverflowMethod = "fold" if item.folds else "ellipsis"
        table.add_column(escape(item.title), style=item.style, justify=side, overflow=fold)
    for row, (_, prediction) in zip(rows, found, strict=True):
        texts = (row,) if isinstance(row, str) else row
        lines = info.kind.lines(info, prediction, scores)
        for place, cells in enumerate(lines, start=1):
            shown = texts if place == 1 else [""] * len(texts)
            end = info.kind.answers_words and place == len(lines)
            table.add_row(*map(escape, shown), *map(escape, cells), end_section=end)
    return table
