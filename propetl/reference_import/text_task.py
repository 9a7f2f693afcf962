"""What the reference asks T5 for each task, when it trains adapters: its prompts then leave the task's name out."""

from dataclasses import replace

from propetl.bundle.text import TextInfo
from propetl.data.as_text import as_text, default_prompt
from propetl.data.tasks import TASKS
from propetl.data.tokenise import encode_answers
from propetl.problems.text import text_of
from propetl.runtime.tokenise import Tokeniser
from propetl.task import TaskSpec

_LARGEST_VALUE = 5.0  # of STS-B

KNOWN = {
    "xsum": TaskSpec(
        "xsum",
        ("document",),
        problem="text",
        metrics=("rouge1", "rouge2", "rougeL"),
        label_column="summary",
        text=TextInfo("summarize: {}", max_target_length=64, num_beams=6),
    ),
    "wmt16-ro-en": TaskSpec(
        "wmt16-ro-en",
        ("ro",),
        problem="text",
        metrics=("bleu",),
        label_column="en",
        text=TextInfo("Translate Romanian to English: {}", max_target_length=300, num_beams=4),
    ),
}
"""Tasks that are answered by a text."""


def text_task(task: str, columns: tuple[str, ...], tokenizer: Tokeniser) -> TaskSpec:
    """``task`` as the reference asks it; one that is not known here answers by any text.

    Args:
        task: its name.
        columns: text columns, of a task that is not known by name; empty for one that is called ``text``.
        tokenizer: the backbone's, which says how long answers are.
    """
    if task in KNOWN and not columns:
        return KNOWN[task]
    spec = TASKS.get(task)
    if spec is None or columns:
        chosen = columns or ("text",)
        asked = TextInfo(default_prompt(task, chosen))
        return TaskSpec(task, chosen, problem="text", metrics=("rouge1",), text=asked)
    generated = as_text(spec)
    text = text_of(generated)
    asked = replace(text, prompt=text.prompt.removeprefix(f"{task} "))
    asked = replace(asked, max_target_length=_longest(asked, tokenizer))
    return replace(generated, text=asked)


def _longest(text: TextInfo, tokenizer: Tokeniser) -> int:
    """Tokens of the longest answer there is."""
    answers = list(text.words)
    if text.step is not None:
        answers = [text.target(number * text.step) for number in range(round(_LARGEST_VALUE / text.step) + 1)]
    return max(map(len, encode_answers(answers, tokenizer, None)))
