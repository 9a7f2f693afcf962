"""The table of graphs: names, order and shapes as optimum has them, and what a manifest may say of them."""

import dataclasses

import pytest

from propetl.runtime.generation.info import GenerationInfo
from propetl.runtime.generation.options import SpecialTokens
from propetl.runtime.generation.parts import parts_of

INFO = GenerationInfo("encoder-decoder", 23, 2, 4, 6, SpecialTokens(0, (1,), 0))


def test_files_and_their_order_are_those_of_optimum() -> None:
    parts = parts_of(INFO, 24)
    assert {name: part.file for name, part in parts.items()} == {
        "encoder": "encoder_model.onnx",
        "decoder": "decoder_model.onnx",
        "decoder_with_past": "decoder_with_past_model.onnx",
    }


def test_caches_go_layer_by_layer_with_the_decoders_before_the_encoders() -> None:
    """optimum feeds and reads them by their order."""
    parts = parts_of(INFO, 24)
    kinds = ("decoder.key", "decoder.value", "encoder.key", "encoder.value")
    both = [f"{layer}.{kind}" for layer in range(2) for kind in kinds]
    assert [output.name for output in parts["decoder"].outputs] == ["logits", *(f"present.{name}" for name in both)]
    past = [item.name for item in parts["decoder_with_past"].inputs]
    assert past == ["input_ids", "encoder_attention_mask", *(f"past_key_values.{name}" for name in both)]
    own = [name for name in both if "decoder" in name]
    found = [output.name for output in parts["decoder_with_past"].outputs]
    assert found == ["logits", *(f"present.{name}" for name in own)]


def test_a_step_takes_one_token_and_gives_a_cache_that_grew() -> None:
    part = parts_of(INFO, 24)["decoder_with_past"]
    shapes = {item.name: item.shape for item in (*part.inputs, *part.outputs)}
    assert shapes["input_ids"] == ("batch", 1)
    assert shapes["logits"] == ("batch", 1, 23)
    assert shapes["past_key_values.1.decoder.value"] == ("batch", 4, "past", 6)
    assert shapes["past_key_values.1.encoder.value"] == ("batch", 4, "sequence", 6)
    assert shapes["present.1.decoder.value"] == ("batch", 4, "present", 6)


def test_info_survives_json() -> None:
    assert GenerationInfo.from_json(INFO.to_json()) == INFO


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"kind": "encoder"}, "kind"),
        ({"heads": 0}, "heads"),
        ({"layers": True}, "layers"),
        ({"vocabulary": 2.5}, "vocabulary"),
        ({"special": SpecialTokens(None, (1,), 0)}, "start token"),
    ],
    ids=str,
)
def test_sizes_that_cannot_be_are_refused(changes, message) -> None:
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(INFO, **changes)
