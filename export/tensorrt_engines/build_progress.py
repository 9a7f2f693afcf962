"""How far the builder is, while it works."""

from collections.abc import Callable
from typing import Any

Progress = Callable[[str, float], None]
"""Called with a phase of the build, and the share of the build that is done, 0 to 1."""


def progress_monitor(library: Any, progress: Progress) -> Any:
    """A monitor that reports phases to ``progress``.

    What ``progress`` raises (an interrupt, say) cannot pass through the builder: it is kept as ``error``, and
    the build is stopped.
    """

    class Monitor(library.IProgressMonitor):  # type: ignore[misc]  # a class of a module known at run time
        def __init__(self) -> None:
            library.IProgressMonitor.__init__(self)
            self.error: BaseException | None = None
            self.phases = Phases()

        def phase_start(self, name: str, parent: str | None, steps: int) -> None:
            self.phases.start(name, parent, steps)
            self._tell(name)

        def step_complete(self, name: str, step: int) -> bool:
            self.phases.complete(name, step)
            return self._tell(name)

        def phase_finish(self, name: str) -> None:
            self.phases.finish(name)

        def _tell(self, name: str) -> bool:
            try:
                progress(name, self.phases.share())
            except BaseException as error:
                self.error = error
            return self.error is None

    return Monitor()


class Phases:
    """Phases within phases; the share that is done follows from the steps of each."""

    def __init__(self) -> None:
        self._running: dict[str, tuple[str | None, int, int]] = {}  # name -> parent, steps, steps done
        self._furthest = 0.0

    def start(self, name: str, parent: str | None, steps: int) -> None:
        """``name`` begins, within ``parent`` if that is not None."""
        self._running[name] = (parent, max(steps, 1), 0)

    def complete(self, name: str, step: int) -> None:
        """Step ``step`` of ``name``, counted from 0, is done."""
        if name in self._running:
            parent, steps, _ = self._running[name]
            self._running[name] = (parent, steps, min(step + 1, steps))

    def finish(self, name: str) -> None:
        """``name`` ends, perhaps before its last step."""
        self._running.pop(name, None)

    def share(self) -> float:
        """Share of the outermost phase that is done; it never goes back."""
        found = max((self._done(name) for name, (parent, _, _) in self._running.items() if parent is None), default=0.0)
        self._furthest = max(self._furthest, found)
        return self._furthest

    def _done(self, name: str) -> float:
        _, steps, done = self._running[name]
        inner = [self._done(child) for child, (parent, _, _) in list(self._running.items()) if parent == name]
        return min((done + max(inner, default=0.0)) / steps, 1.0)
