"""The files that are damaged: an artifact with tuned graphs, a bundle, and settings as Triton's models read them."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from propetl.bundle import write_bundle
from propetl.files import json_bytes, record_of_bytes
from propetl.prototypes.spec import PrototypeConfig
from propetl.runtime import Session
from propetl.runtime.triton_server.settings import SETTINGS, ServedTask, Settings
from propetl.runtime.tuning import tune
from propetl.sealed import FILES
from tests.runtime.tiny_artifact import MAX_LENGTH, ROWS, write_tiny_artifact
from tests.runtime.tiny_tokenizer import INPUTS
from tests.tiny_bundle import random_contents

TASK = "mood"
GRAPH = f"folded/{TASK}/model.onnx"
"""The graph that is damaged: a small one, so that loading it takes little."""


class Files:
    """All of them, below one folder; each is whole again once a mutant was read in its place.

    Attributes:
        artifact: folder of an artifact.
        bundle: folder of a bundle.
        served: folder of a model's settings.
        tiny: what the artifact was made of.
    """

    def __init__(self, folder: Path) -> None:
        self.tiny = write_tiny_artifact(folder / "artifact")
        self.artifact, self.bundle, self.served = self.tiny.path, folder / "bundle", folder / "served"
        tune(self.artifact)
        write_bundle(self.bundle, random_contents(PrototypeConfig(bottleneck=2)))
        tasks = {name: ServedTask(pack.info, index) for index, (name, pack) in enumerate(self.tiny.packs.items())}
        self.served.mkdir()
        settings = Settings(MAX_LENGTH, 0, 8, INPUTS, True, tasks)
        (self.served / SETTINGS).write_bytes(json_bytes(settings.to_json()))
        self._bytes: dict[Path, bytes] = {}

    def original(self, path: Path) -> bytes:
        """The undamaged content of a file."""
        if path not in self._bytes:
            self._bytes[path] = path.read_bytes()
        return self._bytes[path]

    def reading(self, path: Path, mutant: bytes, read: Callable[[], Any], manifest: Path | None = None) -> Any:
        """What ``read`` gives while ``mutant`` stands at ``path``.

        Args:
            path: the file.
            mutant: what is in it instead.
            read: reads it.
            manifest: where the file's size and hash are made to fit the mutant; None leaves them as they are.
        """
        written = {path: mutant}
        if manifest is not None:
            value = json.loads(self.original(manifest))
            value[FILES][path.relative_to(manifest.parent).as_posix()] = record_of_bytes(mutant)
            written[manifest] = json_bytes(value)
        before = {changed: self.original(changed) for changed in written}
        try:
            for changed, content in written.items():
                changed.write_bytes(content)
            return read()
        finally:
            for changed, content in before.items():
                changed.write_bytes(content)

    def answers(self) -> np.ndarray:
        """Logits of a session of its own on the graph of one task."""
        with Session.open(self.artifact, form="folded", threads=1) as session:
            return np.asarray(session.run(TASK, ROWS[TASK]))


def alike(left: Any, right: Any) -> bool:
    """Whether two readings mean the same: numbers may differ by rounding."""
    if isinstance(left, np.ndarray) and isinstance(right, np.ndarray):
        return left.shape == right.shape and bool(np.allclose(left, right, rtol=1e-4, atol=1e-5))
    return bool(left == right)
