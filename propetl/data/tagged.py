"""Rows of words and tags: lists, as JSONL, Parquet, the hub and CoNLL columns give them, or texts with blanks."""

from collections.abc import Sequence

from propetl.bundle.words import is_word, word_spans
from propetl.data.table import Record, Table, is_unicode, shown
from propetl.data.tasks import TaskSpec


def tagged_row(spec: TaskSpec, table: Table, record: Record) -> tuple[str, tuple[str, ...]]:
    """The words of a record with blanks between them, and their tags by the names of ``spec``.

    Raises:
        DataError: words and tags are not as many, a word is none, or a tag is unknown.
    """
    words, tags = (_parts(table, record, value) for value in record.values)
    if not words:
        raise table.wrong(record, "a sentence has no words: leave the row out")
    if len(words) != len(tags):
        raise table.wrong(record, f"{len(words)} words and {len(tags)} tags: give each word its tag")
    for place, word in enumerate(words, start=1):
        if not is_word(word) or not is_unicode(word):
            raise table.wrong(record, f"word {place}, {shown(word)}, is none: a word is text without blanks")
    return " ".join(words), tuple(_tag(spec, table, record, place, tag) for place, tag in enumerate(tags, start=1))


def _parts(table: Table, record: Record, value: object) -> Sequence[str]:
    if isinstance(value, str):
        return [value[start:end] for start, end in word_spans(value)]
    if not isinstance(value, list):
        raise table.wrong(record, f"a list of words or tags expected, found {shown(value)}")
    return value


def _tag(spec: TaskSpec, table: Table, record: Record, place: int, raw: object) -> str:
    index = spec.class_of(str(raw)) if isinstance(raw, str | int) and not isinstance(raw, bool) else None
    if index is None:
        raise table.wrong(
            record, f"the tag of word {place}, {shown(raw)}, is unknown: task {spec.name} has {spec.allowed()}"
        )
    return spec.labels[index]
