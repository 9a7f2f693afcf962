"""Mutants by number: each is drawn, read and judged the same way whenever it is asked for."""

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

from propetl.errors import ProPETLError
from tests.fuzzing.files import Files, alike
from tests.fuzzing.rewritten import rewritten_targets
from tests.fuzzing.targets import Target, kept_targets

REFUSED, SAME, ACCEPTED = "refused", "same", "accepted"
"""A ProPETLError of one line; the meaning of the undamaged file; another one, where hashes were made anew."""

CHANGED, EXCEPTION, CRASH, HANG = "changed", "exception", "crash", "hang"
FAILURES = (CHANGED, EXCEPTION, CRASH, HANG)
"""Another meaning although hashes were kept; any other exception; an end of the process; no end of a reading."""
LONGEST_LINE = 5000


@dataclass
class Tally:
    """What became of some mutants.

    Attributes:
        counts: by target and outcome.
        failures: number, target, outcome and words of each mutant that should not have ended so.
    """

    counts: Counter[tuple[str, str]] = field(default_factory=Counter)
    failures: list[tuple[int, str, str, str]] = field(default_factory=list)

    def add(self, number: int, target: str, outcome: str, words: str) -> None:
        """Counts one mutant."""
        self.counts[target, outcome] += 1
        if outcome in FAILURES:
            self.failures.append((number, target, outcome, words))

    def __iadd__(self, other: "Tally") -> "Tally":
        self.counts.update(other.counts)
        self.failures += other.failures
        return self

    def to_json(self) -> dict[str, Any]:
        """For a pipe or a file."""
        return {"counts": [[*key, count] for key, count in self.counts.items()], "failures": self.failures}

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> "Tally":
        """Inverse of :meth:`to_json`."""
        counts = Counter({(target, outcome): count for target, outcome, count in value["counts"]})
        return cls(counts, [tuple(failure) for failure in value["failures"]])


class Campaign:
    """Mutants of all targets, over files in a folder of its own."""

    def __init__(self, folder: Path, seed: int, targets: list[Target] | None = None) -> None:
        self.seed = seed
        self.targets = _all_targets(folder) if targets is None else targets
        self._original = {target.name: target.meaning(target.original) for target in self.targets}

    def outcome(self, number: int) -> tuple[str, str, str]:
        """Target, outcome and words of mutant ``number``."""
        target, random = self._drawn(number)
        mutant = target.mutant(random)
        try:
            meaning = target.meaning(mutant)
        except ProPETLError as error:
            said = str(error)
            if said and "\n" not in said and len(said) < LONGEST_LINE:
                return target.name, REFUSED, said
            return target.name, EXCEPTION, f"not one line: {said[:300]!r}"
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as error:  # a panic of a library is no Exception
            return target.name, EXCEPTION, f"{type(error).__name__}: {error}"[:300]
        if alike(meaning, self._original[target.name]):
            return target.name, SAME, ""
        return (target.name, CHANGED, f"{meaning!r}"[:300]) if target.kept else (target.name, ACCEPTED, "")

    def _drawn(self, number: int) -> tuple[Target, Random]:
        random = Random(f"{self.seed}/{number}")
        (target,) = random.choices(self.targets, [target.share for target in self.targets])
        return target, random


def _all_targets(folder: Path) -> list[Target]:
    files = Files(folder)
    return [*kept_targets(files), *rewritten_targets(files)]
