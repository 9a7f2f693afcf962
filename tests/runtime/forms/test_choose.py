import pytest

from propetl.errors import ArtifactError, ConfigurationError
from propetl.runtime.artifact import read_artifact
from propetl.runtime.forms.choose import choose_form
from tests.runtime.tiny_artifact import write_tiny_artifact


@pytest.mark.parametrize(
    ("forms", "chosen"),
    [
        (("folded",), "folded"),
        (("bank", "bare"), "bank"),
        (("folded", "bank"), "folded"),
        (("folded", "bank", "switchable", "bare"), "switchable"),
    ],
)
def test_the_first_of_switchable_folded_bank(tmp_path, forms, chosen):
    artifact = read_artifact(write_tiny_artifact(tmp_path / "a", forms).path)
    assert choose_form(artifact, None) == chosen
    assert all(choose_form(artifact, form) == form for form in forms if form != "bare")


@pytest.mark.parametrize("form", ["bank", "bare", "melted", ""])
def test_a_form_that_cannot_be_run(tmp_path, form):
    artifact = read_artifact(write_tiny_artifact(tmp_path / "a", ("folded", "switchable", "bare")).path)
    with pytest.raises(ConfigurationError, match=rf"form '{form}' is not in .*; it has folded, switchable$"):
        choose_form(artifact, form)


def test_the_bare_backbone_alone_is_nothing_to_run(tmp_path):
    artifact = read_artifact(write_tiny_artifact(tmp_path / "a", ("bare",)).path)
    with pytest.raises(ArtifactError, match="no form that a session can run"):
        choose_form(artifact, None)
