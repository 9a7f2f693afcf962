"""TensorBoard's file of scalars, written when it is told: its own writer has a thread, whose errors come late."""

import io
import itertools
import os
import socket
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from propetl.files import make_folder

_VERSION = "brain.Event:2"


class ScalarWriter:
    """Appends to a new file in a folder that TensorBoard reads; what runs before it have written stays."""

    def __init__(self, folder: Path, first_step: int) -> None:
        """TensorBoard shows no step from ``first_step`` on that stands in older files of ``folder``."""
        from tensorboard.compat.proto.event_pb2 import Event, SessionLog

        make_folder(folder)
        self._path = _free_path(folder)
        started = Event(wall_time=time.time(), step=first_step, session_log=SessionLog(status=SessionLog.START))
        self._append(Event(wall_time=time.time(), file_version=_VERSION), started)

    def write(self, scalars: Mapping[str, float], step: int) -> None:
        """Adds the value of each tag at ``step``."""
        from tensorboard.compat.proto.event_pb2 import Event
        from tensorboard.compat.proto.summary_pb2 import Summary

        values = [Summary.Value(tag=tag, simple_value=value) for tag, value in scalars.items()]
        self._append(Event(wall_time=time.time(), step=step, summary=Summary(value=values)))

    def _append(self, *events: Any) -> None:
        from tensorboard.summary.writer.record_writer import RecordWriter

        records = io.BytesIO()
        for event in events:
            RecordWriter(records).write(event.SerializeToString())
        with self._path.open("ab") as stream:
            stream.write(records.getvalue())


def _free_path(folder: Path) -> Path:
    """A name as TensorBoard's writer gives it; files are read in the order of their names."""
    start = f"events.out.tfevents.{time.time():010.0f}.{socket.gethostname()}.{os.getpid()}"
    paths = (folder / f"{start}.{number}" for number in itertools.count())
    return next(path for path in paths if not path.exists())
