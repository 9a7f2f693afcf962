"""Triton's own definition of a configuration."""

import json
import subprocess
from pathlib import Path
from typing import Any

# Wants an older protobuf than onnx does here, so it has an environment of its own.
CLIENT = "tritonclient[grpc]==2.73.0"

_READ = """
import json, sys
from google.protobuf import json_format, text_format
from tritonclient.grpc import model_config_pb2
for path in sys.argv[1:]:
    message = text_format.Parse(open(path, encoding="utf-8").read(), model_config_pb2.ModelConfig())
    print(json.dumps(json_format.MessageToDict(message, preserving_proto_field_name=True)))
"""


def read_configs(python: Path, paths: list[Path]) -> list[dict[str, Any]]:
    """Files ``config.pbtxt``, read by ``python``, which has Triton's client."""
    command = [str(python), "-c", _READ, *map(str, paths)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]
