import subprocess
import sys

import pytest

HEAVY = ("torch", "transformers", "datasets", "pyarrow", "sklearn", "scipy")


@pytest.mark.parametrize(
    "module", ["propetl.data.tables", "propetl.data.metrics", "propetl.data.generated", "propetl.cli.data"]
)
def test_no_heavy_library_is_imported(module: str) -> None:
    code = f"import sys, {module}; print([name for name in {HEAVY} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
