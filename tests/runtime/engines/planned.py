"""A tiny artifact with plans, and doubles that run them."""

import json
import sys
from dataclasses import replace

from propetl.files import file_record
from propetl.runtime.artifact import read_manifest
from propetl.runtime.engine_records import EngineInfo, Profile
from tests.runtime.engines.cuda_double import CudaDouble
from tests.runtime.engines.tensorrt_double import TensorRTDouble
from tests.runtime.tiny_artifact import write_tiny_artifact

RANGES = {"batch": (1, 2, 8), "sequence": (1, 8, 32), "labels": (1, 2, 32)}
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


def write_planned(path, target="tensorrt", ranges=(RANGES,), precision="fp32"):
    """A tiny artifact with a plan for each graph but the bare one's."""
    tiny = write_tiny_artifact(path)
    manifest = read_manifest(tiny.path).manifest
    engines = []
    for form in ("folded", "switchable", "bank"):
        for task, graph in manifest.forms[form].all_graphs().items():
            named = {size for item in graph.inputs for size in item.shape if isinstance(size, str)}
            profiles = tuple(Profile({name: sizes[name] for name in sorted(named)}) for sizes in ranges)
            name = "/".join(filter(None, ("engines", form, task, "model.plan")))
            plan = {"artifact": str(tiny.path), "graph": graph.path, "profiles": [dict(p.sizes) for p in profiles]}
            file = tiny.path / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(json.dumps(plan))
            engines.append(EngineInfo(name, form, task, target, VERSIONS[target], (86,), precision, profiles))
    write_engines(tiny, engines)
    return tiny


def write_engines(tiny, engines):
    """Records ``engines`` and their files."""
    records = [engine.to_json() for engine in engines]
    files = {path: file_record(tiny.path / path) for engine in engines for path in engine.files}
    tiny.edit_manifest(lambda value: value.update(engines=records, files=value["files"] | files))


def engines_of(tiny):
    return read_manifest(tiny.path).manifest.engines


def change_engines(tiny, **changes):
    """Records every engine with other values."""
    write_engines(tiny, [replace(engine, **changes) for engine in engines_of(tiny)])
