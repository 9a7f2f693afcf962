"""ONNX Runtime with a stream of ours: what it does on a GPU can be timed there."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from propetl.runtime.engines import Prepared
from propetl.runtime.engines.cuda_runtime import Stream
from propetl.runtime.engines.held import HeldCall
from propetl.runtime.engines.ort import OrtEngine
from propetl.runtime.manifest import GraphInfo

_RETURN_AT_ONCE = "disable_synchronize_execution_providers"


class TimedOrtEngine(OrtEngine):
    """An engine whose work goes into ``stream``; one call at a time."""

    def __init__(self, session: Any, runtime: Any, graph: GraphInfo, device: tuple[str, int], stream: Stream) -> None:
        super().__init__(session, runtime.OrtValue.ortvalue_from_numpy, graph, device)
        self._stream = stream
        self._options = runtime.RunOptions()
        self._options.add_run_config_entry(_RETURN_AT_ONCE, "1")

    @contextmanager
    def held(self, feeds: Mapping[str, NDArray[Any]], prepared: Prepared) -> Iterator[HeldCall]:
        """One batch, to be run again and again; its inputs are on the device already."""
        resident = self._session.io_binding()
        for name, value in {**self.prepare(feeds), **prepared}.items():
            resident.bind_ortvalue_input(name, value)
        copying = self._session.io_binding()
        for name, value in prepared.items():
            copying.bind_ortvalue_input(name, value)
        for name in self._outputs:
            resident.bind_output(name, *self._device)
            copying.bind_output(name, "cpu", 0)
        call = _OrtCall(self._stream, self._session, self._options, resident, copying, self._values(feeds, ("cpu", 0)))
        call.enqueue(transfers=True, graph=False)
        call.wait()
        yield call


class _OrtCall(HeldCall):
    def __init__(
        self, stream: Stream, session: Any, options: Any, resident: Any, copying: Any, feeds: Mapping[str, Any]
    ) -> None:
        super().__init__(stream, graphs=False)
        self._session = session
        self._options = options
        self._resident = resident
        self._copying = copying
        self._feeds = feeds

    def enqueue(self, transfers: bool, graph: bool) -> None:
        """Hands the batch over; ONNX Runtime has no graph to ask for."""
        if transfers:
            for name, value in self._feeds.items():
                self._copying.bind_ortvalue_input(name, value)  # binding is what copies
        self._session.run_with_iobinding(self._copying if transfers else self._resident, self._options)

    def logits(self) -> NDArray[np.float32]:
        """What the last run with transfers gave."""
        logits: NDArray[np.float32] = self._copying.copy_outputs_to_cpu()[0]
        return logits
