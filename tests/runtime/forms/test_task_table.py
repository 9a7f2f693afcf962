import threading

import pytest

from propetl.errors import TaskError
from propetl.runtime.forms.task_table import TaskTable


def test_a_task_comes_and_goes():
    table = TaskTable({"mood": 1})
    table.add("topic", 2)
    assert table.names() == ("mood", "topic")
    assert table.get("topic") == 2
    assert table.remove("mood") == 1
    assert table.names() == ("topic",)


@pytest.mark.parametrize("ask", [TaskTable.get, TaskTable.remove])
def test_a_task_that_is_not_here(ask):
    with pytest.raises(TaskError, match=r"task 'tone' is not in this session; it has mood, topic$"):
        ask(TaskTable({"topic": 1, "mood": 2}), "tone")
    with pytest.raises(TaskError, match=r"it has none$"):
        ask(TaskTable({}), "tone")


def test_a_name_that_is_taken_keeps_its_task():
    table = TaskTable({"mood": 1})
    with pytest.raises(TaskError, match="task 'mood' is in this session already"):
        table.add("mood", 2)
    assert table.get("mood") == 1


def test_what_is_given_may_change_afterwards():
    given = {"mood": 1}
    table = TaskTable(given)
    given.clear()
    assert table.names() == ("mood",)


def test_only_one_of_many_threads_takes_a_name():
    table, start, taken = TaskTable[int]({}), threading.Barrier(8), []

    def add(number: int) -> None:
        start.wait()
        try:
            table.add("mood", number)
        except TaskError:
            taken.append(number)

    threads = [threading.Thread(target=add, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted([*taken, table.get("mood")]) == list(range(8))
