"""`propetl export --target`, the whole way."""

import pytest
from click.testing import CliRunner

from propetl.cli.main import main
from propetl.export.tensorrt_engines import flavour
from propetl.installation import install_line
from propetl.runtime.artifact import read_artifact
from propetl.runtime.engines import tensorrt_flavour
from propetl.runtime.session import Session

pytest.importorskip("tensorrt_rtx")


def export(bundle, folder, *words):
    return CliRunner().invoke(main, ["export", str(bundle.path), "-o", str(folder), *words])


def test_an_artifact_with_engines_is_read_checked_and_run(plain, tmp_path):
    _, bundle = plain
    words = "--target tensorrt-rtx --sm 86,89 --precision fp32 --precision fp16 --profile 1x1/1x8/2x16 --profile 2x16"
    done = export(bundle, tmp_path / "out", *words.split(), "-v")
    assert done.exit_code == 0, done.output
    artifact = read_artifact(tmp_path / "out")
    found = {engine.precision: engine for engine in artifact.manifest.engines}
    assert set(found) == {"fp32", "fp16"}
    assert all(len(engine.profiles) == 2 and engine.compute_capabilities == (86, 89) for engine in found.values())
    assert all(engine.path in artifact.manifest.files for engine in found.values())
    assert "batch 1/1/2, sequence 1/8/16; batch 2/2/2, sequence 16/16/16" in done.output
    assert "SM 86, SM 89" in done.output
    assert "LowerFloats: " in done.output
    with Session.open(tmp_path / "out", threads=1) as session:  # the graphs are there, too
        assert session.run("two", ["a man"]).shape == (1, 2)


@pytest.mark.parametrize(
    ("words", "line"),
    [
        ("--target tensorrt-rtx --sm 90", "does not support SM 90"),
        ("--target tensorrt-rtx --sm 86 --version-compatible", "--version-compatible is for --target tensorrt"),
        ("--target tensorrt-rtx --sm 86 --hardware-compatible", "--hardware-compatible is for --target tensorrt"),
        ("--target tensorrt-rtx --sm 86 --timing-cache x", "--timing-cache is for --target tensorrt"),
        ("--target tensorrt-rtx", "there is no GPU here to build for: say which by --sm"),
    ],
)
def test_what_cannot_be_built_is_refused_before_any_work(plain, tmp_path, monkeypatch, words, line):
    monkeypatch.setattr(flavour, "gpu_here", lambda: None)
    monkeypatch.setattr("propetl.export.writer.load_backbone_of", lambda *given: pytest.fail("work was begun"))
    done = export(plain[1], tmp_path / "out", *words.split())
    assert done.exit_code == 2 and line in done.output
    assert list(tmp_path.iterdir()) == []


def test_tensorrt_that_is_not_installed(plain, tmp_path, monkeypatch):
    def missing(name):
        raise ModuleNotFoundError(f"No module named {name!r}", name=name)

    monkeypatch.setattr(tensorrt_flavour, "import_module", missing)
    done = export(plain[1], tmp_path / "out", "--target", "tensorrt")
    assert done.exit_code == 2
    line = f"--target tensorrt needs 'tensorrt', which is not installed: {install_line('tensorrt')}"
    assert line in " ".join(done.output.split())
