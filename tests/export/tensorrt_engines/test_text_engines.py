"""Engines of backbones that generate: built for RTX with no GPU, and run on doubles of CUDA and TensorRT."""

import shutil
from dataclasses import replace
from functools import partial

import numpy as np
import pytest

from propetl.errors import BackendError
from propetl.export.tensorrt_engines.engines import build_engines, builders_of
from propetl.export.tensorrt_engines.options import TensorRTOptions, parse_shapes
from propetl.export.tensorrt_engines.profiles import profiles_of
from propetl.prototypes.spec import PrototypeConfig
from propetl.runtime.artifact import Artifact, read_artifact
from propetl.runtime.bench.generating_subject import GeneratingSubject
from propetl.runtime.engines import EngineOptions
from propetl.runtime.forms.choose import open_form
from propetl.runtime.forms.staged_generating import StagedGeneratingForm
from propetl.runtime.generation.options import GenerationOptions
from propetl.runtime.graph_names import named_graphs
from propetl.runtime.selftest import self_test
from tests.export.random_text_artifact import TASKS, make_text_artifact, prompts
from tests.runtime.engines.planned import Machine, plans_of, write_engines

GPUS = (86, 89, 120)
LORA = PrototypeConfig("lora", rank=3, alpha=9.0)
PLANS = EngineOptions("tensorrt-plan")
CPU = EngineOptions(threads=1)
WAYS = {
    "greedy": GenerationOptions(9),
    "beams": GenerationOptions(9, beams=3, length_penalty=0.8),
    "sampled": GenerationOptions(9, sample=True, seed=3),
}


def options(**chosen):
    return TensorRTOptions(("tensorrt-rtx",), **{"compute_capabilities": GPUS, "max_new_tokens": 24} | chosen)


def quiet(*told):
    """Reports nothing."""


@pytest.fixture(scope="module")
def made(text_artifact, tmp_path_factory):
    """A function from a family to its artifact, exported when first asked for."""
    found = {"t5": text_artifact}

    def of(family):
        if family not in found:
            found[family] = make_text_artifact(tmp_path_factory.mktemp(family), LORA, family, ("folded", "switchable"))
        return found[family]

    return of


def of_one_task(manifest):
    """The graphs of one folded task, and the stages by which all tasks run in the other forms."""
    folded, switchable = manifest.forms["folded"], manifest.forms["switchable"]
    one = {part: replace(info, graphs=dict(list(info.graphs.items())[:1])) for part, info in folded.parts.items()}
    folded = replace(folded, parts=one) if one else replace(folded, graphs=dict(list(folded.graphs.items())[:1]))
    return replace(manifest, forms={"folded": folded, "stages alone": type(folded)(stages=switchable.stages)})


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
@pytest.mark.parametrize("family", ["t5", "bart", "gpt2"])
def test_every_part_is_built(made, tmp_path, family, precision):
    pytest.importorskip("tensorrt_rtx")
    one, folder = made(family), tmp_path / "artifact"
    shutil.copytree(one.artifact, folder)
    artifact = Artifact(folder, of_one_task(one.manifest))
    shapes = (parse_shapes("1x1/2x8/8x16"),)
    records = build_engines(
        artifact, folder, builders_of(options(precisions=(precision,), shapes=shapes)), quiet, quiet
    )
    assert [record.name for record in records] == list(named_graphs(artifact.manifest.forms))
    parts = ["model"] if family == "gpt2" else ["encoder", "decoder", "decoder_with_past"]
    assert [record.part for record in records if record.form == "folded"] == parts
    task = next(iter(TASKS))
    for record in records:
        assert (folder / record.path).stat().st_size > 100_000
        assert record.compute_capabilities == GPUS and record.precision == precision
    last = next(record for record in records if record.part == parts[-1])
    middle = "" if family == "gpt2" else "/decoder_with_past"
    assert last.path == f"engines/folded/{task}{middle}/tensorrt-rtx-{precision}.plan"
    assert len(last.profiles) == (2 if family == "gpt2" else 1)
    assert last.profiles[-1].sizes["past"] == ((1, 20, 40) if family == "gpt2" else (1, 12, 24))


class TestRun:
    """What the engines give, against ONNX Runtime on the CPU."""

    @pytest.fixture
    def machine(self, monkeypatch, tmp_path):
        return Machine(monkeypatch, tmp_path)

    @pytest.fixture(params=["t5", "gpt2"])
    def family(self, request):
        return request.param

    @pytest.fixture
    def artifact(self, made, family, tmp_path):
        """With plans of all graphs, for up to 6 rows of 16 tokens."""
        path = tmp_path / "artifact"
        shutil.copytree(made(family).artifact, path)
        profiles = partial(
            profiles_of, manifest=made(family).manifest, options=options(shapes=(parse_shapes("2x4/4x8/6x16"),))
        )
        write_engines(path, plans_of(path, "tensorrt", profiles))
        return read_artifact(path)

    @pytest.mark.parametrize("way", WAYS)
    @pytest.mark.parametrize("form", ["folded", "switchable"])
    def test_the_same_tokens_come_out(self, machine, artifact, form, way):
        plans, expected = (open_form(artifact, form, chosen) for chosen in (PLANS, CPU))
        assert isinstance(plans, StagedGeneratingForm) == (form == "switchable")
        for task in list(TASKS)[:2]:
            inputs = prompts(np.random.default_rng(1), 3, 9)
            found = plans.bind(task).generate(inputs, WAYS[way])
            for row, wanted in zip(found, expected.bind(task).generate(inputs, WAYS[way]), strict=True):
                np.testing.assert_array_equal(row, wanted)
            np.testing.assert_allclose(plans.bind(task).infer(inputs), expected.bind(task).infer(inputs), atol=1e-4)

    def test_one_graph_without_stages(self, machine, artifact):
        inputs = prompts(np.random.default_rng(2), 2, 7)
        plans, expected = (open_form(artifact, "switchable", replace(chosen, staged=False)) for chosen in (PLANS, CPU))
        for row, wanted in zip(
            plans.bind("mood").generate(inputs, WAYS["beams"]),
            expected.bind("mood").generate(inputs, WAYS["beams"]),
            strict=True,
        ):
            np.testing.assert_array_equal(row, wanted)

    def test_more_rows_than_a_profile_takes(self, machine, artifact):
        """Eight texts of three beams each: 24 rows, profiles take 6."""
        inputs = prompts(np.random.default_rng(3), 8, 9)
        found = open_form(artifact, "folded", PLANS).bind("degree").generate(inputs, WAYS["beams"])
        expected = open_form(artifact, "folded", CPU).bind("degree").generate(inputs, WAYS["beams"])
        for row, wanted in zip(found, expected, strict=True):
            np.testing.assert_array_equal(row, wanted)

    def test_the_cache_stays_on_the_device_and_goes_to_and_fro_between_blocks(self, machine, artifact):
        task = open_form(artifact, "folded", PLANS).bind("echo")
        inputs = prompts(np.random.default_rng(4), 2, 9)
        long = GenerationOptions(20, min_new_tokens=20)
        (first, _) = task.generate(inputs, long)
        assert len(first) >= 20
        machine.cuda.calls.clear()
        task.generate(inputs, long)
        calls = machine.cuda.calls
        assert calls.count("DeviceToHost") == 20  # the logits of each step
        assert calls.count("DeviceToDevice") == 0 and "launch" not in calls
        assert "malloc" not in calls

    def test_a_prompt_that_is_too_long_is_refused_in_one_line(self, machine, artifact):
        inputs = prompts(np.random.default_rng(5), 1, 9)
        longer = {name: np.tile(array, 3) for name, array in inputs.items()}  # 27 tokens, profiles take 16
        with pytest.raises(
            BackendError, match=r"is outside all its profiles .* --profile \(--max-new-tokens\)"
        ) as caught:
            open_form(artifact, "folded", PLANS).bind("echo").infer(longer)
        assert "\n" not in str(caught.value)

    def test_an_answer_that_is_too_long_is_refused_in_one_line(self, machine, artifact):
        inputs = prompts(np.random.default_rng(6), 1, 9)
        with pytest.raises(BackendError, match=r"past \d+.* is outside all its profiles"):
            open_form(artifact, "folded", PLANS).bind("echo").generate(inputs, GenerationOptions(60, min_new_tokens=60))

    def test_a_benchmark_times_tokens_and_no_single_engine(self, machine, artifact):
        subject = GeneratingSubject(artifact, "folded", open_form(artifact, "folded", PLANS), PLANS, 4, 1)
        inputs = prompts(np.random.default_rng(8), 2, 9)
        assert len(subject.token_times("echo", inputs)) == 4
        assert subject.device_samples("echo", inputs, 0.1, 1) == []

    def test_the_self_test_compares_texts(self, machine, artifact, family):
        report = self_test(artifact.path, "switchable", "tensorrt-plan")
        assert report.passed, report.breaches
        assert {item.form for item in report.comparisons} >= {"switchable", "switchable, one graph"}


def test_rtx_captures_nothing_where_every_step_has_another_shape(made, tmp_path, monkeypatch):
    machine, path = Machine(monkeypatch, tmp_path), tmp_path / "artifact"
    shutil.copytree(made("t5").artifact, path)
    profiles = partial(profiles_of, manifest=made("t5").manifest, options=options())
    write_engines(path, plans_of(path, "tensorrt-rtx", profiles))
    running = open_form(read_artifact(path), "folded", EngineOptions("tensorrt-rtx-plan"))
    running.bind("mood").generate(prompts(np.random.default_rng(7), 2, 9), WAYS["greedy"])
    configs = {
        tuple(item.name for item in context.engine.session.get_inputs())[-1]: context.config
        for context in machine.library["tensorrt-rtx"].contexts
    }
    strategies = {name: config.cuda_graph_strategy for name, config in configs.items()}
    assert sorted(strategies.values()) == ["disabled", "whole", "whole"]
    assert strategies[next(name for name in strategies if name.startswith("past"))] == "disabled"
