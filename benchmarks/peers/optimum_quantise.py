"""``python -m peers.optimum_quantise FOLDER OUT``: optimum-onnx's dynamic int8 of a folder with ``model.onnx``."""

import sys
from pathlib import Path


def quantise(source: Path, target: Path) -> None:
    """Leaves ``model_quantized.onnx`` in ``target``: per channel, for AVX-512 VNNI."""
    from optimum.onnxruntime import ORTQuantizer
    from optimum.onnxruntime.configuration import AutoQuantizationConfig

    config = AutoQuantizationConfig.avx512_vnni(is_static=False, per_channel=True)
    ORTQuantizer.from_pretrained(source, file_name="model.onnx").quantize(config, target)


if __name__ == "__main__":
    quantise(*map(Path, sys.argv[1:]))
