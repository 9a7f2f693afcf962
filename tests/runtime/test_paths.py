"""Sessions do not depend on the process's folder, nor on paths and locales being UTF-8."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from propetl.errors import ConfigurationError
from propetl.runtime import Session
from propetl.runtime.engines import EngineOptions
from propetl.runtime.engines.cache import cache_root
from propetl.runtime.engines.providers import ort_provider
from propetl.runtime.selftest import self_test
from propetl.runtime.tuning import tune
from tests.runtime.tiny_artifact import ROWS

NOT_UTF8 = os.fsdecode(b"caf\xe9")
ASCII_LOCALE = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}


def in_folder(tiny, tmp_path, name):
    """A copy of the artifact in a folder called ``name``."""
    return shutil.copytree(tiny.path, tmp_path / name / "artifact")


@pytest.mark.parametrize("form", ["folded", "switchable", "bank"])
@pytest.mark.parametrize("made", ["tiny", "staged"])
def test_a_relative_artifact_outlives_a_change_of_folder(request, monkeypatch, made, form):
    tiny = request.getfixturevalue(made)
    monkeypatch.chdir(tiny.path.parent)
    with Session.open(tiny.path.name, form=form, threads=1) as session:
        os.chdir("/")
        for task, rows in ROWS.items():
            np.testing.assert_allclose(session.run(task, rows), tiny.expected(task, rows), atol=1e-5)


def test_a_session_stays_with_the_version_that_a_link_named(tiny, tmp_path):
    current = tmp_path / "current"
    current.symlink_to(tiny.path)
    with Session.open(current, form="folded", threads=1) as session:
        current.unlink()
        np.testing.assert_allclose(session.run("mood", ROWS["mood"]), tiny.expected("mood", ROWS["mood"]), atol=1e-5)


@pytest.mark.parametrize("name", [NOT_UTF8, "dir ü"])
def test_any_path_will_do(tiny, tmp_path, name):
    path = in_folder(tiny, tmp_path, name)
    assert tune(path)
    assert self_test(path, threads=1).passed
    for memory in ("fast", "small"):  # the tuned graphs, and the artifact's own
        with Session.open(path, form="bank", threads=1, memory=memory) as session:
            np.testing.assert_allclose(
                session.run("mood", ROWS["mood"]), tiny.expected("mood", ROWS["mood"]), atol=1e-5
            )


def run(arguments, **environment):
    return subprocess.run(
        [sys.executable, "-m", "propetl", *arguments],
        capture_output=True,
        env=os.environ | environment,
        check=False,
        timeout=120,
    )


@pytest.mark.parametrize("name", [NOT_UTF8, "dir ü"])
def test_the_command_in_a_locale_of_ascii(tiny, tmp_path, name):
    """Paths and texts come as bytes, and rows go out as UTF-8, whatever the locale says."""
    path = in_folder(tiny, tmp_path, name)
    found = run(["predict", str(path), "--task", "topic", "film ü", "--threads", "1"], **ASCII_LOCALE)
    assert found.returncode == 0, found.stderr.decode()
    with Session.open(path, threads=1) as session:
        assert json.loads(found.stdout)["label"] == session.predict("topic", ["film ü"])[0].label


def test_a_table_in_a_locale_of_ascii(tiny):
    """What a terminal of ASCII cannot show is escaped."""
    asked = ["predict", str(tiny.path), "--task", "topic", "film ü", "--threads", "1"]
    found = run(asked, **ASCII_LOCALE, FORCE_COLOR="1")
    assert found.returncode == 0, found.stderr.decode()
    assert rb"film \xfc" in found.stdout


def test_a_report_in_a_locale_of_ascii(tiny, tmp_path):
    """Signs that the terminal cannot write are escaped; in JSON, too, a path that is no text."""
    path = in_folder(tiny, tmp_path, NOT_UTF8)
    (path / "tasks/mood.safetensors").write_bytes(b"")
    found = run(["validate", str(path), "--json", str(tmp_path / "report.json")], **ASCII_LOCALE)
    assert found.returncode == 1 and b"Traceback" not in found.stderr, found.stderr.decode()
    assert os.fsencode(json.loads((tmp_path / "report.json").read_bytes())["artifact"]) == os.fsencode(path)


def test_a_text_that_is_not_utf_8_is_one_line(tiny):
    found = run(["predict", str(tiny.path), "--task", "mood", os.fsdecode(b"caf\xe9")])
    assert found.returncode == 2
    (line,) = found.stderr.decode().splitlines()
    assert line.startswith("propetl: error: TEXTS: a text is not UTF-8")


def test_an_engine_cache_is_where_it_was_when_it_was_named(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    options = EngineOptions(engine_cache=Path("cache"))
    monkeypatch.chdir("/")
    assert cache_root(options) == tmp_path / "cache"


def test_a_relative_xdg_cache_home_is_ignored(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_root(EngineOptions()) == tmp_path / ".cache/propetl/engines"


@pytest.mark.parametrize("name", ["tensorrt", "nv-tensorrt-rtx"])
def test_a_cache_that_a_provider_cannot_name_is_refused(tiny, tmp_path, name):
    from propetl.runtime.artifact import read_manifest

    manifest = read_manifest(tiny.path).manifest
    graph = manifest.forms["bank"].graph
    with pytest.raises(ConfigurationError, match="its path is not UTF-8, which this provider needs"):
        ort_provider(name).options(EngineOptions(), graph, manifest, tmp_path / NOT_UTF8)
