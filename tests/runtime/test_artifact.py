import os
import shutil
from dataclasses import replace

import numpy as np
import pytest

from propetl.errors import ArtifactError, BundleError, TaskError
from propetl.files import file_record, sha256_of_bytes
from propetl.runtime.artifact import MANIFEST, read_artifact
from tests.runtime.tiny_artifact import ROWS, TASKS, write_tiny_artifact
from tests.runtime.tiny_model import TinyModel


def test_reading_gives_what_was_written(tiny):
    artifact = read_artifact(tiny.path)
    assert artifact.forms == ("folded", "switchable", "bank")
    assert set(artifact.manifest.tasks) == set(TASKS)
    assert artifact.task("topic").info == TASKS["topic"]
    pack = artifact.pack("topic")
    assert pack.info == TASKS["topic"]
    for name, tensor in tiny.packs["topic"].tensors().items():
        np.testing.assert_array_equal(pack.tensors()[name], tensor)
    golden = artifact.golden("mood")
    np.testing.assert_allclose(golden.logits, tiny.expected("mood", ROWS["mood"]), rtol=1e-6)


def test_an_unknown_task_is_told_which_there_are(tiny):
    artifact = read_artifact(tiny.path)
    for use in (artifact.task, artifact.pack):
        with pytest.raises(TaskError, match=r"task 'sst2' is not in .*; it has entails, likeness, mood, topic"):
            use("sst2")


def test_no_artifact(tmp_path):
    for path in (tmp_path, tmp_path / "nothing"):
        with pytest.raises(ArtifactError, match="no artifact is there"):
            read_artifact(path)
    (tmp_path / "file").write_text("")
    with pytest.raises(ArtifactError, match="no artifact is there"):
        read_artifact(tmp_path / "file")


@pytest.mark.parametrize("content", [b"", b'{"format": "prop', b"\xff\xfe", b"[" * 100_000])
def test_a_damaged_manifest(own_tiny, content):
    (own_tiny.path / MANIFEST).write_bytes(content)
    with pytest.raises(ArtifactError, match="not valid JSON"):
        read_artifact(own_tiny.path)


@pytest.mark.parametrize("relative", [MANIFEST, "tasks/mood.safetensors", "folded/mood/model.onnx"])
def test_a_pipe_among_the_files_is_not_waited_for(own_tiny, relative):
    path = own_tiny.path / relative
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(ArtifactError, match="not a regular file"):
        read_artifact(own_tiny.path, verify=False).content(relative)


def test_a_truncated_manifest_at_any_length(own_tiny):
    whole = (own_tiny.path / MANIFEST).read_bytes()
    for length in range(0, len(whole) - 2, 397):
        (own_tiny.path / MANIFEST).write_bytes(whole[:length])
        with pytest.raises(ArtifactError):
            read_artifact(own_tiny.path)


def all_files(root):
    return [path.relative_to(root).as_posix() for path in sorted(root.rglob("*")) if path.is_file()]


def test_every_file_is_covered_by_a_hash(own_tiny):
    """One bit flipped anywhere, and the last byte missing, are both found and named."""
    for relative in all_files(own_tiny.path):
        if relative == MANIFEST:
            continue
        path = own_tiny.path / relative
        whole = path.read_bytes()
        path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
        with pytest.raises(ArtifactError, match=f"{relative}.*SHA-256"):
            read_artifact(own_tiny.path)
        path.write_bytes(whole[:-1])
        with pytest.raises(ArtifactError, match=f"{relative}.* {len(whole) - 1} bytes"):
            read_artifact(own_tiny.path)
        path.unlink()
        with pytest.raises(ArtifactError, match=f"{relative}.* missing"):
            read_artifact(own_tiny.path)
        path.write_bytes(whole)
    read_artifact(own_tiny.path)


def test_without_verifying_hashes_the_rest_is_still_checked(own_tiny):
    (own_tiny.path / "backbone.data").write_bytes(b"other")
    read_artifact(own_tiny.path, verify=False)
    own_tiny.edit_manifest(lambda value: value["tasks"]["mood"].update(pack="../mood"))
    with pytest.raises(ArtifactError, match=r"\.\./mood is not among its files"):
        read_artifact(own_tiny.path, verify=False)


OUTSIDE = ["../other.data", "/etc/hostname", "a/../../b", "tasks\\..\\x", "C:/x", ""]


@pytest.mark.parametrize("outside", OUTSIDE)
@pytest.mark.parametrize("verify", [True, False])
def test_a_manifest_that_points_outside_is_refused(own_tiny, outside, verify):
    record = file_record(own_tiny.path / "backbone.data")
    (own_tiny.path.parent / "other.data").write_bytes((own_tiny.path / "backbone.data").read_bytes())
    own_tiny.edit_manifest(lambda value: value["files"].__setitem__(outside, record))
    with pytest.raises(ArtifactError, match="not a path inside the folder"):
        read_artifact(own_tiny.path, verify)


@pytest.mark.parametrize(
    "point",
    [
        lambda value, path: value["tasks"]["mood"].update(pack=path),
        lambda value, path: value["forms"]["bank"]["graph"].update(path=path),
        lambda value, path: value["forms"]["folded"]["graphs"]["mood"].update(path=path),
        lambda value, path: value.update(golden=path),
    ],
)
@pytest.mark.parametrize("outside", ["../x", "/etc/hostname", "not/listed"])
def test_what_is_used_is_listed(own_tiny, point, outside):
    own_tiny.edit_manifest(lambda value: point(value, outside))
    with pytest.raises(ArtifactError, match=f"{outside} is not among its files"):
        read_artifact(own_tiny.path)


@pytest.mark.parametrize("needed", ["backbone.data", "tokenizer/tokenizer.json"])
def test_weights_and_tokenizer_are_listed(own_tiny, needed):
    own_tiny.edit_manifest(lambda value: value["files"].pop(needed))
    with pytest.raises(ArtifactError, match=f"{needed} is not among its files"):
        read_artifact(own_tiny.path)


@pytest.mark.parametrize("relative", ["backbone.data", "tasks/mood.safetensors", "bank/model.onnx", MANIFEST])
def test_a_link_that_leaves_the_folder(own_tiny, tmp_path, relative):
    path = own_tiny.path / relative
    path.rename(tmp_path / "elsewhere")
    path.symlink_to(tmp_path / "elsewhere")
    if relative == MANIFEST:  # a folder may be put together from links; what its manifest names may not
        assert read_artifact(own_tiny.path).forms
        return
    with pytest.raises(ArtifactError, match=f"'{relative}' is a link that leaves the folder"):
        read_artifact(own_tiny.path, verify=False)


def test_a_linked_folder_that_leaves(own_tiny, tmp_path):
    (own_tiny.path / "tasks").rename(tmp_path / "tasks")
    (own_tiny.path / "tasks").symlink_to(tmp_path / "tasks")
    with pytest.raises(ArtifactError, match="is a link that leaves the folder"):
        read_artifact(own_tiny.path)


def test_the_artifact_itself_may_stand_behind_a_link(tiny, tmp_path):
    (tmp_path / "link").symlink_to(tiny.path)
    assert read_artifact(tmp_path / "link").pack("mood").task == "mood"


def test_an_unknown_precision(own_tiny):
    own_tiny.edit_manifest(lambda value: value.update(precision="int2"))
    with pytest.raises(ArtifactError, match=r"precision 'int2' is unknown \(known: fp32, .*\); upgrade"):
        read_artifact(own_tiny.path)


def test_a_future_version(own_tiny):
    own_tiny.edit_manifest(lambda value: value.update(version=2))
    with pytest.raises(ArtifactError, match="version 2 is not known here"):
        read_artifact(own_tiny.path)


def test_hard_links_are_hashed_once(own_tiny, monkeypatch):
    """Folded folders hold hard links of the shared weights; ten of them must not cost ten readings."""
    record = file_record(own_tiny.path / "backbone.data")
    links = [f"folded/{task}/backbone.data" for task in TASKS]
    for link in links:
        os.link(own_tiny.path / "backbone.data", own_tiny.path / link)
    own_tiny.edit_manifest(lambda value: value["files"].update(dict.fromkeys(links, record)))
    hashed = []

    def counted(path):
        hashed.append(path.name)
        return sha256_of_bytes(path.read_bytes())

    monkeypatch.setattr("propetl.files.sha256_of_file", counted)
    read_artifact(own_tiny.path)
    assert hashed.count("backbone.data") == 1
    (own_tiny.path / links[2]).unlink()
    with pytest.raises(ArtifactError, match=f"{links[2]}.* missing"):
        read_artifact(own_tiny.path)
    shutil.copy(own_tiny.path / "tokenizer/tokenizer.json", own_tiny.path / links[2])
    with pytest.raises(ArtifactError, match=links[2]):
        read_artifact(own_tiny.path)


def test_no_permission(own_tiny, monkeypatch):
    def refuse(path):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr("propetl.files.sha256_of_file", refuse)
    with pytest.raises(ArtifactError, match="no permission to read"):
        read_artifact(own_tiny.path)


def test_packs_of_others_are_refused(tiny):
    artifact = read_artifact(tiny.path)
    pack = tiny.packs["mood"]
    other = TinyModel(seed=1)
    with pytest.raises(TaskError, match="made for prototype"):
        artifact.check_pack(replace(pack, prototype_sha256=other.prototype_sha256), "here")
    with pytest.raises(TaskError, match="made for backbone"):
        artifact.check_pack(replace(pack, backbone_fingerprint=other.fingerprint), "here")
    dense = {"dense.weight": np.zeros((10, 10), np.float32), "dense.bias": np.zeros(10, np.float32)}
    with pytest.raises(TaskError, match="its head is of kind 'own', this artifact takes 'linear'"):
        artifact.check_pack(replace(pack, head=pack.head | dense), "here")
    with pytest.raises(BundleError, match=r"down\.weight"):
        artifact.check_pack(replace(pack, masks={name: mask[:1] for name, mask in pack.masks.items()}), "here")


def test_a_pack_under_the_name_of_another_task(own_tiny):
    own_tiny.rewrite("tasks/mood.safetensors", own_tiny.packs["topic"].to_bytes())
    with pytest.raises(ArtifactError, match="holds task 'topic', expected 'mood'"):
        read_artifact(own_tiny.path).pack("mood")


def test_writing_twice_gives_the_same_bytes(tiny, tmp_path):
    again = write_tiny_artifact(tmp_path / "again")
    assert (again.path / MANIFEST).read_bytes() == (tiny.path / MANIFEST).read_bytes()
