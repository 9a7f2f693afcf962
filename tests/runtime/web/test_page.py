"""The page in headless Chromium: one types a text, every task answers; a pack is dropped and used."""

import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import pytest

from propetl.export.web_page import add_page
from propetl.runtime import Session
from propetl.task import TaskSpec
from tests.runtime.tiny_artifact import ROWS
from tests.runtime.web.agreement import assert_same
from tests.runtime.web.node_packages import chromium, node, with_packages
from tests.runtime.web.web_artifact import write_web_artifact

FIRST, SECOND = "good film", "rain and wind"
ADDED = TaskSpec("task", ("text",), labels=("<b>red</b>", "green", "blue", "grey"))
MIXED = [("mood", "good film"), ("entails", ("good film", "film")), ("topic", "sun wind rain"), ("mood", "bad")]


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *arguments):
        pass


@pytest.fixture
def site(tmp_path):
    """A tiny artifact with its page, and the address where a static server hands it out."""
    tiny = write_web_artifact(tmp_path / "artifact", forms=("switchable", "bank"))
    add_page(tiny.path)
    with_packages(tiny.path / "web")
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=tiny.path))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield tiny, f"127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.slow
def test_one_types_a_text_and_drops_a_pack(site, tmp_path):
    browser = chromium()
    tiny, host = site
    pack, damaged = tmp_path / "colour.safetensors", tmp_path / "damaged.safetensors"
    pack.write_bytes(tiny.model.pack("colour", ADDED, seed=5).to_bytes())
    damaged.write_bytes(pack.read_bytes()[:-4])
    found = node(
        "page.mjs",
        given={
            "chromium": browser,
            "profile": str(tmp_path / "profile"),
            "url": f"http://{host}/web/",
            "texts": [
                {"field": "#first", "text": FIRST, "answered": 2},
                {"field": "#second", "text": SECOND, "answered": 4},
            ],
            "packs": [{"path": str(damaged), "answered": 4, "refused": True}, {"path": str(pack), "answered": 5}],
            "mixed": MIXED,
        },
    )
    assert found["errors"] == []
    assert found["hosts"] == [host]  # nothing comes from elsewhere
    assert found["status"].startswith("tiny, fp32, form switchable: loaded in ")
    with Session.open(tiny.path) as session:
        check_cards(found["typed"][0], session, {"mood", "topic"})
        check_cards(found["typed"][1], session, set(ROWS))
        refused, added = found["dropped"]
        assert "was truncated or damaged" in refused["error"]
        check_cards(refused, session, set(ROWS))
        session.add_task(pack)
        check_cards(added, session, {*ROWS, "colour"})
        assert added["error"] == ""
        assert "<b>red</b>" in added["cards"][-1]["text"]  # a label is text, whatever it holds
        for mine, theirs in zip(found["mixed"], session.run_mixed(MIXED), strict=True):
            assert_same(mine, theirs)


def check_cards(shown, session, answered):
    """Every task that has its texts shows Python's answer and a latency."""
    assert {card["task"] for card in shown["cards"] if card["answer"]} == answered
    for card in shown["cards"]:
        columns = len(session.task(card["task"]).columns)
        if card["answer"] is None:
            assert f"waits for {'two texts' if columns == 2 else 'a text'}" in card["text"]
            continue
        (expected,) = session.predict(card["task"], [(FIRST, SECOND) if columns == 2 else FIRST])
        assert card["answer"]["label"] == expected.label
        assert_same(card["answer"]["score"], expected.score)
        assert list(card["answer"]["scores"]) == list(expected.scores)
        assert_same(list(card["answer"]["scores"].values()), list(expected.scores.values()))
        assert " ms" in card["text"]
