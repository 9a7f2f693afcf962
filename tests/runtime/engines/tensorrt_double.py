"""Stands in for TensorRT: a plan is JSON that names an ONNX graph, which ONNX Runtime runs when the stream does.

It refuses what TensorRT refuses: shapes outside the active profile, tensors without an address or at an odd one,
code of the host in a plan unless that is allowed.
"""

import ctypes
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnxruntime

from tests.runtime.engines.cuda_double import ALIGNMENT

KINDS: dict[str, tuple[str, Any]] = {
    "tensor(int64)": ("INT64", np.int64),
    "tensor(uint8)": ("UINT8", np.uint8),
    "tensor(float)": ("FLOAT", np.float32),
}


class ILogger:
    class Severity:
        ERROR, INTERNAL_ERROR, WARNING = "error", "internal", "warning"


class TensorIOMode:
    INPUT, OUTPUT = "input", "output"


class CudaGraphStrategy:
    WHOLE_GRAPH_CAPTURE, DISABLED = "whole", "disabled"


class DynamicShapesKernelSpecializationStrategy:
    LAZY, NONE = "lazy", "none"


class Weights:
    def __init__(self, array):
        self.array = array


class TensorRTDouble:
    """The module, which hands its work to the streams of ``cuda``."""

    ILogger, TensorIOMode, CudaGraphStrategy, Weights = ILogger, TensorIOMode, CudaGraphStrategy, Weights
    DynamicShapesKernelSpecializationStrategy = DynamicShapesKernelSpecializationStrategy

    def __init__(self, cuda, version="10.9.0", name="tensorrt"):
        self.cuda, self.__version__, self.__name__ = cuda, version, name
        self.engines, self.contexts, self.refits = [], [], 0

    def Runtime(self, log):
        return RuntimeDouble(self, log)

    def engine(self, log, content, host_code):
        try:
            plan = json.loads(content)
        except ValueError:
            log.log(ILogger.Severity.ERROR, "magicTag does not match\n  the plan")
            return None
        if plan.get("host_code") and not host_code:
            log.log(ILogger.Severity.ERROR, "the plan has code of the host")
            return None
        engine = EngineDouble(self, log, plan)
        self.engines.append(engine)
        return engine

    def Refitter(self, engine, log):
        return RefitterDouble(engine)


class RuntimeDouble:
    engine_host_code_allowed = False

    def __init__(self, library, log):
        self.library, self.log = library, log

    def deserialize_cuda_engine(self, content):
        return self.library.engine(self.log, content, self.engine_host_code_allowed)


class RefitterDouble:
    def __init__(self, engine):
        self.engine, self.given = engine, {}

    def set_named_weights(self, name, weights):
        if name not in self.engine.plan.get("refittable", []):
            return False
        self.given[name] = weights.array
        return True

    def refit_cuda_engine(self):
        self.engine.refit(self.given)
        return not self.get_missing_weights()

    def get_missing_weights(self):
        return [name for name in self.engine.plan.get("refittable", []) if name not in self.given]


class EngineDouble:
    def __init__(self, library, log, plan):
        self.library, self.log, self.plan = library, log, plan
        self.session = self._session(plan["graph"])
        self.tensors = [*self.session.get_inputs(), *self.session.get_outputs()]
        self.num_io_tensors = len(self.tensors)

    def _session(self, graph):
        options = onnxruntime.SessionOptions()
        root = Path(self.plan["artifact"])
        options.add_session_config_entry("session.model_external_initializers_file_folder_path", str(root))
        options.intra_op_num_threads = 1
        return onnxruntime.InferenceSession((root / graph).read_bytes(), options, providers=["CPUExecutionProvider"])

    def refit(self, weights):
        """Weights are the number of a graph, which takes the place of the one before."""
        self.library.refits += 1
        self.session = self._session(self.plan["graphs"][int(next(iter(weights.values()))[0])])

    def _named(self, name):
        return next(item for item in self.tensors if item.name == name)

    def get_tensor_name(self, index):
        return self.tensors[index].name

    def get_tensor_dtype(self, name):
        return SimpleNamespace(name=KINDS[self._named(name).type][0])

    def get_tensor_shape(self, name):
        return tuple(size if isinstance(size, int) else -1 for size in self._named(name).shape)

    def get_tensor_mode(self, name):
        is_input = name in {item.name for item in self.session.get_inputs()}
        return TensorIOMode.INPUT if is_input else TensorIOMode.OUTPUT

    def create_execution_context(self, config=None):
        context = ContextDouble(self, config)
        self.library.contexts.append(context)
        return context

    def create_runtime_config(self):
        return RuntimeConfigDouble()


class RuntimeConfigDouble:
    cuda_graph_strategy = None
    dynamic_shapes_kernel_specialization_strategy = "lazy"
    cache = None

    def create_runtime_cache(self):
        return RuntimeCacheDouble()

    def set_runtime_cache(self, cache):
        self.cache = cache
        return True


class RuntimeCacheDouble:
    def __init__(self):
        self.kernels = []

    def deserialize(self, content):
        self.kernels = json.loads(content)
        return True

    def serialize(self):
        return json.dumps(self.kernels).encode()


class ContextDouble:
    def __init__(self, engine, config):
        self.engine, self.config = engine, config
        self.profile, self.shapes, self.addresses = engine.plan["profiles"][0], {}, {}
        self.bound = 0

    def set_optimization_profile_async(self, index, stream):
        self.profile = self.engine.plan["profiles"][index]
        return True

    def set_input_shape(self, name, shape):
        self.bound += 1
        for size, wanted in zip(self.engine._named(name).shape, shape, strict=True):
            least, _, most = self.profile.get(size, (size, size, size)) if isinstance(size, str) else (size,) * 3
            if not least <= wanted <= most:
                self.engine.log.log(ILogger.Severity.ERROR, f"{name}: {shape} is outside the profile")
                return False
        self.shapes[name] = tuple(shape)
        return True

    def _sizes(self):
        return {
            size: given
            for name, shape in self.shapes.items()
            for size, given in zip(self.engine._named(name).shape, shape, strict=True)
        }

    def get_tensor_shape(self, name):
        sizes = self._sizes()
        if {"past", "target"} & sizes.keys():
            sizes.setdefault("present", sizes.get("past", 0) + sizes.get("target", 1))
        shape = tuple(sizes.get(size, size) for size in self.engine._named(name).shape)
        return (*shape[:-1], self.engine.plan["widest"]) if name == "logits" and "widest" in self.engine.plan else shape

    def set_tensor_address(self, name, address):
        if address % ALIGNMENT:
            self.engine.log.log(ILogger.Severity.ERROR, f"{name}: address {address} is not aligned")
            return False
        self.addresses[name] = address
        return True

    def execute_async_v3(self, handle):
        names = [item.name for item in self.engine.tensors]
        if missing := [name for name in names if name not in self.addresses]:
            self.engine.log.log(ILogger.Severity.ERROR, f"no address for {missing}")
            return False
        addresses = dict(self.addresses)
        shapes = {name: self.shapes.get(name) or self.get_tensor_shape(name) for name in names}
        if self.config is not None:
            self.config.cache.kernels.append(sorted(map(str, shapes.items())))
        self.engine.library.cuda.streams[handle].push(lambda: self._run(shapes, addresses))
        return True

    def _run(self, shapes, addresses):
        session = self.engine.session
        inputs = {item.name: self._at(item, shapes, addresses).copy() for item in session.get_inputs()}
        outputs = session.get_outputs()
        for item, found in zip(outputs, session.run([item.name for item in outputs], inputs), strict=True):
            target = self._at(item, shapes, addresses)
            assert target.shape == found.shape or "widest" in self.engine.plan
            target[..., : found.shape[-1]] = found

    def _at(self, item, shapes, addresses):
        dtype, shape, address = KINDS[item.type][1], shapes[item.name], addresses[item.name]
        size = int(np.prod(shape)) * np.dtype(dtype).itemsize
        self.engine.library.cuda.check(address, size)
        return np.frombuffer((ctypes.c_uint8 * size).from_address(address), dtype).reshape(shape)
