"""What commands that build show while they work."""

import re

import pytest

from propetl.cli.build_output import progress_bars


@pytest.mark.parametrize("begun", [1, 3, 5])
def test_no_bar_is_further_than_its_end(capsys, monkeypatch, begun):
    """Three steps were expected; a calibration, say, is one more."""
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "100")
    with progress_bars("export", "exported", 3, False) as (report, _):
        for step in range(begun):
            report(f"step {step}")
            report("  a detail")
    shown = capsys.readouterr().err
    counts = [(int(done), int(total)) for done, total in re.findall(r"(\d+)/(\d+)", shown)]
    assert all(done <= total for done, total in counts)
    assert counts[-1] == (begun, begun)
