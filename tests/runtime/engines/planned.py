"""A tiny artifact with plans, and doubles that run them."""

import json
import sys
from dataclasses import replace

from propetl.files import file_record, json_bytes
from propetl.runtime.artifact import read_manifest
from propetl.runtime.engine_records import EngineInfo, Profile
from propetl.runtime.graph_names import named_graphs
from propetl.runtime.manifest import MANIFEST
from propetl.sealed import FILES, sealed
from tests.runtime.engines.cuda_double import CudaDouble
from tests.runtime.engines.tensorrt_double import TensorRTDouble
from tests.runtime.tiny_artifact import write_tiny_artifact

RANGES = {"batch": (1, 2, 8), "sequence": (1, 8, 32), "labels": (1, 2, 32), "rows": (1, 1, 8)}
TARGETS = {"tensorrt-plan": "tensorrt", "tensorrt-rtx-plan": "tensorrt-rtx"}
VERSIONS = {"tensorrt": "10.9.0", "tensorrt-rtx": "1.7.1.116"}


class Machine:
    """A machine with a GPU and both libraries, all of them doubles."""

    def __init__(self, monkeypatch, tmp_path):
        self.cuda = CudaDouble()
        monkeypatch.setitem(sys.modules, "cuda.bindings.runtime", self.cuda)
        self.library = {}
        for target, module in (("tensorrt", "tensorrt"), ("tensorrt-rtx", "tensorrt_rtx")):
            self.library[target] = TensorRTDouble(self.cuda, VERSIONS[target], module)
            monkeypatch.setitem(sys.modules, module, self.library[target])
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def write_planned(path, target="tensorrt", ranges=(RANGES,), precision="fp32", staged=False):
    """A tiny artifact with a plan for each graph but the bare one's."""
    tiny = write_tiny_artifact(path, staged=staged)

    def profiles_of(graph):
        named = {size for item in graph.inputs for size in item.shape if isinstance(size, str)}
        return tuple(Profile({size: sizes[size] for size in sorted(named)}) for sizes in ranges)

    plans = plans_of(tiny.path, target, profiles_of, precision)
    write_engines(tiny.path, [engine for engine in plans if engine.form != "bare"])
    return tiny


def plans_of(path, target, profiles_of, precision="fp32"):
    """Writes a plan for each graph of the artifact in folder ``path``; returns their records."""
    engines = []
    for name, graph in named_graphs(read_manifest(path).manifest.forms).items():
        profiles = profiles_of(graph)
        plan = {"artifact": str(path), "graph": graph.path, "profiles": [dict(p.sizes) for p in profiles]}
        file = path / f"engines/{name}/model.plan"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(plan))
        record = EngineInfo(
            path=f"engines/{name}/model.plan",
            form=name.form,
            task=name.task,
            part=name.part,
            target=target,
            version=VERSIONS[target],
            compute_capabilities=(86,),
            precision=precision,
            profiles=profiles,
        )
        engines.append(record)
    return engines


def write_engines(path, engines):
    """Records ``engines`` and their files in the artifact in folder ``path``."""
    value = json.loads((path / MANIFEST).read_text())
    value["engines"] = [engine.to_json() for engine in engines]
    value["files"] |= {name: file_record(path / name) for engine in engines for name in engine.files}
    (path / MANIFEST).write_bytes(json_bytes(sealed(value, FILES)))


def engines_of(tiny):
    return read_manifest(tiny.path).manifest.engines


def change_engines(tiny, **changes):
    """Records every engine with other values."""
    write_engines(tiny.path, [replace(engine, **changes) for engine in engines_of(tiny)])
