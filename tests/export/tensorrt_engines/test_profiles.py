"""From a user's shapes to the profiles of a graph."""

from dataclasses import replace

import pytest

from propetl.export.tensorrt_engines.options import TensorRTOptions, parse_shapes
from propetl.export.tensorrt_engines.profiles import profiles_of
from propetl.runtime.generation.info import GenerationInfo
from propetl.runtime.generation.options import SpecialTokens
from propetl.runtime.generation.parts import parts_of
from propetl.runtime.manifest import GraphInfo
from propetl.runtime.signatures import MODEL

SHAPES = (parse_shapes("2x4/4x8/16x32"),)


def options(**chosen):
    return TensorRTOptions(("tensorrt-rtx",), **{"shapes": SHAPES} | chosen)


def sizes_of(graph, manifest, chosen):
    return [dict(profile.sizes) for profile in profiles_of(graph, manifest, chosen)]


def test_heads_as_inputs_leave_room_for_wider_ones(made):
    manifest = made("adapter").manifest
    (sizes,) = sizes_of(manifest.forms["switchable"].graph, manifest, options())
    assert sizes == {"batch": (2, 4, 16), "sequence": (4, 8, 32), "labels": (1, 5, 32)}


def test_weights_as_inputs_are_one_tasks_or_one_for_each_row(made):
    manifest = made("adapter").manifest
    stages = manifest.forms["bank"].stages
    (run,) = sizes_of(stages.run[MODEL], manifest, options())
    assert run == {"batch": (2, 4, 16), "sequence": (4, 8, 32), "labels": (1, 5, 32), "rows": (1, 1, 16)}
    two = options(shapes=(*SHAPES, parse_shapes("1x1")))
    assert sizes_of(stages.apply, manifest, two) == [{"rows": (1, 1, 1), "labels": (1, 5, 32)}]


def graphs_of(kind):
    info = GenerationInfo(kind, 50, 1, 2, 4, SpecialTokens(0 if kind == "encoder-decoder" else None, (1,), 0))
    return {name: GraphInfo(part.file, part.inputs, part.outputs) for name, part in parts_of(info, 8).items()}, info


@pytest.fixture
def generating(made):
    def of(kind):
        graphs, info = graphs_of(kind)
        return graphs, replace(made("adapter").manifest, generation=info)

    return of


def test_an_encoder_decoder_begins_with_one_row_and_one_token(generating):
    graphs, manifest = generating("encoder-decoder")
    chosen = options(max_new_tokens=9)
    text = {"batch": (1, 4, 16), "sequence": (1, 8, 32)}
    assert sizes_of(graphs["encoder"], manifest, chosen) == [text]
    assert sizes_of(graphs["decoder"], manifest, chosen) == [text | {"target": (1, 1, 1)}]
    assert sizes_of(graphs["decoder_with_past"], manifest, chosen) == [text | {"past": (1, 5, 9)}]


def test_a_decoder_alone_has_a_profile_for_prompts_and_one_for_tokens(generating):
    graphs, manifest = generating("decoder")
    prompt, token = sizes_of(graphs[MODEL], manifest, options(max_new_tokens=10))
    assert prompt == {"batch": (1, 4, 16), "target": (1, 8, 32), "past": (0, 0, 0), "present": (1, 8, 32)}
    assert token == {"batch": (1, 4, 16), "target": (1, 1, 1), "past": (1, 13, 42), "present": (2, 14, 43)}
    for sizes in (prompt, token):
        target, past, present = sizes["target"], sizes["past"], sizes["present"]
        assert all(present[which] == past[which] + target[which] for which in range(3))
