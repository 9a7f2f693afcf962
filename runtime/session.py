"""A session runs an artifact: texts in, logits or labels out."""

from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Unpack

from propetl.bundle.pack import read_pack
from propetl.errors import ConfigurationError, ProPETLError, TaskError
from propetl.problems.text import text_of
from propetl.runtime.artifact import Artifact, read_manifest
from propetl.runtime.beside import Beside
from propetl.runtime.engines import EngineOptions, Memory
from propetl.runtime.forms import BoundTask, Logits, MixingForm, RunningForm
from propetl.runtime.forms.choose import DEFAULT_TASK_MEMORY, choose_form, open_form
from propetl.runtime.logits_reader import LogitsReader, Texts
from propetl.runtime.opening import check_weights, checked_tokeniser
from propetl.runtime.rows import (
    Text,
    check_text,
    checked_texts,
    source_of,
    tasks_and_texts,
)
from propetl.runtime.tokenise import Tokeniser
from propetl.runtime.truncation import Truncated, Truncation
from propetl.runtime.whole_numbers import whole_number
from propetl.task import TaskSpec

# The first answer of a process waits for every import: what it may do without is imported where it is used.
if TYPE_CHECKING:
    from propetl.runtime.generation.options import GenerationChoices
    from propetl.runtime.generation.stream import OnText
    from propetl.runtime.prediction import Prediction
    from propetl.runtime.text_writer import TextWriter


class Session:
    """An artifact, loaded and ready. Made by :meth:`open`; close it, or use it in a ``with`` block.

    Safe to use from many threads at once: a call keeps nothing on the session, and a task that another
    thread adds or removes meanwhile does not reach calls that have begun.
    """

    def __init__(
        self, artifact: Artifact, form: str, running: RunningForm, tokeniser: Tokeniser, batch_size: int
    ) -> None:
        self._artifact = artifact
        self._form = form
        self._running: RunningForm | None = running
        self._truncation = Truncation()
        self._tokeniser = tokeniser.counted_by(self._truncation)
        self._batch_size = batch_size
        self._reader = LogitsReader(self._tokeniser, artifact.manifest.token_inputs, batch_size)

    @classmethod
    def open(
        cls,
        path: Path | str,
        provider: str = "cpu",
        form: str | None = None,
        threads: int | None = None,
        batch_size: int = 32,
        verify: bool = True,
        memory: Memory = "fast",
        device: int = 0,
        engine_cache: Path | None = None,
        task_memory: int = DEFAULT_TASK_MEMORY,
        precision: str | None = None,
    ) -> "Session":
        """Opens the artifact in folder ``path``.

        Args:
            path: the folder that ``propetl export`` wrote.
            provider: what runs it; if it cannot run here, that is an error.
            form: ``folded``, ``switchable`` or ``bank``; None takes the first of switchable, folded, bank
                that the artifact has.
            threads: threads inside one operator; None for all cores.
            batch_size: rows that are run at once at most.
            verify: hash every file before it is used: weights and tokenizer now, a graph or task pack when it is read.
            memory: ``fast``, or ``small`` for many sessions over one backbone.
            device: number of the GPU, for providers that run on one.
            engine_cache: folder for engines that a provider builds here; None for the user's cache folder.
            task_memory: bytes that forms switchable and bank may keep for tasks; the least recently used goes first.
            precision: which of several engines a provider of plans runs; None for the first.

        Raises:
            ArtifactError: the artifact is damaged, or its version is not known.
            BackendError: the provider or its library is not there.
            ConfigurationError: no such form, or an option out of range.
        """
        task_memory = whole_number("task_memory, a number of bytes,", task_memory, 0)
        options = EngineOptions(provider, threads, memory, device, engine_cache, batch_size, precision=precision)
        artifact = read_manifest(Path(path), hashing=verify)
        chosen = choose_form(artifact, form)
        weights, tokeniser = Beside(partial(check_weights, artifact)), Beside(partial(checked_tokeniser, artifact))
        try:
            running = open_form(artifact, chosen, options, task_memory)
        except ProPETLError:
            weights.result()  # a damaged file explains more than what came of it
            tokeniser.result()
            raise
        weights.result()
        artifact.held.settle()
        return cls(artifact, chosen, running, tokeniser.result(), options.batch_size)

    @property
    def form(self) -> str:
        """The form that runs."""
        return self._form

    @property
    def tasks(self) -> tuple[str, ...]:
        """Names of the tasks that can be run now."""
        return self._open().tasks()

    @property
    def max_length(self) -> int:
        """Tokens to which rows are truncated, special ones included."""
        return self._artifact.manifest.max_length

    @property
    def truncated(self) -> Truncated:
        """Rows that were tokenised since the session was opened, and how many of them were truncated."""
        return self._truncation.found

    def lengths(self, task: str, texts: Sequence[Text]) -> list[int]:
        """Tokens of each row as it is before it is truncated, special ones included; arguments as for :meth:`run`."""
        bound = self._open().bind(task)
        checked = checked_texts(bound.name, bound.info, texts)
        rows = self._tokeniser.counted_by(None).rows([source_of(bound.info, text) for text in checked])
        return [len(row) + row.cut for row in rows]

    def task(self, name: str) -> TaskSpec:
        """Problem, labels and columns of a task; :class:`TaskError` if it is not here."""
        return self._open().bind(name).info

    def run(self, task: str, texts: Texts) -> Logits:
        """Logits float32 ``[rows, outputs]``, in the order of the rows.

        Of a task that tags ``[rows, places, outputs]``: a place is a word of a text, or a token of token ids; logits
        are NaN behind a row's last word, and for a word without tokens, such as one that was cut off.

        Args:
            task: its name.
            texts: texts or pairs of texts, in a list or whatever else gives them in order (a column of pandas, an
                array of numpy's, a generator); or token ids ``{"input_ids": …, "attention_mask": …}``, int
                ``[rows, sequence]``. Texts are truncated as in training; token ids are taken as they are.

        Raises:
            TaskError: no such task, or rows that do not fit its columns.
            ConfigurationError: no rows, a blank text, or token ids that cannot be used.
            AnswerError: the logits of a row are not finite; it names the row and the task.
        """
        bound = self._open().bind(task)
        return bound.info.kind.run(self._reader, bound, texts)

    def predict(self, task: str, texts: Texts, **choices: "Unpack[GenerationChoices]") -> "list[Prediction]":
        """Labels with probabilities, values of a regression, or what was generated and the label or value it spells.

        Of a task that tags, the words of each text with their tags; it takes texts, since token ids name no words.
        Arguments and errors as for :meth:`run`; ``choices`` as for :meth:`generate`, not for tasks with a head.
        """
        bound = self._open().bind(task)
        if choices:
            self._writer(bound)  # refuses them for a task with a head
        generated = partial(self._answers, bound, choices=choices, stream=None)
        return bound.info.kind.predictions(self._reader, generated, bound, texts)

    def generate(
        self, task: str, texts: Texts, stream: "OnText | None" = None, **choices: "Unpack[GenerationChoices]"
    ) -> list[str]:
        """What a task answers in text, in the order of the rows.

        Args:
            task: its name.
            texts: as for :meth:`run`; the task's prompt is put around texts, token ids are taken as they are.
            stream: receives pieces of text as they come, with the row they belong to; rows of like length run
                together, shortest first. Not with beam search.
            choices: fields of :class:`~propetl.runtime.generation.options.GenerationOptions`; what is not given is as
                the task says.

        Raises:
            TaskError: no such task, it answers with a head, or rows that do not fit its columns.
            ConfigurationError: as for :meth:`run`; or choices that do not go together.
        """
        return self._answers(self._open().bind(task), texts, choices, stream)

    def run_mixed(self, rows: Iterable[tuple[str, Text]]) -> list[Logits]:
        """Logits ``[outputs of its task]`` of each ``(task, text)``, in the order of the rows.

        Of a task that tags ``[words, outputs]``, NaN for a word without tokens.

        Forms bank and switchable run the tasks of a batch together; folded runs one task after the other.
        """
        return [logits for logits, _, _ in self._run_mixed(rows)]

    def predict_mixed(
        self, rows: Iterable[tuple[str, Text]], **choices: "Unpack[GenerationChoices]"
    ) -> "list[Prediction]":
        """Answers for rows ``(task, text)`` of any tasks, in the order of the rows; ``choices`` as for predict."""
        if self._artifact.manifest.generation is not None or choices:
            running, tasks, texts = self._bound_rows(rows)
            found = self._writer(tasks[0]).write_mixed(running, tasks, texts, choices)
            return [bound.info.kind.prediction(bound.info, text) for text, bound in zip(found, tasks, strict=True)]
        return [bound.info.kind.prediction(bound.info, logits, text) for logits, bound, text in self._run_mixed(rows)]

    def check(self, task: str, text: Text, where: str = "row 0") -> None:
        """Refuses a row as :meth:`run` would, without running it; ``where`` names it in the message."""
        bound = self._open().bind(task)
        check_text(task, bound.info, text, where)

    def add_task(self, pack_path: Path | str) -> str:
        """Adds the task of a pack file to the running session, and returns its name. Form switchable only.

        Raises:
            BundleError: the file is damaged, or its tensors have other shapes.
            TaskError: it belongs to another prototype or backbone, it tags where no exported task does, the name is
                taken, or the form cannot.
        """
        running = self._open()
        pack = read_pack(Path(pack_path))
        self._artifact.check_addable(pack, str(pack_path))
        running.add(pack)
        return pack.task

    def remove_task(self, name: str) -> None:
        """Forgets a task (forms switchable and folded); calls that run it now end as they began."""
        self._open().remove(name)

    def close(self) -> None:
        """Lets go of all engines; calls that run now end. Closing twice is fine."""
        self._running = None

    def __enter__(self) -> "Session":
        self._open()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _open(self) -> RunningForm:
        running = self._running
        if running is None:
            raise ConfigurationError(f"this session on {self._artifact.path} was closed; open it again")
        return running

    def _answers(
        self, bound: BoundTask, texts: Texts, choices: "GenerationChoices", stream: "OnText | None"
    ) -> list[str]:
        writer = self._writer(bound)
        if not isinstance(texts, Mapping):
            self._tokeniser.check_prompt(bound.name, text_of(bound.info))
        return writer.write(bound, self._reader.batches(bound, texts), choices, stream)

    def _writer(self, bound: BoundTask) -> "TextWriter":
        generation = self._artifact.manifest.generation
        if generation is None:
            raise TaskError(f"task {bound.name!r} answers with a head and generates nothing; use run or predict")
        from propetl.runtime.text_writer import TextWriter

        return TextWriter(self._tokeniser, generation.special, self._batch_size)

    def _bound_rows(self, rows: Iterable[tuple[str, Text]]) -> tuple[RunningForm, list[BoundTask], list[Text]]:
        """The form, and task and text of each row, checked."""
        running, asked = self._open(), tasks_and_texts(rows)
        bound = {task: running.bind(task) for task in dict.fromkeys(task for task, _ in asked)}
        for index, (task, text) in enumerate(asked):
            check_text(task, bound[task].info, text, f"row {index}")
        return running, [bound[task] for task, _ in asked], [text for _, text in asked]

    def _run_mixed(self, rows: Iterable[tuple[str, Text]]) -> list[tuple[Logits, BoundTask, Text]]:
        running, tasks, texts = self._bound_rows(rows)
        for task in tasks:
            task.info.kind.check_logits(task.name)
        if isinstance(running, MixingForm):
            logits = self._reader.together(running, tasks, texts)
        else:
            logits = self._reader.by_task(tasks, texts)
        return list(zip(logits, tasks, texts, strict=True))
