"""Decides what the labels of a data set mean: one reading for all of them, or a refusal that shows both.

A value of a label column may be a class name, a class index, a number that the data itself names, or a value that the
task's ``labels`` map. Names and indices never mix, and where both explain every value and differ, none is guessed.
"""

from collections.abc import Iterator, Mapping
from dataclasses import replace

from propetl.data.label_values import LabelValue, index_of, near, number_of
from propetl.data.table import shown
from propetl.errors import DataError
from propetl.task import TaskSpec, plain

Seen = Mapping[LabelValue, str]
"""Each value of a label column, and where it stands first: ``FILE, line 3``."""

Classes = dict[LabelValue, int]

_SHOWN = 8


def classes_of(spec: TaskSpec, seen: Seen) -> Classes:
    """The class of every value that was seen.

    Raises:
        DataError: a value is unknown, values are read in two ways, or it cannot be told in which.
    """
    return _Reading(spec, seen).classes()


def settled(spec: TaskSpec, seen: Seen, classes: Classes) -> TaskSpec:
    """``spec`` with the reading that ``classes`` are by written into ``label_values``, where names look like indices.

    Data that is read later, with fewer classes in it, is then read in the same way.
    """
    if spec.label_values or not looks_like_indices(spec):
        return spec
    by_name = all(_name_class(spec, value) == classes[value] for value in seen)
    names = [plain(label) for label in spec.labels]
    keys = names if by_name else [str(index) for index in range(len(names))]
    return replace(spec, label_values={key: index for index, key in enumerate(keys)})


def looks_like_indices(spec: TaskSpec) -> bool:
    """Whether a class name is a number that is the index of another class."""
    numbers = [number_of(label) for label in spec.labels]
    return any(number in range(len(numbers)) and number != place for place, number in enumerate(numbers))


def known_spellings(spec: TaskSpec) -> tuple[str, ...]:
    """All that a file may hold for the classes of ``spec``, apart from indices."""
    return (*spec.label_values, *spec.labels)


def _name_class(spec: TaskSpec, value: LabelValue) -> int | None:
    return next((place for place, label in enumerate(spec.labels) if plain(label) == value.text), None)


class _Reading:
    """The values of one data set under each reading that is possible."""

    def __init__(self, spec: TaskSpec, seen: Seen) -> None:
        self.spec, self.seen = spec, seen
        self._names = {plain(label): place for place, label in enumerate(spec.labels)}
        self._mapped = {plain(raw): place for raw, place in spec.label_values.items()}
        numbers = [number_of(label) for label in spec.labels]
        self._numerals = {number: place for place, number in enumerate(numbers) if number is not None}

    def classes(self) -> Classes:
        if self._mapped:
            return {value: self._mapped_class(value) for value in self.seen}
        by_name = {value: found for value in self.seen if (found := self._names.get(value.text)) is not None}
        by_index = {value: found for value in self.seen if (found := self._index(value)) is not None}
        for value in self.seen:
            if value not in by_name and value not in by_index:
                raise self._unknown(value)
        if len(by_name) < len(self.seen) and len(by_index) < len(self.seen):
            raise self._mixed(by_name, by_index)
        chosen, other = (by_name, by_index) if len(by_name) == len(self.seen) else (by_index, by_name)
        if len(other) == len(chosen) and chosen != other:
            raise self._ambiguous(by_name, by_index)
        if chosen is by_index:
            self._check_numerals(by_index)
        return chosen

    def _index(self, value: LabelValue) -> int | None:
        """As an index; a number that the data names only where that name is the class of this index."""
        if value.number is None:
            return index_of(value.text, len(self.spec.labels))
        return value.number if self._names.get(value.text) == value.number else None

    def _mapped_class(self, value: LabelValue) -> int:
        """By the task's own mapping, which the data's names may not contradict."""
        found = dict(self._mapped_readings(value))
        if not found:
            raise self._unknown(value)
        if len(set(found.values())) > 1:
            ways = " and ".join(f"{self._label(place)} as {way}" for way, place in found.items())
            raise DataError(
                f"{self.seen[value]}: label {value.number} is {ways}: task {self.spec.name} maps labels in another way "
                "than the data names them; map the data's names, or leave the mapping out"
            )
        return next(iter(found.values()))

    def _mapped_readings(self, value: LabelValue) -> Iterator[tuple[str, int]]:
        by_text, by_name = self._mapped.get(value.text), self._names.get(value.text)
        if by_text is not None:
            yield "the mapped value", by_text
        if value.number is None:
            if by_text is None and by_name is not None and self._names_count():
                yield "the class name", by_name
            return
        if by_name is not None:
            yield "the data's own name", by_name
        by_number = self._mapped.get(str(value.number))
        if by_number is not None and (by_text is None or by_text != by_name):
            yield "the mapped number", by_number

    def _names_count(self) -> bool:
        """Whether class names are accepted beside a mapping: not where it gives one of them another meaning."""
        return all(self._mapped.get(name, place) == place for name, place in self._names.items())

    def _check_numerals(self, by_index: Classes) -> None:
        """Refuses index 1 where a class is called 01: it may as well be that name, written by another program."""
        named = {value: self._numeral(value.text) for value in by_index}
        by_name = {value: place for value, place in named.items() if place is not None}
        if len(by_name) == len(by_index) and by_name != by_index:
            raise self._ambiguous(by_name, by_index)

    def _numeral(self, text: str) -> int | None:
        number = number_of(text)
        return None if number is None else self._numerals.get(number)

    def _label(self, place: int) -> str:
        return repr(self.spec.labels[place])

    def _ambiguous(self, by_name: Classes, by_index: Classes) -> DataError:
        value = next(value for value in by_name if by_name[value] != by_index[value])
        name, index = by_name[value], by_index[value]
        by_names = ", ".join(f'"{plain(label)}": "{label}"' for label in self.spec.labels[:_SHOWN])
        by_indices = ", ".join(f'"{place}": "{label}"' for place, label in enumerate(self.spec.labels[:_SHOWN]))
        return DataError(
            f"{self.seen[value]}: label {shown(value.text)} is class {self._label(name)} by name and "
            f"{self._label(index)} by index, and all labels can be read both ways: say which in task {self.spec.name}, "
            f"labels: {{{by_names}}} for names, labels: {{{by_indices}}} for indices"
        )

    def _mixed(self, by_name: Classes, by_index: Classes) -> DataError:
        """At the first value that does not go with those before."""
        first: LabelValue | None = None
        for value in self.seen:
            if value in by_name and value in by_index:
                continue
            if first is None:
                first = value
            elif (value in by_name) != (first in by_name):
                break
        assert first is not None
        return DataError(
            f"{self.seen[value]}: label {self._shown(value)} is {_kind(value, by_name)}, but {self._shown(first)} "
            f"({self.seen[first]}) is {_kind(first, by_name)}: use one of the two in all files of task {self.spec.name}"
        )

    def _unknown(self, value: LabelValue) -> DataError:
        spec, where = self.spec, self.seen[value]
        if value.text == str(value.number):
            return DataError(
                f"{where}: label {value.number} has no name, as the data's other numbers have: write the file again "
                "with a name for it"
            )
        if value.number is not None:
            named = f"label {value.number} is {shown(value.text)} by the data's own names"
            what = f"{named}, which task {spec.name} does not have"
        else:
            what = f"label {shown(value.text)} is unknown: task {spec.name} has {spec.allowed()}"
        alike = near(value.text, known_spellings(spec))
        if alike is not None:
            hint = f"{alike!r} differs from it in spelling only: write one of them as the other"
            return DataError(f"{where}: {what}; {hint}")
        if value.number is not None:
            return DataError(
                f"{where}: {what}: its labels are {', '.join(map(repr, spec.labels[:_SHOWN]))}; rename them, or map "
                f"the data's names: labels: {{{shown(value.text)}: …}}"
            )
        number = number_of(value.text)
        if number is not None and number % 1 > 0:
            what = f"label {shown(value.text)} is a float where a class is due: use {spec.allowed()}"
        return DataError(f"{where}: {what}")

    def _shown(self, value: LabelValue) -> str:
        return shown(value.text) if value.number is None else f"{value.number} ({shown(value.text)})"


def _kind(value: LabelValue, by_name: Classes) -> str:
    if value.number is not None:
        return "a number that the data names itself"
    return "a class name" if value in by_name else "a class index"
