"""Every error that ProPETL raises on purpose.

    ProPETLError                 base; ``exit_code`` is what the command line returns
    ├── ConfigurationError       a key, flag or file of the user's is wrong
    │   └── DataError            a row or column of a data file is wrong
    ├── BundleError              a bundle or task pack is damaged, foreign or of an unknown version
    ├── ArtifactError            an artifact is damaged, foreign or of an unknown version
    ├── TaskError                a task is unknown, or does not fit what it is used with
    ├── AnswerError              what was computed for a row is no answer: its numbers are not finite
    ├── BackendError             a provider or engine was asked for that is not there
    │   └── MissingExtraError    an optional dependency is not installed
    └── CheckFailed              a validation ran and found a difference (exit code 1)

    KeyboardInterrupt
    └── Interrupted              a signal ended training; no error, so ``except Exception`` does not go on after it

Each message is one line that says what was asked for, what was found, and what to do.
"""

_START, _END = 3000, 900
"""Characters that are kept of a longer message: a damaged file may hold anything where a name is expected."""


class ProPETLError(Exception):
    """Base of all errors raised on purpose; wrong input unless a subclass says otherwise."""

    exit_code = 2

    def __init__(self, message: str = "") -> None:
        """``message`` in one line; of one that is too long to read, the middle is left out."""
        whole = len(message) <= _START + _END
        super().__init__(message if whole else f"{message[:_START]} … {message[-_END:]}")


class ConfigurationError(ProPETLError):
    """A configuration key, a flag or a path given by the user cannot be used."""


class DataError(ConfigurationError):
    """A data file cannot be used; the message names file and row."""


class BundleError(ProPETLError):
    """A bundle or a task pack is damaged, belongs elsewhere or has an unknown version."""


class ArtifactError(ProPETLError):
    """An artifact is damaged, belongs elsewhere or has an unknown version."""


class TaskError(ProPETLError):
    """A task is unknown here, or its pack does not fit the prototype or the backbone."""


class AnswerError(ProPETLError):
    """The numbers that were computed for a row are not finite, so they are no answer.

    Attributes:
        row: its place in the call, counted from 0.
        task: that the row was asked of; None where it is not known.
    """

    def __init__(self, message: str, row: int = 0, task: str | None = None) -> None:
        super().__init__(message)
        self.row = row
        self.task = task


class BackendError(ProPETLError):
    """A provider or an engine was asked for that cannot run here."""


class MissingExtraError(BackendError):
    """An optional dependency is missing; the message is the line that installs it here."""

    def __init__(self, purpose: str, module: str, extra: str) -> None:
        from propetl.installation import install_line  # here: nothing else needs to know how this was installed

        super().__init__(f"{purpose} needs {module!r}, which is not installed: {install_line(extra)}")
        self.extra = extra


class CheckFailed(ProPETLError):
    """A check ran to its end and found a difference beyond its tolerance."""

    exit_code = 1


class Interrupted(KeyboardInterrupt):
    """A signal ended training; the message says what was saved and how to go on.

    Attributes:
        number: of the signal.
        exit_code: as shells count.
        what: has happened, and what is saved.
    """

    def __init__(self, number: int, what: str = "interrupted", how: str = "") -> None:
        """``how`` to go on, if there is something to go on with."""
        super().__init__("; ".join(filter(None, (what, how))))
        self.number = number
        self.exit_code = 128 + number
        self.what = what
