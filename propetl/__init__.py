"""ProPETL: one shared prototype per backbone, one binary mask per layer and task.

Importing this package imports nothing else: training needs the extra ``train``, the compiler ``export``,
and a device only ``propetl.runtime`` with one engine extra such as ``cpu``. It does turn off the telemetry of the
libraries that have one, through environment variables.
"""

import os

__version__ = "0.1.0"

# ONNX Runtime and huggingface_hub read these once, when they are loaded, be it by torch or onnxscript. Everything of
# ours that loads them runs these lines first, and so do the processes that we start. Who set one keeps his choice.
for _telemetry in ("ORT_DISABLE_TELEMETRY", "HF_HUB_DISABLE_TELEMETRY"):
    os.environ.setdefault(_telemetry, "1")
