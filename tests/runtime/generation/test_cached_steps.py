"""Keys and values are moved only where they have to be."""

from typing import Any

import numpy as np

from propetl.runtime.generation.cached_steps import EncoderDecoderSteps
from propetl.runtime.generation.info import GenerationInfo
from propetl.runtime.generation.options import SpecialTokens
from propetl.runtime.generation.task_inputs import TaskInputs

INFO = GenerationInfo("encoder-decoder", 5, 1, 1, 2, SpecialTokens(3, (1,), 0))
NAMES = [f"{kind}.key" for kind in ("decoder", "encoder")]


class Recorder:
    """An engine that gives arrays from which it shows what they were made of."""

    def __init__(self, part: str) -> None:
        self.part = part
        self.fed: list[dict[str, Any]] = []
        self.picked: list[tuple[str, ...]] = []

    def call(self, feeds: dict[str, Any], kept: dict[str, Any]) -> dict[str, Any]:
        self.fed.append({**feeds, **kept})
        rows = len(feeds["input_ids"])
        if self.part == "encoder":
            return {"last_hidden_state": np.arange(rows)}
        cache = {f"present.0.{name}": np.arange(rows) + 10 * len(self.fed) for name in NAMES}
        if self.part == "decoder_with_past":
            cache = {name: value for name, value in cache.items() if "decoder" in name}
        return {"logits": np.zeros((rows, 2, 5), dtype=np.float32), **cache}

    def pick(self, kept: dict[str, Any], rows: Any) -> dict[str, Any]:
        self.picked.append(tuple(sorted(kept)))
        return {name: value[rows] for name, value in kept.items()}

    def array(self, kept: Any) -> Any:
        return kept


def started() -> tuple[EncoderDecoderSteps, dict[str, Recorder]]:
    engines = {part: Recorder(part) for part in ("encoder", "decoder", "decoder_with_past")}
    feeds = {"input_ids": np.array([[7, 8], [9, 1]]), "attention_mask": np.array([[1, 1], [1, 0]])}
    names = {part: frozenset({"mask", "weight"} - ({"weight"} if part == "encoder" else set())) for part in engines}
    task = TaskInputs(names, {"task_id": np.array([4, 6])}, {"mask": "bits"}, {"weight": np.array([14, 16])})
    steps = EncoderDecoderSteps(engines, INFO, feeds, task)
    return steps, engines


def test_the_first_step_runs_the_encoder_once_and_starts_from_the_start_token() -> None:
    steps, engines = started()
    assert steps.prompt().tolist() == [[3], [3]]
    assert steps.first().shape == (2, 5)
    assert set(engines["encoder"].fed[0]) == {"input_ids", "attention_mask", "task_id", "mask"}
    (fed,) = engines["decoder"].fed
    assert fed["input_ids"].tolist() == [[3], [3]]
    taken = {"task_id", "mask", "weight"}
    assert set(fed) == {"input_ids", "encoder_attention_mask", "encoder_hidden_states"} | taken


def test_a_step_gets_the_cache_of_the_one_before_and_the_encoders_of_the_first() -> None:
    steps, engines = started()
    steps.first()
    steps.after(np.array([2, 4]))
    steps.after(np.array([1, 1]))
    one, two = engines["decoder_with_past"].fed
    assert one["input_ids"].tolist() == [[2], [4]]
    for fed, own in ((one, [10, 11]), (two, [10, 11])):
        assert fed["past_key_values.0.decoder.key"].tolist() == own
        assert fed["past_key_values.0.encoder.key"].tolist() == [10, 11]
    assert len(engines["encoder"].fed) == len(engines["decoder"].fed) == 1


def test_rows_that_stay_where_they_are_move_nothing() -> None:
    steps, engines = started()
    steps.first()
    steps.select(np.array([0, 1]))
    assert engines["decoder"].picked == []


def test_beams_of_one_text_share_what_the_encoder_gave() -> None:
    steps, engines = started()
    steps.first()
    steps.select(np.array([0, 0, 1, 1]))  # two beams each: everything is needed twice
    assert len(engines["decoder"].picked) == 3
    steps.select(np.array([1, 0, 3, 3]))  # beams change places within their texts
    assert engines["decoder"].picked[3:] == [("past_key_values.0.decoder.key",)]
    steps.after(np.array([2, 2, 2, 2]))
    (fed,) = engines["decoder_with_past"].fed
    assert fed["task_id"].tolist() == [4, 4, 6, 6]
    assert fed["weight"].tolist() == [14, 14, 16, 16]
    assert fed["encoder_attention_mask"].tolist() == [[1, 1], [1, 1], [1, 0], [1, 0]]
    assert fed["past_key_values.0.encoder.key"].tolist() == [10, 10, 11, 11]


def test_fewer_rows_take_their_tasks_and_masks_with_them() -> None:
    steps, engines = started()
    steps.first()
    steps.select(np.array([1]))
    steps.after(np.array([2]))
    (fed,) = engines["decoder_with_past"].fed
    assert fed["task_id"].tolist() == [6]
    assert fed["weight"].tolist() == [16]
    assert fed["encoder_attention_mask"].tolist() == [[1, 0]]
    assert fed["past_key_values.0.decoder.key"].tolist() == [11]
