"""Golden rows run again: in one batch, row by row without padding, all tasks mixed where a form can, and as texts."""

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from propetl.bundle.words import in_one_array
from propetl.problems.text import text_of
from propetl.runtime.forms import Logits, MixingForm, RunningForm
from propetl.runtime.forms.text_tasks import GeneratingTask
from propetl.runtime.generation.options import options_for
from propetl.runtime.golden import MOST_TOKENS, Golden
from propetl.runtime.report import Comparison, Tolerance, compare_logits, compare_texts

TOGETHER, SINGLY, MIXED = "golden rows", "golden rows singly", "golden rows mixed"
GENERATED = "golden rows generated"

TokenFeeds = dict[str, NDArray[np.int64]]


def replay_task(
    running: RunningForm, form: str, task: str, golden: Golden, tolerance: Tolerance
) -> Iterator[Comparison]:
    """Golden rows of one task: in one batch, and row by row without padding."""
    bound = running.bind(task)
    reference = _of_real_tokens(golden.logits, golden)
    whole = _of_real_tokens(bound.infer(golden.feeds), golden)
    yield compare_logits(task, form, reference, whole, tolerance, batching=TOGETHER)
    rows = [bound.infer(feeds)[0] for feeds in _single_rows(golden)]
    yield compare_logits(task, form, reference, _together(rows, golden), tolerance, batching=SINGLY)
    if golden.tokens is not None and isinstance(bound, GeneratingTask):
        yield _compare_tokens(bound, form, golden, golden.tokens, tolerance)


def _of_real_tokens(logits: Logits, golden: Golden) -> Logits:
    """Logits of tokens with NaN for padding, which answers nothing; those of rows as they are."""
    if logits.ndim == 2:
        return logits
    return np.where(golden.feeds["attention_mask"][:, :, None] == 1, logits, np.float32(np.nan))


def _together(rows: Sequence[Logits], golden: Golden) -> Logits:
    """Logits of single rows, which may be padded less or more than the golden ones, in the shape of those."""
    if rows[0].ndim == 1:
        return np.stack(rows)
    longest = golden.logits.shape[1]
    return _of_real_tokens(in_one_array([row[:longest] for row in rows], longest), golden)


def _compare_tokens(
    bound: GeneratingTask, form: str, golden: Golden, tokens: NDArray[np.int64], tolerance: Tolerance
) -> Comparison:
    """What the task generates, in the way it says, against what PyTorch did."""
    text = text_of(bound.info)
    options = options_for(text, {"max_new_tokens": min(text.max_target_length, MOST_TOKENS)})
    found = [row.tolist() for row in bound.generate(golden.feeds, options)]
    # PyTorch's rows are as long as the longest of them: what stands behind a row's end is padding.
    reference = [row[: len(row_found)] for row, row_found in zip(tokens.tolist(), found, strict=True)]
    return compare_texts(bound.name, form, reference, found, tolerance, batching=GENERATED)


def _single_rows(golden: Golden) -> Iterator[TokenFeeds]:
    for row, mask in enumerate(golden.feeds["attention_mask"]):
        length = int(np.flatnonzero(mask).max(initial=0)) + 1
        yield {name: tensor[row : row + 1, :length] for name, tensor in golden.feeds.items()}


def replay_mixed(
    running: MixingForm, form: str, goldens: dict[str, Golden], pad_token_id: int, tolerance: Tolerance
) -> Iterator[Comparison]:
    """Golden rows of all tasks in one batch, tasks in turn."""
    places = [(row, task) for task, golden in goldens.items() for row in range(len(golden.logits))]
    order = sorted(places, key=lambda place: place[0])
    feeds = _stacked(order, goldens, pad_token_id)
    bound = {task: running.bind(task) for task in goldens}
    found: dict[str, list[Logits]] = {task: [] for task in goldens}
    rows = running.infer_mixed([bound[task] for _, task in order], feeds)
    for (_, task), logits in zip(order, rows, strict=True):
        found[task].append(logits)
    for task, golden in goldens.items():
        reference, logits = _of_real_tokens(golden.logits, golden), _together(found[task], golden)
        yield compare_logits(task, form, reference, logits, tolerance, batching=MIXED)


def _stacked(order: list[tuple[int, str]], goldens: dict[str, Golden], pad_token_id: int) -> TokenFeeds:
    """Rows of several tasks as one batch, padded to the longest."""
    longest = max(golden.feeds["input_ids"].shape[1] for golden in goldens.values())
    names = next(iter(goldens.values())).feeds
    filler = {name: pad_token_id if name == "input_ids" else 0 for name in names}
    feeds = {name: np.full((len(order), longest), filler[name], dtype=np.int64) for name in names}
    for place, (row, task) in enumerate(order):
        for name, tensor in goldens[task].feeds.items():
            feeds[name][place, : tensor.shape[1]] = tensor[row]
    return feeds
