"""The one file of weights behind all graphs of an artifact."""

import hashlib
from pathlib import Path
from types import TracebackType

import numpy as np
import onnx_ir as ir

# Tensors start on memory pages, so that an engine can map them instead of copying.
_PAGE_BYTES = 4096


class WeightStore:
    """Writes each tensor once, found again by its content.

    Use as a context manager; the file is complete when the block ends.
    """

    def __init__(self, path: Path) -> None:
        """``path`` of the file; its name is what graphs will refer to."""
        self.path = path
        self._stream = path.open("wb")
        self._offsets: dict[tuple[str, str], int] = {}

    def __enter__(self) -> "WeightStore":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stream.close()

    def add(self, tensor: ir.TensorProtocol, name: str) -> ir.ExternalTensor:
        """A reference to ``tensor``'s bytes in the file, written now unless the same bytes are there."""
        array = np.ascontiguousarray(tensor.numpy())
        content = array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes()
        key = (str(tensor.dtype), hashlib.sha256(content).hexdigest())
        if key not in self._offsets:
            self._offsets[key] = self._append(content)
        return ir.ExternalTensor(
            self.path.name,
            self._offsets[key],
            len(content),
            tensor.dtype,
            shape=ir.Shape(array.shape),
            name=name,
            base_dir=self.path.parent,
        )

    def _append(self, content: bytes) -> int:
        self._stream.seek(0, 2)
        self._stream.write(b"\0" * (-self._stream.tell() % _PAGE_BYTES))
        offset = self._stream.tell()
        self._stream.write(content)
        self._stream.flush()
        return offset
