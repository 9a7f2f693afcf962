"""Tasks as text-to-text: how each is asked, and what is generated for each label."""

from dataclasses import replace

from propetl.bundle.text import PLACE, TextInfo
from propetl.task import TaskSpec

STEP = 0.2
"""Values are rounded to multiples of this, as STS-B's are (Raffel et al. 2020, section 2.4)."""

TEXT = "text"
"""A prompt's name for what a template joins."""

PROMPTS = {
    "cola": "cola sentence: {}",
    "sst2": "sst2 sentence: {}",
    "mrpc": "mrpc sentence1: {} sentence2: {}",
    "qqp": "qqp question1: {} question2: {}",
    "stsb": "stsb sentence1: {} sentence2: {}",
    "mnli": "mnli premise: {} hypothesis {}",  # without a second colon, as in the reference implementation
    "qnli": "qnli question: {} sentence: {}",
    "rte": "rte sentence1: {} sentence2: {}",
}
"""The GLUE tasks' inputs in the reference implementation."""


def as_text(spec: TaskSpec) -> TaskSpec:
    """``spec`` with its answers generated; a task of problem ``text`` is returned as it is, a tagging is refused.

    Raises:
        ConfigurationError: the task tags words.
    """
    return spec.kind.as_text(spec)


def generated(spec: TaskSpec) -> TaskSpec:
    """``spec``, whose labels are classes or values, with its answers generated.

    GLUE's classes are answered by their digits, as in the reference implementation; those of other tasks by
    their names.
    """
    known = PROMPTS.get(spec.name)
    words = spec.labels if known is None else tuple(map(str, range(len(spec.labels))))
    columns = (TEXT,) if spec.template else spec.columns
    text = TextInfo(known or default_prompt(spec.name, columns), words, None if words else STEP)
    return replace(spec, problem="text", text=text)


def default_prompt(name: str, columns: tuple[str, ...]) -> str:
    """``NAME column: {} column: {}``, in the manner of GLUE's."""
    return " ".join([name, *(f"{column}: {PLACE}" for column in columns)])
