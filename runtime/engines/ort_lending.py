"""Outputs of ONNX Runtime in memory that is lent: bound once, and filled anew when whoever had them lets go."""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from propetl.runtime.engines import Prepared
from propetl.runtime.engines.blocks import Distinct, Shapes, arrays_in_block

_SPARE = 1
"""Blocks that wait to be filled: what a cache evicts makes room for the next, one at a time."""


@dataclass(frozen=True, eq=False)
class _Bound:
    shapes: Shapes
    binding: Any
    values: Prepared


class Lent(Distinct):
    """OrtValues by name, one's own as long as one has this mapping."""

    def __init__(self, bound: _Bound, spare: deque[_Bound]) -> None:
        super().__init__(bound.values)
        self._bound = bound
        self._spare = spare

    def __del__(self) -> None:
        self._spare.append(self._bound)


class Lender:
    """Runs a session on the CPU into blocks of memory. Safe to use from many threads at once.

    Binding a dozen outputs anew, and the system's zeroing of fresh pages, take as long as applying masks does.
    """

    def __init__(self, session: Any, prepare: Callable[[Any], Prepared]) -> None:
        """``prepare`` turns arrays into OrtValues over the same memory."""
        self._session = session
        self._prepare = prepare
        self._spare: deque[_Bound] = deque(maxlen=_SPARE)

    def evaluate(self, inputs: Prepared, shapes: Shapes) -> Lent:
        """All outputs, whose types and shapes are ``shapes``, for ``inputs``, which are all there are."""
        bound = self._taken(shapes)
        for name, value in inputs.items():
            bound.binding.bind_ortvalue_input(name, value)
        self._session.run_with_iobinding(bound.binding)
        return Lent(bound, self._spare)

    def _taken(self, shapes: Shapes) -> _Bound:
        try:
            bound = self._spare.pop()
        except IndexError:
            return self._made(shapes)
        return bound if bound.shapes == shapes else self._made(shapes)

    def _made(self, shapes: Shapes) -> _Bound:
        binding, values = self._session.io_binding(), self._prepare(arrays_in_block(shapes))
        for name, value in values.items():
            binding.bind_ortvalue_output(name, value)
        return _Bound(shapes, binding, values)
