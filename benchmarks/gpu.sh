#!/usr/bin/env bash
# Everything that needs a GPU, on the machine that has one: tests, training, engines, validation, benchmark.
# From a source checkout, with no install and no network:
#
#     benchmarks/gpu.sh                  # one JSON and one Markdown report under benchmarks/results/
#     benchmarks/gpu.sh --device cpu     # a dry run of tiny models; what needs a GPU is reported as not run
#     benchmarks/gpu.sh --help
#
# PYTHON names the interpreter (default: python3); it needs what `pip install '.[cpu,train,export]'` and pytest bring, and
# one or more of onnxruntime-gpu (instead of onnxruntime), tensorrt, tensorrt_rtx with cuda-bindings,
# onnxruntime-ep-nv-tensorrt-rtx. Without some of it, the steps that need it are reported as not run.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$root"
export PYTHONPATH="$root${PYTHONPATH:+:$PYTHONPATH}"
exec "${PYTHON:-python3}" benchmarks/gpu.py "$@"
