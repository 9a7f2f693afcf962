"""Two stages on plans: what one plan leaves on the device the other reads in its place."""

import numpy as np
import pytest

from propetl.runtime.artifact import read_artifact
from propetl.runtime.engines import EngineOptions
from propetl.runtime.engines.device_memory import DeviceMemory
from propetl.runtime.forms.choose import open_form
from propetl.runtime.forms.staged import StagedForm
from propetl.runtime.forms.switchable import SwitchableForm
from propetl.runtime.selftest import self_test
from propetl.runtime.session import Session
from propetl.task import TaskSpec
from tests.runtime.engines.planned import RANGES, TARGETS, engines_of, write_engines, write_planned
from tests.runtime.tiny_artifact import ROWS
from tests.runtime.tiny_tokenizer import token_ids

MIXED = [(task, row) for task in ROWS for row in ROWS[task]]


@pytest.fixture
def planned(provider, tmp_path):
    return write_planned(tmp_path / "artifact", TARGETS[provider], staged=True)


def assert_mixed(session, planned, rows):
    for (task, row), logits in zip(rows, session.run_mixed(rows), strict=True):
        np.testing.assert_allclose(logits, planned.expected(task, [row])[0], atol=1e-5)


def form_of(planned, provider, form="switchable", **options):
    return open_form(read_artifact(planned.path), form, EngineOptions(provider, **options))


@pytest.mark.parametrize("form", ["switchable", "bank"])
def test_every_task_and_every_mixture(machine, planned, provider, form):
    with Session.open(planned.path, provider, form=form) as session:
        for _ in range(3):  # at first, captured, and as a graph
            for task, rows in ROWS.items():
                np.testing.assert_allclose(session.run(task, rows), planned.expected(task, rows), atol=1e-5)
            assert_mixed(session, planned, MIXED)
    graphs = {engine.plan["graph"] for engine in machine.library[TARGETS[provider]].engines}
    assert graphs == {"stages/apply/model.onnx", "stages/run/model.onnx"}


def test_a_switch_copies_nothing_once_masks_are_applied(machine, planned, provider):
    running = form_of(planned, provider)
    tasks = {task: running.bind(task) for task in ("mood", "topic")}
    for task in tasks.values():
        task.infer(token_ids(ROWS[task.name]))
    addresses = {task: {name: tensor.address for name, tensor in tasks[task].weights().items()} for task in tasks}
    contexts = machine.library[TARGETS[provider]].contexts
    for name in ("mood", "topic", "mood"):
        machine.cuda.calls.clear()
        logits = tasks[name].infer(token_ids(ROWS[name]))
        np.testing.assert_allclose(logits, planned.expected(name, ROWS[name]), atol=1e-5)
        assert machine.cuda.calls.count("HostToDevice") <= 3  # the token ids
        assert "DeviceToDevice" not in machine.cuda.calls and "malloc" not in machine.cuda.calls
        assert addresses[name].items() <= contexts[-1].addresses.items()


def test_more_mixed_rows_than_a_profile_takes(machine, planned, provider):
    with Session.open(planned.path, provider, form="bank", batch_size=64) as session:
        assert_mixed(session, planned, MIXED * 4)  # 48, profiles take 8


def test_a_mixed_batch_smaller_than_the_profile_is_filled_up(machine, tmp_path):
    ranges = RANGES | {"batch": (6, 6, 8), "sequence": (16, 16, 32)}
    planned = write_planned(tmp_path / "artifact", ranges=(ranges,), staged=True)
    with Session.open(planned.path, "tensorrt-plan", form="bank") as session:
        assert_mixed(session, planned, MIXED[:1] + MIXED[5:7])
        np.testing.assert_allclose(session.run("mood", ["rain"]), planned.expected("mood", ["rain"]), atol=1e-5)


def test_a_task_with_more_labels_is_added_and_mixed(machine, planned, provider, tmp_path):
    info = TaskSpec("task", ("text",), labels=tuple("abcdefg"))
    pack = planned.model.pack("wide", info, seed=7)
    (tmp_path / "wide.safetensors").write_bytes(pack.to_bytes())
    with Session.open(planned.path, provider, form="switchable") as session:
        session.add_task(tmp_path / "wide.safetensors")
        wide, mood = session.run_mixed([("wide", "good"), ("mood", "bad")])
    np.testing.assert_allclose(wide, planned.expected("wide", ["good"], pack)[0], atol=1e-5)
    np.testing.assert_allclose(mood, planned.expected("mood", ["bad"])[0], atol=1e-5)


def test_memory_of_tasks_that_were_dropped_is_used_again(machine, planned, provider):
    artifact = read_artifact(planned.path)
    running = open_form(artifact, "switchable", EngineOptions(provider), task_memory=4000)  # holds one task's weights
    assert isinstance(running, StagedForm)
    for _ in range(2):
        for task, rows in ROWS.items():
            running.bind(task).infer(token_ids(rows))
    held = len(machine.cuda.memory)
    for _ in range(3):
        for task, rows in ROWS.items():
            np.testing.assert_allclose(
                running.bind(task).infer(token_ids(rows)), planned.expected(task, rows), atol=1e-5
            )
    assert len(machine.cuda.memory) == held


def test_both_ways_are_checked_by_the_self_test(machine, planned, provider):
    report = self_test(planned.path, "bank", provider)
    assert report.passed, report.breaches
    assert {item.form for item in report.comparisons} == {"bank", "bank, one graph"}


def test_without_plans_of_the_stages_the_one_graph_runs(machine, planned, provider):
    assert isinstance(form_of(planned, provider), StagedForm)
    assert isinstance(form_of(planned, provider, staged=False), SwitchableForm)
    write_engines(planned.path, [engine for engine in engines_of(planned) if engine.part != "apply"])
    assert isinstance(form_of(planned, provider), SwitchableForm)


def test_a_precision_that_the_stages_do_not_have(machine, planned, provider):
    other = [engine for engine in engines_of(planned) if engine.form != "stages"]
    write_engines(planned.path, other)
    assert isinstance(form_of(planned, provider, precision="fp32"), SwitchableForm)


class TestDeviceMemory:
    """Blocks, and copies on the device."""

    @pytest.fixture
    def memory(self, machine):
        from propetl.runtime.engines.cuda_runtime import Cuda

        return DeviceMemory(Cuda(machine.cuda, 0))

    def test_to_the_device_and_back(self, memory):
        arrays = {"a": np.arange(6, dtype=np.int64).reshape(2, 3), "b": np.ones(3, np.float32), "c": np.ones((2, 0, 4))}
        for name, tensor in memory.upload(arrays).items():
            np.testing.assert_array_equal(memory.download(tensor), arrays[name])
            assert tensor.address % 256 == 0

    def test_rows_are_picked_in_any_order(self, memory):
        array = np.random.default_rng(0).normal(size=(5, 3, 2)).astype(np.float32)
        tensors = memory.upload({"x": array})
        for rows in ([0, 1, 2, 3, 4], [4, 0, 0, 1], [3, 2, 1], [2], [1, 2, 4, 4]):
            picked = memory.picked(tensors, np.array(rows))
            np.testing.assert_array_equal(memory.download(picked["x"]), array[rows])

    @pytest.mark.parametrize(
        "shapes", [[(1, 4, 2), (1, 4, 3)], [(2, 2, 4), (1, 5, 4)], [(1, 3), (1, 3)], [(1, 1), (3, 2)]]
    )
    def test_tensors_are_stacked_and_filled_up_with_zeros(self, memory, shapes):
        arrays = [np.random.default_rng(0).normal(size=shape).astype(np.float32) for shape in shapes]
        (memory.upload({"x": np.full((64, 64), np.nan, np.float32)}))  # what is used again is not zero
        stacked = memory.download(memory.stacked([memory.upload({"x": array}) for array in arrays])["x"])
        expected = np.zeros_like(stacked)
        start = 0
        for array in arrays:
            place = (slice(start, start + len(array)), *map(slice, array.shape[1:]))
            expected[place], start = array, start + len(array)
        np.testing.assert_array_equal(stacked, expected)

    def test_a_part_that_could_not_be_read_in_its_place_is_copied(self, memory):
        array = np.arange(12, dtype=np.float32).reshape(6, 2)
        whole = memory.upload({"x": array})["x"]
        part = memory.part(whole, 1, 4)
        assert part.address % 256 == 0
        np.testing.assert_array_equal(memory.download(part), array[1:4])
        wide = memory.upload({"x": np.ones((4, 64), np.float32)})["x"]
        assert memory.part(wide, 2, 9).block is wide.block and memory.part(wide, 2, 9).shape == (2, 64)

    def test_blocks_that_nobody_holds_are_used_again(self, memory, machine):
        shapes = {"x": ("float32", (1, 2, 100, 8))}
        first, second = memory.empty(shapes), memory.empty(shapes)
        addresses = {first["x"].address, second["x"].address}
        assert len(addresses) == 2
        mallocs = machine.cuda.calls.count("malloc")
        for length in range(101, 110):  # a cache that grows goes to and fro between two blocks
            first = second
            second = memory.empty({"x": ("float32", (1, 2, length, 8))})
            assert second["x"].address in addresses
        assert machine.cuda.calls.count("malloc") == mallocs
