"""How far a build is, and what stops it."""

import pytest

trt = pytest.importorskip("tensorrt_rtx")

from propetl.export.tensorrt_engines.build_progress import Phases, progress_monitor  # noqa: E402
from propetl.runtime.engines.tensorrt_flavour import error_log  # noqa: E402


def test_share_of_nested_phases():
    phases = Phases()
    phases.start("build", None, 4)
    assert phases.share() == 0
    phases.complete("build", 0)
    assert phases.share() == 0.25
    phases.start("optimise", "build", 2)
    phases.complete("optimise", 0)
    assert phases.share() == 0.375
    phases.start("times", "optimise", 2)
    phases.complete("times", 0)
    assert phases.share() == pytest.approx(0.25 + (0.5 + 0.25) / 4)


def test_the_share_never_goes_back():
    phases = Phases()
    phases.start("build", None, 4)
    phases.complete("build", 1)
    phases.start("optimise", "build", 2)
    phases.complete("optimise", 1)
    reached = phases.share()
    phases.finish("optimise")
    assert phases.share() == reached == 0.75
    phases.finish("build")
    assert phases.share() == reached


def test_steps_of_a_phase_that_never_began():
    phases = Phases()
    phases.complete("unknown", 3)
    phases.finish("unknown")
    assert phases.share() == 0


def test_the_monitor_tells_and_stops_at_an_interrupt():
    told = []
    monitor = progress_monitor(trt, lambda phase, share: told.append((phase, share)))
    monitor.phase_start("build", None, 2)
    assert monitor.step_complete("build", 0) is True
    assert told == [("build", 0.0), ("build", 0.5)] and monitor.error is None

    def interrupt(phase, share):
        raise KeyboardInterrupt

    monitor = progress_monitor(trt, interrupt)
    monitor.phase_start("build", None, 2)
    assert monitor.step_complete("build", 0) is False
    assert isinstance(monitor.error, KeyboardInterrupt)


def test_there_is_one_log_and_it_keeps_errors():
    log = error_log(trt)
    assert error_log(trt) is log
    log.errors.clear()
    log.log(trt.ILogger.Severity.WARNING, "a warning")
    log.log(trt.ILogger.Severity.ERROR, "an error")
    assert log.errors == ["an error"]
